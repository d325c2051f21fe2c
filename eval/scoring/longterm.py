"""Long-term tracking, where the target leaves and the tracker must say so: VOT-LT and OxUvA.

Where the target is absent the overlap is 0 here, whatever is reported: it lowers precision and adds nothing to recall
(Lukezic et al.). vot-toolkit 0.9.0 counts 1 there where the tracker says "absent" as well, and divides by the frames
with the target: its recall reaches 2 where the target is absent in half of the frames.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESOLUTION = 100  # number of confidence thresholds


class Confident(NamedTuple):
    """A sequence of T frames with what a tracker reported."""

    overlaps: np.ndarray  # [T] with the truth; 0 where the target is absent or nothing was reported
    confidence: np.ndarray  # [T], larger: surer; nan where nothing was reported
    present: np.ndarray  # [T] bool, the target is there


class PrecisionRecall(NamedTuple):
    """Curves over the thresholds of confidence (highest first) and their best point."""

    thresholds: np.ndarray  # [K]
    precision: np.ndarray  # [K] mean overlap of what is reported with confidence >= threshold; 1 where nothing is
    recall: np.ndarray  # [K] sum of those overlaps over the frames with the target
    f: np.ndarray  # [K] 2 Pr Re / (Pr + Re)
    best: dict[str, float]  # precision, recall, f and threshold where f is largest


def confidence_thresholds(scores: np.ndarray, resolution: int = RESOLUTION) -> np.ndarray:
    """Up to `resolution` thresholds, from inf to -inf: scores at equal steps of their rank (VOT toolkit)."""
    ordered = np.sort(scores[~np.isnan(scores)])[::-1]
    if len(ordered) > resolution - 2:
        step = len(ordered) // (resolution - 2)
        ranks = np.round(np.linspace(step, len(ordered) - step, resolution - 2)).astype(int)
        ordered = ordered[ranks]
    return np.concatenate([[np.inf], ordered, [-np.inf]])


def precision_recall(sequences: Sequence[Confident], resolution: int = RESOLUTION) -> PrecisionRecall:
    """VOT-LT over sequences: curves of each with common thresholds, averaged, then F (Lukezic et al., Eq. 1 to 3).

    ValueError for a sequence without the target, whose recall is not defined.
    """
    thresholds = confidence_thresholds(np.concatenate([sequence.confidence for sequence in sequences]), resolution)
    precision, recall = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for number, (overlaps, confidence, present) in enumerate(sequences, 1):
        there = int(np.sum(present))
        if not there:
            raise ValueError(f"sequence {number} of {len(sequences)}: the target is in no frame, so it has no recall")
        reported = confidence[None] >= thresholds[:, None]  # nan: never
        sums, counts = np.where(reported, overlaps, 0).sum(1), reported.sum(1)
        precision += np.divide(sums, counts, out=np.ones(len(thresholds)), where=counts > 0)
        recall += sums / there
    precision, recall = precision / len(sequences), recall / len(sequences)
    both = precision + recall
    f = np.divide(2 * precision * recall, both, out=np.zeros(len(thresholds)), where=both > 0)
    top = int(f.argmax())
    best = {"precision": precision[top], "recall": recall[top], "f": f[top], "threshold": thresholds[top]}
    return PrecisionRecall(thresholds, precision, recall, f, {name: float(value) for name, value in best.items()})


def oxuva(overlaps: np.ndarray, reported: np.ndarray, present: np.ndarray) -> dict[str, float]:
    """tpr, tnr, gm and maxgm over annotated frames of all tracks together (Valmadre et al., section 5).

    `[T]` IoU, what the tracker reported as present, what is. A frame is a true positive with IoU >= 0.5. maxgm: largest
    geometric mean where the tracker may report "absent" at random as well. nan where there is no frame of a kind.
    """
    overlaps, reported, present = np.asarray(overlaps), np.asarray(reported, bool), np.asarray(present, bool)
    found = reported & (overlaps >= 0.5)
    tpr = float(found[present].mean()) if present.any() else float("nan")
    tnr = float((~reported[~present]).mean()) if (~present).any() else float("nan")
    # d/dp of (1 - p) tpr ((1 - p) tnr + p) is 0 here; without true negatives to gain the best p is 0.
    share = max((1 - 2 * tnr) / (2 * (1 - tnr)), 0.0) if tnr < 1 else 0.0
    maxgm = np.sqrt((1 - share) * tpr * ((1 - share) * tnr + share))
    return {"tpr": tpr, "tnr": tnr, "gm": float(np.sqrt(tpr * tnr)), "maxgm": float(maxgm)}
