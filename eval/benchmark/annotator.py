"""Time the annotator: seeking in a long video, tracking through the server, answers while a tracker runs.

    python -m eval.benchmark.annotator --json annotator.json

Seeking: any frame of a long video, as a page asks for it, nothing kept from before. Tracking: frames/s of a run of
eval.web and of the loop of eval.track on the same clip, in turns, compilation not counted. Answers: a frame of the
video is asked for ten times a second while a tracker runs, in turns anywhere and the one after it.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import trackers
from eval import command, parsers, settings
from eval.benchmark import reporting
from eval.command import prepare_process
from eval.sources.synthetic import ClipConfig, clip
from eval.sources.video import VideoError, open_source
from eval.sources.video_writer import VideoWriter
from eval.targets import Run, follow, numbered

ASKED_EVERY = 0.1  # seconds
WIDTH = 960  # of the frames that are asked for


class Server:
    """A process of eval.web, and requests to it."""

    def __init__(self, place: Path, tracker: str, annotations: Path):
        arguments = [str(place), "--port", "0", "--tracker", tracker, "--annotations", str(annotations)]
        started = [sys.executable, "-m", "eval.web", *arguments]
        self.process = subprocess.Popen(started, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise VideoError(f"{place}: eval.web did not start; run python -m eval.web {place}")
        self.base = line.split(": ")[1].split(" ")[0]
        self.video = f"{self.base}api/videos/{self.get(f'{self.base}api/videos')['videos'][0]['id']}"

    def get(self, address: str) -> Any:
        with urllib.request.urlopen(address, timeout=600) as answer:
            return json.load(answer)

    def post(self, what: str, **content: Any) -> Any:
        request = urllib.request.Request(f"{self.video}/{what}", json.dumps(content).encode(), {"X-Jaxtrack": "1"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def frame_seconds(self, number: int) -> float:
        """Until a frame is there."""
        start = time.perf_counter()
        with urllib.request.urlopen(f"{self.video}/frames/{number}.jpg?width={WIDTH}", timeout=600) as answer:
            answer.read()
        return time.perf_counter() - start

    def rate(self) -> float:
        """Frames/s of a run from frame 0 to the end, from the first frames on."""
        first = last = None
        with urllib.request.urlopen(f"{self.base}api/events", timeout=600) as events:
            events.readline()
            self.post("track", targets=[1], frame=0, direction=1)
            for line in events:
                event = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if event.get("kind") != "run":
                    continue
                if event["state"] == "tracking":
                    last = time.perf_counter(), event["done"]
                    first = first or last
                elif event["state"] in ("done", "failed", "stopped"):
                    break
        if first is None or last == first:
            raise VideoError("the clip is too short to time; give more --frames")
        return (last[1] - first[1]) / (last[0] - first[0])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def drawn(path: Path, count: int, height: int, width: int) -> np.ndarray:
    """A video of a drawn clip, forward and backward until there are `count` frames; the target's first box."""
    examples = list(clip(ClipConfig(height=height, width=width), seed=0))
    there_and_back = examples + examples[-2:0:-1]
    with VideoWriter(path) as writer:
        for number in range(count):
            writer.write(there_and_back[number % len(there_and_back)].image)
    return examples[0].box


