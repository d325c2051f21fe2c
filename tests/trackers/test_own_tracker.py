"""A tracker from outside the package: the one that trackers/README.md shows, in every way that the page promises."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

import trackers
from eval import run, track
from eval.sources.synthetic import ClipConfig, clip
from tests.helpers import places

PAGE = (places.REPOSITORY / "trackers" / "README.md").read_text()
CODE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "trackers.Entry(" in block)
NAME = "template_matching:ENTRY"
FRAMES = 5


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of the user's file and of one sequence; the file can be imported while a test runs."""
    (tmp_path / "template_matching.py").write_text(CODE)
    folder = tmp_path / "sequences" / "clip"
    (folder / "img").mkdir(parents=True)
    boxes = []
    for index, example in enumerate(clip(ClipConfig(num_frames=FRAMES), seed=0), 1):
        assert cv2.imwrite(str(folder / "img" / f"{index:04}.png"), example.image[..., ::-1])
        boxes.append(example.box)
    np.savetxt(folder / "groundtruth_rect.txt", boxes, "%.3f", ",")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("template_matching", None)


def test_eval_track_follows_with_it(own):
    box = (own / "sequences" / "clip" / "groundtruth_rect.txt").read_text().splitlines()[0]
    video = str(own / "sequences" / "clip" / "img")
    options = ["--out_dir", str(own / "out"), "--set", "gain=0.8"]
    assert track.main(["--tracker", NAME, "--video", video, "--box", box, *options]) == 0
    (written,) = (own / "out").glob("*.json")
    found = json.loads(written.read_text())
    assert (found["tracker"], found["config"]["gain"], found["frames"]) == (NAME, 0.8, FRAMES)


def test_eval_run_measures_it_by_its_module_and_by_a_registered_name(own, monkeypatch):
    monkeypatch.setattr(trackers, "_ENTRIES", dict(trackers._ENTRIES))  # the name is gone after the test
    trackers.register("mine", trackers.get(NAME))
    assert trackers.names()[-1] == "mine"
    boxes = []
    for name, folder in ((NAME, "template_matching.ENTRY"), ("mine", "mine")):
        options = ["--data_dir", str(own / "sequences"), "--out", str(own / "results")]
        assert run.main(["--tracker", name, *options]) == 0
        boxes.append((own / "results" / folder / "clip.txt").read_text())
        summary = json.loads((own / "results" / folder / "summary.json").read_text())
        assert summary["mean"]["auc"] > 0.5
    assert boxes[0] == boxes[1]


@pytest.mark.full
def test_it_keeps_the_properties_of_the_table(own):
    """In a process of its own: nothing but its name is told."""
    paths = os.pathsep.join([str(places.REPOSITORY), str(own)])
    environment = os.environ | {"TRACKER": NAME, "PYTHONPATH": paths}
    table = str(places.REPOSITORY / "tests" / "properties")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-x", "-n", "0", table]
    done = subprocess.run(command, cwd=places.REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    left_out = re.findall(r"^SKIPPED .*?: (.*)", done.stdout, re.MULTILINE)  # what is asked of ours alone
    assert {*left_out} == {"got empty parameter set for (name)", "a tracker of your own need not say where it looks"}
    assert re.search(r"1[0-9] passed, 2 skipped", done.stdout), done.stdout


def test_every_public_name_is_on_the_page():
    table = PAGE.partition("## The interface")[2].partition("##")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert set(trackers.__all__) == {name for cell in first for name in re.findall(r"`(\w+)", cell)}


def test_every_tracker_is_on_the_page():
    table = PAGE.partition("## All trackers")[2].partition("## Weights")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert set(trackers.names()) == {name for cell in first for name in re.findall(r"`([\w.]+)`", cell)}
