"""Tests of `python -m eval.benchmark.flags`, with a whole run."""

import json

import numpy as np
import pytest

from eval.benchmark import flags


def test_each_way_is_set_beside_the_one_without_options():
    seconds = {flags.WITH: [1.0, 2.0, 9.0], flags.WITHOUT: [2.0, 2.0, 3.0], flags.UNOPTIMIZED: [4.0, 5.0, 3.0]}
    row = flags._compared({way: np.array(each) for way, each in seconds.items()})
    assert (row["with_ms"], row["without_ms"], row["unoptimized_ms"]) == (2e3, 2e3, 4e3)
    assert (row["ratio"], row["ratio_unoptimized"]) == (1, 2)


@pytest.mark.full
def test_run(tmp_path, capsys):
    path = tmp_path / "report.json"
    size = ["--repeats", "2", "--height", "96", "--width", "96"]
    assert flags.main(["--trackers", "atom_filterbank", "--json", str(path), *size]) == 0
    rows = json.loads(path.read_text())["rows"]
    whats = ("tracing", "compilation", "first frame", "frame")
    assert list(rows) == [f"atom_filterbank, {what}" for what in whats]
    assert all(value > 0 for row in rows.values() for value in row.values())
    assert rows["atom_filterbank, tracing"]["ratio"] == 1
    assert capsys.readouterr().out.count("| `atom_filterbank` |") == len(whats)
