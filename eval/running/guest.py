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
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

OPENCV = ("csrt", "kcf", "mil")
PROGRAM = Path(__file__).with_name("guest_main.py")
LONGEST_ANSWER = 1 << 20  # bytes


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
        self._pipe, theirs = Pipe()
        command = [str(guest.python), str(PROGRAM), str(theirs.fileno()), guest.name]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the run, which then ends the guest and what it started
            )
        except OSError as error:
            self._pipe.close()
            raise GuestError(
                f"{guest.python}: cannot be started ({error.strerror}); give the guest's interpreter as --guest-python"
            ) from error
        finally:
            theirs.close()
        self._threads = [threading.Thread(target=task, daemon=True) for task in (self._listen, self._watch)]
        for thread in self._threads:
            thread.start()
        try:
            self.environment: dict[str, str] = self._ask()["environment"]  # package -> version
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
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._stop.is_set() else 2)
        self._kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(1)
        self._process.stdout.close()

    def _ask(self, image: np.ndarray | None = None, **request: Any) -> dict[str, Any]:
        """The next answer, to an image or, without one, the greeting."""
        self._deadline = monotonic() + self._guest.timeout
        try:
            if image is not None:
                ordered = np.ascontiguousarray(image[..., ::-1] if self._guest.color == "bgr" else image)
                self._pipe.send_bytes(json.dumps({"shape": ordered.shape, **request}).encode())
                self._pipe.send_bytes(ordered.data.cast("B"))
            answer = json.loads(self._pipe.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError) as error:
            raise GuestError(f"guest {self._guest.name}: {self._ending()}") from error
        finally:
            self._deadline = float("inf")
        if "error" in answer:
            raise GuestError(f"guest {self._guest.name}: {' '.join(answer['error'].split())}")
        return answer

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
        while piece := self._process.stdout.read1(4096):
            self._printed.append(piece)

    def _watch(self) -> None:
        """Ends a guest that is late, or no longer wanted."""
        while not self._ended.wait(0.1):
            self._late = monotonic() > self._deadline
            if self._late or self._stop.is_set():
                self._kill()
                return

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
