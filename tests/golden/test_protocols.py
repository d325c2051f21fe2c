"""Every stored number of pysot, pytracking, got10k and the VOT toolkit, by our rule of the same name.

To 1e-9; to 1e-6 what the toolkit itself keeps in single precision (pytracking's curves, both EAO curves).
"""

import json
from functools import lru_cache

import numpy as np
import pytest

from eval.scoring import got10k, ope, vot_multistart, vot_resets
from eval.scoring.regions import region_overlap
from tests.helpers import oracle

EXACT, SINGLE = 1e-9, 1e-6
# Block of the stored numbers -> dataset of our rule, true boxes, whether its flags are given.
PYSOT = {"otb_zero": ("otb", "gt_zero"), "uav_nan": ("uav123", "gt_nan"), "lasot_absent": ("lasot", "gt_zero")}
GOT10K = {"otb_zero": ("otb", "gt_zero"), "uav_nan": ("uav123", "gt_nan"), "lasot_nan": ("lasot", "gt_nan")}
PYTRACKING = {
    "otb_zero": ("otb", "gt_zero"),
    "uav_nan": ("uav123", "gt_nan"),
    "lasot_visible": ("lasot", "gt_zero"),
    "trackingnet_like_visible": ("trackingnet", "gt_zero"),
}


@lru_cache
def stored() -> dict:
    return json.loads((oracle.golden_dir() / "metrics.json").read_text())


def rule(toolkit: str, dataset: str) -> ope.Rule:
    """Our rule, for boxes as the toolkits read them from the files: theirs may count from 1."""
    return ope.replace(ope.rule(toolkit, dataset), origin=0)


def boxes(text: str) -> np.ndarray:
    return np.array([[float(value) for value in line.split(",")] for line in text.split()])


@lru_cache
def inputs() -> dict[str, dict]:
    """Name -> gt_nan, gt_zero, pred `[T, 4]`; visible, cover `[T]`."""
    return {
        name: {key: boxes(item[key]) for key in ("gt_nan", "gt_zero", "pred")}
        | {"visible": np.array(item["visible"]) > 0, "cover": np.array(item["cover"])}
        for name, item in stored()["inputs"].items()
    }


def close(actual, expected, tolerance=EXACT):
    expected = np.array(expected, float)  # non-finite numbers are stored as strings
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("block", PYSOT)
def test_golden_pysot(block):
    (dataset, truth), golden, totals = PYSOT[block], stored()["pysot"][block], []
    chosen = rule("pysot", dataset)
    names = {"auc": "auc", "precision20": "precision20", "norm_precision": "norm_precision20"}
    for name, item in inputs().items():
        expected = golden["per_sequence"][name]
        arguments = chosen, item["pred"], item[truth], item["visible"]
        curves, scores = ope.curves(ope.judge(*arguments)), ope.score(*arguments)
        close(curves.success, expected["success_curve"])
        close(curves.precision, expected["precision_curve"])
        close(curves.norm_precision, expected["norm_precision_curve"])
        close([scores[ours] for ours in names], [expected[theirs] for theirs in names.values()])
        totals.append([scores[ours] for ours in names])
    close(np.mean(totals, 0), [golden["overall"][theirs] for theirs in names.values()])


@pytest.mark.parametrize("block", GOT10K)
def test_golden_got10k_curves(block):
    (dataset, truth), golden, totals = GOT10K[block], stored()["got10k"][block], []
    chosen = rule("got10k", dataset)
    names = {
        "auc": "success_score",
        "op50": "success_rate",
        "precision20": "precision20",
        "norm_precision_auc": "norm_precision_score_auc",
    }
    for name, item in inputs().items():
        expected = golden["per_sequence"][name]
        arguments = chosen, item["pred"], item[truth], item["visible"]
        curves, scores = ope.curves(ope.judge(*arguments)), ope.score(*arguments)
        close(curves.success, expected["success_curve"])
        close(curves.precision, expected["precision_curve"])
        if "norm_precision_curve" in expected:
            close(curves.norm_precision, expected["norm_precision_curve"])
        close(
            [scores[ours] for ours, theirs in names.items() if theirs in expected],
            [expected[theirs] for theirs in names.values() if theirs in expected],
        )
        totals.append(scores)
    for ours, theirs in names.items():
        if theirs in golden["overall"]:
            close(np.mean([scores[ours] for scores in totals]), golden["overall"][theirs])


