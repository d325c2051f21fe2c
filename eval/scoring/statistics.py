"""What is said of many sequences: by attribute, over seeds, and how far confidence may be trusted."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


def by_attribute(scores: Mapping[str, float], attributes: Mapping[str, Sequence[str]]) -> dict[str, tuple[float, int]]:
    """Attribute -> (mean score over its sequences, their number), in order of name.

    `scores`: sequence -> score; `attributes`: sequence -> its attributes ("IV", "OCC" ...). A sequence without an entry
    has none; attributes that no scored sequence has are left out.
    """
    groups: dict[str, list[float]] = {}
    for name, score in scores.items():
        for attribute in attributes.get(name, ()):
            groups.setdefault(attribute, []).append(score)
    return {name: (float(np.mean(values)), len(values)) for name, values in sorted(groups.items())}


def over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Score that all runs have -> (mean, standard deviation with n - 1) over seeds; one run has nan as deviation."""
    table = {name: np.array([run[name] for run in runs]) for name in runs[0] if all(name in run for run in runs)}
    return {
        name: (float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan"))
        for name, values in table.items()
    }


class Calibration(NamedTuple):
    """How a confidence foretells that the box is right."""

    thresholds: np.ndarray  # [K] distinct confidences, highest first, after inf
    hit_rate: np.ndarray  # [K] share of right frames with confidence >= threshold
    false_alarms: np.ndarray  # [K] share of wrong frames with confidence >= threshold
    auc: float  # area under hit_rate over false_alarms: chance that a right frame has more confidence than a wrong one
    confidence: np.ndarray  # [B] mean confidence in each bin, nan where it is empty
    share_right: np.ndarray  # [B] share of right frames in it
    count: np.ndarray  # [B] frames in it
    error: float  # expected calibration error: mean over frames of |share_right - confidence| of their bin


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> Calibration:
    """ROC and reliability diagram of `[T]` confidence in 0..1 against `[T]` bool "the box is right" (say, IoU > 0.5).

    A frame without the target is right where nothing is reported; leave such frames out or say so in `right`. The ROC
    is nan where frames of one kind are missing. ValueError for a confidence outside 0..1 or nan, and for no frame.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if not len(confidence) or confidence.shape != right.shape:
        raise ValueError(f"{len(confidence)} confidences and {len(right)} frames do not match, or there are none")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence is not in 0..1")
    levels, group = np.unique(-confidence, return_inverse=True)
    with np.errstate(invalid="ignore"):
        hits = np.cumsum(np.bincount(group, right)) / right.sum()
        alarms = np.cumsum(np.bincount(group, ~right)) / (~right).sum()
    hits, alarms = np.concatenate([[0], hits]), np.concatenate([[0], alarms])
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, share = np.bincount(index, confidence, bins) / count, np.bincount(index, right, bins) / count
    error = float(np.nansum(count * np.abs(share - mean)) / len(confidence))
    thresholds = np.concatenate([[np.inf], -levels])
    return Calibration(thresholds, hits, alarms, float(np.trapezoid(hits, alarms)), mean, share, count, error)
