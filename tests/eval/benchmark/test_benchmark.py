"""Tests of `python -m eval.benchmark`, with a whole run."""

import json
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval import parsers
from eval.benchmark import __main__ as benchmark
from eval.benchmark.torch_layers import LAYOUTS
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


def test_our_time_over_that_of_pytorch():
    ours, theirs = np.array([1.0, 2, 3, 4, 50]), np.array([2.0, 2, 2, 2, 50])
    peer = benchmark._beside("frame", ours, theirs)
    assert (peer["ratio_p25"], peer["ratio"], peer["ratio_p75"]) == (1, 1, 1.5)
    assert peer["ours_ms"] == 3e3 and peer["torch_ms"] == 2e3 and peer["row"] == "frame"


def test_rows_of_pytorch_stand_beside_those_of_the_same_name(monkeypatch):
    names = [f"{name}, {layout}" for name in benchmark.torch_online.CALLS for layout in LAYOUTS]
    calls = {name: lambda: 0.5 for name in names}
    monkeypatch.setattr(benchmark.torch_online, "timed", lambda *args: nullcontext(calls))
    options = parsers.benchmark().parse_args(["--height", "96", "--width", "96"])
    with benchmark._in_torch(trackers.get("dimp_tiny"), {}, None, options) as peers:
        found = {name: peer.row for name, peer in peers.items()}
        assert {peer.call() for peer in peers.values()} == {0.5}
    assert found["frame in PyTorch, channels first"] == "frame"
    assert found["update, no step in PyTorch, channels last"] == "update, no step"
    assert len(found) == len(names) and set(found.values()) == set(benchmark.torch_online.CALLS)


def test_the_table_has_a_line_for_each_pair():
    row = {"median_ms": 2.0, "p95_ms": 2.0, "min_ms": 2.0, "flops": 0, "over_ideal": None, "roofline_share": None}
    peer = benchmark._beside("frame", np.full(3, 0.002), np.full(3, 0.004))
    report = {
        "tracker": "dimp_tiny",
        "versions": {"device": "cpu", "jax": "1"},
        "rows": {"frame": row, "frame in PyTorch, channels first": row},
        "peaks": {"flops_per_second": 1e9, "bytes_per_second": 1e9},
        "targets": [],
        "over_torch": {"frame in PyTorch, channels first": peer},
        "compile_s": {"init": 1.0, "track": 1.0},
        "start_to_first_box_s": None,
        "peak_memory_bytes": {},
    }
    lines = [line for line in benchmark.table(report).splitlines() if "frame" in line and line.startswith("|")]
    assert lines[0].startswith("| frame | 2.0 | 2.0") and len(lines) == 2 + 1  # the other is of the targets' table
    assert lines[-1] == "| frame | 2.0 | frame in PyTorch, channels first | 4.0 | 0.50 (0.50 to 0.50) |"


@pytest.mark.parametrize(
    "options",
    [
        ["--device", "nothing"],
        ["--beside", "siamfc"],
        ["--weights", "nothing"],
        ["--compare", "nothing", "nothing"],
        ["--tracker", "atom_filterbank", "--torch"],  # not in PyTorch
        ["--tracker", "memtrack", "--torch"],
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
    assert {"first frame", "frame", "crop", "backbone", "features", "localize", "refine"} < set(stages)
    assert stages["first frame"]["flops"] > 2 * stages["features"]["flops"]  # of several crops
    assert 0 < stages["backbone"]["flops"] <= stages["features"]["flops"] < stages["frame"]["flops"]
    assert stages["backbone"]["over_ideal"] == pytest.approx(1)
    assert all(row["min_ms"] > 0 for row in stages.values())
    assert report["targets"][0]["count"] == 2 and report["targets"][0]["speedup"] > 0
    assert all(size > 0 for size in report["peak_memory_bytes"].values())
    assert stages["2 targets, one call"]["flops"] == pytest.approx(2 * stages["frame"]["flops"], rel=0.1)
    counted = ("first frame", "frame", "backbone", "2 targets, one call")
    assert all(stages[name]["roofline_share"] > 0 for name in counted)
    assert "| backbone |" in capsys.readouterr().out


@pytest.mark.full
def test_a_row_for_the_backbone_in_another_type(monkeypatch):
    small = {name: roofline.Yardstick(lambda: jnp.zeros(8), 64.0) for name in (roofline.PRODUCT, roofline.COPY)}
    monkeypatch.setattr(roofline, "yardsticks", lambda: small)
    options = parsers.benchmark().parse_args(
        ["--tracker", "dimp_tiny", "--dtype", "bfloat16", "--repeats", "1", "--height", "96", "--width", "96"]
    )
    options.targets = []
    rows = benchmark.measure(trackers.get("dimp_tiny"), options)["rows"]
    assert rows["backbone, bfloat16"]["flops"] == rows["backbone"]["flops"] > 0
    params = trackers.init_params("dimp_tiny", jax.random.key(0))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    taps = jax.eval_shape(benchmark._backbone(trackers.get("dimp_tiny")), half, jnp.zeros((1, 64, 64, 3)))
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype(jnp.bfloat16)}
