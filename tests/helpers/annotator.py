"""The annotator on a free port, and a page's requests to it."""

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import trackers
from eval.sources.video_writer import VideoWriter
from tests.helpers import trivial_tracker

DOT = trackers.Entry(trivial_tracker.Config(), trivial_tracker.make, init_params=lambda key: trivial_tracker.params())
TRACKER = "tests.helpers.annotator:DOT"
BOX = [10, 14, 8, 8]  # of the spot of `walking_spot` in frame 0


def walking_spot(path: Path, count: int = 60) -> Path:
    """A bright spot that walks a pixel a frame to the right and, from frame 30 on, back; then again."""
    noise, away = np.random.default_rng(0), np.abs(np.arange(-4, 5))
    spot = (255 - 20 * np.add.outer(away, away)).clip(0)[..., None]
    with VideoWriter(path) as writer:
        for t in range(count):
            image = noise.integers(0, 60, (48, 64, 3), np.uint8)
            x = 14 + min(t % 60, 60 - t % 60)
            image[14:23, x - 4 : x + 5] = np.maximum(image[14:23, x - 4 : x + 5], spot)
            writer.write(image)
    return path


class Page:
    """What a browser asks for."""

    def __init__(self, base: str, video: str = ""):
        self.base, self.events = base, []
        self.video = video or self.get("api/videos")["videos"][0]["id"]
        self.here = f"api/videos/{self.video}"

    def open(self, address: str, data: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        """(status, headers, body)."""
        headers = {"X-Jaxtrack": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        headers = {name: value for name, value in headers.items() if value}
        request = urllib.request.Request(self.base + address, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def get(self, address: str) -> Any:
        status, _, body = self.open(address)
        assert status == 200, body
        return json.loads(body)

    def post(self, address: str, content: Any = None, **headers: str) -> tuple[int, Any]:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, _, body = self.open(address, data, **headers)
        return status, json.loads(body)

    def act(self, action: str, **content: Any) -> int | None:
        """The target."""
        status, answer = self.post(f"{self.here}/actions", {"action": action, **content})
        assert status == 200, answer
        return answer["target"]

    def track(self, targets: list[int], frame: int, direction: int = 1) -> None:
        """Returns when it is done."""
        status, answer = self.post(f"{self.here}/track", {"targets": targets, "frame": frame, "direction": direction})
        assert status == 200, answer
        self.wait()

    def wait(self) -> None:
        """Until no run goes on."""
        end = time.monotonic() + 60
        while self.get(self.here)["run"] is not None:
            assert time.monotonic() < end, "the run does not end"
            time.sleep(0.02)

    def rows(self, target: int) -> dict[int, list[Any]]:
        """Frame -> row of what is shown."""
        found = {}
        for part in self.get(self.here)["document"]["rows"]:
            if part["target"] == target:
                found.update({at: row for at, row in enumerate(part["rows"], part["first"]) if row})
        return found

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[dict[str, Any]]]:
        """The events that come inside, in a list that grows."""
        heard: list[dict[str, Any]] = []
        stream = urllib.request.urlopen(f"{self.base}api/events", timeout=30)
        assert stream.readline().startswith(b":")

        def listen() -> None:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed below
                for line in stream:
                    if line.startswith(b"data: "):
                        heard.append(json.loads(line[6:]))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            time.sleep(0.2)
            stream.fp.raw._sock.shutdown(socket.SHUT_RDWR)  # close() would wait for the next line


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port that nobody else has, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@contextlib.contextmanager
def served(place: Path, scratch: Path, **settings: Any) -> Iterator[str]:
    """The address of an annotator of `place`, which ends with the block; `scratch` is an empty folder."""
    import uvicorn

    from eval.web.__main__ import bind
    from eval.web.app import Annotator, Settings
    from eval.web.events import Hub
    from eval.web.library import Library
    from eval.web.runs import Runner

    hub = Hub()
    offered = {TRACKER: None, "dimp_tiny": None}
    annotator = Annotator(
        Library(place, hub), Runner(offered), hub, scratch, Settings(default_tracker=TRACKER, **settings)
    )
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(annotator.app(), log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        hub.close()
        server.should_exit = True
        thread.join()
        annotator.close()
