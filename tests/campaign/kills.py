"""Kills commands at random moments, and demands that nothing is lost or half-written and that they resume.

    python -m tests.campaign.kills --count 100 --seed 0

SIGKILL and SIGTERM in turns over `eval.run` (one pass and restarts), `eval.track`, `train.siamfc` and `train.datasets`.
After each, every file under its final name must be whole and hold what an undisturbed run wrote, and after SIGTERM
nothing unfinished may lie beside it. The same command again must end as if nothing had happened, to the bit. All runs
are children of one process that has imported everything, so that a run lasts a second or two.
"""

import argparse
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.sources import video
from tests.campaign import kill_targets
from tests.helpers.videos import make_video
from trackers.weights import files
from train.datasets import DatasetError, load

SEQUENCES, FRAMES = ("a", "b", "c", "d"), 21
STARTS = 20  # of a sequence in OTB's TRE
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
TRACKER = f"{kill_targets.__name__}:DOT"


class Problem(AssertionError):
    """What a kill has broken."""


class Target(NamedTuple):
    """A command that is killed."""

    options: Callable[[Path, Path], list[str]]  # of (folder of the inputs, folder of the outputs): COMMAND OPTIONS
    facts: Callable[[Path], dict[str, Any]]  # what an output folder holds, without times; Problem for what is not whole
    finished: Callable[[Path], list[Path]] = lambda out: []  # results that are not made again
    grows: bool = False  # the facts are lists, and an interrupted run has written the beginnings of them


def _shown(out: Path) -> list[Path]:
    """The files under their final names."""
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    return [path for path in paths if not unfinished(path.relative_to(out))]


def unfinished(path: Path) -> bool:
    """Hidden, or of a data set or a checkpoint that is being written."""
    marks = (".orbax-checkpoint-tmp", "incomplete.")
    hidden = (part for part in path.parts if part != ".config")  # where TFDS keeps what it knows of a data set
    return any(part.startswith(".") or any(mark in part for mark in marks) for part in hidden)


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
        elif path.stem.endswith("_time"):
            found[name] = len(np.loadtxt(path, ndmin=1))
        else:
            found[name] = path.read_text()
    return found


def _finished_passes(out: Path) -> list[Path]:
    return [path for path in _shown(out) if path.suffix == ".txt"]


def _finished_restarts(out: Path) -> list[Path]:
    """Of sequences of which all runs are there."""
    paths = [path for path in _shown(out) if path.suffix == ".txt"]
    return [path for path in paths if len(list(path.parent.glob("*.txt"))) == STARTS]


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
        _finished_passes,
    ),
    "restarts": Target(
        lambda data, out: [
            *("eval.run", "--tracker", TRACKER, "--data_dir", str(data / "videos"), "--out", str(out)),
            *("--protocol", "tre", "--workers", "2"),
        ],
        _run_facts,
        _finished_restarts,
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


class Child:
    """A process that has imported everything and does one task; its output goes to a file."""

    def __init__(self, task: Callable[[], int]):
        self._printed = tempfile.TemporaryFile("w+")
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._do(task)
        self.began, self.code = time.perf_counter(), None

    def _do(self, task: Callable[[], int]) -> None:
        """In the child, which never returns into the parent's code."""
        code = 70
        try:
            os.dup2(self._printed.fileno(), 1)
            os.dup2(self._printed.fileno(), 2)
            code = task()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float) -> int | None:
        """The exit code as `subprocess` gives it; None where it runs longer."""
        end = time.perf_counter() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.perf_counter() > end:
                return None
            else:
                time.sleep(0.005)
        return self.code

    def printed(self) -> str:
        self._printed.seek(0)
        return self._printed.read()


LONGEST = 300.0  # seconds of any run


def start(target: Target, data: Path, out: Path, wait: float) -> Child:
    out.mkdir(parents=True, exist_ok=True)
    command, *options = target.options(data, out)
    return Child(lambda: kill_targets.call(command, options, wait))


def run(target: Target, data: Path, out: Path, wait: float = 0.0) -> tuple[float, float]:
    """(seconds until something appears in `out`, seconds of the whole undisturbed run); Problem where it fails."""
    child, appeared = start(target, data, out, wait), None
    while child.wait(0) is None:
        if appeared is None and any(out.iterdir()):
            appeared = time.perf_counter() - child.began
        time.sleep(0.005)
    if child.code:
        raise Problem(f"exit code {child.code}: {child.printed()[-600:]}")
    whole = time.perf_counter() - child.began
    return whole if appeared is None else appeared, whole


def kill(target: Target, data: Path, out: Path, wait: float, moment: float, number: signal.Signals) -> int:
    """The exit code of a run that gets a signal after `moment` seconds."""
    child = start(target, data, out, wait)
    if child.wait(moment) is None:
        os.kill(child.pid, number)
    if child.wait(60) is None:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(60)
        raise Problem(f"still there 60 s after {number.name}")
    if child.code not in (0, 128 + number, -number) or "Traceback" in child.printed():
        raise Problem(f"exit code {child.code}: {child.printed()[-900:]}")
    return child.code


def facts(target: Target, out: Path) -> dict[str, Any]:
    """`target.facts`, found in a process of its own: this one starts no threads, which no child would have."""
    with tempfile.NamedTemporaryFile() as file:

        def find() -> int:
            try:
                found: Any = target.facts(out)
            except Problem as problem:
                found = problem
            Path(file.name).write_bytes(pickle.dumps(found))
            return 0

        child = Child(find)
        if child.wait(LONGEST):
            raise Problem(f"its files cannot be read: {child.printed()[-600:]}")
        found = pickle.loads(file.read())
    if isinstance(found, Problem):
        raise found
    return found


def check(target: Target, out: Path, reference: dict[str, Any], number: signal.Signals) -> None:
    """Problem where something is not whole, not what it should be, or left behind."""
    found = facts(target, out)
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
        moments[name] = run(target, folder / "data", out, waits[name])
        references[name] = facts(target, out)
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
            kept = {path: path.stat().st_mtime_ns for path in target.finished(out)}
            run(target, folder / "data", out)
            if facts(target, out) != references[name]:
                raise Problem("the resumed run ends in another way than the undisturbed one")
            again = [path.name for path, when in kept.items() if path.stat().st_mtime_ns != when]
            if again:
                raise Problem(f"finished results are made again: {', '.join(again)}")
            shutil.rmtree(out)
        except Problem as problem:
            problems.append(f"{said}: {problem}")
            print(f"problem: {problems[-1]}", flush=True)
    return rows, problems


def _ending(code: int) -> str:
    return "finished before" if code == 0 else "killed" if code < 0 else "ended by itself"


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
