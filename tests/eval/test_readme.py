"""The room's page names what there is: every command, layout, format and protocol; and its code runs."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import trackers
from eval import annotations
from eval.annotations.tracks import Row, Video, make_track
from eval.running import PROTOCOLS
from eval.scoring.formats import FORMATS
from eval.sources.layouts import LAYOUTS
from tests.helpers import places, trivial_tracker
from tests.helpers.commands import commands

PAGE = (places.REPOSITORY / "eval" / "README.md").read_text()


def test_every_command_is_named_and_exists():
    named = set(re.findall(r"python -m (eval[\w.]*\w)", PAGE)) - {"eval.NAME"}
    assert named == {name for name in commands() if name.startswith("eval.")}


CHOICES = {"layouts": LAYOUTS, "results": FORMATS, "annotations": annotations.FORMATS, "protocols": PROTOCOLS}


@pytest.mark.parametrize("names", CHOICES.values(), ids=CHOICES)
def test_every_choice_is_named(names):
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_table_of_layouts_says_what_the_files_count_from():
    rows = re.findall(r"^\| (`[^|]*) \| (\d\??) \|", PAGE, re.MULTILINE)
    said = {name: origin for names, origin in rows for name in re.findall(r"`(\w+)`", names)}
    doubtful = {name: layout.evidence.startswith("not stated") for name, layout in LAYOUTS.items()}
    assert said == {name: f"{layout.origin}{'?' * doubtful[name]}" for name, layout in LAYOUTS.items()}


def test_the_table_of_annotations_says_what_is_written():
    rows = re.findall(r"^\| `([\w-]+)` \| .*? \| (\d).*? \| (\d).*? \| (\d) \|", PAGE, re.MULTILINE)
    video = Video("clip", [make_track(1, "car", [Row(0, (0, 0, 4, 2))])], (8, 6))
    texts = {name: form.render(video) for name, form in annotations.FORMATS.items()}
    coco, vis = (json.loads(texts[name]) for name in ("coco", "youtube-vis"))
    track = ElementTree.fromstring(texts["cvat"]).find("track")
    image, annotation, (listed,) = coco["images"][0], coco["annotations"][0], vis["annotations"]
    written = {
        "mot": texts["mot"].split(",")[:3],
        "coco": (image["frame_id"], annotation["track_id"], annotation["bbox"][0]),
        "youtube-vis": (listed["bboxes"].index([0, 0, 4, 2]), listed["id"], listed["bboxes"][0][0]),
        "cvat": (track[0].get("frame"), track.get("id"), track[0].get("xtl")),
    }
    assert {name: [*map(int, numbers)] for name, *numbers in rows} == {
        name: [int(float(number)) for number in numbers] for name, numbers in written.items()
    }


def test_the_code_runs(monkeypatch):
    entry = trackers.Entry(trivial_tracker.Config(), trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", lambda name: entry)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params())
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    block = block.replace("prepare_process()  #", "#")  # it would change the test's process
    found = {"image": np.zeros((40, 60, 3), np.uint8), "x": 10.0, "y": 12.0, "w": 8.0, "h": 6.0}
    exec(block, found)
    assert found["ok"] and np.isfinite([found[name] for name in "xywh"]).all()
