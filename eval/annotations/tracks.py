"""What files of annotations say of a video: its targets, each with a box in some of the frames."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

LONGEST = 1_000_000  # frames of a video in a file: half a day; more is damage
FOUND, LOST = "found", "lost"  # of the verdicts' names, those that formats without verdicts tell apart


class Track(NamedTuple):
    """One target in T frames."""

    id: int  # from 1, unlike those of the others
    name: str
    frames: np.ndarray  # [T] int, ascending, from 0
    boxes: np.ndarray  # [T, 4] float64 x, y, w, h in pixels, 0-based
    confidence: np.ndarray  # [T] in 0..1, nan where nobody says
    verdicts: list[str]  # [T] "lost" where the target is not seen: the box is the last one
    scores: np.ndarray  # [T] the tracker's own, nan where nobody says


class Video(NamedTuple):
    """The targets of one video."""

    name: str
    tracks: list[Track]
    size: tuple[int, int] | None = None  # width, height in pixels
    files: tuple[str, ...] = ()  # of each frame from the first on, where they are images


class Row(NamedTuple):
    """One target in one frame."""

    frame: int
    box: Iterable[float]
    confidence: float = float("nan")
    verdict: str = FOUND
    score: float = float("nan")


def make_track(identity: int, name: str, rows: Iterable[Row]) -> Track:
    """Rows in any order; ValueError for a frame that is negative or there twice and a box that is none."""
    rows = sorted(rows, key=lambda row: row.frame)
    frames = [row.frame for row in rows]
    for before, frame in zip([-1, *frames], frames):
        if frame < 0:
            raise ValueError(f"frame {frame} is before the first one")
        if frame == before:
            raise ValueError(f"frame {frame} is there twice")
    boxes = np.array([[*row.box] for row in rows], np.float64).reshape(-1, 4)
    bad = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1)
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(f"frame {frames[at]}: the box {boxes[at].tolist()} is not finite, or w or h is negative")
    confidence, scores = (np.array([getattr(row, kind) for row in rows], float) for kind in ("confidence", "score"))
    return Track(identity, name, np.array(frames, int), boxes, confidence, [row.verdict for row in rows], scores)


def seen(track: Track) -> list[bool]:
    """`[T]` whether the target is there."""
    return [verdict != LOST for verdict in track.verdicts]


def make_tracks(found: dict[int, tuple[str, list[Row]]]) -> list[Track]:
    """id -> label and rows, as tracks: named by the label, with the id where several have it, and by the id without.

    ValueError names the track.
    """
    labels = ["".join(one if one.isprintable() else " " for one in label).strip() for label, _ in found.values()]
    tracks = []
    for label, (identity, (_, rows)) in zip(labels, found.items()):
        name = f"{label}-{identity}" if label and labels.count(label) > 1 else label or str(identity)
        try:
            if rows:
                tracks.append(make_track(identity, name, rows))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"target {name}: {error}") from error
    return tracks


def image_name(video: Video, frame: int) -> str:
    """The file of a frame; where the video is no folder of images, what CVAT calls it."""
    return video.files[frame] if frame < len(video.files) else f"frame_{frame:06}.PNG"
