"""Tests of `python -m eval.benchmark`, with a whole run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.benchmark import __main__ as benchmark
from eval.measure import roofline


def test_rows_are_compared_with_the_backbone_and_the_yardsticks_of_their_round():
    sticks = {
        roofline.PRODUCT: roofline.Yardstick(lambda: None, 100),
        roofline.COPY: roofline.Yardstick(lambda: None, 10),
    }
    seconds = {"backbone": [2, 2], "refine": [6, 30], "update": [1, 1], roofline.PRODUCT: [1, 1], roofline.COPY: [1, 3]}
    works = {"backbone": roofline.Work(100, 1), "refine": roofline.Work(50, 60), "update": None}
    rows = benchmark._rows(works, sticks, {name: np.array(each, float) for name, each in seconds.items()})
    assert rows["backbone"]["roofline_share"] == pytest.approx(0.5) and rows["backbone"]["bound"] == "compute"
    assert rows["refine"]["roofline_share"] == pytest.approx((6 / 6 + 18 / 30) / 2)
    assert rows["refine"]["bound"] == "memory"
    assert rows["update"]["over_ideal"] is None and rows["update"]["roofline_share"] is None
    assert rows["backbone"]["over_ideal"] == 1
    assert rows["refine"]["over_ideal"] == pytest.approx((6 / 1 + 30 / 1) / 2)
    assert rows["refine"]["median_ms"] == pytest.approx(18e3)


@pytest.mark.parametrize(
    "options",
    [
        ["--device", "nothing"],
        ["--beside", "siamfc"],
        ["--weights", "nothing"],
        ["--compare", "nothing", "nothing"],
        ["--torch"],  # no Siamese tracker
        ["--tracker", "atom_filterbank", "--dtype", "bfloat16"],  # no network
    ],
)
def test_mistakes_are_one_line(options, capsys):
    assert benchmark.main(["--no_restart", *options]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


@pytest.mark.full
def test_run(tmp_path, capsys, monkeypatch):
    small = {name: roofline.Yardstick(lambda: jnp.zeros(8), 64.0) for name in (roofline.PRODUCT, roofline.COPY)}
    monkeypatch.setattr(roofline, "yardsticks", lambda: small)
    path = tmp_path / "report.json"
    options = ["--no_restart", "--repeats", "1", "--height", "96", "--width", "96", "--targets", "2"]
    assert benchmark.main(["--tracker", "atom_filterbank", "--json", str(path), *options]) == 0
    report = json.loads(path.read_text())
    stages = report["rows"]
    assert {"frame", "crop", "backbone", "features", "localize", "refine"} < set(stages)
    assert 0 < stages["backbone"]["flops"] <= stages["features"]["flops"] < stages["frame"]["flops"]
    assert stages["backbone"]["over_ideal"] == pytest.approx(1)
    assert all(row["min_ms"] > 0 for row in stages.values())
    assert report["targets"][0]["count"] == 2 and report["targets"][0]["speedup"] > 0
    assert all(size > 0 for size in report["peak_memory_bytes"].values())
    assert stages["2 targets, one call"]["flops"] == pytest.approx(2 * stages["frame"]["flops"], rel=0.1)
    assert all(stages[name]["roofline_share"] > 0 for name in ("frame", "backbone", "2 targets, one call"))
    assert "| backbone |" in capsys.readouterr().out


@pytest.mark.full
def test_a_row_for_the_backbone_in_another_type(monkeypatch):
    small = {name: roofline.Yardstick(lambda: jnp.zeros(8), 64.0) for name in (roofline.PRODUCT, roofline.COPY)}
    monkeypatch.setattr(roofline, "yardsticks", lambda: small)
    options = benchmark.parser().parse_args(
        ["--tracker", "dimp_tiny", "--dtype", "bfloat16", "--repeats", "1", "--height", "96", "--width", "96"]
    )
    options.targets = []
    rows = benchmark.measure(trackers.get("dimp_tiny"), options)["rows"]
    assert rows["backbone, bfloat16"]["flops"] == rows["backbone"]["flops"] > 0
    params = trackers.init_params("dimp_tiny", jax.random.key(0))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    taps = jax.eval_shape(benchmark._backbone(trackers.get("dimp_tiny")), half, jnp.zeros((1, 64, 64, 3)))
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype(jnp.bfloat16)}
