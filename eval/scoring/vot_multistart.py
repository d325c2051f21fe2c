"""VOT from 2020 on: a tracker is started at anchors and never restarted; accuracy, robustness and EAO, for boxes.

From an anchor it runs to the end, or backward to frame 1. It has failed where the overlap stays at most 0.1 for 10
frames in a row in which the target is there (votchallenge/toolkit 56f0053, vot/analysis/multistart.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

THRESHOLD, GRACE = 0.1, 10
EAO_INTERVAL = (115, 755)  # VOT2020 to 2022, short-term
SPACING = 50  # frames between anchors


class Start(NamedTuple):
    """What a tracker did from one anchor: its frames are in the order in which they were tracked."""

    overlaps: np.ndarray  # [n] with the truth; 0, the anchor itself
    present: np.ndarray | None = None  # [n] bool, the true region is not empty; None: always


def place_anchors(visible: np.ndarray) -> list[int]:
    """Anchors of a sequence without its own: signed 1-based frames, negative: run backward (the dataset's format).

    One each SPACING frames and one on the last, moved to the nearest frame where the target is there (`visible`,
    `[T]`); the direction is that with more frames to go (VOT2020 results paper, section 2).
    """
    count, there = len(visible), np.flatnonzero(visible)
    wanted = sorted({*range(0, count, SPACING), count - 1})
    frames = sorted({int(there[np.abs(there - frame).argmin()]) for frame in wanted}) if len(there) else []
    return [frame + 1 if count - frame > frame else -(frame + 1) for frame in frames]


def frames_of(anchor: int, count: int) -> list[int]:
    """0-based frames in the order in which they are tracked from a signed 1-based anchor of a sequence of `count`."""
    if not 1 <= abs(anchor) <= count:
        raise ValueError(f"anchor {anchor}: the sequence has frames 1 to {count}")
    return list(range(anchor - 1, count)) if anchor > 0 else list(range(-anchor - 1, -1, -1))


def track_from_anchor(
    init: Callable[[int, np.ndarray], None], update: Callable[[int], np.ndarray], anchor: int, boxes: np.ndarray
) -> np.ndarray:
    """`[n, 4]` boxes x, y, w, h of one run, the first the true one; `boxes`: `[T, 4]` to initialize with."""
    frames = frames_of(anchor, len(boxes))
    init(frames[0], np.asarray(boxes[frames[0]], np.float64))
    return np.array([boxes[frames[0]], *(update(index) for index in frames[1:])], np.float64)


def progress(start: Start) -> int:
    """Number of frames before the failure, all of them if there is none."""
    low = 0
    for index, overlap in enumerate(start.overlaps):
        there = start.present is None or start.present[index]
        low = low + 1 if overlap <= THRESHOLD and there else 0
        if low == GRACE:
            return index + 1 - GRACE
    return len(start.overlaps)


def accuracy_and_robustness(starts: Sequence[Start]) -> dict[str, float]:
    """Of one sequence: accuracy, mean overlap before the failures; robustness, share of frames before them.

    Also progress: the number of those frames, which weights the sequence's accuracy in `average`.
    """
    done = [progress(start) for start in starts]
    shared = sum(float(np.sum(start.overlaps[:frames])) for start, frames in zip(starts, done))
    tracked = sum(done)
    return {
        "accuracy": shared / tracked if tracked else 0.0,
        "robustness": tracked / sum(len(start.overlaps) for start in starts),
        "progress": tracked,
    }


def average(sequences: Mapping[str, Mapping[str, float]], lengths: Mapping[str, int]) -> dict[str, float]:
    """Means over sequences of `accuracy_and_robustness`: accuracy weighted by progress, robustness by length."""
    names = list(sequences)
    weights = np.array([sequences[name]["progress"] for name in names], np.float64)
    accuracy = np.array([sequences[name]["accuracy"] for name in names])
    robustness = np.array([sequences[name]["robustness"] for name in names])
    frames = np.array([lengths[name] for name in names], np.float64)
    return {
        "accuracy": float((accuracy * weights).sum() / weights.sum()) if weights.sum() else 0.0,
        "robustness": float((robustness * frames).sum() / frames.sum()),
    }


def eao_curve(starts: Sequence[Start], length: int = EAO_INTERVAL[1]) -> tuple[np.ndarray, np.ndarray]:
    """`[length]` sum and number of the mean overlaps of frames 1..n, over the runs that are that long or failed.

    A failed run is 0 from the failure on and counts at every n; beyond its last frame its sum is divided by n - 1, not
    n (the toolkit's quirk). Sums and numbers of sequences may be added.
    """
    total, active = np.zeros(length), np.zeros(length)
    for start in starts:
        done, count = progress(start), len(start.overlaps)
        overlaps = np.where(np.arange(count) < done, start.overlaps, 0.0)
        sums = np.cumsum(overlaps[1:])
        inside = np.arange(1, min(count, length))
        total[inside] += sums[inside - 1] / inside
        active[inside] += 1
        if done < count:
            beyond = np.arange(max(count, 2), length)
            total[beyond] += (sums[-1] if len(sums) else 0.0) / (beyond - 1)
            active[beyond] += 1
    return total, active


def mean_curve(total: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The expected average overlap of runs of each length; 0 where no run is that long."""
    return np.divide(total, active, out=np.zeros(len(total)), where=active > 0)


def eao(curve: np.ndarray) -> float:
    """Mean of the curve of all sequences together over EAO_INTERVAL."""
    return float(curve[EAO_INTERVAL[0] : EAO_INTERVAL[1] + 1].mean())
