"""Compiling ahead, so that its time is kept apart."""

import contextlib
import contextvars
import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from eval.running import stored
from eval.running.progress import compiling
from eval.xla import compiler_options
from trackers.base import Frame


class CompiledPerCanvas:
    """A jitted function of a frame, compiled when a canvas size is first seen and never while it is timed.

    The other arguments must keep their shapes and dtypes. Safe to call from several threads. program: what tells it
    from all others, to keep it for the next start (`eval.running.stored`); None: it is not kept.
    """

    def __init__(self, function: Callable, *, donate_argnums: tuple[int, ...] = (), program: str | None = None):
        self._function, self._donated = function, donate_argnums
        self._program = program and f"{program}, donated {donate_argnums}"
        self._options = compiler_options()  # asked for now: it compiles, too, and that is not to be told
        self._executables: dict[tuple[int, ...], Callable] = {}
        self.lock = threading.RLock()
        self.compile_seconds = 0.0

    def prepare(self, *args: Any, beside: Callable[[Any], Any] = lambda shapes: None) -> Callable:
        """The executable for the canvas of the Frame among `args`, compiled now if it is new.

        beside: done then with the shapes of what it returns, while XLA compiles it in another thread; its time is not
        counted here.
        """
        canvas, elsewhere = canvas_of(args), 0.0

        def timed(shapes: Any) -> None:
            nonlocal elsewhere
            start = time.perf_counter()
            beside(shapes)
            elsewhere = time.perf_counter() - start

        with self.lock:
            if canvas not in self._executables:
                with compiling(canvas), without_collecting():
                    start = time.perf_counter()
                    self._executables[canvas] = self._make(args, timed)
                    self.compile_seconds += time.perf_counter() - start - elsewhere
            return self._executables[canvas]

    def _make(self, args: tuple, beside: Callable[[Any], None]) -> Callable:
        path = self._program and stored.path_of(self._program, args, self._options)
        program = stored.load(path) if path else None
        if program is not None:
            beside(program.out_info)
            return program
        lowered = self._jitted(path).lower(*args)
        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(contextvars.copy_context().run, self._compile, lowered, path)
            beside(lowered.out_info)
        return made.result()

    def _jitted(self, path: Path | None) -> Callable:
        """The function, under a name of its own where its program is kept.

        Otherwise JAX's cache would find what was compiled for another path, such as that of the code before a change
        that makes no difference to XLA, and what is found there cannot be kept: every later start would trace it.
        """
        function = self._function
        if path:
            function = functools.update_wrapper(functools.partial(function), function)  # the caller's keeps its name
            function.__name__ = f"{getattr(function, '__name__', 'program')}_{path.stem[:8]}"
        return jax.jit(function, donate_argnums=self._donated)

    def _compile(self, lowered: jax.stages.Lowered, path: Path | None) -> Callable:
        with stored.watching() as compiled_now:
            program = lowered.compile(compiler_options=self._options)
        if path and compiled_now():
            stored.save(path, program)
        return program

    def shapes(self, *args: Any) -> Any:
        """What it returns for `args`, for which it is prepared, as shapes and dtypes."""
        return self._executables[canvas_of(args)].out_info


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Python looks for no cycles of references inside.

    Tracing makes so many objects that it would look through all that JAX has imported again and again, .3 s for a small
    tracker. Whoever has switched it off finds it off; where two threads are inside, the first that switched it off
    switches it on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def canvas_of(args: tuple) -> tuple[int, ...]:
    """The shape of the image of the Frame among `args`."""
    return next(arg.image.shape for arg in args if isinstance(arg, Frame))


def prepare_both(
    init: CompiledPerCanvas, track: CompiledPerCanvas, *args: Any, beside: Callable[[Any], Any] = lambda states: None
) -> Callable:
    """`init.prepare(*args)`; on a new canvas `track`, too, for (params, states of `init`, frame): one wait for both.

    While XLA compiles the one, the other is traced, so that both cores are at work; so is what `beside` makes ready,
    which is called with the shapes of the states.
    """
    frame = next(arg for arg in args if isinstance(arg, Frame))
    with init.lock:  # other threads wait, and say nothing
        return init.prepare(
            *args, beside=lambda states: track.prepare(args[0], states, frame, beside=lambda _: beside(states))
        )
