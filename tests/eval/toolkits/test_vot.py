"""The tracker end of the VOT toolkit: which `trax` it takes, its registry entry, and a run of the toolkit itself."""

import configparser
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import trackers
from eval import run
from eval.scoring.regions import region_overlaps
from eval.sources.masks import parse_mask
from eval.toolkits import vot as vot_tracker
from tests.helpers import places, trivial_tracker
from tests.helpers.videos import make_video, rows

REPOSITORY = places.REPOSITORY


@pytest.fixture
def path_of_modules(tmp_path, monkeypatch):
    """A folder that is looked into first, and alone where `trax` is concerned."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "trax"]:
        monkeypatch.delitem(sys.modules, name)
    kept = [place for place in sys.path if not (Path(place) / "trax").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *kept])
    return tmp_path


def test_no_trax_is_one_line(path_of_modules):
    with pytest.raises(vot_tracker.TraxError, match="pip install vot-trax"):
        vot_tracker.import_trax()


def test_googles_trax_is_told_apart_and_not_run(path_of_modules):
    (path_of_modules / "trax" / "layers").mkdir(parents=True)
    (path_of_modules / "trax" / "__init__.py").write_text("raise SystemExit('was run')")
    with pytest.raises(vot_tracker.TraxError, match=r"trax/__init__\.py: another package.*pip uninstall trax"):
        vot_tracker.import_trax()


def test_the_registry_entry_survives_the_toolkits_reader():
    command = ["/opt/my env/python", "-m", "eval.toolkits.vot", "--weights", "/data/50%/w.safetensors"]
    reader = configparser.ConfigParser()  # with interpolation, as the toolkit's
    reader.read_string(vot_tracker.registry_entry("dimp18", command))
    assert shlex.split(reader["dimp18"]["command"]) == command
    assert reader["dimp18"]["protocol"] == "trax" and int(reader["dimp18"]["timeout"]) > 30


@pytest.mark.parametrize("arguments", [("--tracker", "nobody"), ("--tracker", "dimp_tiny", "--set", "nothing=1")])
def test_mistakes_in_the_command_are_one_line(capsys, arguments):
    assert vot_tracker.main([*arguments, "--ini"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


STACK = """
title: one short sequence
experiments:
  baseline:
    type: unsupervised
    repetitions: 1
    analyses:
      - {type: average_accuracy, name: accuracy, burnin: 1}
"""
SCRIPT = """
import sys
from types import SimpleNamespace
import trackers
from tests.helpers import trivial_tracker
trackers.get = lambda name: SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
trackers.load_params = lambda name, weights: trivial_tracker.params()
from eval.toolkits import vot as vot_tracker
sys.exit(vot_tracker.main(sys.argv[1:]))
"""


@pytest.mark.skipif(importlib.util.find_spec("vot") is None, reason="needs the extra `toolkits`")
@pytest.mark.full
@pytest.mark.parametrize("kind", ["rectangles", "polygons", "masks"])
def test_the_toolkit_runs_it_and_agrees_on_the_accuracy(tmp_path, monkeypatch, kind):
    count, place = 8, tmp_path / "sequences" / "dot"
    make_video(place, count)
    make_video(tmp_path / "data" / "dot", count)
    (place / "groundtruth_rect.txt").unlink()  # the toolkit would take it for an object named rect
    truth = rows(tmp_path / "data" / "dot" / "groundtruth_rect.txt")
    x, y, w, h = truth.T
    regions = truth if kind == "rectangles" else np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1)
    lines = [",".join(f"{number:.3f}" for number in region) for region in regions]
    if kind == "masks":  # the box in whole pixels, less the upper left one
        truth = truth.round()
        np.savetxt(tmp_path / "data" / "dot" / "groundtruth_rect.txt", truth, fmt="%d", delimiter=",")
        lines = ["m" + ",".join(f"{n:.0f}" for n in (*box, 1, box[2] * box[3] - 1)) for box in truth]
        regions = [parse_mask(line) for line in lines]
    (place / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    (place / "sequence").write_text(f"name=dot\nfps=30\nchannels.color=img/%04d.png\nlength={count}\n")
    (tmp_path / "sequences" / "list.txt").write_text("dot\n")
    (tmp_path / "config.yaml").write_text("stack: ./stack.yaml\nregistry:\n- ./trackers.ini\n")
    (tmp_path / "stack.yaml").write_text(STACK)
    (tmp_path / "start.py").write_text(f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n{SCRIPT}")
    command = [sys.executable, str(tmp_path / "start.py"), "--tracker", "dot", "--set", "gain=0.5"]
    (tmp_path / "trackers.ini").write_text(vot_tracker.registry_entry("dot", command))
    for action in (["evaluate"], ["analysis", "--name", "numbers"]):
        vot = [sys.executable, "-m", "vot", action[0], "--workspace", str(tmp_path), *action[1:], "dot"]
        done = subprocess.run(vot, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "analysis" / "numbers.json").read_text())["results"]["baseline"]["results"]

    entry = SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", {"dot": entry}.__getitem__)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params())
    arguments = ["--tracker", "dot", "--set", "gain=0.5", "--data_dir", str(tmp_path / "data")]
    assert run.main([*arguments, "--out", str(tmp_path)]) == 0
    boxes = rows(tmp_path / "dot" / "dot.txt")
    (trajectory,) = (tmp_path / "results" / "dot" / "baseline" / "dot").glob("*_001.bin")
    reported = importlib.import_module("vot.region.io").read_trajectory(str(trajectory))[1:]
    np.testing.assert_allclose([(box.x, box.y, box.width, box.height) for box in reported], boxes[1:], atol=1e-4)
    ours = region_overlaps(boxes, list(regions), (56, 40))[1:].mean()
    assert np.squeeze(found) == pytest.approx(ours, abs=1e-6) and 0.3 < ours < 0.95
