"""One pass evaluation: success and precision, by the rule of each toolkit.

The toolkits agree on thresholds and comparisons (overlap > t, error <= t) and differ in which frames count and in
what a frame without a usable true box gets. A `Rule` says that for one toolkit and one dataset; `judge` applies it to
a sequence.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from eval.scoring import metrics
from eval.sources.layouts import LAYOUTS

DROP, MISS, HIT = "drop", "miss", "hit"  # what a frame gets whose true box is not usable
_ERROR = {MISS: np.inf, HIT: -1.0}


@dataclass(frozen=True)
class Rule:
    """How one toolkit scores one pass on one dataset; the defaults are those of this project."""

    name: str  # toolkit/dataset
    source: str
    overlap: str = "plain"  # "plain"; "inclusive": last = first + side - 1; "epsilon": added to the union
    usable_overlap: str = "sides"  # true boxes with an overlap: "finite", "sides" > 0, or all four "positive"
    usable_center: str = "sides"  # true boxes that have a center: the same, or "center" (both coordinates > 0)
    flags: str | None = DROP  # frames flagged as not visible: DROP, MISS, "unusable" (like a box that is not) or None
    absent_overlap: str = DROP  # DROP or MISS
    absent_center: str = DROP  # DROP, MISS or HIT
    absent_norm: str = DROP  # the same of the normalized center error
    exact_first: bool = True  # frame 1 is scored with the true box in place of the prediction
    least_side: float = 0.0  # of the true box, in pixels, where errors are normalized
    repeat_empty: bool = False  # an empty prediction becomes the one before it
    nan_is_error: bool = True  # ... or a miss
    length: str = "error"  # of a result that has not a box for each frame: "error", "cut" both, "pad" with empty boxes
    origin: int = 0  # of x and y in the dataset's files, where the toolkit tests whether they are positive
    divisor: str = "counted"  # "counted": frames that are not dropped; "usable": those with a usable overlap


OWN = Rule("jaxtrack", "this project: frame 1 exact, frames without the target left out")
_PYSOT = Rule(
    "pysot",
    "STVIR/pysot d04028f, toolkit/utils/statistics.py",
    usable_center="center",
    flags=None,
    absent_overlap=MISS,
    absent_center=HIT,
    absent_norm=HIT,
    exact_first=False,
    nan_is_error=False,
)
_PYTRACKING = Rule(
    "pytracking",
    "visionml/pytracking 7eb9e74, analysis/extract_results.py",
    overlap="inclusive",
    usable_overlap="positive",
    usable_center="positive",
    flags=None,
    absent_overlap=MISS,
    absent_center=MISS,
    absent_norm=HIT,
    repeat_empty=True,
    length="pad",
)
_GOT10K = Rule(
    "got10k",
    "got-10k/toolkit 956e728, experiments/otb.py, uav123.py, lasot.py",
    overlap="epsilon",
    usable_overlap="finite",
    usable_center="finite",
    flags=None,
    least_side=1.0,
    nan_is_error=False,
    length="cut",
)
# The MATLAB benchmark of OTB, which UAV123's is a copy of: calcSeqErrRobust.m.
_MATLAB = Rule(
    "paper",
    "Wu et al., Object Tracking Benchmark, and its MATLAB code (recalled, not run)",
    usable_overlap="positive",
    usable_center="positive",
    flags=None,
    absent_overlap=MISS,
    absent_center=HIT,
    absent_norm=HIT,
)
_VISIBLE_ONLY = replace(OWN, name="paper", source="LaSOT (Fan et al.), protocol II: frames without the target left out")
_SERVER = replace(OWN, name="paper", source="TrackingNet (Mueller et al.): every frame of the test set has a box")


def _for(rule: Rule, datasets: str, **changes) -> dict[str, Rule]:
    return {
        f"{rule.name}/{name}": replace(rule, name=f"{rule.name}/{name}", origin=LAYOUTS[name].origin, **changes)
        for name in datasets.split()
    }


RULES: dict[str, Rule] = {
    "jaxtrack": OWN,
    **_for(_PYSOT, "folder otb uav123 uav20l nfs"),
    **_for(_PYSOT, "lasot", flags=MISS),
    **_for(_PYTRACKING, "folder otb nfs tcolor128"),
    **_for(_PYTRACKING, "uav123 uav20l", absent_center=HIT),
    **_for(_PYTRACKING, "trackingnet got10k avist", flags="unusable"),
    **_for(_PYTRACKING, "lasot", flags=MISS, length="error"),
    **_for(_GOT10K, "folder otb uav123 uav20l lasot nfs nfs240 tcolor128 dtb70"),
    **_for(_MATLAB, "otb uav123 uav20l"),
    **_for(_VISIBLE_ONLY, "lasot"),
    **_for(_SERVER, "trackingnet"),
}
TOOLKITS = ("jaxtrack", "pysot", "pytracking", "got10k", "paper")
_ELSEWHERE = {
    "vot": "it scores runs with restarts and long-term runs: --protocol vot_reset or vot_multistart",
    "paper": "what its authors published cannot be told from their text alone",
}


def rule(toolkit: str, dataset: str) -> Rule:
    """The rule by which `toolkit` scores `dataset` (a layout of eval.sources.layouts).

    ValueError names what there is instead where the toolkit has none.
    """
    found = RULES.get(toolkit if toolkit == OWN.name else f"{toolkit}/{dataset}")
    if found is not None:
        return found
    datasets = [name.partition("/")[2] for name in RULES if name.startswith(f"{toolkit}/")]
    if datasets:
        raise ValueError(f"rule {toolkit}: does not score {dataset} in one pass; it has {', '.join(datasets)}")
    reason = _ELSEWHERE.get(toolkit, f"choose one of {', '.join(TOOLKITS)}")
    raise ValueError(f"rule {toolkit}: no rule of one pass; {reason}")


class Judged(NamedTuple):
    """The frames of one sequence as a rule sees them: dropped frames are gone, misses and hits are numbers."""

    overlap: np.ndarray  # [frames of overlap] IoU; -1: a miss
    center: np.ndarray  # [frames of the center] pixels; inf: a miss, -1: a hit
    norm: np.ndarray  # [frames of the normalized center] sides; inf: a miss, -1: a hit
    divisor: tuple[int, int, int]  # frames that overlap, center and norm are shares of
    usable: np.ndarray  # IoU of the frames that have one


class Curves(NamedTuple):
    """Shares of frames over metrics.SUCCESS_, PRECISION_ and NORM_PRECISION_THRESHOLDS."""

    success: np.ndarray  # [21]
    precision: np.ndarray  # [51]
    norm_precision: np.ndarray  # [51]


def judge(rule: Rule, predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None) -> Judged:
    """`[P, 4]` predicted and `[T, 4]` true boxes x, y, w, h, `[T]` flags of visibility (None: all) -> Judged.

    Boxes are 0-based, and else as annotated: a frame without the target may be nan, or zeros in its file.
    ValueError, one line, where the rule takes no such result: P != T, a prediction that is not finite or of negative
    size, or no frame to count.
    """
    truth = np.asarray(truth, np.float64)
    predicted = np.array(predicted, np.float64)
    if rule.repeat_empty and predicted.ndim == 2:
        _repeat_empty(predicted, truth)
    predicted, truth = _same_length(rule, predicted, truth)
    visible = np.ones(len(truth), bool) if visible is None else np.asarray(visible, bool)[: len(truth)]
    if rule.exact_first:
        predicted[0] = truth[0]
    in_file = truth + np.array([rule.origin, rule.origin, 0, 0])
    has_overlap, has_center = _usable(rule.usable_overlap, in_file), _usable(rule.usable_center, in_file)
    if rule.flags in (DROP, "unusable"):
        has_overlap, has_center = has_overlap & visible, has_center & visible
    # Only the rules that say so count what was predicted while the target was out of sight.
    _check(rule, predicted[has_overlap | has_center])
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = _OVERLAPS[rule.overlap](predicted, truth)
        center = metrics.center_errors(predicted, truth)
        sides = np.concatenate([truth[:, :2], np.maximum(truth[:, 2:], rule.least_side)], 1)
        norm = np.linalg.norm((_centers(predicted) - _centers(truth)) / sides[:, 2:], axis=-1)
    usable = overlap[has_overlap]
    flagged = ~visible if rule.flags == MISS else np.zeros(len(truth), bool)
    columns = [
        _fill(overlap, has_overlap, rule.absent_overlap, -1.0, flagged, -1.0),
        _fill(center, has_center, rule.absent_center, _ERROR.get(rule.absent_center), flagged, np.inf),
        _fill(norm, has_center, rule.absent_norm, _ERROR.get(rule.absent_norm), flagged, np.inf),
    ]
    divisor = tuple(len(usable) if rule.divisor == "usable" else len(column) for column in columns)
    if not all(divisor):
        raise ValueError(f"rule {rule.name}: no frame of the sequence counts")
    return Judged(*columns, divisor, overlap[has_overlap & ~flagged])


def curves(judged: Judged) -> Curves:
    """The three curves of a sequence; a share may exceed 1 only by pytracking's own quirk (divisor "usable")."""
    overlap, center, norm, divisor, _ = judged
    return Curves(
        (overlap[:, None] > metrics.SUCCESS_THRESHOLDS).sum(0) / divisor[0],
        (center[:, None] <= metrics.PRECISION_THRESHOLDS).sum(0) / divisor[1],
        (norm[:, None] <= metrics.NORM_PRECISION_THRESHOLDS).sum(0) / divisor[2],
    )


