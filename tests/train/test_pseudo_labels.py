"""Boxes from motion and two passes of a tracker: what moves is found, and kept where both passes agree."""

import json
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from eval.scoring.metrics import overlaps
from eval.sources.sequences import SequenceError
from eval.targets import Programs
from tests.helpers import bright_spot, trivial_tracker
from tests.helpers.annotator import TRACKER
from train import pseudo_labels
from train.datasets import prepare
from train.datasets.__main__ import main as prepare_main
from train.moving_regions import APART, find_moving
from train.pseudo_labels import Config, agreed, find_clips, longest_run, main, write_sequence

HEIGHT, WIDTH, COUNT = 120, 160, 14
SIZE = np.array([30, 24])  # of what moves


def place(t: int) -> np.ndarray:
    return np.array([20 + 4 * t, 40 + t])


def picture(seed: int, height: int, width: int, low: int, high: int) -> np.ndarray:
    """Blobs of gray levels from `low` to `high`."""
    coarse = np.random.default_rng(seed).uniform(low, high, (height // 5 + 1, width // 5 + 1))
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(low, high)


def draw(t: int, *, moving: bool = True, pan: int = 0) -> np.ndarray:
    """A frame of a clip in which a textured thing, with the brightest pixel in it, moves before a background."""
    ground = picture(1, HEIGHT, WIDTH + 100, 30, 120)[:, pan * t : pan * t + WIDTH]
    image = ground + np.random.default_rng(t).normal(0, 2, ground.shape)
    if moving:
        x, y = place(t)
        thing = picture(2, SIZE[1], SIZE[0], 90, 230)
        thing[11:13, 14:16] = 255
        image[y : y + SIZE[1], x : x + SIZE[0]] = thing
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_clip(folder: Path, *, count: int = COUNT, **options) -> None:
    (folder / "img").mkdir(parents=True)
    for t in range(count):
        cv2.imwrite(str(folder / "img" / f"{t:03}.png"), draw(t, **options))


def truth(frames: range) -> np.ndarray:
    return np.array([[*place(t), *SIZE] for t in frames], np.float64)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    source = tmp_path_factory.mktemp("clips")
    write_clip(source / "moves")
    write_clip(source / "pans", pan=2)
    write_clip(source / "rests", moving=False)
    return source


def command(clips: Path, out: Path, *more: str) -> list[str]:
    return ["--source", str(clips), "--out", str(out), "--tracker", TRACKER, "--least", "8", *more]


@pytest.mark.parametrize("pan", [0, 2])
def test_what_moves_is_found(pan):
    regions = find_moving(*(draw(t, pan=pan) for t in (4, 4 + APART, 4 + 2 * APART)), 3)
    assert len(regions) == 1 and overlaps(regions[0].box, truth(range(4 + APART, 5 + APART))[0]) > 0.6


@pytest.mark.parametrize("pan", [0, 2])
def test_nothing_moves_but_the_camera(pan):
    assert find_moving(*(draw(t, moving=False, pan=pan) for t in (0, 2, 4)), 3) == []
    blank = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    assert find_moving(blank, blank, blank, 3) == []


def test_what_is_cut_by_two_sides_is_not_taken():
    images = [draw(t) for t in (0, 2, 4)]
    for rows, columns, count in ((45, 0, 1), (0, 30, 1), (45, 30, 0)):
        assert len(find_moving(*(np.ascontiguousarray(image[rows:, columns:]) for image in images), 3)) == count


def test_the_command_writes_sequences_to_train_on(clips, tmp_path, capsys):
    out = tmp_path / "pseudo"
    assert main(command(clips, out)) == 0
    assert "2 of 2 targets survive, in 2 of 3 clips; boxes in 24 of the 24 frames" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["moves_1", "pans_1", "pseudo_labels.json"]
    boxes = np.loadtxt(out / "moves_1" / "groundtruth_rect.txt", delimiter=",")
    assert len(boxes) == COUNT - APART and overlaps(boxes, truth(range(APART, COUNT))).min() > 0.6
    images = sorted((out / "moves_1" / "img").iterdir())
    assert [path.name for path in images[:2]] == ["00000001.png", "00000002.png"]
    assert [path.read_bytes() for path in images] == [
        (clips / "moves" / "img" / f"{t:03}.png").read_bytes() for t in range(APART, COUNT)
    ]
    summary = json.loads((out / "pseudo_labels.json").read_text())
    assert summary["tracker"] == TRACKER and summary["labels"]["least"] == 8 and summary["versions"]["jax"]
    assert summary["clips"]["rests"] == {"frames": COUNT, "tried": 0, "targets": []}
    (target,) = summary["clips"]["moves"]["targets"]
    assert target == {"name": "moves_1", "first": APART, "followed": COUNT - APART, "kept": COUNT - APART}
    prepared = ["folder", "--source", str(out), "--data-dir", str(tmp_path / "data"), "--split", "pseudo"]
    assert prepare_main(prepared) == 0
    assert prepare("folder", out, tmp_path / "data", "pseudo").table.names == ("moves_1", "pans_1")


def test_an_interrupted_run_goes_on(clips, tmp_path, monkeypatch, capsys):
    whole, out, real, asked = tmp_path / "whole", tmp_path / "out", pseudo_labels.label_clip, []

    def label(programs, params, paths, config):
        asked.append(paths[0].parent.parent.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(programs, params, paths, config)

    assert main(command(clips, whole)) == 0
    monkeypatch.setattr(pseudo_labels, "label_clip", label)
    assert main(command(clips, out)) == 130 and "the same command does the others" in capsys.readouterr().err
    (out / ".pans_1.part" / "img").mkdir(parents=True)  # as a kill leaves it
    assert main(command(clips, out)) == 0 and asked == ["moves", "pans", "pans", "rests"]
    assert contents(out) == contents(whole) and not (out / ".pans_1.part").exists()
    assert main(command(clips, out)) == 0 and len(asked) == 4


def test_passes_that_do_not_agree_leave_nothing(clips):
    """The box goes off by the bias in the pass forward, and once more in the pass back."""
    paths, box = find_clips(clips)["moves"], truth(range(1))[0]
    programs = Programs.of(trivial_tracker.make(), 1)
    for bias, kept in ((0.0, COUNT), (1.0, COUNT), (8.0, 0)):
        found = agreed(programs, {"bias": np.array([0, bias], np.float32)}, paths, box, Config())
        assert np.isfinite(found).all(1).sum() == kept
        if kept:
            assert overlaps(found, truth(range(COUNT))).min() > 0.85


def test_a_target_is_absent_where_the_tracker_says_lost(tmp_path):
    (tmp_path / "frames").mkdir()
    for t in range(12):
        image = bright_spot.frame_with_spot(48, 64, 5 + 3 * t, 20)
        cv2.imwrite(str(tmp_path / "frames" / f"{t}.png"), np.full_like(image, 30) if t in (3, 4, 10, 11) else image)
    paths = [tmp_path / "frames" / f"{t}.png" for t in range(12)]
    programs, params = Programs.of(bright_spot.make(), 1), jax.device_put(bright_spot.PARAMS)
    box = np.array([5.0, 20, 5, 5])
    found = agreed(programs, params, paths, box, Config(least=5))
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [3, 4, 10, 11]
    np.testing.assert_allclose(found[9], [5 + 27, 20, 5, 5], atol=0.1)
    assert np.isnan(agreed(programs, params, paths, box, Config(least=6))).all()
    one = tmp_path / "labelled" / "one"
    write_sequence(one, paths, found)
    lines = (one / "groundtruth_rect.txt").read_text().splitlines()
    assert len(lines) == 10 == len(list((one / "img").iterdir())) and lines[3] == "nan,nan,nan,nan"
    assert prepare("folder", one.parent, tmp_path / "data").table.visible.sum() == 8


def test_the_longest_run():
    for flags, length in (([], 0), ([0, 0], 0), ([1], 1), ([1, 1, 0, 1], 2), ([0, 1, 0, 1, 1, 1], 3)):
        assert longest_run(np.array(flags, bool)) == length


def test_mistakes_are_one_line(clips, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(clips, out, "--agree", "1.5")) == 1 and "agree" in capsys.readouterr().err
    assert main(command(tmp_path, out)) == 1 and "no folder NAME/img" in capsys.readouterr().err
    assert not out.exists()
    (out / "other").mkdir(parents=True)
    assert main(command(clips, out)) == 1 and "holds files, but no pseudo_labels.json" in capsys.readouterr().err
    with pytest.raises(SequenceError):
        find_clips(tmp_path / "none")


def test_a_clip_that_cannot_be_read_is_skipped(tmp_path, capsys):
    write_clip(tmp_path / "clips" / "good", moving=False)
    write_clip(tmp_path / "clips" / "bad", moving=False)
    (tmp_path / "clips" / "bad" / "img" / "002.png").write_bytes(b"no image")
    (tmp_path / "clips" / "empty" / "img").mkdir(parents=True)
    (tmp_path / "clips" / "empty" / "img" / "0.png").write_bytes(b"")
    out = tmp_path / "out"
    assert main(command(tmp_path / "clips", out)) == 1
    errors = capsys.readouterr().err
    assert "skipped: bad: " in errors and "002.png: not an image" in errors and "Traceback" not in errors
    assert list(json.loads((out / "pseudo_labels.json").read_text())["clips"]) == ["empty", "good"]  # one is too short
    assert main([*command(tmp_path / "clips", out), "--seed", "1"]) == 1
    assert "made from other settings (labels)" in capsys.readouterr().err
