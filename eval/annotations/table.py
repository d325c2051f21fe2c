"""What eval.track writes: a .csv with a line a frame and target, and a .json with more."""

import csv
import io
import json
from typing import Any

import numpy as np

from eval.annotations.tracks import Row, Track, Video, make_track

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
    targets = [
        {
            "name": track.name,
            "first_frame": int(track.frames[0]),
            "boxes": track.boxes.round(4).tolist(),
            "scores": [_number(value) for value in track.scores],
            "confidence": [_number(value) for value in track.confidence],
            "verdicts": track.verdicts,
        }
        for track in video.tracks
    ]
    return json.dumps({**header, "targets": targets}, allow_nan=False) + "\n"


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return round(float(value), 6) if np.isfinite(value) else None


def read_csv(text: str) -> list[Track]:
    """The targets in the order of their first lines; one of READ for another table, and for a damaged one."""
    table = csv.DictReader(io.StringIO(text), strict=True)
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise ValueError(f"the first line is not {HEADER}")
    targets: dict[str, list[Row]] = {}
    order = []
    for line in table:
        row = Row(
            int(line["frame"]),
            [float(line[side]) for side in "xywh"],
            float(line["confidence"]),
            str(line["verdict"]),
            float(line["score"] or "nan"),
        )
        targets.setdefault(line["target"], []).append(row)
        order.append(row.frame)
    if order != sorted(order):
        raise ValueError("a line is in another place")
    return _tracks(targets)


def read_json(text: str) -> list[Track]:
    """The same of a .json; the older ones have no names, and one first frame for all."""
    stored, targets = json.loads(text), {}
    for number, target in enumerate(stored["targets"], 1):
        name, first = str(target.get("name", number)), int(target.get("first_frame", stored["first_frame"]))
        kinds = [target[kind] for kind in ("boxes", "confidence", "verdicts", "scores")]
        if len({len(values) for values in kinds}) > 1:
            raise ValueError(f"target {name}: as many boxes as confidences, verdicts and scores are needed")
        if name in targets:
            raise ValueError(f"target {name} is there twice")
        targets[name] = []
        for frame, (box, confidence, verdict, score) in enumerate(zip(*kinds), first):
            score = float("nan") if score is None else float(score)
            targets[name].append(Row(frame, [float(value) for value in box], float(confidence), str(verdict), score))
    return _tracks(targets)


def _tracks(targets: dict[str, list[Row]]) -> list[Track]:
    tracks = []
    for number, (name, rows) in enumerate(targets.items(), 1):
        try:
            tracks.append(make_track(number, name, rows))
        except ValueError as error:
            raise ValueError(f"target {name}: {error}") from error
    for track in tracks:
        if not len(track.frames) or not np.isfinite(track.confidence).all():
            raise ValueError(f"target {track.name}: a box or a confidence is missing or not finite")
        if np.ptp(track.frames) >= len(track.frames):
            raise ValueError(f"target {track.name}: a line is missing")
    return tracks