@contextmanager
def serving(place: Path, tracker: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as annotations:
        server = Server(place, tracker, Path(annotations))
        try:
            yield server
        finally:
            server.close()


def seeking(server: Server, count: int, seeks: int) -> dict[str, float]:
    """Milliseconds of `seeks` jumps anywhere."""
    places = np.random.default_rng(0).integers(0, count, seeks)
    seconds = [server.frame_seconds(int(place)) for place in places]
    return {"median_ms": 1e3 * float(np.median(seconds)), "max_ms": 1e3 * max(seconds), "seeks": seeks}


def track_rate(place: Path, tracker: str, box: np.ndarray) -> float:
    """Frames/s of the loop of eval.track."""
    entry, run = trackers.get(tracker), Run()
    start = time.perf_counter()
    follow(run, entry.make(entry.config), trackers.load_params(tracker), open_source(place), numbered([box.tolist()]))
    seconds = time.perf_counter() - start - run.compile_seconds - run.tracked[0].seconds
    return (len(run.tracked) - 1) / seconds


def answers(server: Server, count: int) -> dict[str, Any]:
    """Milliseconds until frames are there that are asked for while a tracker runs: the next one, and one elsewhere."""
    seconds: dict[str, list[float]] = {"next": [], "elsewhere": []}
    over = threading.Event()

    def ask() -> None:
        places = np.random.default_rng(1).integers(0, count - 1, 100_000)
        for place in places:
            for kind, number in (("elsewhere", int(place)), ("next", int(place) + 1)):
                if over.is_set():
                    return
                seconds[kind].append(server.frame_seconds(number))
                time.sleep(max(ASKED_EVERY - seconds[kind][-1], 0))

    asking = threading.Thread(target=ask)
    asking.start()
    rate = server.rate()
    over.set()
    asking.join()
    found = {}
    for kind, one in seconds.items():
        high = 1e3 * float(np.quantile(one, 0.95))
        found[kind] = {"median_ms": 1e3 * float(np.median(one)), "p95_ms": high, "asked": len(one)}
    return found | {"fps_meanwhile": rate}


def measure(options: Any, folder: Path) -> dict[str, Any]:
    long, short = folder / "long.mp4", folder / "short.mp4"
    drawn(long, options.long, options.height, options.width)
    box = drawn(short, options.frames, options.height, options.width)
    report: dict[str, Any] = {"tracker": options.tracker, "size": [options.height, options.width]}
    with serving(long, options.tracker) as server:
        start = time.perf_counter()
        server.get(server.video)
        report["opening_ms"] = 1e3 * (time.perf_counter() - start)
        report["seeking"] = {"frames": options.long, **seeking(server, options.long, options.seeks)}
    rates: dict[str, list[float]] = {"eval.track": [], "eval.web": []}
    with serving(short, options.tracker) as server:
        server.post("actions", action="box", target=None, frame=0, box=box.tolist())
        server.rate()  # compiles
        for _ in range(options.rounds):
            rates["eval.track"].append(track_rate(short, options.tracker, box))
            rates["eval.web"].append(server.rate())
        report["answers"] = answers(server, options.frames)
    ratios = np.divide(rates["eval.web"], rates["eval.track"])
    report["tracking"] = {
        "fps": {name: float(np.median(found)) for name, found in rates.items()},
        "ratio": float(np.median(ratios)),
        "ratios": ratios.tolist(),
        "frames": options.frames,
    }
    return report | {"versions": settings.versions()}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    height, width = report["size"]
    seek, tracking, answer = report["seeking"], report["tracking"], report["answers"]
    device = report["versions"]["device"]
    lines = [f"{report['tracker']}, {height} x {width}, on {device}", "", "| what | value |", "|---|---|"]
    lines.append(f"| opening a video of {seek['frames']} frames | {report['opening_ms']:.0f} ms |")
    times = f"{seek['median_ms']:.0f} ms, {seek['max_ms']:.0f} ms"
    lines.append(f"| any frame of it, median and longest of {seek['seeks']} | {times} |")
    spread = f"{min(tracking['ratios']):.2f} to {max(tracking['ratios']):.2f}"
    for name, rate in tracking["fps"].items():
        lines.append(f"| {name}, {tracking['frames']} frames | {rate:.1f} frames/s |")
    ratio = f"{tracking['ratio']:.2f} ({spread})"
    lines.append(f"| eval.web against eval.track, median of {len(tracking['ratios'])} | {ratio} |")
    for kind in ("next", "elsewhere"):
        times = f"{answer[kind]['median_ms']:.0f} ms, {answer[kind]['p95_ms']:.0f} ms"
        lines.append(f"| a frame while a tracker runs, {kind}, median and 95 % | {times} |")
    lines.append(f"| the tracker meanwhile | {answer['fps_meanwhile']:.1f} frames/s |")
    return "\n".join(lines)


@command.reports(ValueError, OSError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write JSON if asked."""
    options = parsers.benchmark_annotator().parse_args(argv)
    prepare_process()
    with tempfile.TemporaryDirectory() as folder:
        reporting.run(options, lambda: measure(options, Path(folder)), table)


if __name__ == "__main__":
    sys.exit(main())
