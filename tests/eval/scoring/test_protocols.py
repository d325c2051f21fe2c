"""Protocols on cases that can be counted by hand, and their drivers with a tracker that does what the test says."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring import got10k, longterm, ope, otb_restarts, statistics, vot_multistart, vot_resets
from eval.scoring.metrics import score_sequence
from eval.scoring.regions import region_overlap, region_overlaps
from eval.sources.masks import parse_mask

COUNT = 30
TRUTH = np.array([[20.0 + 2 * t, 30 + t, 40, 20] for t in range(COUNT)])
SIZE = (320, 240)


class Scripted:
    """A tracker that follows the truth, shifted by `error[index]` pixels; remembers where it was started."""

    def __init__(self, error: dict[int, float] | None = None):
        self.error, self.started, self.updated = error or {}, [], []

    def init(self, index, box):
        self.started.append((index, tuple(box)))

    def update(self, index):
        self.updated.append(index)
        return TRUTH[index] + [self.error.get(index, 0), 0, 0, 0]


@pytest.mark.parametrize("name", ope.RULES)
def test_a_perfect_result_is_perfect_by_every_rule(name):
    scores = ope.score(ope.RULES[name], TRUTH, TRUTH)
    assert tuple(scores) == ope.SCORES
    np.testing.assert_allclose(scores["auc"], 20 / 21, rtol=1e-12)
    np.testing.assert_allclose([scores[key] for key in ope.SCORES[1:]], 1, rtol=1e-12)


@pytest.mark.parametrize("name", ope.RULES)
@pytest.mark.parametrize("distance", [3, 17])
def test_precision_steps_at_the_length_of_a_shift(name, distance):
    judged = ope.judge(ope.RULES[name], TRUTH + [distance, 0, 0, 0], TRUTH)
    share = ope.curves(judged).precision
    first = 1 / COUNT if ope.RULES[name].exact_first else 0
    np.testing.assert_allclose(share, np.where(np.arange(51) >= distance, 1, first))


def test_our_rule_is_the_one_of_eval_run():
    rng = np.random.default_rng(0)
    predicted, visible = TRUTH + rng.normal(0, 6, TRUTH.shape), np.arange(COUNT) % 7 != 3
    ours = ope.score(ope.OWN, predicted, TRUTH, visible)
    expected = score_sequence(predicted, TRUTH, visible)
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_what_an_absent_frame_gets():
    """Half the frames have no target (zeros in the file), the rest is perfect: table of the spec, section 3."""
    truth, visible = TRUTH.copy(), np.ones(COUNT, bool)
    visible[COUNT // 2 :] = False
    expected = {  # auc (of 20/21), precision20, norm_precision
        "jaxtrack": (1, 1, 1),
        "pysot/otb": (0.5, 1, 1),
        "pysot/lasot": (0.5, 0.5, 0.5),
        "pytracking/otb": (0.5, 0.5, 1),
        "pytracking/uav123": (0.5, 1, 1),
        "pytracking/lasot": (0.5, 0.5, 0.5),
        "pytracking/trackingnet": (0.5, 0.5, 1),
        "paper/uav123": (0.5, 1, 1),
        "paper/lasot": (1, 1, 1),
    }
    for name, row in expected.items():
        origin = ope.RULES[name].origin
        truth[COUNT // 2 :] = -origin, -origin, 0, 0
        scores = ope.score(ope.RULES[name], TRUTH, truth, visible)
        found = scores["auc"] * 21 / 20, scores["precision20"], scores["norm_precision"]
        assert found == pytest.approx(row), name
    truth[COUNT // 2 :] = np.nan
    assert ope.score(ope.RULES["got10k/uav123"], TRUTH, truth)["precision20"] == 1


def test_results_of_another_length():
    short, long = TRUTH[:20], np.concatenate([TRUTH, TRUTH])
    assert ope.score(ope.rule("got10k", "otb"), short, TRUTH)["op50"] == 1
    assert ope.score(ope.rule("pytracking", "otb"), short, TRUTH)["op50"] == pytest.approx(20 / 30)
    for name in ("got10k", "pytracking"):
        assert ope.score(ope.rule(name, "otb"), long, TRUTH)["op50"] == 1
    for name, dataset in (("jaxtrack", "otb"), ("pysot", "otb"), ("pytracking", "lasot"), ("paper", "otb")):
        with pytest.raises(ValueError, match="20 predictions for 30 frames"):
            ope.score(ope.rule(name, dataset), short, TRUTH)


def test_predictions_that_are_not_boxes():
    predicted = TRUTH.copy()
    predicted[5] = np.nan
    assert ope.score(ope.rule("pysot", "otb"), predicted, TRUTH)["op50"] == pytest.approx(29 / 30)
    for name in ("jaxtrack", "pytracking", "paper"):
        with pytest.raises(ValueError, match="not finite"):
            ope.score(ope.rule(name, "otb"), predicted, TRUTH)
    predicted[5] = [30, 35, -4, 20]
    with pytest.raises(ValueError, match="negative side"):
        ope.score(ope.rule("pytracking", "otb"), predicted, TRUTH)
    predicted[5] = 0  # pytracking: the box before it stands in
    repeated = np.where(np.arange(COUNT)[:, None] == 5, TRUTH[4], TRUTH)
    assert ope.score(ope.rule("pytracking", "otb"), predicted, TRUTH)["mean_iou"] == pytest.approx(
        ope.score(ope.OWN, repeated, TRUTH)["mean_iou"]
    )


@pytest.mark.parametrize(
    ("toolkit", "dataset", "message"),
    [
        ("vot", "otb", "--protocol vot_reset"),
        ("got10k", "got10k", "it has folder, otb"),
        ("paper", "nfs", "it has otb"),
        ("pysott", "otb", "choose one of jaxtrack, pysot"),
    ],
)
def test_a_rule_that_is_not_there_is_an_error_with_what_is(toolkit, dataset, message):
    with pytest.raises(ValueError, match=message):
        ope.rule(toolkit, dataset)


def test_no_frame_to_count_is_an_error():
    with pytest.raises(ValueError, match="no frame"):
        ope.score(ope.OWN, TRUTH, TRUTH, np.zeros(COUNT, bool))


def test_got10k_leaves_out_frame_1_and_covered_frames():
    predicted, cover = TRUTH.copy(), np.full(COUNT, 8)
    predicted[0] += 500
    predicted[7:9] += 500
    cover[7:9] = 0
    overlaps = got10k.frame_overlaps([predicted, predicted], TRUTH, cover, SIZE)
    assert len(overlaps) == 2 * (COUNT - 3) and got10k.scores(overlaps)["ao"] == pytest.approx(1)
    with pytest.raises(ValueError, match="29 predictions for 30 frames"):
        got10k.frame_overlaps([predicted[1:]], TRUTH, cover, SIZE)


def test_class_balanced_means_weight_classes():
    """Frames: 30 of 1.0 and 10 of 0; classes: car 1.0 and 0.5, dog 0."""
    every = {"a": np.ones(10), "b": np.concatenate([np.ones(20), np.zeros(0)]), "c": np.zeros(10)}
    assert got10k.overall(every)["ao"] == 0.75
    balanced = got10k.class_balanced(every, {"a": "car", "b": "car", "c": "dog"})
    assert balanced == {"mao": 0.5, "msr50": 0.5, "msr75": 0.5}
    with pytest.raises(ValueError, match="no object class for c"):
        got10k.class_balanced(every, {"a": "car", "b": "car"})


def test_regions_drawn():
    square, half = [0, 0, 10, 10], [5, 0, 10, 10]
    assert region_overlap(square, half) == pytest.approx(1 / 3)
    assert region_overlap(square, half, program="pysot") == pytest.approx(0.375)  # 11 pixels wide
    assert region_overlap([0, 0, 10, 0, 10, 10, 0, 10], [5, 0, 15, 0, 15, 10, 5, 10]) == pytest.approx(0.375)
    assert np.isnan(region_overlap(square, [np.nan] * 4))
    np.testing.assert_array_equal(region_overlaps([None, square], [square, square]), [0, 1])
    assert np.isnan(region_overlaps([None], [square], program="pysot")[0])
    for bad in ([1, 2, 3], np.zeros((2, 4))):
        with pytest.raises(ValueError, match="a region is 4 numbers"):
            region_overlap(square, bad)
    with pytest.raises(ValueError, match="unknown program"):
        region_overlap(square, half, program="matlab")


def test_a_polygon_with_a_notch_is_filled_between_its_edges():
    """An L, drawn with both ends: 4 rows of 3 pixels, 4 on the inner edge (as the toolkit), 2 rows of 7."""
    notched = [0, 0, 2, 0, 2, 4, 6, 4, 6, 6, 0, 6]
    square = [0, 0, 6, 0, 6, 6, 0, 6]
    assert region_overlap(notched, square) == pytest.approx((4 * 3 + 4 + 2 * 7) / 49)
    assert region_overlap(notched, [0, 0, 7, 7]) == region_overlap(notched, square)
    bow = [0, 0, 6, 0, 0, 6, 6, 6]  # crosses itself in row 3
    assert region_overlap(bow, square) == pytest.approx((2 * (7 + 5 + 3) + 1) / 49)


def test_masks_and_boxes_overlap_as_in_the_toolkit():
    """vot_masks.json: lines of mask, box, image size and the overlap that vot-toolkit 0.9.0 computes."""
    for line, box, size, expected in json.loads(Path(__file__).with_name("vot_masks.json").read_text()):
        mask = parse_mask(line)
        assert region_overlap(mask, box, size) == pytest.approx(expected, abs=1e-12)
        assert region_overlap(box, mask, size) == pytest.approx(expected, abs=1e-12)
    square = parse_mask("m3,4,2,2,0,4")
    assert region_overlap(square, square) == 1 and region_overlap(square, [3, 4, 2, 2]) == 1
    with pytest.raises(ValueError, match="knows no masks"):
        region_overlap(square, square, program="pysot")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-20, 60), min_size=4, max_size=4), st.lists(st.floats(1, 50), min_size=4, max_size=4))
def test_region_overlap_is_symmetric_and_near_the_exact_one(places, sides):
    first, second = [*places[:2], *sides[:2]], [*places[2:], *sides[2:]]
    for program in ("vot", "pysot"):
        value = region_overlap(first, second, (60, 50), program=program)
        assert 0 <= value <= 1 and value == region_overlap(second, first, (60, 50), program=program)
        assert region_overlap(first, first, program=program) in (0.0, 1.0)


def test_a_failure_and_the_start_after_it():
    """Frame 3 has no overlap: codes 1, ., 2, 0, 0, 0, 0, 1 (spec, fixture 5)."""
    tracker = Scripted({2: 500.0})
    run = vot_resets.track_with_resets(tracker.init, tracker.update, TRUTH, TRUTH, SIZE)
    codes = [entry if isinstance(entry, int) else "box" for entry in run[:9]]
    assert codes == [1, "box", 2, 0, 0, 0, 0, 1, "box"] and len(run) == COUNT
    assert [index for index, _ in tracker.started] == [0, 7] and tracker.started[1][1] == tuple(TRUTH[7])
    assert tracker.updated == [1, 2, *range(8, COUNT)] and vot_resets.failures(run) == [2]


def test_failures_at_the_end_and_a_box_that_is_not_one():
    tracker = Scripted({COUNT - 2: np.nan})
    run = vot_resets.track_with_resets(tracker.init, tracker.update, TRUTH, TRUTH, SIZE)
    assert run[-2:] == [2, 0] and vot_resets.failures(run) == [COUNT - 2]
    outside = vot_resets.track_with_resets(tracker.init, Scripted({4: -400.0}).update, TRUTH, TRUTH, SIZE)
    assert outside[4] == 2


def test_accuracy_robustness_and_eao_counted_by_hand():
    """One run of 30 frames: perfect, failed at frame 21 (index 20), started again at 25, perfect to the end."""
    tracker = Scripted({20: 500.0})
    run = vot_resets.track_with_resets(tracker.init, tracker.update, TRUTH, TRUTH, SIZE)
    sequence = vot_resets.Runs(TRUTH, [run], SIZE)
    measured = vot_resets.accuracy_and_robustness([sequence])
    assert measured == pytest.approx({"accuracy": 1, "failures": 1, "robustness": np.exp(-30 / 30)})
    pysot = vot_resets.accuracy_and_robustness([sequence], program="pysot")
    assert pysot == pytest.approx({"accuracy": 1, "failures": 1, "robustness": 100 / 30})
    curve = vot_resets.eao_curve([sequence])
    # Fragments of 20 and 5 frames, the first failed: up to 4 both are 1, then the failed one alone.
    np.testing.assert_allclose(curve[1:20], 1)
    assert len(curve) == 20 and np.isnan(vot_resets.eao(curve, "vot2018"))
    whole = vot_resets.eao_curve([sequence], program="pysot")
    assert len(whole) == COUNT and whole[29] == pytest.approx(19 / 29)


def test_two_lost_frames_weigh_by_length():
    """Mean over sequences by length: 30 frames without, 10 frames with one failure."""
    good = vot_resets.Runs(TRUTH, [[1, *TRUTH[1:]]], SIZE)
    bad = vot_resets.Runs(TRUTH[:10], [[1, *TRUTH[1:9], 2]], SIZE)
    measured = vot_resets.accuracy_and_robustness([good, bad])
    assert measured["failures"] == pytest.approx(10 / 40) and measured["accuracy"] == pytest.approx(30 / 40)


def test_a_streak_of_nine_low_overlaps_is_no_failure():
    high, low = np.full(20, 0.8), np.full(9, 0.05)
    nine = vot_multistart.Start(np.concatenate([high, low, high]))
    ten = vot_multistart.Start(np.concatenate([high, low, [0.1], high]))
    assert vot_multistart.progress(nine) == 49 and vot_multistart.progress(ten) == 20
    absent = np.ones(50, bool)
    absent[25] = False
    assert vot_multistart.progress(ten._replace(present=absent)) == 50
    scores = vot_multistart.accuracy_and_robustness([nine, ten])
    assert scores["robustness"] == pytest.approx(69 / 99) and scores["progress"] == 69
    assert scores["accuracy"] == pytest.approx((40 * 0.8 + 9 * 0.05 + 20 * 0.8) / 69)


def test_a_run_that_never_holds_has_no_accuracy():
    nothing = vot_multistart.Start(np.zeros(12))
    assert vot_multistart.accuracy_and_robustness([nothing]) == {"accuracy": 0, "robustness": 0, "progress": 0}
    curve = vot_multistart.mean_curve(*vot_multistart.eao_curve([nothing]))
    assert np.isfinite(curve).all() and not curve.any()


def test_anchors_and_the_way_from_them():
    visible = np.ones(120, bool)
    visible[48:56] = False
    assert vot_multistart.place_anchors(visible) == [1, 48, -101, -120]
    assert vot_multistart.place_anchors(np.zeros(9, bool)) == []
    assert vot_multistart.frames_of(3, 5) == [2, 3, 4] and vot_multistart.frames_of(-3, 5) == [2, 1, 0]
    with pytest.raises(ValueError, match="anchor 6"):
        vot_multistart.frames_of(6, 5)
    tracker = Scripted()
    backward = vot_multistart.track_from_anchor(tracker.init, tracker.update, -4, TRUTH)
    np.testing.assert_array_equal(backward, TRUTH[3::-1])
    assert tracker.started == [(3, tuple(TRUTH[3]))] and tracker.updated == [2, 1, 0]


def test_tre_starts_are_spread_and_visible():
    assert otb_restarts.tre_starts(np.ones(200, bool)) == list(range(0, 200, 10))
    assert otb_restarts.tre_starts(np.ones(3, bool)) == [0, 1, 2]
    visible = np.ones(200, bool)
    visible[8:15], visible[185:] = False, False
    assert otb_restarts.tre_starts(visible) == [0, 15, *range(20, 190, 10)]
    tracker = Scripted()
    np.testing.assert_array_equal(
        otb_restarts.track_segment(tracker.init, tracker.update, 10, COUNT, TRUTH[10]), TRUTH[10:]
    )


def test_sre_boxes():
    boxes = otb_restarts.sre_boxes(np.array([100.0, 50, 40, 20]))
    assert boxes.shape == (12, 4)
    np.testing.assert_allclose(boxes[0], [96, 50, 40, 20])
    np.testing.assert_allclose(boxes[7], [104, 52, 40, 20])
    np.testing.assert_allclose(boxes[8], [104, 52, 32, 16])
    np.testing.assert_allclose(boxes[8:, :2] + boxes[8:, 2:] / 2, [[120, 60]] * 4)
    np.testing.assert_allclose(boxes[8:, 2] / 40, otb_restarts.SRE_SCALES)
    mean = otb_restarts.segment_mean([{"auc": 0.25, "op50": 1}, {"auc": 0.75, "op50": 0}])
    assert mean == {"auc": 0.5, "op50": 0.5}


def test_long_term_precision_and_recall_by_hand():
    """Four frames, the target in three: overlaps .8, .4, 0, absent; confidence .9, .5, .2, .6."""
    clip = longterm.Confident(np.array([0.8, 0.4, 0, 0]), np.array([0.9, 0.5, 0.2, 0.6]), np.array([1, 1, 1, 0], bool))
    curves = longterm.precision_recall([clip])
    np.testing.assert_allclose(curves.thresholds, [np.inf, 0.9, 0.6, 0.5, 0.2, -np.inf])
    np.testing.assert_allclose(curves.precision, [1, 0.8, 0.4, 0.4, 0.3, 0.3])
    np.testing.assert_allclose(curves.recall, [0, 0.8 / 3, 0.8 / 3, 0.4, 0.4, 0.4])
    assert curves.best["f"] == pytest.approx(0.4) and curves.best["threshold"] == 0.5
    silent = clip._replace(confidence=np.full(4, np.nan))
    curves = longterm.precision_recall([silent])
    np.testing.assert_allclose(curves.f, 0, atol=0)
    with pytest.raises(ValueError, match="the target is in no frame"):
        longterm.precision_recall([clip, clip._replace(present=np.zeros(4, bool))])


def test_thresholds_of_many_scores_are_a_hundred():
    scores = np.random.default_rng(0).random(5000)
    thresholds = longterm.confidence_thresholds(scores)
    assert len(thresholds) == 100 and (np.diff(thresholds) < 0).all()


def test_oxuva_by_hand():
    overlaps = np.array([0.9, 0.5, 0.4, 0.9, 0, 0])
    reported, present = np.array([1, 1, 1, 0, 1, 0], bool), np.array([1, 1, 1, 1, 0, 0], bool)
    scores = longterm.oxuva(overlaps, reported, present)
    assert scores["tpr"] == 0.5 and scores["tnr"] == 0.5 and scores["gm"] == 0.5
    grid = np.linspace(0, 1, 100_001)
    for tpr, tnr in ((0.5, 0.5), (0.7, 0.0), (0.6, 0.2), (0.3, 0.9), (0.4, 1.0)):
        there, away = np.arange(10) < round(10 * tpr), np.arange(10) < round(10 * (1 - tnr))
        scores = longterm.oxuva(np.ones(20), np.concatenate([there, away]), np.arange(20) < 10)
        best = np.sqrt((1 - grid) * tpr * ((1 - grid) * tnr + grid)).max()
        assert scores["maxgm"] == pytest.approx(best, abs=1e-8), (tpr, tnr)


def test_attributes_and_seeds():
    scores = {"a": 0.2, "b": 0.4, "c": 0.9}
    grouped = statistics.by_attribute(scores, {"a": ("OCC", "IV"), "b": ("OCC",), "d": ("FM",)})
    assert grouped == {"IV": (0.2, 1), "OCC": (pytest.approx(0.3), 2)}
    spread = statistics.over_seeds([{"auc": 0.5}, {"auc": 0.6}, {"auc": 0.7}])
    assert spread["auc"] == pytest.approx((0.6, 0.1))
    assert np.isnan(statistics.over_seeds([{"auc": 0.5}])["auc"][1])


def test_calibration_by_hand():
    confidence = np.array([0.95, 0.85, 0.85, 0.35, 0.05, 1.0])
    right = np.array([1, 1, 0, 1, 0, 1], bool)
    found = statistics.calibration(confidence, right)
    np.testing.assert_allclose(found.thresholds, [np.inf, 1, 0.95, 0.85, 0.35, 0.05])
    np.testing.assert_allclose(found.hit_rate, [0, 0.25, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(found.false_alarms, [0, 0, 0, 0.5, 0.5, 1])
    # 8 pairs: right above wrong in 6, equal in 1 (half a pair).
    assert found.auc == pytest.approx(6.5 / 8)
    np.testing.assert_array_equal(found.count, [1, 0, 0, 1, 0, 0, 0, 0, 2, 2])
    assert found.share_right[8] == 0.5 and np.isnan(found.share_right[1])
    assert found.error == pytest.approx((0.05 + 0.65 + 2 * 0.35 + 2 * 0.025) / 6)
    with pytest.raises(ValueError, match=r"not in 0\.\.1"):
        statistics.calibration(np.array([np.nan]), np.array([True]))
    with pytest.raises(ValueError, match="do not match"):
        statistics.calibration(confidence, right[1:])
