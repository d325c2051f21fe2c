"""Metrics on cases that can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.metrics import (
    NORM_PRECISION_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SCORES,
    SUCCESS_THRESHOLDS,
    bootstrap_interval,
    center_errors,
    norm_center_errors,
    overlaps,
    precision_curve,
    score_sequence,
    success_curve,
)
from ops.boxes import iou

TRUTH = np.array([[10.0 + 3 * t, 20 + 2 * t, 40, 20 + t] for t in range(12)])
ALL = np.ones(len(TRUTH), bool)
SIDE = st.floats(0.5, 60)
PLACE = st.floats(-50, 50)
BOX = st.tuples(PLACE, PLACE, SIDE, SIDE)


def test_grids():
    assert (len(SUCCESS_THRESHOLDS), len(PRECISION_THRESHOLDS), len(NORM_PRECISION_THRESHOLDS)) == (
        21,
        51,
        51,
    )
    assert (SUCCESS_THRESHOLDS[10], PRECISION_THRESHOLDS[20], NORM_PRECISION_THRESHOLDS[20]) == (0.5, 20, 0.2)


def test_overlap_by_hand():
    predicted = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [10, 0, 10, 10], [30, 30, 5, 5], [0, 0, 0, 0]], float)
    truth = np.tile([0.0, 0, 10, 10], (5, 1))
    np.testing.assert_allclose(overlaps(predicted, truth), [1, 1 / 3, 0, 0, 0], atol=1e-15)
    assert overlaps(np.zeros(4), np.zeros(4)) == 0
    assert np.isnan(overlaps(np.full(4, np.nan), truth[0]))


@settings(deadline=None)
@given(BOX, BOX)
def test_overlap_is_symmetric_bounded_and_equals_the_device_one(a, b):
    a, b = np.array(a), np.array(b)
    value = overlaps(a, b)
    assert 0 <= value <= 1 + 1e-12 and value == overlaps(b, a)
    np.testing.assert_allclose(value, iou(a.astype(np.float32), b.astype(np.float32)), atol=1e-4)


@settings(deadline=None)
@given(BOX, PLACE, PLACE)
def test_center_error_of_a_shift_is_its_length(box, dx, dy):
    box = np.array(box)
    shifted = box + [dx, dy, 0, 0]
    np.testing.assert_allclose(center_errors(shifted, box), np.hypot(dx, dy), atol=1e-9)
    np.testing.assert_allclose(norm_center_errors(shifted, box), np.hypot(dx / box[2], dy / box[3]), atol=1e-9)


def test_curves_are_strict_for_overlap_and_inclusive_for_errors():
    assert success_curve(np.array([0.5]), np.array([0.49, 0.5])).tolist() == [1, 0]
    assert precision_curve(np.array([20.0]), np.array([19.0, 20.0])).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_lies_on_a_threshold_is_not_above_it_in_any_precision(dtype):
    """Success is strict, precision is not: at its own threshold an overlap does not count, an error does."""
    overlap = (np.arange(21) / 20).astype(dtype)
    np.testing.assert_array_equal([success_curve(overlap[[k]]).sum() for k in range(21)], np.arange(21))
    errors = (np.arange(51) / 100).astype(dtype)
    counted = [precision_curve(errors[[k]], NORM_PRECISION_THRESHOLDS).sum() for k in range(51)]
    np.testing.assert_array_equal(counted, 51 - np.arange(51))


def test_a_perfect_result_scores_20_of_21():
    scores = score_sequence(TRUTH, TRUTH, ALL)
    assert tuple(scores) == SCORES
    np.testing.assert_allclose(list(scores.values()), [20 / 21, 1, 1, 1, 1], rtol=1e-12)


def test_a_result_of_zeros_scores_frame_1_only():
    scores = score_sequence(np.zeros_like(TRUTH), TRUTH, ALL)
    np.testing.assert_allclose(scores["auc"], 20 / 21 / 12)


@pytest.mark.parametrize("distance", [0, 3, 17, 50])
def test_a_constant_shift_steps_the_precision_curve_at_its_length(distance):
    errors = center_errors(TRUTH + [distance, 0, 0, 0], TRUTH)
    np.testing.assert_array_equal(precision_curve(errors), PRECISION_THRESHOLDS >= distance)


def test_frame_1_is_counted_with_the_true_box():
    predicted = TRUTH + [100, 0, 0, 0]
    assert score_sequence(predicted, TRUTH, ALL)["precision20"] == 1 / 12
    np.testing.assert_array_equal(predicted[0], TRUTH[0] + [100, 0, 0, 0])  # the argument is left alone


def test_absent_frames_are_left_out():
    truth, visible = TRUTH.copy(), ALL.copy()
    truth[4:7], visible[4:7] = np.nan, False
    predicted = TRUTH.copy()
    predicted[4:7] += 500
    assert score_sequence(predicted, truth, visible)["auc"] == pytest.approx(20 / 21)
    assert score_sequence(predicted, TRUTH, ALL)["precision20"] == 9 / 12


def test_sequence_mean_differs_from_frame_mean():
    truth = [np.tile(TRUTH[:1], (count, 1)) for count in (10, 1000)]
    predicted = [truth[0], truth[1] + [500, 0, 0, 0]]
    scores = [score_sequence(p, t, np.ones(len(t), bool))["precision20"] for p, t in zip(predicted, truth)]
    assert np.mean(scores) == pytest.approx((1 + 1 / 1000) / 2)
    together = score_sequence(np.concatenate(predicted), np.concatenate(truth), np.ones(1010, bool))
    assert together["precision20"] == pytest.approx(10 / 1010)


def test_integer_truncation_costs_overlap():
    predicted = TRUTH + 0.9
    cut = np.trunc(predicted)
    assert score_sequence(predicted, TRUTH, ALL)["auc"] != score_sequence(cut, TRUTH, ALL)["auc"]


def test_what_does_not_match_is_refused():
    with pytest.raises(ValueError, match="11 predictions, 12 true boxes and 12 flags"):
        score_sequence(TRUTH[1:], TRUTH, ALL)
    predicted = TRUTH.copy()
    predicted[3, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        score_sequence(predicted, TRUTH, ALL)


def test_bootstrap_interval_of_a_mean(rng):
    """Of many values it is the normal one; of equal ones a point; the seed decides."""
    values = rng.normal(0.3, 2.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.05 * half)
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high
