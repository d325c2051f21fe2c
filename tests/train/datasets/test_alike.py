"""Frames of a test set stay out of a data set, also where they were encoded again."""

import cv2
import numpy as np
import pytest

from eval.sources import synthetic
from eval.sources.sequences import SequenceError
from train.datasets import DatasetError, alike, load, prepare
from train.datasets.__main__ import main

CLIP = synthetic.ClipConfig(height=120, width=160, num_frames=3)


def frames(seed: int) -> list[np.ndarray]:
    return [example.image for example in synthetic.clip(CLIP, seed)]


def again(image: np.ndarray, quality: int = 30) -> np.ndarray:
    """As JPEG keeps it."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


COPIES = {
    "encoded again": again,
    "half": lambda image: cv2.resize(image, (80, 60), interpolation=cv2.INTER_AREA),
    "larger, of another aspect": lambda image: cv2.resize(image, (400, 280)),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "cut": lambda image: np.ascontiguousarray(image[1:-1, 2:-2]),
    "gray": lambda image: np.repeat(image.mean(-1, keepdims=True).astype(np.uint8), 3, axis=2),
}


def differing(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(alike.hash_of(one) ^ alike.hash_of(other)).sum())


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_alike(kind):
    for seed in range(5):
        image = frames(seed)[0]
        assert differing(image, COPIES[kind](image)) <= alike.MOST


def test_other_pictures_are_not():
    images = [frames(seed)[0] for seed in range(12)]
    images += [images[0][:, ::-1], images[0].transpose(1, 0, 2)]  # a mirrored copy is not looked for
    pairs = [differing(one, other) for at, one in enumerate(images) for other in images[:at]]
    assert min(pairs) > alike.MOST


def test_flat_images_are_like_nothing(tmp_path, rng):
    flat = np.full((48, 64, 3), 200, np.uint8)
    nearly = np.clip(flat + rng.normal(0, 4, flat.shape), 0, 255).astype(np.uint8)
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:6, :8] = 255
    other = np.zeros((48, 64, 3), np.uint8)
    other[30:40, 40:60] = 255
    assert alike.hash_of(flat) is None and alike.hash_of(nearly) is None
    assert differing(corner, other) > alike.MOST  # black but for a part
    cv2.imwrite(str(tmp_path / "1.png"), flat)
    found = alike.hashes([tmp_path / "1.png"])
    assert found.words.shape == (0, alike.WORDS) and alike.nearest(found, found) is None


def test_the_nearest_pair_is_found_in_any_block(tmp_path, monkeypatch):
    for seed in range(6):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), frames(seed)[0])
    (tmp_path / "copies").mkdir()
    cv2.imwrite(str(tmp_path / "copies" / "far.png"), again(frames(1)[0], 10))
    cv2.imwrite(str(tmp_path / "copies" / "near.png"), frames(4)[0])
    images, copies = (alike.hashes(sorted(folder.glob("*.png"))) for folder in (tmp_path, tmp_path / "copies"))
    for block in (1, 4, 1 << 24):
        monkeypatch.setattr(alike, "BLOCK", block)
        assert alike.nearest(images, copies) == (tmp_path / "4.png", tmp_path / "copies" / "near.png", 0)


@pytest.fixture
def own(tmp_path):
    """Sequences of one's own, seen and new, and a test set; the second frame of one is in both."""
    for name, seed in (("seen", 1), ("new", 2)):
        (tmp_path / "own" / name / "img").mkdir(parents=True)
        for number, image in enumerate(frames(seed), 1):
            cv2.imwrite(str(tmp_path / "own" / name / "img" / f"{number}.jpg"), image)
        (tmp_path / "own" / name / "groundtruth_rect.txt").write_text("1,2,10,8\n" * 3)
    (tmp_path / "tests" / "walk" / "img").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "tests" / "walk" / "img" / "0001.png"), frames(3)[0])
    cv2.imwrite(str(tmp_path / "tests" / "walk" / "img" / "0002.png"), again(frames(1)[1]))
    return tmp_path / "own"


def test_a_sequence_with_a_test_frame_is_left_out(own, tmp_path, capsys):
    command = ["folder", "--source", str(own), "--data-dir", str(tmp_path / "out"), "--unlike", str(tmp_path / "tests")]
    assert main(command) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("left out: ")]
    assert line.startswith(f"left out: seen: {own / 'seen' / 'img' / '2.jpg'} is like ") and "0002.png (" in line
    assert "prepared; 1 sequences, 3 frames" in printed.out
    assert load("folder", tmp_path / "out").table.names == ("new",)
    assert main(command) == 0 and "was prepared already" in capsys.readouterr().out
    assert main(command[:-2]) == 1 and "prepared already with other settings" in capsys.readouterr().err


def test_of_photographs_single_ones_are_left_out(own, tmp_path):
    (tmp_path / "csv" / "JPEGImages").mkdir(parents=True)
    for number, image in enumerate([again(frames(3)[0], 60), *frames(5)[:1]]):
        cv2.imwrite(str(tmp_path / "csv" / "JPEGImages" / f"{number}.jpg"), image)
    (tmp_path / "csv" / "annotations.csv").write_text("image,class,x,y,w,h\n0.jpg,cat,1,2,9,9\n1.jpg,dog,1,2,9,9\n")
    notes = []
    dataset = prepare("csv", tmp_path / "csv", tmp_path / "out", unlike=tmp_path / "tests", notes=notes)
    assert dataset.table.names == ("1:0:dog",) and len(notes) == 1 and "left out: 0.jpg: " in notes[0]


def test_what_cannot_be_compared_is_said(own, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SequenceError, match="no images below it"):
        alike.images_below(tmp_path / "empty")
    for unlike, message in ((tmp_path / "empty", "no images below it"), (own, "every sequence of the source")):
        with pytest.raises(DatasetError, match=message):
            prepare("folder", own, tmp_path / "out", unlike=unlike)
        assert not (tmp_path / "out" / "folder" / "train").exists()
    with pytest.raises(DatasetError, match="leave out --unlike"):
        prepare("synthetic_tracking", None, tmp_path / "out", unlike=own)
