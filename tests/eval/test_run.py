"""The benchmark run: what it writes, how it goes on, and every way it can fail."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import trackers
from eval import run
from eval.running import entrants
from eval.scoring import formats
from eval.sources.layouts import read_dataset
from eval.sources.sequences import read_image
from tests.helpers import places, trivial_tracker
from tests.helpers.disk import small_disk
from tests.helpers.videos import make_video, rows
from trackers.images import xywh_to_box

REPOSITORY = places.REPOSITORY
FRAMES = {"a": 6, "b": 4, "c": 5}


@pytest.fixture
def data(tmp_path):
    for name, count in FRAMES.items():
        make_video(tmp_path / "data" / name, count)
    return tmp_path / "data"


@pytest.fixture
def registry(monkeypatch):
    entry = SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", {"dot": entry}.__getitem__, raising=False)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params(), raising=False)
    monkeypatch.setattr(run, "prepare_process", lambda threads: None)


def command(data: Path, out: Path, *more: str) -> int:
    return run.main(["--tracker", "dot", "--data_dir", str(data), "--out", str(out), *more])


def summary(out: Path) -> dict:
    return json.loads((out / "dot" / "summary.json").read_text())


def files(out: Path) -> dict[str, str]:
    """Every box and confidence file with its text."""
    kept = [*out.glob("dot/*.txt"), *out.glob("dot/*_confidence.value")]
    return {path.name: path.read_text() for path in kept}


def test_files_and_summary(registry, data, tmp_path, capsys):
    assert command(data, tmp_path, "--seed", "3", "--set", "threshold=10") == 0
    names = sorted(path.name for path in (tmp_path / "dot").iterdir())
    each = [f"{name}{part}" for name in FRAMES for part in (".txt", "_confidence.value", "_time.value")]
    assert names == sorted([*each, "run.json", "summary.json"])
    found = summary(tmp_path)
    assert {"mean", "sequences", "config", "seed", "rule", "versions"} <= set(found)
    assert found["seed"] == 3 and found["config"]["threshold"] == 10 and found["rule"].startswith("jaxtrack")
    assert list(found["sequences"]) == list(FRAMES) and found["missing"] == []
    for name, count in FRAMES.items():
        truth = rows(data / name / "groundtruth_rect.txt")
        boxes = rows(tmp_path / "dot" / f"{name}.txt")
        np.testing.assert_array_equal(boxes[0], truth[0])
        np.testing.assert_allclose(boxes, truth, atol=1e-4)
        assert rows(tmp_path / "dot" / f"{name}_time.value").shape == (count, 1)
        confidence = rows(tmp_path / "dot" / f"{name}_confidence.value")[:, 0]
        np.testing.assert_allclose(confidence, [1] + [245 / 255] * (count - 1), atol=1e-6)
        row = found["sequences"][name]
        assert row["frames"] == count and row["fps"] > 0
        assert row["auc"] == pytest.approx(20 / 21) and row["precision20"] == row["norm_precision"] == 1
    assert found["mean"]["frames"] == sum(FRAMES.values())
    printed = capsys.readouterr().out
    assert "mean of 3" in printed and "0.9524" in printed


def test_boxes_are_those_of_a_plain_loop(registry, data, tmp_path):
    assert command(data, tmp_path, "--set", "gain=0.3", "--sequences", "a") == 0
    tracker = trivial_tracker.make(trivial_tracker.Config(gain=0.3))
    params = trivial_tracker.params()
    (sequence,) = read_dataset("folder", data, ["a"])
    frames = [trackers.frame(read_image(path)) for path in sequence.frames]
    state = tracker.init(params, jax.random.key(0), frames[0], xywh_to_box(sequence.boxes[0]))
    got = rows(tmp_path / "dot" / "a.txt")
    for frame, row in zip(frames[1:], got[1:], strict=True):
        state, estimate = tracker.track(params, state, frame)
        center = row[1::-1] + (row[:1:-1] - 1) / 2
        np.testing.assert_allclose(center, estimate.box.center, atol=1e-4)
    assert np.abs(got[-1] - sequence.boxes[-1]).max() > 1  # the slow gain really lags


def test_a_frame_size_that_changes_in_the_video(registry, tmp_path):
    make_video(tmp_path / "data" / "v", 5, sizes={2: (40, 300), 3: (260, 56)})
    assert command(tmp_path / "data", tmp_path) == 0
    assert summary(tmp_path)["mean"]["auc"] == pytest.approx(20 / 21)


def test_the_same_command_goes_on_where_it_stopped(registry, data, tmp_path, monkeypatch):
    assert command(data, tmp_path, "--sequences", "a,b") == 0
    tracked = []
    whole = entrants.track_sequence

    def spy(compiled, params, sequence, *rest, **options):
        tracked.append(sequence.name)
        return whole(compiled, params, sequence, *rest, **options)

    monkeypatch.setattr(entrants, "track_sequence", spy)
    assert command(data, tmp_path) == 0
    assert tracked == ["c"]
    (tmp_path / "dot" / "b.txt").unlink()
    assert command(data, tmp_path) == 0
    assert tracked == ["c", "b"] and list(summary(tmp_path)["sequences"]) == list(FRAMES)
    assert command(data, tmp_path, "--overwrite") == 0
    assert sorted(tracked[2:]) == list(FRAMES)


def test_sequences_called_like_the_files_of_another(registry, tmp_path, monkeypatch):
    """Each keeps its own boxes, times and confidences, is tracked once, and found again by the reader of results."""
    counts = {"lap": 4, "lap_time": 5, "lap_confidence": 6, "lap_time_time": 3}
    for name, count in counts.items():
        make_video(tmp_path / "data" / name, count)
    assert command(tmp_path / "data", tmp_path) == 0
    before = files(tmp_path)
    results = formats.read_results(tmp_path / "dot")
    read = {name: (len(one.regions), len(one.seconds), len(one.confidence)) for name, (one,) in results.items()}
    assert read == {name: (count,) * 3 for name, count in counts.items()}
    monkeypatch.setattr(entrants, "track_sequence", None)  # nothing is tracked again
    assert command(tmp_path / "data", tmp_path) == 0 and files(tmp_path) == before
    assert set(summary(tmp_path)["sequences"]) == set(counts)


@pytest.mark.parametrize("change", [("--seed", "1"), ("--set", "gain=0.5")])
def test_results_of_other_settings_are_an_error_with_the_way_out(registry, data, tmp_path, capsys, change):
    assert command(data, tmp_path) == 0
    before = files(tmp_path)
    capsys.readouterr()
    assert command(data, tmp_path, *change) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "--overwrite" in message and message.count("\n") == 1
    assert files(tmp_path) == before
    assert command(data, tmp_path, *change, "--overwrite") == 0


def test_other_weights_are_other_settings(registry, data, tmp_path, monkeypatch, capsys):
    assert command(data, tmp_path) == 0
    moved = {"bias": trivial_tracker.params()["bias"] + 1}
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: moved)
    assert command(data, tmp_path) == 1
    assert "weights: " in capsys.readouterr().err


def test_order_workers_and_shards_change_nothing_but_a_seed_does(registry, data, tmp_path):
    jitter = ("--set", "jitter=2.0")
    assert command(data, tmp_path / "whole", *jitter) == 0
    assert command(data, tmp_path / "order", *jitter, "--sequences", "c,a,b", "--workers", "3") == 0
    assert command(data, tmp_path / "shards", *jitter, "--shard", "0/2") == 0
    assert list(summary(tmp_path / "shards")["sequences"]) == ["a", "c"]
    assert command(data, tmp_path / "shards", *jitter, "--shard", "1/2") == 0
    assert command(data, tmp_path / "seed", *jitter, "--seed", "1") == 0
    whole = files(tmp_path / "whole")
    assert files(tmp_path / "order") == whole and files(tmp_path / "shards") == whole
    assert files(tmp_path / "seed") != whole
    scores = summary(tmp_path / "whole")["mean"]["auc"]
    assert summary(tmp_path / "shards")["mean"]["auc"] == scores < 0.95
    offsets = [
        rows(tmp_path / "whole" / "dot" / f"{name}.txt")[1, :2] - rows(data / name / "groundtruth_rect.txt")[1, :2]
        for name in FRAMES
    ]
    assert len({tuple(offset.round(3)) for offset in offsets}) == 3  # each sequence has its own key


@pytest.mark.parametrize("more", [(), ("--jitter", "0.05", "--seed", "1")])
def test_a_batch_changes_nothing_but_the_speed(registry, data, tmp_path, capsys, more):
    make_video(data / "large", 3, sizes={0: (40, 300), 1: (40, 300), 2: (40, 300)})  # alone on its canvas
    make_video(data / "grows", 5, sizes={3: (40, 300)})
    options = ("--set", "jitter=2.0", *more)
    assert command(data, tmp_path / "one", *options) == 0
    assert command(data, tmp_path / "two", *options, "--batch", "2") == 0
    whole = files(tmp_path / "one")
    assert len(whole) == 2 * 5 and files(tmp_path / "two") == whole
    one, two = (summary(tmp_path / name) for name in ("one", "two"))
    assert two["mean"]["auc"] == one["mean"]["auc"] and two["missing"] == []
    assert two["speed"]["batch"] == 2 and "its time is divided among them" in two["speed"]["timed"]
    assert all((rows(path) > 0).all() for path in (tmp_path / "two").rglob("*_time.value"))
    for name in ("b", "grows"):
        (tmp_path / "two" / "dot" / f"{name}.txt").unlink()
    assert command(data, tmp_path / "two", *options, "--batch", "2") == 0  # goes on
    assert files(tmp_path / "two") == whole
    capsys.readouterr()
    assert command(data, tmp_path / "two", *options, "--batch", "2", "--workers", "2") == 1
    assert "leave out --workers" in capsys.readouterr().err


def test_jittered_starts_depend_on_the_seed_and_the_sequence_alone(registry, data, tmp_path, capsys):
    def starts(folder, *more):
        assert command(data, tmp_path / folder, *more) == 0
        return np.array([rows(tmp_path / folder / "dot" / f"{name}.txt")[0] for name in FRAMES])

    exact = starts("exact")
    first = starts("first", "--jitter", "0.05", "--seed", "1")
    assert summary(tmp_path / "first")["jitter"] == 0.05 and "jitter" not in summary(tmp_path / "exact")
    assert list(summary(tmp_path / "first")["sequences"]) == list(FRAMES)
    sides = exact[:, 2:]
    moved = (first[:, :2] + first[:, 2:] / 2 - exact[:, :2] - sides / 2) / sides
    grown = first[:, 2:] / sides - 1
    changes = np.concatenate([moved, grown], 1)
    assert 0.01 < np.abs(changes).max() <= 0.05 + 1e-4 and len(np.unique(changes.round(5))) == changes.size
    again = starts("again", "--jitter", "0.05", "--seed", "1", "--set", "gain=0.5", "--sequences", "c,b,a")
    np.testing.assert_array_equal(again, first)
    assert np.abs(starts("second", "--jitter", "0.05", "--seed", "2") - first).min() > 1e-3
    # What the tracker says next starts from the changed box.
    boxes = {folder: rows(tmp_path / folder / "dot" / "a.txt") for folder in ("exact", "first")}
    difference = (boxes["first"] - boxes["exact"])[:, 2:]
    np.testing.assert_allclose(difference, difference[:1].repeat(len(difference), 0), atol=1e-3)
    capsys.readouterr()
    assert command(data, tmp_path / "first", "--jitter", "0.1", "--seed", "1") == 1
    assert "jitter: 0.05 there, 0.1 now" in capsys.readouterr().err


batched_or_not = pytest.mark.parametrize("more", [(), ("--batch", "2"), ("--batch", "8")])


@batched_or_not
def test_a_corrupt_image_is_reported_and_the_rest_is_run(registry, data, tmp_path, capsys, more):
    assert command(data, tmp_path / "whole") == 0
    make_video(data / "d", 4)
    make_video(data / "e", 3)
    images = {"b": data / "b" / "img" / "0003.png", "d": data / "d" / "img" / "0001.png"}
    for image in images.values():
        image.write_bytes(image.read_bytes()[:100])
    gone = data / "e" / "img" / "0002.png"
    gone.unlink()
    gone.symlink_to(tmp_path / "nowhere")  # listed, and missing when it is read
    assert command(data, tmp_path, *more) == 1
    skipped = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    wanted = [f"{image}: not an image, or cut short (100 bytes); restore the file" for image in images.values()]
    wanted.append(f"{gone}: No such file or directory; restore the file")
    assert sorted(skipped) == sorted(f"skipped: {line}" for line in wanted)
    assert summary(tmp_path)["missing"] == ["b", "d", "e"]
    whole = files(tmp_path / "whole")
    assert files(tmp_path) == {name: text for name, text in whole.items() if not name.startswith("b")}


@batched_or_not
def test_bad_ground_truth_is_reported_and_the_rest_is_run(registry, data, tmp_path, capsys, more):
    make_video(data / "d", 4)
    (data / "a" / "groundtruth_rect.txt").write_text("1,2,3,4\n")
    (data / "d" / "groundtruth_rect.txt").write_text("1,2,3,4\n" * 2 + "1,2,x,4\n1,2,3,4\n")
    (data / "c" / "img" / "0002.png").unlink()
    assert command(data, tmp_path, *more) == 1
    skipped = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 3 and "1 boxes for 6 images" in skipped[0] and "5 boxes for 4 images" in skipped[1]
    assert f"{data / 'd' / 'groundtruth_rect.txt'}:3: expected 4 numbers, found '1,2,x,4'" in skipped[2]
    assert list(summary(tmp_path)["sequences"]) == ["b"]


def test_a_dataset_with_nothing_readable_fails_without_a_table(registry, data, tmp_path, capsys):
    for name in FRAMES:
        (data / name / "groundtruth_rect.txt").unlink()
    assert command(data, tmp_path) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("skipped: ") == 3
    assert summary(tmp_path)["sequences"] == {} and summary(tmp_path)["mean"]["auc"] is None


@batched_or_not
def test_a_box_that_is_not_finite_is_reported(registry, data, tmp_path, capsys, more):
    assert command(data, tmp_path, "--sequences", "a,b", "--set", "gain=3e38", *more) == 1
    error = capsys.readouterr().err
    for name in ("a", "b"):
        assert error.count(f"{name}/img/0002.png: the tracker returned a box that is not finite") == 1
    assert summary(tmp_path)["mean"]["auc"] is None and not files(tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--set", "gian=1"), "no field 'gian'"),
        (("--sequences", "a,z"), "no sequence z; there are a, b, c"),
        (("--data_dir", "/nowhere"), "/nowhere: no such folder"),
        (("--distributed",), "no job of several processes"),
        (("--distributed", "--shard", "0/2"), "leave out --shard"),
    ],
)
def test_mistakes_in_the_command_are_one_line(registry, data, tmp_path, capsys, more, message):
    assert command(data, tmp_path, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "dot").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--jitter", "0.6"),
        ("--shard", "2/2"),
        ("--shard", "x"),
        ("--workers", "0"),
        ("--batch", "0"),
        ("--dataset", "otbb"),
    ],
)
def test_impossible_options_are_usage_errors(registry, data, tmp_path, more):
    with pytest.raises(SystemExit) as caught:
        command(data, tmp_path, *more)
    assert caught.value.code == 2


def test_a_benchmark_without_boxes_is_tracked_but_not_scored(registry, tmp_path):
    make_video(tmp_path / "video", 4)
    folder = tmp_path / "data" / "GOT-10k_Test_000001"
    folder.parent.mkdir()
    (tmp_path / "video" / "img").rename(folder)
    first = (tmp_path / "video" / "groundtruth_rect.txt").read_text().splitlines()[0]
    (folder / "groundtruth.txt").write_text(first + "\n")
    assert command(tmp_path / "data", tmp_path, "--dataset", "got10k") == 0
    assert len(rows(tmp_path / "dot" / "GOT-10k_Test_000001.txt")) == 4
    assert summary(tmp_path)["sequences"]["GOT-10k_Test_000001"]["auc"] is None


@batched_or_not
def test_a_full_disk_ends_the_run_with_one_line(registry, tmp_path, capsys, more):
    for name in "abcdefgh":
        make_video(tmp_path / "data" / name, 4)
    with small_disk(tmp_path / "disk", kib=40) as disk:
        assert command(tmp_path / "data", disk, *more) == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(error) == 1 and "No space left on device" in error[0]
        assert not list(disk.rglob("*.part")) and not (disk / "dot" / "h.txt").exists()
        finished = [path for path in disk.glob("dot/*.txt") if "_" not in path.name]
        assert finished and all(len(rows(path)) == 4 for path in finished)


SCRIPT = """
import functools, os, sys
from types import SimpleNamespace
import jax
import trackers
from tests.helpers import trivial_tracker
trackers.get = lambda name: SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
trackers.load_params = lambda name, weights: trivial_tracker.params()
import trackers
from eval import run
if "PROCESS" in os.environ:  # of two
    index, port = map(int, os.environ["PROCESS"].split())
    jax.distributed.initialize = functools.partial(jax.distributed.initialize, f"127.0.0.1:{port}", 2, index)