def pytracking_rule(block: str) -> tuple[ope.Rule, str]:
    plain = block.removesuffix("_int")
    dataset, truth = PYTRACKING[plain.removesuffix("_exclude_invalid")]
    chosen = rule("pytracking", dataset)
    return (ope.replace(chosen, divisor="usable") if plain.endswith("exclude_invalid") else chosen), truth


@pytest.mark.parametrize("integers", ["", "_int"])
@pytest.mark.parametrize("block", ["otb_zero_exclude_invalid", *PYTRACKING])
def test_golden_pytracking(block, integers):
    """All 21 thresholds of success: its own order of operations lifts some perfect boxes above an overlap of 1."""
    golden, all_curves = stored()["pytracking"][block + integers], []
    chosen, truth = pytracking_rule(block)
    for index, item in enumerate(inputs().values()):
        predicted = np.trunc(item["pred"]) if integers else item["pred"]
        arguments = chosen, predicted, item[truth], item["visible"]
        curves = ope.curves(ope.judge(*arguments))
        close(curves.success, golden["success_curve_per_seq"][index], SINGLE)
        close(curves.precision, golden["precision_curve_per_seq"][index], SINGLE)
        close(curves.norm_precision, golden["norm_precision_curve_per_seq"][index], SINGLE)
        close(ope.score(*arguments)["mean_iou"], golden["avg_overlap_per_seq"][index])
        all_curves.append(curves)
    mean = ope.mean_curves(all_curves)
    ours = [mean.success.mean(), mean.success[10], mean.success[15], mean.precision[20], mean.norm_precision[20]]
    names = ("auc", "op50", "op75", "precision20", "norm_precision20")
    close(ours, [golden[f"{name}_percent"] / 100 for name in names], SINGLE)


def test_golden_got10k_average_overlap():
    """Two repetitions, the second shifted (the stored note says how)."""
    golden, size, every = stored()["got10k"]["got10k"], tuple(stored()["image_size"]), {}
    for name, item in inputs().items():
        repetitions = [item["pred"], np.round(item["pred"] + 1.5, 3)]
        every[name] = got10k.frame_overlaps(repetitions, item["gt_zero"], item["cover"], size)
        expected = golden["per_sequence"][name]
        assert len(every[name]) == expected["n"]
        close(list(got10k.scores(every[name]).values()), [expected[key] for key in ("ao", "sr50", "sr75")])
    overall = got10k.overall(every)
    close(list(overall.values()), [golden["overall"][key] for key in ("ao", "sr50", "sr75_not_in_toolkit")])
    close(got10k.success_curve(np.concatenate(list(every.values()))), golden["overall"]["succ_curve"])


def test_golden_got10k_clipping():
    case = stored()["got10k"]["rect_iou_bound_quirk"]
    first, second = (got10k.clip_boxes(np.array(case[key]), case["bound"]) for key in ("boxes1", "boxes2"))
    close(ope.epsilon_overlaps(first, second), case["iou_bounded"])
    close(ope.epsilon_overlaps(np.array(case["boxes1"]), np.array(case["boxes2"])), case["iou_plain"])


def test_golden_regions():
    size = tuple(stored()["image_size"])
    for case in stored()["regions"]:
        for form, kind in (("poly", ""), ("rect", "_rect")):
            if f"a{kind}" not in case:
                continue
            pair = case[f"a{kind}"], case[f"b{kind}"]
            close(region_overlap(*pair, size), case[f"vot_{form}_bounded"])
            close(region_overlap(*pair), case[f"vot_{form}_nobound"])
            close(region_overlap(*pair, size, program="pysot"), case[f"pysot_{form}_bound_wh"])
            if f"pysot_{form}_nobound" in case:
                close(region_overlap(*pair, program="pysot"), case[f"pysot_{form}_nobound"])


