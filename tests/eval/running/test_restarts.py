"""eval.run with restarts: TRE, SRE, VOT with resets and from anchors, on a tracker that follows a bright pixel."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import trackers
from eval import run
from eval.running import restarts
from eval.scoring import formats
from eval.scoring.otb_restarts import sre_boxes
from eval.sources.layouts import read_dataset
from tests.helpers import trivial_tracker

COUNT = 24


def make_video(folder: Path, *, jump: int | None = None, absent: slice = slice(0)) -> None:
    """A bright pixel walks over noise, the box around it; from frame `jump` to `jump` + 2 it is elsewhere."""
    (folder / "img").mkdir(parents=True)
    noise, boxes = np.random.default_rng(0), []
    for t in range(COUNT):
        image = noise.integers(0, 200, (40, 72, 3), np.uint8)
        y, x = 10 + t // 2, 12 + 2 * t
        boxes.append([x - 4.0, y - 3, 9, 7])
        if jump is not None and jump <= t < jump + 3:
            y, x = 38, 2
        image[y, x] = 255
        assert cv2.imwrite(str(folder / "img" / f"{t + 1:04}.png"), image)
    boxes = np.array(boxes)
    boxes[absent] = np.nan
    np.savetxt(folder / "groundtruth_rect.txt", boxes, fmt="%.4f", delimiter=",")


@pytest.fixture
def data(tmp_path):
    make_video(tmp_path / "data" / "good")
    make_video(tmp_path / "data" / "jumps", jump=8)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    entry = SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", {"dot": entry}.__getitem__, raising=False)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params(), raising=False)
    monkeypatch.setattr(run, "prepare_process", lambda threads: None)


def command(data: Path, out: Path, protocol: str, *more: str) -> int:
    return run.main(["--tracker", "dot", "--data_dir", str(data), "--out", str(out), "--protocol", protocol, *more])


def summary(out: Path, protocol: str) -> dict:
    return json.loads((out / protocol / "dot" / "summary.json").read_text())


def test_tre_starts_twenty_times(data, tmp_path):
    assert command(data, tmp_path, "tre") == 0
    files = sorted((tmp_path / "tre" / "dot" / "good").glob("*.txt"))
    lengths = [len(file.read_text().splitlines()) for file in files]
    assert len(files) == 20 and lengths[0] == COUNT and lengths == sorted(lengths, reverse=True)
    found = summary(tmp_path, "tre")
    assert found["sequences"]["good"]["auc"] == pytest.approx(20 / 21)
    assert found["mean"]["auc"] < 0.95 and found["protocol"] == "tre" and found["missing"] == []


def test_sre_starts_on_twelve_boxes(data, tmp_path):
    assert command(data, tmp_path, "sre", "--sequences", "good") == 0
    truth = np.loadtxt(data / "good" / "groundtruth_rect.txt", delimiter=",")
    runs = formats.read_results(tmp_path / "sre" / "dot")["good"]
    np.testing.assert_allclose([formats.boxes_of(one)[0] for one in runs], sre_boxes(truth[0]), atol=1e-6)
    np.testing.assert_allclose(formats.boxes_of(runs[1])[:, 0] - truth[:, 0], 0.9, atol=1e-4)  # keeps its offset
    assert 0.5 < summary(tmp_path, "sre")["mean"]["auc"] < 0.95


def test_vot_resets_count_the_failures(data, tmp_path, capsys):
    assert command(data, tmp_path, "vot_reset") == 0
    run_of = formats.read_results(tmp_path / "vot_reset" / "dot")
    codes = [entry if isinstance(entry, int) else "." for entry in run_of["jumps"][0].regions]
    assert codes[7:15] == [".", 2, 0, 0, 0, 0, 1, "."] and codes.count(2) == 1
    found = summary(tmp_path, "vot_reset")
    assert found["sequences"]["good"]["failures"] == 0 and found["sequences"]["jumps"]["failures"] == 1
    assert found["mean"]["failures"] == 0.5 and found["mean"]["accuracy"] == pytest.approx(1)
    assert found["mean"]["eao_vot2018"] is None  # 24 frames are too few for it
    assert "accuracy             1.0000" in capsys.readouterr().out


def test_vot_multistart_runs_both_ways(data, tmp_path):
    (data / "good" / "anchor.value").write_text("1\n\n\n\n\n\n\n\n\n\n\n\n-1\n")
    assert command(data, tmp_path, "vot_multistart") == 0
    found = formats.read_results(tmp_path / "vot_multistart" / "dot")
    assert [one.label for one in found["good"]] == ["00000000", "00000012"]
    assert [len(one.regions) for one in found["good"]] == [COUNT, 13]
    assert [one.label for one in found["jumps"]] == ["00000000", "00000023"]
    scores = summary(tmp_path, "vot_multistart")
    assert scores["mean"]["eao"] is None  # no run of 115 frames
    assert scores["mean"]["robustness"] == 1 and scores["sequences"]["good"]["accuracy"] == pytest.approx(1)
    # Both runs of "jumps" have 3 frames of 24 without overlap: too few for a failure.
    assert scores["sequences"]["jumps"]["accuracy"] == pytest.approx(21 / 24)


def test_boxes_are_scored_against_masks(data, tmp_path, capsys):
    """Masks of the target's box less a corner of 2 x 2 pixels: the box around them shares 59 of 63 with them, and all
    in the first frame, by the rule."""
    for name in ("good", "jumps"):
        (data / name / "img").rename(data / name / "color")
        truth = np.loadtxt(data / name / "groundtruth_rect.txt", delimiter=",").astype(int)
        lines = [f"m{x},{y},9,7,0,45,2,7,2,7" for x, y, _, _ in truth]
        (data / name / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    assert command(data, tmp_path, "vot_multistart", "--dataset", "vot", "--sequences", "good") == 0
    assert summary(tmp_path, "vot_multistart")["mean"]["accuracy"] == pytest.approx((1 + 23 * 59 / 63) / 24)
    capsys.readouterr()
    assert command(data, tmp_path, "vot_reset", "--dataset", "vot") == 1
    assert "vot_reset ends with VOT 2019, masks begin with 2020; use vot_multistart" in capsys.readouterr().err


def test_a_run_goes_on_where_it_stopped(data, tmp_path, monkeypatch, capsys):
    assert command(data, tmp_path, "vot_reset", "--sequences", "good") == 0
    tracked, whole = [], restarts.track_runs

    def spy(protocol, session, sequence):
        tracked.append(sequence.name)
        if sequence.name == "jumps" and len(tracked) == 1:
            raise KeyboardInterrupt
        return whole(protocol, session, sequence)

    monkeypatch.setattr(restarts, "track_runs", spy)
    assert command(data, tmp_path, "vot_reset") == 130
    assert "interrupted: 1 sequences finished, 1 left; the same command resumes" in capsys.readouterr().err
    assert summary(tmp_path, "vot_reset")["missing"] == ["jumps"]
    assert command(data, tmp_path, "vot_reset") == 0 and tracked == ["jumps", "jumps"]
    assert command(data, tmp_path, "vot_reset", "--seed", "1") == 1
    assert "seed: 0 there, 1 now" in capsys.readouterr().err
    cut = tmp_path / "vot_reset" / "dot" / "good" / "good_001.txt"
    cut.write_text("\n".join(cut.read_text().splitlines()[:9]))
    assert command(data, tmp_path, "vot_reset") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "good: not results of this sequence" in error and "--overwrite" in error


def test_what_cannot_be_run_is_said_and_the_rest_is_run(data, tmp_path, capsys):
    make_video(data / "gaps", absent=slice(5, 8))
    image = data / "jumps" / "img" / "0004.png"
    image.write_bytes(image.read_bytes()[:60])
    assert command(data, tmp_path, "vot_reset") == 1
    error = capsys.readouterr().err
    assert "skipped: gaps: vot_reset needs the target on every frame, frame 6 has none" in error
    assert f"skipped: {image}: not an image" in error
    assert list(summary(tmp_path, "vot_reset")["sequences"]) == ["good"]


def test_workers_and_shards_change_nothing(data, tmp_path, capsys):
    def files(out):
        folder = tmp_path / out / "vot_reset"
        return {path.relative_to(folder): path.read_text() for path in folder.rglob("*.txt")}

    assert command(data, tmp_path / "one", "vot_reset", "--set", "jitter=1.0") == 0
    assert command(data, tmp_path / "two", "vot_reset", "--set", "jitter=1.0", "--workers", "2") == 0
    assert command(data, tmp_path / "shards", "vot_reset", "--set", "jitter=1.0", "--shard", "1/2") == 0
    assert summary(tmp_path / "shards", "vot_reset")["missing"] == ["good"]
    assert command(data, tmp_path / "shards", "vot_reset", "--set", "jitter=1.0", "--shard", "0/2") == 0
    assert len(files("one")) == 2 and files("two") == files("one") == files("shards")
    wanted = summary(tmp_path / "one", "vot_reset")["mean"]
    assert all(summary(tmp_path / out, "vot_reset")["mean"] == wanted for out in ("two", "shards"))


def test_what_does_not_go_with_restarts_is_refused(data, tmp_path, capsys):
    assert command(data, tmp_path, "tre", "--jitter", "0.05") == 1
    assert "--jitter is for one pass" in capsys.readouterr().err
    assert command(data, tmp_path, "tre", "--batch", "2") == 1
    assert "tre has no --batch; use --workers" in capsys.readouterr().err


def test_anchors_of_a_broken_file(data):
    (data / "good" / "anchor.value").write_text("1\nx\n")
    (sequence,) = read_dataset("folder", data, ["good"])
    with pytest.raises(restarts.SequenceError, match=r"anchor\.value: not a number a frame"):
        restarts.anchors(sequence)
    (data / "good" / "anchor.value").write_text("0\n" * 30)
    with pytest.raises(restarts.SequenceError, match="30 values for 24 frames"):
        restarts.anchors(sequence)
