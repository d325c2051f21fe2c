"""The room's page names what there is: every command, layout, format and protocol; and its code runs."""

import re

import numpy as np
import pytest

import trackers
from eval.running.restarts import PROTOCOLS
from eval.scoring.formats import FORMATS
from eval.sources.layouts import LAYOUTS
from tests.helpers import places, trivial_tracker
from tests.helpers.commands import commands

PAGE = (places.REPOSITORY / "eval" / "README.md").read_text()


def test_every_command_is_named_and_exists():
    named = set(re.findall(r"python -m (eval[\w.]*\w)", PAGE)) - {"eval.NAME"}
    assert named == {name for name in commands() if name.startswith("eval.")}


@pytest.mark.parametrize("names", [LAYOUTS, FORMATS, PROTOCOLS], ids=["layouts", "formats", "protocols"])
def test_every_choice_is_named(names):
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_table_of_layouts_says_what_the_files_count_from():
    rows = re.findall(r"^\| (`.*?) \| (\d\??) \|", PAGE, re.MULTILINE)
    said = {name: origin for names, origin in rows for name in re.findall(r"`(\w+)`", names)}
    doubtful = {name: layout.evidence.startswith("not stated") for name, layout in LAYOUTS.items()}
    assert said == {name: f"{layout.origin}{'?' * doubtful[name]}" for name, layout in LAYOUTS.items()}


def test_the_code_runs(monkeypatch):
    entry = trackers.Entry(trivial_tracker.Config(), trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", lambda name: entry)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params())
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    block = block.replace("prepare_process()  #", "#")  # it would change the test's process
    found = {"image": np.zeros((40, 60, 3), np.uint8), "x": 10.0, "y": 12.0, "w": 8.0, "h": 6.0}
    exec(block, found)
    assert found["ok"] and np.isfinite([found[name] for name in "xywh"]).all()
