"""The command: serves the annotator."""

import os
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from urllib.parse import quote

import trackers
from eval import catalog, command, parsers
from eval.parsers import DEFAULT_TRACKER, LOOPBACK
from eval.sources import synthetic
from eval.sources.video_writer import VideoWriter
from eval.web.events import Hub
from eval.web.library import Library
from eval.web.runs import Runner

DEMO = Path("demo") / "clip.mp4"
SHORTEST_TOKEN = 8


def offered_trackers(given: list[tuple[str, Path]]) -> dict[str, Path | None]:
    """Name -> weights, None for those of the package: `given` first, then every tracker that needs no file.

    ValueError or OSError, one line, for an unknown name and for weights that do not fit.
    """
    offered: dict[str, Path | None] = {}
    for name, path in given:
        name, weights = (name, path) if name else (str(path), None)
        trackers.load_params(name, weights)
        offered[name] = weights
    ready = [row.tracker for row in catalog.rows() if row.weights in ("shipped", "none")]
    default = [name for name in (DEFAULT_TRACKER, *ready) if name not in offered]
    return {**offered, **dict.fromkeys(default)}


def drawn_clip() -> Path:
    """The demo's clip, drawn if it is not there."""
    if not DEMO.is_file():
        config = synthetic.ClipConfig()
        with VideoWriter(DEMO) as writer:
            for example in synthetic.clip(config, 0):
                writer.write(example.image)
    return DEMO


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; OSError, one line, where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{host}, port {port}: cannot be listened on ({reason}); give another, or --port 0") from error


def main(argv: list[str] | None = None) -> int:
    before = {*threading.enumerate()}
    status = _main(argv)
    if status > 128 and {*threading.enumerate()} - before:  # a compilation, or a long file that is being opened:
        sys.stdout.flush()  # all is saved, and neither can be interrupted; Python would wait for one
        sys.stderr.flush()  # and crash under the other
        os._exit(status)
    return status


@command.reports(ValueError, OSError, interrupted="the annotation is saved")
def _main(argv: list[str] | None) -> int:
    arguments = parsers.web().parse_args(argv)
    local = arguments.host in LOOPBACK
    if not local and len(arguments.token or "") < SHORTEST_TOKEN:
        example = secrets.token_urlsafe(12)
        raise ValueError(
            f"--host {arguments.host} lets other machines in: give --token of {SHORTEST_TOKEN} characters or more, "
            f"such as {example}"
        )
    if arguments.token and not (arguments.token.isascii() and arguments.token.isprintable()):
        raise ValueError("--token must be of ASCII letters, digits and signs, since browsers keep no others")
    try:
        from eval.web.app import Annotator, Settings
        from eval.web.serving import serve
    except ImportError as error:
        raise ValueError(f"needs a package ({error.name}): pip install 'jaxtrack[web]'") from error
    command.prepare_process(threads=True)
    offered = offered_trackers(arguments.tracker)
    place = drawn_clip() if arguments.place is None else arguments.place
    hub = Hub()
    videos = Library(place, hub, arguments.annotations)
    listening = bind(arguments.host, arguments.port)
    port = listening.getsockname()[1]
    shown = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    address = f"http://{shown}:{port}/" + (f"?token={quote(arguments.token, safe='')}" if arguments.token else "")
    settings = Settings(
        hosts=("127.0.0.1", "localhost", "[::1]") if local else (),
        token=arguments.token,
        upload_limit=arguments.upload_limit << 20,
        default_tracker=next(iter(offered)),
    )
    with tempfile.TemporaryDirectory(prefix="jaxtrack-") as scratch:
        annotator = Annotator(videos, Runner(offered), hub, Path(scratch), settings)
        print(f"{place}: {address} (Ctrl-C ends it)", flush=True)
        if arguments.open:
            webbrowser.open(address)
        try:
            serve(annotator.app(), listening, hub.close)
        finally:
            annotator.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
