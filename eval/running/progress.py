"""What long runs say on stderr: how far they are, and for what they compile. Programs find the latter in the log."""

import contextlib
import contextvars
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator

import jax
from tqdm import auto, std

LOG = logging.getLogger("jaxtrack")
WORTH_SAYING = 1.0  # seconds of compilation
REDRAWN = 0.1  # seconds after which its line is drawn again

_bars: list["ProgressBar"] = []  # those shown: beside them compilation is shown, too
# The one that this thread is in, or the one that it does a part of, with a copy of the other's context
_compilation: contextvars.ContextVar["_Compilation | None"] = contextvars.ContextVar("compilation", default=None)


class ProgressBar:
    """tqdm's bar for work of one kind. It appears with the first piece done, and its clock leaves out compilation.

    Redrawn twice a second where lines can be, and every 30 seconds in a log; none where `total` is 0.
    """

    def __init__(self, total: int | None, unit: str, *, initial: int = 0):
        self._options = dict(total=total, unit=unit, initial=initial, disable=total == 0)
        self._bar: std.tqdm | None = None
        self._lock = threading.Lock()
        self._left_out = -math.inf  # until then

    def update(self, count: int = 1) -> None:
        """So many pieces are done; from any thread."""
        with self._lock:
            if self._bar is None:
                self._bar = auto.tqdm(**self._options, mininterval=0.5 if _redraws() else 30)
            self._bar.update(count)

    def done(self) -> int:
        """Pieces done since it began."""
        return 0 if self._bar is None else self._bar.n - self._options["initial"]

    def leave_out(self, since: float) -> None:
        """Nothing was done but to wait since then (`time.perf_counter`), which does not count; work before it does."""
        with self._lock:
            now = time.perf_counter()
            waited = now - max(since, self._left_out)  # what two threads wait for at once is left out once
            self._left_out = now
            if self._bar is not None and not self._bar.disable:
                self._bar.start_t += waited
                self._bar.last_print_t += waited

    def __enter__(self) -> "ProgressBar":
        _bars.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _bars.remove(self)
        if self._bar is not None:
            self._bar.close()


class _Compilation:
    """One compilation, of one program or several, as JAX tells of it."""

    def __init__(self, canvas: tuple[int, ...]):
        self.size = f"images up to {canvas[-3]}x{canvas[-2]}"
        self.kept = _keeps()
        self.asked = self.found = 0  # programs looked for in the cache on disk, and found there
        self.start = self.last_asked = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def compiles(self) -> bool:
        """Whether XLA is at work; before, the program is traced, and looked for in the cache."""
        waits = time.perf_counter() - self.last_asked
        return not self.kept or (self.asked > self.found and waits > WORTH_SAYING)

    def doing(self) -> str:
        if not self.compiles():
            return f"preparing for {self.size}"
        return f"compiling for {self.size}{' (once; kept for later runs)' if self.kept else ''}"

    def did(self) -> str:
        seconds = f"{self.seconds():.0f} s"
        if 0 < self.asked == self.found:
            return f"ready for {self.size} in {seconds} (compiled in an earlier run)"
        return f"compiled for {self.size} in {seconds}"


@contextlib.contextmanager
def compiling(canvas: tuple[int, ...]) -> Iterator[None]:
    """What runs inside compiles for images of this canvas `[..., H, W, 3]`: says so, and how long it took.

    On stderr while a `ProgressBar` is shown, and in the log. One inside another says nothing.
    """
    if _compilation.get() is not None:
        yield
        return
    _listen()
    compilation = _Compilation(canvas)
    before_it = _compilation.set(compilation)
    before, shown = [(bar, bar.done()) for bar in _bars], bool(_bars)
    LOG.info("compiling for %s", compilation.size)
    try:
        with _waiting(compilation) if shown else contextlib.nullcontext():
            yield
        LOG.info("%s", compilation.did())
        if shown and compilation.seconds() >= WORTH_SAYING:
            auto.tqdm.write(compilation.did(), file=sys.stderr)
    finally:
        _compilation.reset(before_it)
        for bar, done in before:
            if bar.done() == done:
                bar.leave_out(compilation.start)


@contextlib.contextmanager
def _waiting(compilation: _Compilation) -> Iterator[None]:
    """Shows what is waited for: with its seconds where lines are redrawn, else in one line once XLA is at work."""
    ended = threading.Event()

    def show() -> None:
        if ended.wait(WORTH_SAYING):
            return
        if _redraws():
            with auto.tqdm(bar_format="{desc}", leave=False) as line:
                while True:
                    line.set_description_str(f"{compilation.doing()} ... {compilation.seconds():.0f} s")
                    if ended.wait(REDRAWN):
                        return
        while not compilation.compiles():
            if ended.wait(0.2):
                return
        auto.tqdm.write(f"{compilation.doing()} ...", file=sys.stderr)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keeps() -> bool:
    """Whether JAX keeps programs on disk."""
    return bool(jax.config.jax_compilation_cache_dir and jax.config.jax_enable_compilation_cache)


def _redraws() -> bool:
    """Whether a line can be drawn over: on a terminal, and in a notebook that has bars."""
    return sys.stderr.isatty() or auto.notebook_tqdm is not std.tqdm


_listening = threading.Lock()


def _listen() -> None:
    """From now on JAX tells of its cache; once a process."""
    if _listening.acquire(blocking=False):
        jax.monitoring.register_event_listener(_heard)


def _heard(event: str, **details: object) -> None:
    compilation = _compilation.get()  # JAX tells it in the thread that compiles
    if compilation is None:
        return
    if event == "/jax/compilation_cache/compile_requests_use_cache":
        compilation.last_asked = time.perf_counter()
        compilation.asked += 1
    compilation.found += event == "/jax/compilation_cache/cache_hits"
