"""Result files of a benchmark run: written whole or not at all, and never mixed between settings.

A folder holds the results of one tracker with one set of settings: `run.json` (what they were made from) and
for each sequence `<name>.txt` (x,y,w,h a frame), `<name>_time.value` (seconds a frame, the first is the
initialization) and `<name>_confidence.value`. `<name>.txt` is written last: where it exists the sequence is
finished.
"""

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.files import ResultError, write_atomically
from eval.scoring.formats import FORMATS
from eval.sources.sequences import Sequence


class TrackResult(NamedTuple):
    """What a tracker did on a sequence of T frames; row 0 is the box it was given."""

    boxes: np.ndarray  # [T, 4] float64 x, y, w, h, 0-based
    seconds: np.ndarray  # [T] float64; 0: initialization, t: tracking frame t (no decoding, no compilation)
    confidence: np.ndarray  # [T] float64 in 0..1; 1 for row 0


@dataclass
class Report:
    """How a run ended."""

    summary: dict[str, Any] = field(default_factory=dict)  # what summary.json holds
    problems: list[str] = field(default_factory=list)  # one line for each sequence that was skipped
    interrupted: bool = False


def write_result(folder: Path, name: str, result: TrackResult) -> None:
    boxes, seconds, confidence = _files(folder, name)
    write_atomically(seconds, _lines(result.seconds[:, None], "%.8f"))
    write_atomically(confidence, _lines(result.confidence[:, None], "%.6f"))
    write_atomically(boxes, _lines(result.boxes, "%.6f"))


def _files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Boxes, seconds and confidence of a sequence."""
    form = FORMATS["jaxtrack"]
    return folder / form.path(name, 1), folder / form.time_path(name), folder / form.confidence_path(name, 1)


def _lines(table: np.ndarray, form: str) -> str:
    return "".join(",".join(form % value for value in row) + "\n" for row in table)


def read_result(folder: Path, sequence: Sequence, start_box: np.ndarray | None = None) -> TrackResult | None:
    """The finished result of a sequence; None if there is none, or one of other frames or first box.

    `start_box`: x, y, w, h that the run started from, where that is not the sequence's own.
    """
    files = _files(folder, sequence.name)
    if not all(file.is_file() for file in files):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, whose table has another shape
            boxes, seconds, confidence = (np.loadtxt(file, delimiter=",", ndmin=2) for file in files)
        if not all(np.isfinite(table).all() for table in (boxes, seconds, confidence)):
            raise ValueError("a number is not finite")
    except (ValueError, OSError) as error:
        raise ResultError(
            f"{files[0]}: not a result of this program ({error}); delete it or give --overwrite"
        ) from error
    count = len(sequence.frames)
    if boxes.shape != (count, 4) or seconds.shape != (count, 1) or confidence.shape != (count, 1):
        return None
    if np.abs(boxes[0] - (sequence.boxes[0] if start_box is None else start_box)).max() > 1e-5:
        return None
    return TrackResult(boxes, seconds[:, 0], confidence[:, 0])


def write_summary(folder: Path, report: Report, mine: list[Sequence], process: int | None = None) -> None:
    """summary.json. Of several processes that have all ended, process 0 writes it, and names what the others skipped;
    None: there are no others to be heard of.
    """
    if process == 0 and not report.interrupted:
        names = {sequence.name for sequence in mine}
        skipped = [name for name in report.summary["missing"] if name not in names]
        report.problems += [f"{name}: by another process, which says why" for name in skipped]
    if not process:
        write_atomically(folder / "summary.json", json.dumps(report.summary, indent=1) + "\n")


def claim_folder(
    folder: Path,
    settings: dict[str, Any],
    *,
    overwrite: bool = False,
    patterns: tuple[str, ...] = ("*.txt", "*.value"),
) -> None:
    """Make `folder` hold results of `settings` (JSON-ready) and of nothing else.

    Results, the files of `patterns`, of other settings raise ResultError, or are deleted where `overwrite`. Without a
    readable run.json nothing tells that they are results: ResultError in any case.
    """
    path = folder / "run.json"
    old = sorted(file for pattern in patterns for file in folder.rglob(pattern))
    try:
        stored = json.loads(path.read_text()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        stored = None
    settings = json.loads(json.dumps(settings))
    if old and not isinstance(stored, dict):
        raise ResultError(
            f"{folder}: holds {old[0].name}, and run.json, which says what it was made from, is missing or unreadable;"
            " choose another --out or move the files away"
        )
    if old and stored != settings:
        if not overwrite:
            raise ResultError(
                f"{folder}: holds results of other settings ({_difference(stored, settings)});"
                " choose another --out, or give --overwrite to delete them"
            )
        for file in (*old, folder / "summary.json"):
            file.unlink(missing_ok=True)
    if stored != settings:
        write_atomically(path, json.dumps(settings, indent=1) + "\n")


def _difference(stored: dict[str, Any], settings: dict[str, Any]) -> str:
    old, new = _flat(stored), _flat(settings)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name}: {old.get(name)} there, {new.get(name)} now" for name in names[:4])


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
