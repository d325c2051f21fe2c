"""OTB's robustness to time (TRE) and to the first box (SRE): Wu et al., Object Tracking Benchmark, section 4.2."""

from collections.abc import Callable

import numpy as np

TRE_STARTS = 20
SRE_SHIFT = 0.1  # of the target's size
SRE_SCALES = (0.8, 0.9, 1.1, 1.2)
# (x, y) in units of SRE_SHIFT: four along the axes, four along the diagonals.
SRE_DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))


def tre_starts(visible: np.ndarray, starts: int = TRE_STARTS) -> list[int]:
    """0-based first frames of the segments, spread evenly from frame 1 on; each runs to the end of the sequence.

    A start where the target is not there (`visible`, `[T]`) moves on to the next frame where it is; starts that meet,
    or find none, are dropped, so a short sequence has fewer.
    """
    count, there = len(visible), np.flatnonzero(visible)
    wanted = np.floor(np.arange(starts) * count / starts).astype(int)
    moved = [int(there[there >= frame][0]) for frame in wanted if (there >= frame).any()]
    return list(dict.fromkeys(moved))


def sre_boxes(box: np.ndarray) -> np.ndarray:
    """`[12, 4]` first boxes x, y, w, h: 8 shifts by 10 % of width and height, then 4 scales about the center."""
    x, y, w, h = np.asarray(box, np.float64)
    shifted = [[x + dx * SRE_SHIFT * w, y + dy * SRE_SHIFT * h, w, h] for dx, dy in SRE_DIRECTIONS]
    scaled = [[x + (1 - scale) * w / 2, y + (1 - scale) * h / 2, scale * w, scale * h] for scale in SRE_SCALES]
    return np.array(shifted + scaled)


def track_segment(
    init: Callable[[int, np.ndarray], None],
    update: Callable[[int], np.ndarray],
    first: int,
    count: int,
    box: np.ndarray,
) -> np.ndarray:
    """`[count - first, 4]` boxes of one run from frame `first` to the end of `count` frames, the first the given
    `box`.
    """
    init(first, np.asarray(box, np.float64))
    return np.array([box, *(update(index) for index in range(first + 1, count))], np.float64)


def segment_mean(values: list[dict[str, float]]) -> dict[str, float]:
    """Mean over the segments of a sequence of their scores (each scored as a sequence of its own)."""
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}
