"""The far end of eval.running.guest: holds a guest in a process of its own, under the guest's interpreter.

    PYTHON guest_main.py GUEST        # started by eval.running.guest, not by hand

Imports nothing but the standard library, numpy and the guest, and runs under any Python from 3.8 on. Requests come
through stdin and answers go through stdout, which every system has; the guest itself finds an empty stdin, and what it
prints goes to stderr. A message is its length in eight bytes, the lowest first, and its bytes: a request is JSON and
then the image, an answer is JSON. Answers begin behind the line START, since an environment may print as it starts; the
first, unasked, says what the environment holds.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import random
import sys
from time import perf_counter
from typing import BinaryIO

import numpy as np

START = b"the answers of a guest follow\n"
OPENCV = {"csrt": "TrackerCSRT", "kcf": "TrackerKCF", "mil": "TrackerMIL"}


class _OpenCV:
    """One of OpenCV's trackers, which start on whole pixels."""

    def __init__(self, create):
        self._tracker = create()

    def init(self, image, box):
        x, y, w, h = (round(value) for value in box)
        self._tracker.init(image, (x, y, max(w, 1), max(h, 1)))

    def update(self, image):
        return self._tracker.update(image)


def find(guest: str):
    """The callable that makes a tracker with init(image, box) and update(image) -> (ok, box)."""
    if guest not in OPENCV:
        module, _, name = guest.partition(":")
        return getattr(importlib.import_module(module), name)
    cv2 = importlib.import_module("cv2")
    create = getattr(cv2, OPENCV[guest] + "_create", None)
    if create is None:
        raise ImportError(f"OpenCV {cv2.__version__} has no {OPENCV[guest]}; install opencv-contrib-python there")
    return lambda: _OpenCV(create)


def environment() -> dict[str, str]:
    """Versions of Python and of every installed package that is loaded."""
    found = {"python": platform.python_version()}
    for name, module in sorted(sys.modules.items()):
        version, path = getattr(module, "__version__", None), getattr(module, "__file__", None) or ""
        if "." not in name and not name.startswith("_") and isinstance(version, str) and "-packages" in path:
            found[name] = version
    return found


def seed_everything(seed: int) -> None:
    """Of what is loaded: the standard library's generator, numpy's global one, OpenCV's and PyTorch's."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if "cv2" in sys.modules:
        sys.modules["cv2"].setRNGSeed(seed % 2**31)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def send(stream: BinaryIO, *messages: bytes | memoryview) -> None:
    for message in messages:
        stream.write(len(message).to_bytes(8, "little"))
        stream.write(message)
    stream.flush()


def receive(stream: BinaryIO, longest: int) -> bytes:
    """The next message; EOFError where the stream ends before its end, OSError where it is longer than that."""
    size = int.from_bytes(_exactly(stream, 8), "little")
    if size > longest:
        raise OSError(f"a message of {size} bytes")
    return _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def own_channel() -> tuple[BinaryIO, BinaryIO]:
    """(requests, answers): stdin and stdout under other numbers, which what the guest starts does not inherit."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def serve(requests: BinaryIO, answers: BinaryIO, make) -> None:
    """Answers until the other end closes; an error of the guest is an answer too."""
    tracker = None
    while True:
        request = json.loads(receive(requests, sys.maxsize))
        image = np.frombuffer(receive(requests, sys.maxsize), np.uint8).reshape(request["shape"]).copy()
        try:
            if "box" in request:
                seed_everything(request["seed"])
                tracker = make()
                start = perf_counter()
                tracker.init(image, tuple(request["box"]))
                answer = {"seconds": perf_counter() - start}
            else:
                start = perf_counter()
                ok, box = tracker.update(image)
                seconds = perf_counter() - start
                answer = {"seconds": seconds, "ok": bool(ok)}
                answer["box"] = [float(value) for value in box] if ok else None
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        send(answers, json.dumps(answer).encode())


def main() -> None:
    sys.path[0] = os.getcwd()  # where the user's module is looked for, as by python -m; not beside this file
    requests, answers = own_channel()
    try:
        make = find(sys.argv[1])
        greeting = {"environment": environment()}
    except Exception as error:
        make, greeting = None, {"error": f"{type(error).__name__}: {error}"}
    try:
        answers.write(START)
        send(answers, json.dumps(greeting).encode())
        if make is not None:
            serve(requests, answers, make)
    except (EOFError, ConnectionError):
        return  # the other end has what it wanted


if __name__ == "__main__":
    main()