"""
MAIN = "sys.exit(run.main(sys.argv[1:]))"

# Each argument "CALLABLE NUMBER OPTIONS": a child that runs with OPTIONS and is killed at that call. The first JAX
# computation comes after the fork.
KILLED = """
import itertools, signal
import cv2

def kill_at(name, number):
    module, calls = {"imdecode": cv2, "fsync": os}[name], itertools.count(1)
    whole = getattr(module, name)
    def dying(*args):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args)
    setattr(module, name, dying)

for case in sys.argv[1:]:
    name, number, *options = case.split()
    child = os.fork()
    if child == 0:
        kill_at(name, int(number))
        run.main(options)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == -signal.SIGKILL, (case, code)
"""
MOMENTS = [
    ("imdecode", 8),  # two sequences begun, or three
    ("fsync", 1),  # run.json
    ("fsync", 2),  # the times of the first sequence
    ("fsync", 4),  # its boxes: written, not yet under their name
    ("fsync", 11),  # summary.json
]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder, "JAX_PLATFORMS": "cpu", **more}


@pytest.mark.full
def test_killed_at_any_moment_and_gone_on_with(registry, data, tmp_path):
    """SIGKILL: what the next run completes is, byte for byte but for the times, what an undisturbed one writes."""
    assert command(data, tmp_path / "whole", "--set", "jitter=2.0") == 0
    whole, cases = files(tmp_path / "whole"), {}
    for batch in ("1", "2"):
        for name, number in MOMENTS:
            out = tmp_path / f"{name}{number}_{batch}"
            options = ["--tracker", "dot", "--data_dir", str(data), "--out", str(out), "--set", "jitter=2.0"]
            cases[out] = batch, " ".join([name, str(number), *options, "--batch", batch])
    run_cases = [sys.executable, "-c", SCRIPT + KILLED, *(case for _, case in cases.values())]
    done = subprocess.run(
        run_cases, cwd=REPOSITORY, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for out, (batch, _) in cases.items():
        before = files(out)
        assert before.items() <= whole.items() and not (out / "dot" / "summary.json").exists()
        assert (len(before) == len(whole)) == ("fsync11" in out.name)
        assert command(data, out, "--set", "jitter=2.0", "--batch", batch) == 0
        assert files(out) == whole and summary(out)["missing"] == [], out


def test_two_processes_share_the_sequences(registry, data, tmp_path):
    """On loopback; the second has one sequence that cannot be read, and the longest."""
    make_video(data / "d", 20)
    image = data / "b" / "img" / "0002.png"
    image.write_bytes(b"")
    assert command(data, tmp_path / "one", "--set", "jitter=2.0") == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--tracker", "dot", "--data_dir", str(data), "--out", str(tmp_path / "two"), "--set", "jitter=2.0"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT + MAIN, *arguments, "--distributed"],
            cwd=REPOSITORY,
            env=environment(tmp_path, PROCESS=f"{index} {port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        (table, first), (nothing, second) = (process.communicate(timeout=300) for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [1, 1], first + second
    assert "mean of 3" in table and nothing == ""
    assert "skipped: b: by another process, which says why" in first and f"skipped: {image}" not in first
    assert f"skipped: {image}: not an image" in second and second.count("skipped: ") == 1
    assert files(tmp_path / "two") == files(tmp_path / "one")
    one, two = (summary(tmp_path / name) for name in ("one", "two"))
    assert two["mean"]["auc"] == one["mean"]["auc"] and two["missing"] == ["b"]


@pytest.mark.parametrize("batch", ["1", "2"])
def test_ctrl_c_exits_130_and_the_next_run_goes_on(registry, tmp_path, batch):
    make_video(tmp_path / "data" / "a", 4)
    make_video(tmp_path / "data" / "b", 2)
    images = tmp_path / "data" / "b" / "img"
    for number in range(3, 20_001):
        (images / f"{number:04}.png").symlink_to(images / "0002.png")
    truth = tmp_path / "data" / "b" / "groundtruth_rect.txt"
    first, second = truth.read_text().split()
    truth.write_text("\n".join([first] + [second] * 19_999))
    arguments = ["--tracker", "dot", "--data_dir", str(tmp_path / "data"), "--out", str(tmp_path), "--batch", batch]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + MAIN, *arguments],
        cwd=REPOSITORY,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (tmp_path / "dot" / "a.txt").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "Traceback" not in error and "interrupted: 1 sequences finished, 1 left" in error
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "dot" / "b.txt").exists()
    assert command(tmp_path / "data", tmp_path, "--sequences", "a") == 0
