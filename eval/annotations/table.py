"""What eval.track writes: a .csv with a line a frame and target, and a .json with more."""

import csv
import io
import json
import math
from typing import Any

import numpy as np

from eval.annotations import entries
from eval.annotations.tracks import Row, Track, Video, make_tracks

COLUMNS = ("frame", "target", "x", "y", "w", "h", "score", "confidence", "verdict")
HEADER = ",".join(COLUMNS)
READ = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    csv.Error,
)  # for what is damaged


def csv_text(video: Video) -> str:
    """`COLUMNS`, in the order of frames and, within one, of targets; `target` is its name."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    rows = ((frame, track, at) for track in video.tracks for at, frame in enumerate(track.frames))
    for frame, track, at in sorted(rows, key=lambda row: row[0]):
        box = [f"{value:.4f}" for value in track.boxes[at]]
        score = f"{track.scores[at]:.6g}" if np.isfinite(track.scores[at]) else ""
        table.writerow([frame, track.name, *box, score, f"{track.confidence[at]:.4f}", track.verdicts[at]])
    return text.getvalue()


def json_text(video: Video, header: dict[str, Any]) -> str:
    """The same: `header`, and for each target its name, its first frame and a list of each kind of value."""
    return json.dumps({**header, "targets": [json_target(track) for track in video.tracks]}, allow_nan=False) + "\n"


def json_target(track: Track) -> dict[str, Any]:
    """A target of `json_text`."""
    return {
        "name": track.name,
        "first_frame": int(track.frames[0]),
        "boxes": track.boxes.round(4).tolist(),
        "scores": _numbers(track.scores),
        "confidence": _numbers(track.confidence),
        "verdicts": track.verdicts,
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    """JSON has no nan."""
    return [round(value, 6) if math.isfinite(value) else None for value in values.tolist()]


def read_csv(text: str, name: str) -> list[Video]:
    """The targets in the order of their first lines; ValueError or csv.Error for another table, and a damaged one."""
    table = csv.DictReader(io.StringIO(text), strict=True)
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise ValueError(f"the first line is not {HEADER}")
    targets: dict[str, list[Row]] = {}
    order = []
    for line in table:
        box = [float(line[side]) for side in "xywh"]
        score = float(line["score"] or "nan")
        row = Row(int(line["frame"]), box, float(line["confidence"]), str(line["verdict"]), score)
        targets.setdefault(line["target"], []).append(row)
        order.append(row.frame)
    if order != sorted(order):
        raise ValueError("a line is in another place")
    return [Video(name, _tracks(targets))]


def read_json(text: str, name: str) -> list[Video]:
    """The same of a .json; the older ones have no names, and one first frame for all."""
    stored, targets = json.loads(text), {}
    for number, target in enumerate(stored["targets"], 1):
        called = str(target.get("name", number))
        first = int((target if "first_frame" in target else stored)["first_frame"])
        kinds = [target[kind] for kind in ("boxes", "confidence", "verdicts", "scores")]
        if len({len(values) for values in kinds}) > 1:
            raise ValueError(f"target {called}: as many boxes as confidences, verdicts and scores are needed")
        if called in targets:
            raise ValueError(f"target {called} is there twice")
        targets[called] = []
        for frame, (box, confidence, verdict, score) in enumerate(zip(*kinds), first):
            score = float("nan") if score is None else float(score)
            targets[called].append(Row(frame, entries.box(box, called), float(confidence), str(verdict), score))
    size = stored.get("image_size")
    return [Video(name, _tracks(targets), entries.size(dict(zip(("width", "height"), size or ())), "image_size"))]


def _tracks(targets: dict[str, list[Row]]) -> list[Track]:
    tracks = make_tracks({number: item for number, item in enumerate(targets.items(), 1)})
    for track in tracks:
        if not np.isfinite(track.confidence).all():
            raise ValueError(f"target {track.name}: a confidence is not finite")
        if np.ptp(track.frames) >= len(track.frames):
            raise ValueError(f"target {track.name}: a line is missing")
    return tracks
