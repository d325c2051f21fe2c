"""The metrics against what pysot, pytracking and the got10k toolkit computed on the same trajectories.

The toolkits differ in which frames count and what an absent frame gets; each test states that rule as masks over our
primitives. Everything to 1e-9, but pytracking, which stores its curves as float32, to 1e-6.
"""

import json

import numpy as np
import pytest

from eval.scoring.metrics import (
    NORM_PRECISION_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    center_errors,
    norm_center_errors,
    overlaps,
    precision_curve,
    score_sequence,
    success_curve,
)
from tests.helpers import oracle

MISS, HIT = np.inf, -1.0  # error given to a frame without a true center


def stored() -> dict:
    return json.loads((oracle.golden_dir() / "metrics.json").read_text())


def boxes(text: str) -> np.ndarray:
    return np.array([[float(value) for value in line.split(",")] for line in text.split()])


def inputs() -> dict[str, dict[str, np.ndarray]]:
    """Name -> gt_nan, gt_zero, pred `[T, 4]`; visible `[T]`."""
    return {
        name: {key: boxes(item[key]) for key in ("gt_nan", "gt_zero", "pred")}
        | {"visible": np.array(item["visible"]) > 0}
        for name, item in stored()["inputs"].items()
    }


def errors(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU, center error and normalized center error; frames with an empty true box give what numpy gives."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return overlaps(predicted, truth), center_errors(predicted, truth), norm_center_errors(predicted, truth)


def curves(overlap, center, norm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        success_curve(overlap, SUCCESS_THRESHOLDS),
        precision_curve(center, PRECISION_THRESHOLDS),
        precision_curve(norm, NORM_PRECISION_THRESHOLDS),
    )


def close(actual, expected, tolerance=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("block", ["uav_nan", "lasot_nan"])
def test_golden_got10k_equals_the_rule_of_this_project(block):
    """Absent frames left out, frame 1 exact: the toolkit's rule for annotations with nan rows is ours."""
    golden = stored()["got10k"][block]
    means = []
    for name, item in inputs().items():
        expected = golden["per_sequence"][name]
        with np.errstate(divide="ignore"):
            scores = score_sequence(item["pred"], item["gt_nan"], np.isfinite(item["gt_nan"]).all(1))
        close(scores["auc"], expected["success_score"])
        close(scores["op50"], expected["success_rate"])
        close(scores["precision20"], expected["precision20"])
        if "norm_precision_curve" in expected:
            close(scores["norm_precision"], expected["norm_precision_curve"][20])
        means.append((scores["auc"], scores["precision20"]))
    close(np.mean(means, 0), [golden["overall"]["success_score"], golden["overall"]["precision20"]])


@pytest.mark.parametrize(("block", "truth"), [("otb_zero", "gt_zero"), ("uav_nan", "gt_nan"), ("lasot_nan", "gt_nan")])
def test_golden_got10k_curves(block, truth):
    """Frames with nan are dropped, zero boxes are boxes."""
    for name, item in inputs().items():
        expected = stored()["got10k"][block]["per_sequence"][name]
        item["pred"][0] = item[truth][0]
        kept = np.isfinite(item[truth]).all(1)
        success, precision, norm = curves(*(values[kept] for values in errors(item["pred"], item[truth])))
        close(success, expected["success_curve"])
        close(precision, expected["precision_curve"])
        if "norm_precision_curve" in expected:
            close(norm, expected["norm_precision_curve"])
            close(norm.mean(), expected["norm_precision_score_auc"])


@pytest.mark.parametrize(
    ("block", "truth"), [("otb_zero", "gt_zero"), ("uav_nan", "gt_nan"), ("lasot_absent", "gt_zero")]
)
def test_golden_pysot_curves(block, truth):
    """An empty true box is a miss of overlap and a hit of precision; LaSOT's flagged frames are misses of all."""
    golden, totals = stored()["pysot"][block], []
    for name, item in inputs().items():
        expected = golden["per_sequence"][name]
        overlap, center, norm = errors(item["pred"], item[truth])
        middle = item[truth][:, :2] + (item[truth][:, 2:] - 1) / 2
        known = (middle > 0).all(1)
        overlap[~(item[truth][:, 2:] > 0).all(1)] = -1
        center[~known] = norm[~known] = HIT
        if block == "lasot_absent":
            overlap[~item["visible"]] = -1
            center[~item["visible"]] = norm[~item["visible"]] = MISS
        success, precision, norm = curves(overlap, center, norm)
        close(success, expected["success_curve"])
        close(precision, expected["precision_curve"])
        close(norm, expected["norm_precision_curve"])
        close(
            [success.mean(), precision[20], norm[20]], [expected[k] for k in ("auc", "precision20", "norm_precision20")]
        )
        totals.append([success.mean(), precision[20], norm[20]])
    close(np.mean(totals, 0), [golden["overall"][k] for k in ("auc", "precision20", "norm_precision20")])


def pytracking_errors(item, block: str):
    """(overlap, center, norm, valid) by pytracking's rule.

    A frame that is invisible or has a value that is not positive is a miss, but a hit of normalized precision (in
    LaSOT only if visible) and in UAV123 a hit of precision; an empty prediction becomes the one before it.
    """
    truth = item["gt_nan" if block.startswith("uav") else "gt_zero"]
    predicted = np.trunc(item["pred"]) if block.endswith("_int") else item["pred"].copy()
    predicted[0] = truth[0]
    for row in np.flatnonzero((predicted[:, 2:] == 0).any(1) & np.isfinite(truth).all(1)):
        predicted[row] = predicted[row - 1]
    with np.errstate(invalid="ignore"):
        valid = (truth > 0).all(1)
    if block.startswith(("lasot", "trackingnet")):
        valid &= item["visible"]
    overlap, center, norm = errors(predicted, truth)
    overlap[~valid] = -1
    center[~valid] = HIT if block.startswith("uav") else MISS
    norm[~valid] = HIT
    if block.startswith("lasot"):
        norm[~item["visible"]] = MISS
    return overlap, center, norm, valid


@pytest.mark.parametrize("integers", ["", "_int"])
@pytest.mark.parametrize(
    "rule", ["otb_zero", "otb_zero_exclude_invalid", "uav_nan", "lasot_visible", "trackingnet_like_visible"]
)
def test_golden_pytracking_curves(rule, integers):
    """Success at threshold 1 is left out: there only the toolkit's rounding decides which perfect box exceeds 1."""
    golden, totals = stored()["pytracking"][rule + integers], []
    for index, item in enumerate(inputs().values()):
        overlap, center, norm, valid = pytracking_errors(item, rule + integers)
        share = len(valid) / valid.sum() if "exclude" in rule else 1.0
        success, precision, norm = (share * curve for curve in curves(overlap, center, norm))
        close(success[:-1], np.array(golden["success_curve_per_seq"][index])[:-1], 1e-6)
        close(precision, golden["precision_curve_per_seq"][index], 1e-6)
        close(norm, golden["norm_precision_curve_per_seq"][index], 1e-6)
        close(overlap[valid].mean(), golden["avg_overlap_per_seq"][index])
        totals.append([success[10], success[15], precision[20], norm[20]])
    names = ("op50_percent", "op75_percent", "precision20_percent", "norm_precision20_percent")
    close(100 * np.mean(totals, 0), [golden[name] for name in names], 1e-4)


def test_golden_plain_overlap():
    case = stored()["got10k"]["rect_iou_bound_quirk"]
    close(overlaps(np.array(case["boxes1"]), np.array(case["boxes2"])), case["iou_plain"])
