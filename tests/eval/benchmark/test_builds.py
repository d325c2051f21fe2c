"""Two builds beside each other: the rows, and what is no build."""

import json
from importlib.machinery import BuiltinImporter, PathFinder
from types import SimpleNamespace

import pytest

from eval.benchmark import __main__ as benchmark
from eval.benchmark import build_worker, builds
from eval.benchmark.__main__ import main
from tests.helpers import places

DOT = "tests.helpers.annotator:DOT"


@pytest.mark.full
def test_this_build_beside_itself(tmp_path, capsys):
    report = tmp_path / "builds.json"
    options = ["--tracker", DOT, "--repeats", "12", "--height", "64", "--width", "80", "--json", str(report)]
    assert main([*options, "--beside-build", str(places.REPOSITORY)]) == 0
    stored = json.loads(report.read_text())
    assert {*stored["rows"]} == {*builds.STARTS, "compilation", "first frame", "frame"}
    rounds = {name: row["rounds"] for name, row in stored["rows"].items()}
    assert rounds["frame"] == 12 and rounds["first frame"] == 3 and rounds["compilation"] == 2
    for row in stored["rows"].values():
        low, high = row["ratio_80_percent"]
        assert 0 < low <= row["ratio"] <= high and row["median_ms"] > 0
    assert all(size > 1e8 for size in stored["peak_bytes"].values())
    assert "| frame |" in capsys.readouterr().out


def test_the_ratio_is_that_of_the_rounds():
    row = builds._compared([1.0, 2.0, 6.0], [2.0, 4.0, 3.0])
    assert row["ratio"] == 0.5 and row["median_ms"] == 2000 and row["other_ms"] == 3000 and row["rounds"] == 3


@pytest.mark.parametrize(
    ("tracker", "weights", "named"),
    [("dimp_tiny", None, None), ("atom_filterbank", None, None), ("dimp_tiny", "mine.safetensors", "mine.safetensors")],
)
def test_each_build_reads_the_weights_that_come_with_it(tracker, weights, named):
    """The networks of a tracker may be others than in the older build."""
    with benchmark._file_to_name(SimpleNamespace(tracker=tracker, weights=weights)) as found:
        assert found == named


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--beside-build", "FOLDER"], "no checkout of this project"),
        (["--beside-build", "FOLDER", "--plot", "x.png"], "no roofline of two builds"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, options, why):
    options = [str(tmp_path) if one == "FOLDER" else one for one in options]
    assert main(["--tracker", DOT, "--height", "64", "--width", "80", *options]) == 1
    told = capsys.readouterr().err
    assert why in told and told.count("\n") == 1


def test_a_process_that_ends_is_one_line(tmp_path, capfd):
    worker = builds.Worker(places.REPOSITORY, {"tracker": "none", "weights": None, "clip": ""}, tmp_path)
    with pytest.raises(builds.ResultError, match="its process has ended in compile"):
        worker.ask("compile")
    worker.close()
    assert "unknown tracker" in capfd.readouterr().err


def test_an_editable_installation_lends_no_modules():
    """Its finder knows those of this build, also where the other build has none of that name."""
    editable = type("_EditableFinder", (), {"__module__": "__editable___jaxtrack_0_1_0_finder"})
    assert build_worker.is_editable(editable) and build_worker.is_editable(editable())
    assert not any(build_worker.is_editable(finder) for finder in (BuiltinImporter, PathFinder))
