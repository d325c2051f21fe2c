"""CVAT's XML for video, version 1.1: a track for each target, with a box for each of its frames.

Frames and ids count from 0, and a box is its two corners: xbr = xtl + w. `outside="1"` says that the target is not
there: it stands where a target is lost, and after its last frame. Confidences have no place in it.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from eval.annotations.tracks import LONGEST, LOST, Row, Track, Video, make_tracks

CORNERS = ("xtl", "ytl", "xbr", "ybr")


def render(video: Video) -> str:
    last = max((int(track.frames[-1]) for track in video.tracks), default=-1)
    labels = "".join(f"<label><name>{escape(track.name)}</name></label>" for track in video.tracks)
    width, height = video.size or ("", "")
    size = f"<original_size><width>{width}</width><height>{height}</height></original_size>" if video.size else ""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "<version>1.1</version>",
        f"<meta><task><name>{escape(video.name)}</name><size>{last + 1}</size><mode>interpolation</mode>"
        f"<start_frame>0</start_frame><stop_frame>{last}</stop_frame><labels>{labels}</labels>{size}</task></meta>",
    ]
    for track in video.tracks:
        lines.append(f'<track id="{track.id - 1}" label={quoteattr(track.name)} source="auto">')
        lines += [f"  {line}" for line in _boxes(track, last)]
        lines.append("</track>")
    return "\n".join([*lines, "</annotations>\n"])


def _boxes(track: Track, last: int) -> Iterator[str]:
    """A box per row; CVAT draws a box on until another frame says otherwise, so what ends is told."""
    nexts = [*track.frames[1:], last + 1]
    for frame, box, verdict, following in zip(track.frames, track.boxes.round(4), track.verdicts, nexts):
        yield _box(frame, box, verdict == LOST)
        if verdict != LOST and following > frame + 1:
            yield _box(frame + 1, box, True)


def _box(frame: int, box: np.ndarray, outside: bool) -> str:
    x, y, w, h = box
    corners = " ".join(f'{side}="{value:.4f}"' for side, value in zip(CORNERS, (x, y, x + w, y + h)))
    return f'<box frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" {corners} z_order="0"></box>'


def read(text: str, name: str) -> list[Video]:
    """The one video; between two boxes that are frames apart, the others lie on the line, as CVAT shows them.

    ValueError names the line, or the track.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"line {error.position[0]}: {error}") from error
    if root.tag != "annotations" or root.find("image") is not None:
        raise ValueError("it is not of CVAT for video 1.1; export the task so, not as images")
    tracks = {}
    for number, track in enumerate(root.iter("track")):
        place = f"track {track.get('id', f'number {number}')}"
        boxes = list(track.iter("box"))
        if not boxes:
            continue  # of polygons or points
        try:
            identity = _whole(track, "id") + 1
            if identity in tracks:
                raise ValueError("is there twice")
            tracks[identity] = track.get("label", ""), list(_between([_row(box) for box in boxes]))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{place}: {error}") from error
    name = root.findtext("meta/task/name") or name
    sides = [root.findtext(f"meta/task/original_size/{side}") or "" for side in ("width", "height")]
    size = (int(sides[0]), int(sides[1])) if all(map(str.isdecimal, sides)) else None
    return [Video(name, make_tracks(tracks), size)]


def _row(box: ElementTree.Element) -> Row:
    frame = _whole(box, "frame")
    try:
        left, top, right, bottom = (float(box.get(side, "")) for side in CORNERS)
    except ValueError:
        raise ValueError(f"frame {frame}: {', '.join(CORNERS)} must be numbers") from None
    row = Row(frame, (left, top, right - left, bottom - top))
    return row._replace(verdict=LOST) if box.get("outside") == "1" else row


def _whole(element: ElementTree.Element, key: str) -> int:
    text = element.get(key, "")
    if not text.isdecimal() or int(text) >= LONGEST:
        raise ValueError(f"{element.tag}: {key}={text[:40]!r} is not a whole number below {LONGEST}")
    return int(text)


def _between(rows: list[Row]) -> Iterator[Row]:
    rows = sorted(rows, key=lambda row: row.frame)
    for row, following in zip(rows, [*rows[1:], rows[-1]]):
        yield row
        if row.verdict != LOST:
            for frame in range(row.frame + 1, following.frame):
                share = (frame - row.frame) / (following.frame - row.frame)
                start, end = np.array(row.box), np.array(following.box)
                yield Row(frame, start + share * (end - start))
