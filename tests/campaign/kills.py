"""Kills commands at random moments, and demands that nothing is lost or half-written and that they resume.

    python -m tests.campaign.kills --count 100 --seed 0

SIGKILL and SIGTERM in turns over `eval.run` (one pass and restarts), `eval.track`, `train.siamfc` and `train.datasets`.
After each, every file under its final name must be whole and hold what an undisturbed run wrote, and after SIGTERM
nothing unfinished may lie beside it. The same command again must end as if nothing had happened, to the bit.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.sources import video
from tests.campaign import kill_targets
from tests.helpers import places
from tests.helpers.compilation import little_optimization
from tests.helpers.videos import make_video
from trackers.weights import files
from train.datasets import DatasetError, load

SEQUENCES, FRAMES = ("a", "b", "c", "d"), 21
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
TRACKER = f"{kill_targets.__name__}:DOT"


class Problem(AssertionError):
    """What a kill has broken."""


class Target(NamedTuple):
    """A command that is killed."""

    options: Callable[[Path, Path], list[str]]  # of (folder of the inputs, folder of the outputs): COMMAND OPTIONS
    facts: Callable[[Path], dict[str, Any]]  # what an output folder holds, without times; Problem for what is not whole
    grows: bool = False  # the facts are lists, and an interrupted run has written the beginnings of them


def _shown(out: Path) -> list[Path]:
    """The files under their final names."""
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    return [path for path in paths if not unfinished(path.relative_to(out))]


def unfinished(path: Path) -> bool:
    """Hidden, or of a data set or a checkpoint that is being written."""
    marks = (".orbax-checkpoint-tmp", "incomplete.")
    return any(part.startswith(".") or any(mark in part for mark in marks) for part in path.parts)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise Problem(f"{path}: half-written: {error}") from error


def _run_facts(out: Path) -> dict[str, Any]:
    found = {}
    for path in _shown(out):
        name = str(path.relative_to(out))
        if path.name == "summary.json":
            summary = _read_json(path)
            rows = [{key: value for key, value in row.items() if key != "fps"} for row in summary["sequences"].values()]
            found[name] = [rows, summary["missing"]]
        elif path.name.endswith("_time.txt"):
            found[name] = len(np.loadtxt(path, ndmin=1))
        else:
            found[name] = path.read_text()
    return found


def _track_facts(out: Path) -> dict[str, Any]:
    found = {}
    for path in _shown(out):
        if path.suffix == ".json":
            (target,) = _read_json(path)["targets"]
            found[path.name] = [list(row) for row in zip(target["boxes"], target["scores"], target["verdicts"])]
        elif path.suffix == ".csv":
            found[path.name] = path.read_text().splitlines()[1:]
        elif path.suffix == ".webm":
            found[path.name] = [image.tobytes() for image in video.open_source(path).frames]
    return found


def _train_facts(out: Path) -> dict[str, Any]:
    found = {}
    for path in _shown(out):
        if path.name == "config.json":
            found[path.name] = _read_json(path)
        elif path.suffix == ".safetensors":
            found[path.name] = files.read_metadata(path)["sha256"]
        elif path.name == "log.jsonl":
            lines = path.read_text().split("\n")[:-1]  # of which a kill may cut the last
            found[path.name] = {row["step"]: row["loss"] for row in map(json.loads, lines)}
    return found


def _dataset_facts(out: Path) -> dict[str, Any]:
    try:
        dataset = load("folder", out)
    except DatasetError as error:
        if "not prepared" in str(error):
            return {}
        raise Problem(str(error)) from error
    frames = [dataset.frames[index]["image"] for index in range(len(dataset.frames))]
    return {"table": [np.asarray(part).tobytes() for part in dataset.table], "frames": frames}


TARGETS = {
    "run": Target(
        lambda data, out: ["eval.run", "--tracker", TRACKER, "--data_dir", str(data / "videos"), "--out", str(out)],
        _run_facts,
    ),
    "restarts": Target(
        lambda data, out: [
            *("eval.run", "--tracker", TRACKER, "--data_dir", str(data / "videos"), "--out", str(out)),
            *("--protocol", "tre", "--workers", "2"),
        ],
        _run_facts,
    ),
    "track": Target(
        lambda data, out: [
            *("eval.track", "--tracker", TRACKER, "--video", str(data / "videos" / "a" / "img")),
            *("--box", "8,7,9.5,7", "--out", str(out / "tracked.webm")),
        ],
        _track_facts,
        grows=True,
    ),
    "train": Target(
        lambda data, out: [
            *("train.siamfc", "--config", kill_targets.__file__, "--out", str(out)),
            *("--data_dir", str(out / "prepared")),
        ],
        _train_facts,
    ),
    "datasets": Target(
        lambda data, out: ["train.datasets", "folder", "--source", str(data / "videos"), "--data_dir", str(out)],
        _dataset_facts,
    ),
}


def make_inputs(folder: Path) -> None:
    for number, name in enumerate(SEQUENCES):
        make_video(folder / "videos" / name, FRAMES - number)


def start(target: Target, data: Path, out: Path, wait: float) -> subprocess.Popen:
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", kill_targets.__name__, *target.options(data, out)]
    flags = os.environ.get("XLA_FLAGS") or little_optimization()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "WAIT": str(wait), "XLA_FLAGS": flags}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=places.REPOSITORY, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(target: Target, data: Path, out: Path, wait: float = 0.0) -> float:
    """The seconds of an undisturbed run; Problem where it fails."""
    began = time.perf_counter()
    process = start(target, data, out, wait)
    _, printed = process.communicate()
    if process.returncode:
        raise Problem(f"exit code {process.returncode}: {printed[-600:]}")
    return time.perf_counter() - began


def first_write(target: Target, data: Path, out: Path, wait: float) -> tuple[float, float]:
    """(seconds until something appears in `out`, seconds of the whole run)."""
    began, appeared = time.perf_counter(), None
    process = start(target, data, out, wait)
    while process.poll() is None:
        if appeared is None and any(out.iterdir()):
            appeared = time.perf_counter() - began
        time.sleep(0.01)
    if process.returncode:
        raise Problem(f"exit code {process.returncode}: {process.stderr.read()[-600:]}")
    process.communicate()
    whole = time.perf_counter() - began
    return appeared or whole, whole


def kill(target: Target, data: Path, out: Path, wait: float, moment: float, number: signal.Signals) -> int:
    """The exit code of a run that gets a signal after `moment` seconds."""
    process = start(target, data, out, wait)
    try:
        _, printed = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        try:
            _, printed = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Problem(f"still there 60 s after {number.name}") from None
    if process.returncode not in (0, 130, -number):
        raise Problem(f"exit code {process.returncode}: {printed[-600:]}")
    if "Traceback" in printed:
        raise Problem(f"a traceback: {printed[-600:]}")
    return process.returncode


def check(target: Target, out: Path, reference: dict[str, Any], number: signal.Signals) -> None:
    """Problem where something is not whole, not what it should be, or left behind."""
    found = target.facts(out)
    for name, value in found.items():
        if name not in reference:
            raise Problem(f"{name}: an undisturbed run does not write it")
        whole = reference[name]
        if target.grows:
            whole = whole[: len(value)]
        elif isinstance(value, dict) and name == "log.jsonl":
            whole = {step: whole[step] for step in value}
        if value != whole and not name.endswith("summary.json"):
            raise Problem(f"{name}: differs from that of an undisturbed run")
    left = [str(path.relative_to(out)) for path in out.rglob("*") if unfinished(path.relative_to(out))]
    if number == signal.SIGTERM and left:
        raise Problem(f"left behind after SIGTERM: {', '.join(left[:5])}")


def campaign(names: list[str], count: int, seed: int, folder: Path) -> tuple[dict[str, dict[str, int]], list[str]]:
    """(what happened by command, problems)."""
    make_inputs(folder / "data")
    waits = {"run": 0.01, "restarts": 0.003, "track": 0.05, "datasets": 0.01, "train": 0.0}
    references, moments, problems = {}, {}, []
    rows: dict[str, dict[str, int]] = {name: {} for name in names}
    for name in names:
        target, out = TARGETS[name], folder / "undisturbed" / name
        run(target, folder / "data", folder / "compile" / name)  # fills the cache of compiled programs
        moments[name] = first_write(target, folder / "data", out, waits[name])
        references[name] = target.facts(out)
        print(f"{name}: undisturbed {moments[name][1]:.1f} s, first file after {moments[name][0]:.1f} s", flush=True)
    for index in range(count):
        name, number = names[index % len(names)], SIGNALS[index // len(names) % 2]
        rng = np.random.default_rng([seed, index])
        begin, end = moments[name]
        moment = float(rng.uniform(0.8 * begin, end)) if rng.random() < 0.9 else float(rng.uniform(0, begin))
        target, out = TARGETS[name], folder / "killed" / str(index)
        said = f"{index}: {name}, {number.name} after {moment:.2f} s"
        try:
            code = kill(target, folder / "data", out, waits[name], moment, number)
            rows[name][_ending(code)] = rows[name].get(_ending(code), 0) + 1
            check(target, out, references[name], number)
            kept = {path: path.stat().st_mtime_ns for path in _shown(out) if path.suffix == ".txt"}
            run(target, folder / "data", out)
            if target.facts(out) != references[name]:
                raise Problem("the resumed run ends in another way than the undisturbed one")
            again = [path.name for path, when in kept.items() if path.stat().st_mtime_ns != when]
            done = [path for path in again if not path.endswith(("_time.txt", "_confidence.txt"))]
            if done:
                raise Problem(f"finished results are made again: {', '.join(done)}")
            shutil.rmtree(out)
        except Problem as problem:
            problems.append(f"{said}: {problem}")
            print(f"problem: {problems[-1]}", flush=True)
    return rows, problems


def _ending(code: int) -> str:
    return {0: "finished before", 130: "ended by itself"}.get(code, "killed")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.campaign.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=lambda text: text.split(","), default=list(TARGETS), metavar="A,B")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for what the killed runs leave")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        rows, problems = campaign(arguments.commands, arguments.count, arguments.seed, folder)
    for name, row in rows.items():
        print(
            f"{name:<10} {sum(row.values()):>4} kills: " + ", ".join(f"{count} {what}" for what, count in row.items())
        )
    print(f"{arguments.count} kills, {len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
