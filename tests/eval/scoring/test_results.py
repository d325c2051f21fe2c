"""Result files: whole or absent, and of one set of settings."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from eval.files import ResultError, write_atomically
from eval.scoring.results import TrackResult, claim_folder, read_result, write_result
from eval.sources.sequences import Sequence

COUNT = 5
BOXES = np.array([[207.955 + t, 2.73, 64.773, 44.362] for t in range(COUNT)])
SEQUENCE = Sequence("Deer", tuple(Path(f"{t}.jpg") for t in range(COUNT)), BOXES, np.ones(COUNT, bool))
RESULT = TrackResult(BOXES + 0.123456, np.linspace(0.1, 0.5, COUNT), np.linspace(1, 0, COUNT))
RESULT.boxes[0] = BOXES[0]
SETTINGS = {"tracker": "t", "config": {"gain": 0.5, "sizes": (1, 2)}, "seed": 0}


def test_a_result_comes_back(tmp_path):
    assert read_result(tmp_path, SEQUENCE) is None
    write_result(tmp_path / "t", "Deer", RESULT)
    again = read_result(tmp_path / "t", SEQUENCE)
    np.testing.assert_allclose(again.boxes, RESULT.boxes, atol=5e-7)
    np.testing.assert_array_equal(again.boxes[0], BOXES[0])
    np.testing.assert_allclose(again.seconds, RESULT.seconds)
    np.testing.assert_allclose(again.confidence, RESULT.confidence)
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [
        "Deer.txt",
        "Deer_confidence.value",
        "Deer_time.value",
    ]
    assert (tmp_path / "t" / "Deer.txt").read_text().splitlines()[0] == "207.955000,2.730000,64.773000,44.362000"


def test_files_follow_the_umask(tmp_path):
    write_atomically(tmp_path / "a", "text")
    plain = tmp_path / "b"
    plain.write_text("text")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_result_of_other_frames_or_another_first_box_is_not_this_one(tmp_path):
    write_result(tmp_path, "Deer", RESULT)
    longer = Sequence("Deer", SEQUENCE.frames * 2, np.tile(BOXES, (2, 1)), np.ones(2 * COUNT, bool))
    moved = Sequence("Deer", SEQUENCE.frames, BOXES + 1, SEQUENCE.visible)
    assert read_result(tmp_path, longer) is None and read_result(tmp_path, moved) is None
    (tmp_path / "Deer_time.value").unlink()
    assert read_result(tmp_path, SEQUENCE) is None


def test_a_file_that_is_no_result_is_named(tmp_path):
    write_result(tmp_path, "Deer", RESULT)
    (tmp_path / "Deer.txt").write_text("hello\n")
    with pytest.raises(ResultError, match=r"Deer.txt: not a result"):
        read_result(tmp_path, SEQUENCE)


def test_results_of_other_settings_are_not_reused(tmp_path):
    claim_folder(tmp_path, SETTINGS)
    write_result(tmp_path, "Deer", RESULT)
    claim_folder(tmp_path, SETTINGS)
    other = {**SETTINGS, "config": {"gain": 0.7, "sizes": (1, 2)}}
    with pytest.raises(ResultError, match=r"config.gain: 0.5 there, 0.7 now.*--overwrite"):
        claim_folder(tmp_path, other)
    assert read_result(tmp_path, SEQUENCE) is not None
    claim_folder(tmp_path, other, overwrite=True)
    assert read_result(tmp_path, SEQUENCE) is None
    assert json.loads((tmp_path / "run.json").read_text())["config"]["gain"] == 0.7


@pytest.mark.parametrize("stored", [None, "{broken"])
def test_results_of_unknown_settings_are_not_reused(tmp_path, stored):
    write_result(tmp_path, "Deer", RESULT)
    if stored:
        (tmp_path / "run.json").write_text(stored)
    for overwrite in (False, True):  # nothing says that they are results, so they are not deleted either
        with pytest.raises(ResultError, match=r"holds Deer.txt, and run.json, .*, is missing or unreadable"):
            claim_folder(tmp_path, SETTINGS, overwrite=overwrite)
    assert read_result(tmp_path, SEQUENCE) is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"file/t/Deer_time.value: "):
        write_result(tmp_path / "file" / "t", "Deer", RESULT)