@lru_cache
def supervised() -> dict[str, vot_resets.Runs]:
    block = stored()["vot_supervised"]

    def run(text: str) -> list:
        return [np.array([float(v) for v in line.split(",")]) if "," in line else int(line) for line in text.split()]

    return {
        name: vot_resets.Runs(boxes(item["gt"]), [run(text) for text in item["runs"]], tuple(block["image_size"]))
        for name, item in block["sequences"].items()
    }


def test_golden_vot_resets_of_pysot():
    golden, sequences = stored()["vot_supervised"]["pysot"], supervised()
    ours = vot_resets.accuracy_and_robustness(list(sequences.values()), program="pysot")
    close(list(ours.values()), [golden[key] for key in ("accuracy", "lost_number", "robustness")])
    for name, expected in golden["per_sequence"].items():
        close(vot_resets.sequence_accuracy(sequences[name], program="pysot"), expected["accuracy"])
        assert [len(vot_resets.failures(run)) for run in sequences[name].runs] == expected["failures"]
    close(vot_resets.mean_overlaps(sequences["a"]), golden["overlap_seq_a"])
    curve = vot_resets.eao_curve(list(sequences.values()), program="pysot")
    for year in ("2016", "2018", "2019"):
        close(vot_resets.eao(curve, f"vot{year}", program="pysot"), golden[f"eao_VOT{year}"], SINGLE)


def test_golden_vot_resets_of_the_toolkit():
    golden, sequences = stored()["vot_supervised"]["vot_toolkit"], supervised()
    ours = vot_resets.accuracy_and_robustness(list(sequences.values()))
    close([ours["accuracy"], ours["failures"]], [golden["accuracy"], golden["failures"]])
    close([ours["robustness"], ours["accuracy"]], golden["ar_point"])
    for name, expected in golden["per_sequence"].items():
        alone = vot_resets.accuracy_and_robustness([sequences[name]])
        close(alone["accuracy"], expected["accuracy"])
        close([alone["failures"], alone["robustness"]], [expected["failures"], expected["ar_robustness"]])
    curve = vot_resets.eao_curve(list(sequences.values()))
    close(curve[10::10], golden["eao_curve_every10"][1:], SINGLE)
    for year, key in (
        ("2015", "2015_16"),
        ("2016", "2015_16"),
        ("2017", "2017_18"),
        ("2018", "2017_18"),
        ("2019",) * 2,
    ):
        close(vot_resets.eao(curve, f"vot{year}"), golden[f"eao_VOT{key}"], SINGLE)


def test_golden_vot_multistart():
    golden = stored()["vot_multistart"]
    each, curves, lengths = {}, [], {}
    for name, item in golden["sequences"].items():
        starts = []
        for anchor in item["anchors"]:
            overlaps = np.array(item["overlaps"][str(anchor)])
            assert len(overlaps) == len(vot_multistart.frames_of(anchor, item["length"]))
            starts.append(vot_multistart.Start(overlaps))
        each[name], lengths[name] = vot_multistart.accuracy_and_robustness(starts), item["length"]
        close(list(each[name].values()), [item[key] for key in ("accuracy", "robustness", "total_progress")])
        total, active = vot_multistart.eao_curve(starts)
        close(vot_multistart.mean_curve(total, active)[::25], item["curve_every25"])
        close(active[::25], item["active_every25"])
        curves.append((total, active))
    ours = vot_multistart.average(each, lengths)
    close([ours["accuracy"], ours["robustness"]], [golden["average"][key] for key in ("accuracy", "robustness")])
    curve = vot_multistart.mean_curve(*np.sum(curves, 0))
    assert len(curve) == golden["curve_length"]
    assert len(curve[slice(*vot_multistart.EAO_INTERVAL)]) == golden["n_values_averaged"]
    close(curve[::25], golden["curve_every25"])
    close(vot_multistart.eao(curve), golden["eao_115_755"])
