"""Tests of `python -m eval.benchmark.batches`: it runs, and all its ways track the same."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from eval.benchmark import batches
from tests.helpers import trivial_tracker

WAYS = ["one after another", "2 workers", "batch 2", "batch 3"]


@pytest.fixture
def registry(monkeypatch):
    entry = SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
    monkeypatch.setattr(batches.trackers, "get", lambda name: entry)
    monkeypatch.setattr(batches.trackers, "load_params", lambda name, weights: trivial_tracker.params())
    monkeypatch.setattr(batches, "prepare_process", lambda threads: None)


def test_run(registry, tmp_path, capsys):
    path = tmp_path / "report.json"
    options = ["--clips", "3", "--frames", "6", "--height", "48", "--width", "64", "--rounds", "2", "--batches", "2,3"]
    assert batches.main([*options, "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["sequences"] == 3 and [row["way"] for row in report["rows"]] == WAYS
    assert report["rows"][0]["speedup"] == 1 and len({row["auc"] for row in report["rows"]}) == 1
    for row in report["rows"]:
        assert row["fps"] == pytest.approx(18 / np.median(row["seconds"])) and row["call_ms"] > 0
    printed = capsys.readouterr().out
    assert all(f"| {way} |" in printed for way in WAYS)


def test_all_ways_track_the_same(tmp_path):
    tracker, params = trivial_tracker.make(trivial_tracker.Config(jitter=2.0)), trivial_tracker.params()
    sequences = batches.drawn(tmp_path, 3, 6, 48, 64)
    assert [len(one.frames) for one in sequences] == [4, 6, 8]
    passes = batches.ways(tracker, jax.device_put(params), sequences, [2], [2, 3])
    first, *others = (one() for one in passes.values())
    for other in others:
        assert set(other) == set(sequences)
        for sequence, result in other.items():
            np.testing.assert_array_equal(result.boxes, first[sequence].boxes)


def test_an_unreadable_sequence_is_one_line(registry, tmp_path, capsys):
    assert batches.main(["--data_dir", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nowhere'}: no such folder")
