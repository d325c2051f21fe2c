"""Single-object tracking metrics in float64 on the host, and the rule this project reports by.

Boxes are `[T, 4]` x, y, w, h in pixels.
"""

import numpy as np

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)  # IoU
PRECISION_THRESHOLDS = np.arange(51.0)  # pixels
NORM_PRECISION_THRESHOLDS = np.arange(51) / 100  # of the target's sides


def overlaps(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[T]` IoU in 0..1; 0 where the union is empty, nan where a box is nan.

    Rounding may lift the quotient of equal boxes above 1, which would pass the threshold 1: it is clipped (pysot).
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    low = np.maximum(predicted[..., :2], truth[..., :2])
    high = np.minimum(predicted[..., :2] + predicted[..., 2:], truth[..., :2] + truth[..., 2:])
    intersection = np.maximum(high - low, 0).prod(-1)
    union = predicted[..., 2:].prod(-1) + truth[..., 2:].prod(-1) - intersection
    quotient = np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)
    return np.minimum(quotient, 1)


def center_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[T]` distance of the centers in pixels."""
    return np.linalg.norm(_centers(predicted) - _centers(truth), axis=-1)


def norm_center_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[T]` distance of the centers, each axis in units of the true box's side (TrackingNet, Eq. 1)."""
    return np.linalg.norm((_centers(predicted) - _centers(truth)) / np.asarray(truth)[..., 2:], axis=-1)


def _centers(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    return boxes[..., :2] + (boxes[..., 2:] - 1) / 2


def success_curve(overlap: np.ndarray, thresholds: np.ndarray = SUCCESS_THRESHOLDS) -> np.ndarray:
    """Share of frames with overlap > threshold, one value a threshold: a perfect result averages 20/21.

    Compared in the precision of `overlap` `[T]`: an overlap of exactly k/20 is never above it, in float32 neither.
    """
    overlap = np.asarray(overlap)
    return (overlap[:, None] > _in_precision_of(overlap, thresholds)).mean(0)


def precision_curve(errors: np.ndarray, thresholds: np.ndarray = PRECISION_THRESHOLDS) -> np.ndarray:
    """Share of frames with error <= threshold, one value a threshold, compared in the precision of `errors` `[T]`."""
    errors = np.asarray(errors)
    return (errors[:, None] <= _in_precision_of(errors, thresholds)).mean(0)


def _in_precision_of(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return thresholds.astype(values.dtype) if np.issubdtype(values.dtype, np.floating) else thresholds


def score_sequence(predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray) -> dict[str, float]:
    """Scores of one sequence by the rule "jaxtrack", each in 0..1.

    Frame 1 counts, with the exact true box in place of the prediction; frames where `visible` `[T]` is False
    are left out. auc: mean of the success curve; op50, op75: share with IoU > .5, .75; precision20: share
    with center error <= 20 px; norm_precision: share with normalized error <= .2. ValueError if the lengths
    differ or a prediction of a counted frame is not finite.
    """
    predicted, truth = np.array(predicted, np.float64), np.asarray(truth, np.float64)
    visible = np.asarray(visible, bool)
    if not predicted.shape == truth.shape == (len(visible), 4):
        raise ValueError(f"{len(predicted)} predictions, {len(truth)} true boxes and {len(visible)} flags do not match")
    predicted[0] = truth[0]
    predicted, truth = predicted[visible], truth[visible]
    if not np.isfinite(predicted).all():
        raise ValueError("a predicted box is not finite")
    success = success_curve(overlaps(predicted, truth))
    return {
        "auc": float(success.mean()),
        "op50": float(success[10]),
        "op75": float(success[15]),
        "precision20": float(precision_curve(center_errors(predicted, truth))[20]),
        "norm_precision": float(precision_curve(norm_center_errors(predicted, truth), NORM_PRECISION_THRESHOLDS)[20]),
    }


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The interval `(low, high)` of the mean of `values` `[N]` by the percentile bootstrap (Efron 1979).

    `level` of the means of N values drawn with replacement lie in it. With few values it is too narrow.
    """
    values = np.asarray(values, np.float64)
    means = np.random.default_rng(seed).choice(values, (resamples, len(values))).mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


SCORES = ("auc", "op50", "op75", "precision20", "norm_precision")
RULE = (
    "jaxtrack: one pass, frame 1 counted with the exact box, absent frames left out; auc: mean over 21"
    " thresholds 0..1 of the share of frames with IoU > threshold; op50, op75: share with IoU > .5, .75;"
    " precision20: center error <= 20 px; norm_precision: error in sides <= .2; mean over sequences"
)
