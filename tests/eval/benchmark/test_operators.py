"""Tests of `python -m eval.benchmark.operators` and of what the benchmark commands share."""

import argparse
import json

import jax.numpy as jnp
import numpy as np
import pytest

from eval.benchmark import operators, reporting
from eval.benchmark.operators import Sizes
from eval.files import ResultError
from eval.measure import roofline

SMALL = Sizes(
    channels=8, cells=5, samples=2, descent_steps=3, compressed_channels=4, memory=3, cg_steps=2, boxes=3
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_yardsticks(monkeypatch):
    monkeypatch.setattr(roofline, "MATRIX_SIDE", 64)
    monkeypatch.setattr(roofline, "stream_copy", lambda: roofline.Yardstick(lambda: jnp.zeros(8), 64.0))
    monkeypatch.setattr(roofline, "matrix_product", lambda dtype: roofline.Yardstick(lambda: jnp.ones(8), 64.0))


@pytest.mark.full
def test_a_run_has_every_row_and_pytorch_computes_the_same():
    options = argparse.Namespace(only=[], dtype="float32", repeats=1)
    report = operators.run(options, SMALL)
    kinds = {(row["operator"], row["kind"]) for row in report["rows"].values()}
    names = [one.name for one in operators.operators(SMALL)]
    assert kinds == {(name, kind) for name in names for kind in ("forward", "gradient")}
    for name, row in report["rows"].items():
        assert row["flops"] > 0 and row["bytes"] > 0 and row["min_ms"] > 0 and row["roofline_share"] > 0, name
        if report["versions"]["torch"] != "not here":
            assert row["torch_ms"] > 0 and row["torch_difference"] < 1e-4, name
    assert report["rows"]["correlation, DiMP, forward"]["flops"] > 2 * 2 * 25 * 16 * 8
    assert json.loads(json.dumps(report))["sizes"]["channels"] == 8
    assert operators.table(report).count("\n| ") == 1 + len(report["rows"])


def test_the_work_of_a_solver_grows_with_its_steps():
    flops = []
    for steps in (1, 2, 3):
        sizes = Sizes(**{**vars(SMALL), "descent_steps": steps})
        (operator,) = (one for one in operators.operators(sizes) if one.name == "steepest descent, DiMP")
        flops.append(operators._work(operator, operator.function, None, operator.inputs).flops)
    first, second = np.diff(flops)
    assert first > 0 and second == pytest.approx(first, rel=0.1)


@pytest.fixture
def small_run(monkeypatch):
    whole_run = operators.run
    monkeypatch.setattr(operators, "run", lambda options: whole_run(options, SMALL))


def test_the_command_writes_its_files(small_run, tmp_path, capsys):
    paths = {name: tmp_path / f"report.{name}" for name in ("json", "markdown", "plot")}
    files = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    command = ["--only", "DiMP", "--dtype", "bfloat16", "--repeats", "1", "--device", "cpu", *files]
    assert operators.main(command) == 0
    rows = json.loads(paths["json"].read_text())["rows"]
    assert list(rows) == ["correlation, DiMP, forward", "correlation, DiMP, gradient"]  # its solver stays in float32
    assert paths["markdown"].read_text() == capsys.readouterr().out
    assert paths["plot"].read_bytes().startswith(b"\x89PNG")


def test_reports_are_compared_row_by_row(tmp_path, capsys):
    first, second, other = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"
    for path, rows in ((first, {"x": 2.0, "y": 1.0}), (second, {"x": 3.0}), (other, {"z": 1.0})):
        path.write_text(json.dumps({"rows": {name: {"median_ms": value} for name, value in rows.items()}}))
    assert operators.main(["--compare", str(first), str(second)]) == 0
    output = capsys.readouterr().out
    assert "| x | 2.00 | 3.00 | 1.50 |" in output and f"only in {first}: y" in output
    for wrong in (other, tmp_path / "missing", tmp_path):
        assert operators.main(["--compare", str(first), str(wrong)]) == 1
        message = capsys.readouterr().err
        assert message.startswith("error: ") and str(wrong) in message and message.count("\n") == 1


@pytest.mark.parametrize("options", [["--device", "nothing"], ["--only", "nothing"]])
def test_mistakes_are_one_line(options, small_run, capsys):
    assert operators.main(options) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


def test_a_report_that_cannot_be_written_is_one_error(tmp_path):
    options = argparse.Namespace(json=tmp_path / "file" / "report.json", markdown=None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError):
        reporting.write({}, "", options)
