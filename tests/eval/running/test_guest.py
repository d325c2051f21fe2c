"""Guests in a benchmark run: what they are given, what becomes of their answers, and every way they fail."""

import json
import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from eval import run
from eval.running.guest import Guest, GuestError, GuestProcess
from tests.helpers.videos import make_video, rows

# What each does is told by the height of the first image: one command, a sequence for every way to fail.
GUESTS = """
import os, signal, sys, time
import numpy as np

class Dot:
    def init(self, image, box):
        print("noise", b"\\x00\\x01" * 5000, flush=True)
        os.write(1, b"\\xff" * 70_000 + b"\\n")
        self.height, self.frames = image.shape[0], 0
        self.offset = np.array(box[:2]) - self.find(image)
        self.size = box[2:]

    def find(self, image):
        y, x = np.divmod(image.sum(-1, dtype=int).argmax(), image.shape[1])
        return np.array([x, y])

    def update(self, image):
        self.frames += 1
        box = (*(self.find(image) + self.offset), *self.size)
        if self.frames == 2:
            if self.height == 41:
                raise ValueError("two\\nlines")
            if self.height == 42:
                print("about to end", file=sys.stderr)
                sys.exit(3)
            if self.height == 43:
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.height == 44:
                time.sleep(60)
            if self.height == 45:
                return True, (float("nan"), 1, 2, 3)
            if self.height == 46:
                return True, (1, 2, 3)
            if self.height == 47:
                return True, None
            if self.height == 48:
                os.closerange(3, 100)
            if self.height == 49:
                return False, (0, 0, 0, 0)
        return True, box

class Noisy(Dot):
    def init(self, image, box):
        super().init(image, box)
        self.offset = self.offset + np.random.normal(0, 1, 2)

class Aging(Dot):
    starts = 0  # of this process

    def init(self, image, box):
        super().init(image, box)
        self.offset = self.offset + Aging.starts
        Aging.starts += 1

class Colors(Dot):
    def update(self, image):
        return True, (*image[1, 2], self.frames + 1)

class Hanging(Dot):
    def update(self, image):
        open("waiting", "w").write(str(os.getpid()))
        time.sleep(60)
"""
FAILURES = {
    41: "guest mine:Dot: ValueError: two lines",
    42: "guest mine:Dot: its process ended, exit code 3; it said: about to end",
    43: "guest mine:Dot: its process ended, SIGSEGV",
    44: "guest mine:Dot: no answer in 8 s; see --guest-timeout",
    45: "0003.png: the tracker returned a box that is not finite",
    46: "guest mine:Dot: the box [1.0, 2.0, 3.0] is not x, y, w, h",
    47: "guest mine:Dot: TypeError: ",
    48: "guest mine:Dot: ",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the guests' module in it, from which the command is given."""
    (tmp_path / "mine.py").write_text(GUESTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "prepare_process", lambda threads: None)
    return tmp_path


def command(guest: str, *more: str) -> int:
    return run.main(["--guest", guest, "--data_dir", "data", "--out", "out", *more])


def summary(here, name: str) -> dict:
    return json.loads((here / "out" / name / "summary.json").read_text())


def test_files_are_those_of_a_tracker_of_ours(here, capsys):
    make_video(here / "data" / "a", 5)
    assert command("mine:Dot") == 0
    truth = rows(here / "data" / "a" / "groundtruth_rect.txt")
    np.testing.assert_allclose(rows(here / "out" / "mine.Dot" / "a.txt"), truth, atol=1e-6)
    np.testing.assert_array_equal(rows(here / "out" / "mine.Dot" / "a_confidence.value"), np.ones((5, 1)))
    assert (rows(here / "out" / "mine.Dot" / "a_time.value") > 0).all()
    found = summary(here, "mine.Dot")
    assert found["tracker"] == "mine.Dot" and found["mean"]["auc"] == pytest.approx(20 / 21)
    assert found["config"]["environment"]["numpy"] == np.__version__ and "transfer" in found["speed"]["timed"]
    assert "0.9524" in capsys.readouterr().out
    before = (here / "out" / "mine.Dot" / "a_time.value").read_text()
    assert command("mine:Dot") == 0  # nothing left to do
    assert (here / "out" / "mine.Dot" / "a_time.value").read_text() == before


def test_every_failure_is_one_line_and_the_other_sequences_are_run(here, capsys):
    for height in (40, *FAILURES, 49):
        make_video(here / "data" / str(height), 4, sizes=dict.fromkeys(range(4), (height, 56)))
    assert command("mine:Dot", "--guest-timeout", "8", "--workers", "3") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == len(FAILURES)
    for height, message in FAILURES.items():
        assert any(str(height) in line and message in line for line in lines), "\n".join([message, *lines])
    assert list(summary(here, "mine.Dot")["sequences"]) == ["40", "49"]
    # The one that says it lost the target: the box before is kept, with confidence 0.
    truth, boxes = rows(here / "data" / "49" / "groundtruth_rect.txt"), rows(here / "out" / "mine.Dot" / "49.txt")
    np.testing.assert_allclose(boxes, truth[[0, 1, 1, 3]], atol=1e-6)
    assert rows(here / "out" / "mine.Dot" / "49_confidence.value")[:, 0].tolist() == [1, 1, 0, 1]


def test_the_order_of_colors_is_the_one_asked_for(here):
    make_video(here / "data" / "a", 3)
    image = cv2.imread(str(here / "data" / "a" / "img" / "0002.png"))
    image[1, 2] = (10, 20, 30)  # blue, green, red
    cv2.imwrite(str(here / "data" / "a" / "img" / "0002.png"), image)
    assert command("mine:Colors") == 0
    assert rows(here / "out" / "mine.Colors" / "a.txt")[1].tolist() == [10, 20, 30, 1]
    assert command("mine:Colors", "--guest-color", "rgb", "--overwrite") == 0
    assert rows(here / "out" / "mine.Colors" / "a.txt")[1].tolist() == [30, 20, 10, 1]


def test_what_a_guest_keeps_in_its_process_reaches_no_other_run(here):
    for name in "ab":
        make_video(here / "data" / name, 6)
    truth = rows(here / "data" / "a" / "groundtruth_rect.txt")
    assert command("mine:Aging") == 0
    for name in "ab":
        np.testing.assert_allclose(rows(here / "out" / "mine.Aging" / f"{name}.txt"), truth, atol=1e-6)
    assert command("mine:Aging", "--protocol", "tre", "--sequences", "a") == 0
    files = sorted((here / "out" / "tre" / "mine.Aging" / "a").glob("*.txt"))
    assert [len(rows(file)) for file in files] == [6, 5, 4, 3, 2, 1]
    for file in files:
        np.testing.assert_allclose(rows(file), truth[-len(rows(file)) :], atol=1e-6)


def test_chance_depends_on_the_seed_and_the_sequence_alone(here):
    for name in "ab":
        make_video(here / "data" / name, 3)
    assert command("mine:Noisy") == 0
    whole = {name: rows(here / "out" / "mine.Noisy" / f"{name}.txt") for name in "ab"}
    (here / "out" / "mine.Noisy" / "b.txt").unlink()
    assert command("mine:Noisy", "--sequences", "b") == 0
    np.testing.assert_array_equal(rows(here / "out" / "mine.Noisy" / "b.txt"), whole["b"])
    assert np.abs(whole["a"][1] - whole["b"][1]).max() > 1e-3
    assert command("mine:Noisy", "--seed", "1", "--overwrite") == 0
    assert np.abs(rows(here / "out" / "mine.Noisy" / "a.txt")[1] - whole["a"][1]).max() > 1e-3


def test_the_protocols_with_restarts_take_guests(here, capsys):
    make_video(here / "data" / "a", 22)
    assert command("mine:Dot", "--protocol", "tre") == 0
    assert "auc                  0.9524" in capsys.readouterr().out
    make_video(here / "data" / "b", 4, sizes=dict.fromkeys(range(4), (41, 56)))
    assert command("mine:Dot", "--protocol", "sre", "--sequences", "b") == 1
    assert "skipped: b: guest mine:Dot: ValueError: two lines" in capsys.readouterr().err


def test_opencvs_own_tracker_is_a_guest(here):
    make_video(here / "data" / "a", 3)
    assert command("mil") == 0
    boxes = rows(here / "out" / "mil" / "a.txt")
    assert boxes.shape == (3, 4) and (boxes[1:, 2:] == [10, 7]).all()  # MIL's size is the first, in whole pixels
    assert summary(here, "mil")["config"]["environment"]["cv2"] == cv2.__version__


@pytest.mark.parametrize(
    ("guest", "more", "message"),
    [
        ("nowhere:make", (), "guest nowhere:make: ModuleNotFoundError: No module named 'nowhere'"),
        ("mine:nobody", (), "guest mine:nobody: AttributeError: "),
        ("mine", (), "guest mine: must be csrt, kcf, mil or MODULE:CALLABLE"),
        ("mil", ("--guest-python", "/nowhere/python"), "/nowhere/python: cannot be started"),
        ("mil", ("--guest-python", "/bin/false"), "guest mil: its process ended, exit code 1"),
        ("mil", ("--set", "a=1"), "--weights and --set are for --tracker"),
    ],
)
def test_a_guest_that_cannot_be_started_is_one_line(here, capsys, guest, more, message):
    make_video(here / "data" / "a", 2)
    assert command(guest, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (here / "out").exists()


@pytest.mark.skipif(hasattr(cv2, "TrackerKCF_create"), reason="this OpenCV has the contributed trackers")
def test_an_opencv_without_the_tracker_says_what_to_install(here, capsys):
    make_video(here / "data" / "a", 2)
    assert command("kcf") == 1
    assert "has no TrackerKCF; install opencv-contrib-python there" in capsys.readouterr().err


def test_ctrl_c_ends_a_hanging_guest_at_once(here, capsys):
    make_video(here / "data" / "a", 3)

    def interrupt():
        while not (here / "waiting").exists() or not (here / "waiting").read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    start = time.monotonic()
    assert command("mine:Hanging") == 130
    assert time.monotonic() - start < 30
    assert "interrupted: 0 sequences finished, 1 left" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int((here / "waiting").read_text()), 0)


def test_an_environment_that_prints_as_it_starts_disturbs_nobody(here, monkeypatch):
    (here / "sitecustomize.py").write_text("print('hello from the environment', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(here))
    with GuestProcess(Guest("mine:Dot")) as process:
        assert process.environment["numpy"] == np.__version__


def test_a_process_answers_by_itself(here):
    image = np.zeros((30, 40, 3), np.uint8)
    image[10, 12] = 255
    with GuestProcess(Guest("mine:Dot")) as process:
        assert process.environment["python"].count(".") == 2
        assert process.init(image, np.array([10.5, 8, 5, 5])) > 0
        box, confidence, seconds = process.update(np.roll(image, 3, 0))
        assert box.tolist() == [10.5, 11, 5, 5] and confidence == 1 and seconds > 0
    with pytest.raises(GuestError):
        process.update(image)
