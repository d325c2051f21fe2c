"""MOTChallenge text: a line frame, id, x, y, w, h, confidence, -1, -1, -1 for each target that is seen in a frame.

Frames, ids and the upper left pixel count from 1, as motchallenge.net says of its files. Names have no place in it.
"""

import re

import numpy as np

from eval.annotations.tracks import Row, Video, make_tracks, seen

SEPARATOR = re.compile(r"\s*[,;\s]\s*")


def render(video: Video) -> str:
    lines = []
    for track in video.tracks:
        for frame, (x, y, w, h), confidence, there in zip(track.frames, track.boxes, track.confidence, seen(track)):
            sure = confidence if np.isfinite(confidence) else 1.0
            line = f"{frame + 1},{track.id},{x + 1:.4f},{y + 1:.4f},{w:.4f},{h:.4f},{sure:.4f},-1,-1,-1\n"
            if there:
                lines.append((frame, track.id, line))
    return "".join(line for *_, line in sorted(lines))


def recognized(text: str) -> bool:
    """Whether its first line is none of a box, a polygon or a code: 7 or 9 numbers, or 10 of which the last are -1."""
    fields = SEPARATOR.split(text.lstrip().partition("\n")[0].strip())
    return len(fields) in (7, 9) or (len(fields) == 10 and [*map(str.strip, fields[7:])] == ["-1"] * 3)


def read(text: str, name: str) -> list[Video]:
    """The one video; ValueError names the line."""
    rows: dict[int, list[Row]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(field) for field in SEPARATOR.split(line.strip())]
            if not 6 <= len(values) <= 10:
                raise ValueError(f"{len(values)} numbers; frame, id, x, y, w, h, confidence, -1, -1, -1 are needed")
            frame, identity = (_whole(value) for value in values[:2])
            x, y, w, h = values[2:6]
            sure = values[6] if len(values) > 6 and np.isfinite(values[6]) and values[6] >= 0 else float("nan")
            rows.setdefault(identity, []).append(Row(frame - 1, (x - 1, y - 1, w, h), sure))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return [Video(name, make_tracks({identity: ("", found) for identity, found in sorted(rows.items())}))]


def _whole(value: float) -> int:
    if value < 1 or value != int(value):
        raise ValueError(f"{value:g} is neither a frame nor an id, which count from 1")
    return int(value)
