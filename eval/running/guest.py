"""Trackers of other projects in a benchmark run: any callable with OpenCV's interface, in a process of its own.

    python -m eval.run --guest csrt --guest-python ENV/bin/python --data-dir DIR --out OUT
    python -m eval.run --guest mine.tracker:make --data-dir DIR --out OUT

A guest is `csrt`, `kcf` or `mil` of OpenCV, or MODULE:CALLABLE. The callable makes an object with `init(image, box)`
and `update(image) -> (ok, box)`: images `[H, W, 3]` uint8, BGR unless --guest-color says rgb, boxes x, y, w, h in
pixels, 0-based. Where `ok` is false the box of the frame before is kept, with confidence 0, as is common with OpenCV;
else the confidence is 1. The guest's interpreter needs numpy and the guest, nothing of this project. Each sequence, and
each start of a protocol with restarts, has a process of its own: OpenCV's MIL, for one, draws from a generator that
`setRNGSeed` does not reset.
"""

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from eval.running.guest_main import START, receive, send

OPENCV = ("csrt", "kcf", "mil")
PROGRAM = Path(__file__).with_name("guest_main.py")
LONGEST_ANSWER = 1 << 20  # bytes
# Options of Popen: Ctrl-C is for the run, which then ends the guest and what it started.
_APART: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
)


class GuestError(ValueError):
    """The guest failed: it cannot be started, raised, crashed, hung or answered nonsense. One line."""


@dataclass(frozen=True)
class Guest:
    """Which tracker to start, and how."""

    name: str  # csrt, kcf, mil or MODULE:CALLABLE
    python: Path = Path(sys.executable)  # the interpreter that runs it
    color: str = "bgr"  # order of the channels it is given: bgr or rgb
    timeout: float = 60.0  # seconds it may take to start, and for any one frame


class GuestProcess:
    """A running guest; the context manager ends it. All methods raise GuestError.

    `stop` ends it at once when set, from any thread.
    """

    def __init__(self, guest: Guest, *, seed: int = 0, stop: threading.Event | None = None):
        self._guest, self._seed, self._stop = guest, seed, stop or threading.Event()
        self._printed: collections.deque[bytes] = collections.deque(maxlen=8)
        self._deadline, self._late, self._ended = float("inf"), False, threading.Event()
        if guest.name not in OPENCV and not all(guest.name.partition(":")):
            raise GuestError(f"guest {guest.name}: must be {', '.join(OPENCV)} or MODULE:CALLABLE")
        command, pipe = [str(guest.python), str(PROGRAM), guest.name], subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **_APART)
        except OSError as error:
            raise GuestError(
                f"{guest.python}: cannot be started ({error.strerror}); give the guest's interpreter as --guest-python"
            ) from error
        self._threads = [threading.Thread(target=task, daemon=True) for task in (self._listen, self._watch)]
        for thread in self._threads:
            thread.start()
        try:
            self.environment: dict[str, str] = self._greeting()["environment"]  # package -> version
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "GuestProcess":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def init(self, image: np.ndarray, box: np.ndarray) -> float:
        """Starts on `box` `[4]` x, y, w, h of an RGB image; the seconds it took, in the guest's process."""
        self._box = np.asarray(box, np.float64)
        return self._ask(image, box=self._box.tolist(), seed=self._seed)["seconds"]

    def update(self, image: np.ndarray) -> tuple[np.ndarray, float, float]:
        """(box `[4]` x, y, w, h, which may be of any value; confidence; seconds) on the next RGB image."""
        answer = self._ask(image)
        if answer["ok"]:
            self._box = np.array(answer["box"], np.float64)
            if self._box.shape != (4,):
                raise GuestError(f"guest {self._guest.name}: the box {answer['box']} is not x, y, w, h")
        return self._box, float(answer["ok"]), answer["seconds"]

    def close(self) -> None:
        """Ends the guest: kindly, by closing the pipe, then by force, with all that it has started."""
        if self._ended.is_set():
            return  # its number may be another process's by now
        self._ended.set()
        with contextlib.suppress(OSError):  # what was not written yet, to a guest that has ended
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._stop.is_set() else 2)
        self._kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(1)
        self._process.stdout.close()
        self._process.stderr.close()

    def _greeting(self) -> dict[str, Any]:
        with self._in_time():
            while not (line := self._process.stdout.readline()).endswith(START):
                if not line:
                    raise EOFError
                self._printed.append(line)
            answer = receive(self._process.stdout, LONGEST_ANSWER)
        return self._checked(answer)

    def _ask(self, image: np.ndarray, **request: Any) -> dict[str, Any]:
        """The answer to an image."""
        ordered = np.ascontiguousarray(image[..., ::-1] if self._guest.color == "bgr" else image)
        with self._in_time():
            head = json.dumps({"shape": ordered.shape, **request}).encode()
            send(self._process.stdin, head, ordered.data.cast("B"))
            answer = receive(self._process.stdout, LONGEST_ANSWER)
        return self._checked(answer)

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """The guest is ended where this takes too long; GuestError where the connection breaks."""
        self._deadline = monotonic() + self._guest.timeout
        try:
            yield
        except (EOFError, OSError, ValueError) as error:  # of what is closed
            raise GuestError(f"guest {self._guest.name}: {self._ending()}") from error
        finally:
            self._deadline = float("inf")

    def _checked(self, answer: bytes) -> dict[str, Any]:
        content = json.loads(answer)
        if "error" in content:
            raise GuestError(f"guest {self._guest.name}: {' '.join(content['error'].split())}")
        return content

    def _ending(self) -> str:
        """Why the pipe broke."""
        if self._late:
            return f"no answer in {self._guest.timeout:g} s; see --guest-timeout"
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        reason = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        self._threads[0].join(1)
        lines = b"".join(self._printed).decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"its process ended, {reason}" + (f"; it said: {last[:200]}" if last else "")

    def _listen(self) -> None:
        """Keeps the end of what the guest prints."""
        while piece := self._process.stderr.read1(4096):
            self._printed.append(piece)

    def _watch(self) -> None:
        """Ends a guest that is late, or no longer wanted."""
        while not self._ended.wait(0.1):
            self._late = monotonic() > self._deadline
            if self._late or self._stop.is_set():
                self._kill()
                return

    def _kill(self) -> None:
        """With all that it has started."""
        if os.name == "nt":  # which has no groups of processes to end, but a command for it
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True, check=False)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
