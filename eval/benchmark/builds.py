"""Two builds of this project beside each other: the same tracker and frames, in turns."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eval.files import ResultError
from trackers.base import Frame

WORKER = Path(__file__).with_name("build_worker.py")
HERE = Path(__file__).parents[2]
OURS, THEIRS = "this build", "the other"
STARTS = "first start to first box", "second start to first box"


class Worker:
    """A process of a build; ResultError, one line, where it ends."""

    def __init__(self, build: Path, arguments: dict[str, Any], cache: Path):
        environment = os.environ | {"PYTHONPATH": str(build), "JAX_COMPILATION_CACHE_DIR": str(cache)}
        command = [sys.executable, "-P", str(WORKER), json.dumps(arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.build, self.start = build, time.perf_counter()
        self._process = subprocess.Popen(command, cwd=build, env=environment, **pipes)

    def ask(self, what: str) -> dict[str, float]:
        """What `build_worker` answers."""
        try:
            print(what, file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            raise ResultError(f"{self.build}: its process has ended in {what}; its own message is above") from error

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def measure(
    other: Path, tracker: str, weights: str | None, first: Frame, second: Frame, box: np.ndarray, repeats: int
) -> dict[str, Any]:
    """Seconds of both builds by row, and `ratio`, this build over the other: median, and least and most of the rounds.

    box: y, x of the center and h, w. weights: None: those that come with each build. ResultError where `other` is no
    build.
    """
    if not (other / "trackers" / "base.py").is_file():
        raise ResultError(f"--beside-build {other}: no checkout of this project; make one with git worktree add")
    builds = {OURS: HERE, THEIRS: other.resolve()}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.npz"
        images = np.stack([np.asarray(frame.image) for frame in (first, second)])
        np.savez(clip, images=images, extent=np.asarray(first.extent), box=box)
        arguments = {"tracker": tracker, "weights": weights and str(Path(weights).resolve()), "clip": str(clip)}
        rows: dict[str, dict[str, list[float]]] = {}

        def timed(row: str, name: str, seconds: float) -> None:
            rows.setdefault(row, {}).setdefault(name, []).append(seconds)

        for number in range(max(repeats // 6, 1)):
            caches = {name: Path(folder) / f"{name} {number}" for name in builds}  # empty at first
            for row in STARTS:
                for name, build in builds.items():
                    with _running(build, arguments, caches[name]) as worker:
                        answers = [worker.ask(what) for what in ("compile", "init", "track")]
                        timed(row, name, time.perf_counter() - worker.start)
                        if row == STARTS[0]:
                            timed("compilation", name, answers[0]["seconds"])
        with _both(builds, arguments, caches) as ask:
            for name in builds:
                ask(name, "compile")
            for name in (*builds, *builds):
                ask(name, "init")
            for what, count in (("init", max(repeats // 4, 3)), ("track", repeats)):
                for _ in range(count):
                    for name in builds:
                        timed({"init": "first frame", "track": "frame"}[what], name, ask(name, what)["seconds"])
            peaks = {name: ask(name, "track")["peak_bytes"] for name in builds}
    return {
        "builds": {name: str(build) for name, build in builds.items()},
        "peak_bytes": peaks,
        "rows": {row: _compared(found[OURS], found[THEIRS]) for row, found in rows.items()},
    }


@contextmanager
def _running(build: Path, arguments: dict[str, Any], cache: Path) -> Iterator[Worker]:
    worker = Worker(build, arguments, cache)
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def _both(
    builds: dict[str, Path], arguments: dict[str, Any], caches: dict[str, Path]
) -> Iterator[Callable[[str, str], dict[str, float]]]:
    with (
        _running(builds[OURS], arguments, caches[OURS]) as ours,
        _running(builds[THEIRS], arguments, caches[THEIRS]) as theirs,
    ):
        workers = {OURS: ours, THEIRS: theirs}
        yield lambda name, what: workers[name].ask(what)


def _compared(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    ratios = np.divide(ours, theirs)
    medians = {
        "median_ms": 1e3 * float(np.median(ours)),
        "other_ms": 1e3 * float(np.median(theirs)),
        "rounds": len(ours),
    }
    spread = [float(np.quantile(ratios, share)) for share in (0.1, 0.9)]
    return medians | {"ratio": float(np.median(ratios)), "ratio_80_percent": spread}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    names = report["builds"]
    lines = [f"{report['tracker']}: {names[OURS]} beside {names[THEIRS]}, {report['versions']['device']}", ""]
    lines += [
        "| what | this build, ms | the other, ms | ratio | 80 % of the rounds | rounds |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        low, high = row["ratio_80_percent"]
        times = f"{row['median_ms']:.1f} | {row['other_ms']:.1f} | {row['ratio']:.2f}"
        lines.append(f"| {name} | {times} | {low:.2f} to {high:.2f} | {row['rounds']} |")
    peaks = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in report["peak_bytes"].items())
    return "\n".join([*lines, "", f"peak memory of the process: {peaks}"])