SCORES = ("auc", "op50", "op75", "precision20", "norm_precision", "norm_precision_auc", "mean_iou")


def score(rule: Rule, predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None) -> dict[str, float]:
    """SCORES of one sequence by a rule; arguments and errors as of `judge`.

    norm_precision: at 0.2 sides (LaSOT, pysot, pytracking); norm_precision_auc: mean over 0..0.5 (TrackingNet, got10k).
    mean_iou: over the frames that have a usable true box (pytracking's avg_overlap), nan if there is none.
    """
    judged = judge(rule, predicted, truth, visible)
    success, precision, norm = curves(judged)
    return {
        "auc": float(success.mean()),
        "op50": float(success[10]),
        "op75": float(success[15]),
        "precision20": float(precision[20]),
        "norm_precision": float(norm[20]),
        "norm_precision_auc": float(norm.mean()),
        "mean_iou": float(judged.usable.mean()) if len(judged.usable) else float("nan"),
    }


def mean_curves(all_curves: Iterable[Curves]) -> Curves:
    """Mean over sequences, each with the same weight whatever its length (OTB, LaSOT, TrackingNet, UAV123, NFS)."""
    return Curves(*(np.mean(values, 0) for values in zip(*all_curves)))


def _same_length(rule: Rule, predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, wanted = len(predicted), len(truth)
    if predicted.ndim != 2 or predicted.shape[1:] != (4,) or truth.shape != (wanted, 4):
        raise ValueError(f"boxes must be [frames, 4], not {list(predicted.shape)} and {list(truth.shape)}")
    if count == wanted:
        return predicted, truth
    if rule.length == "error" or not count:
        raise ValueError(f"rule {rule.name}: {count} predictions for {wanted} frames; track the sequence again")
    if rule.length == "cut":
        return predicted[:wanted], truth[:count]
    return np.concatenate([predicted[:wanted], np.zeros((max(wanted - count, 0), 4))]), truth


def _repeat_empty(predicted: np.ndarray, truth: np.ndarray) -> None:
    """An empty box of the result itself, not one of the padding, becomes the one before it."""
    count = min(len(predicted), len(truth))
    empty = (predicted[:count, 2:] == 0).any(1) & np.isfinite(truth[:count]).all(1)
    for row in np.flatnonzero(empty[1:]) + 1:
        predicted[row] = predicted[row - 1]


def _check(rule: Rule, predicted: np.ndarray) -> None:
    if rule.nan_is_error and not np.isfinite(predicted).all():
        raise ValueError(f"rule {rule.name}: a predicted box is not finite")
    if rule.repeat_empty and (predicted[:, 2:] < 0).any():
        raise ValueError(f"rule {rule.name}: a predicted box has a negative side")


def _usable(kind: str, truth: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        if kind == "finite":
            return np.isfinite(truth).all(1)
        if kind == "sides":
            return np.isfinite(truth).all(1) & (truth[:, 2:] > 0).all(1)
        if kind == "center":
            return (_centers(truth) > 0).all(1)
        return (truth > 0).all(1)


def _fill(values, usable, absent, substitute, flagged, miss) -> np.ndarray:
    """`values` with what unusable and flagged frames get, or without the frames that are dropped."""
    kept = values[usable] if absent == DROP else np.where(usable, values, substitute)
    return kept if absent == DROP else np.where(flagged, miss, kept)


def _centers(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def _inclusive_overlaps(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU in pytracking's order of operations: it decides which perfect boxes have an overlap above 1."""
    low = np.maximum(predicted[:, :2], truth[:, :2])
    high = np.minimum(predicted[:, :2] + predicted[:, 2:] - 1, truth[:, :2] + truth[:, 2:] - 1)
    shared = np.maximum(high - low + 1, 0).prod(1)
    return shared / (predicted[:, 2:].prod(1) + truth[:, 2:].prod(1) - shared)


def epsilon_overlaps(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[T]` IoU with the machine epsilon added to the union, in 0..1 (got10k): empty boxes have 0."""
    low = np.maximum(predicted[:, :2], truth[:, :2])
    high = np.minimum(predicted[:, :2] + predicted[:, 2:], truth[:, :2] + truth[:, 2:])
    shared = np.maximum(high - low, 0).prod(1)
    union = predicted[:, 2:].prod(1) + truth[:, 2:].prod(1) - shared
    return np.clip(shared / (union + np.finfo(np.float64).eps), 0, 1)


_OVERLAPS = {"plain": metrics.overlaps, "inclusive": _inclusive_overlaps, "epsilon": epsilon_overlaps}
