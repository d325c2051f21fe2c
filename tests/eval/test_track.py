"""python -m eval.track: the demo, several targets, and every way a run can end."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from types import SimpleNamespace

import av
import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval import track
from eval.files import ResultError
from eval.plots import plot_track
from eval.sources import synthetic, video
from eval.sources.video import open_source
from eval.sources.video_writer import VideoWriter
from tests.helpers import bright_spot, places
from tests.helpers.bright_spot import frame_with_spot, spots
from tests.helpers.videos import spot_video, table_rows

ROOT = places.REPOSITORY


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Every name is the bright spot tracker."""
    entry = SimpleNamespace(config=bright_spot.Config(), make=lambda config: bright_spot.make(config.threshold))
    monkeypatch.setattr(trackers, "get", lambda name: entry, raising=False)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: bright_spot.PARAMS, raising=False)


@pytest.fixture
def clip(tmp_path):
    return spot_video(tmp_path / "in" / "clip.webm")


def run(*arguments):
    return track.main([str(argument) for argument in arguments])


def boxes(table):
    return np.array([[float(row[side]) for side in "xywh"] for row in table])


def test_a_video_and_its_files(clip, tmp_path, capsys):
    out = tmp_path / "out" / "tracked.webm"
    assert run("--video", clip, "--box", "5,10,9,9", "--out", out, "--seed", 3) == 0
    assert sorted(os.listdir(out.parent)) == ["tracked.csv", "tracked.json", "tracked.webm"]
    table = table_rows(out.with_suffix(".csv"))
    assert [(row["frame"], row["target"]) for row in table] == [(str(t), "1") for t in range(10)]
    assert boxes(table)[0].tolist() == [5, 10, 9, 9]
    np.testing.assert_allclose(boxes(table), [[5 + 3 * t, 10 + t, 9, 9] for t in range(10)], atol=1)
    assert table[0]["score"] == "" and float(table[1]["score"]) > 0 and table[1]["verdict"] == "found"
    stored = json.loads(out.with_suffix(".json").read_text())
    np.testing.assert_allclose(stored["targets"][0]["boxes"], boxes(table))
    assert (stored["seed"], stored["config"], stored["frames"]) == (3, {"threshold": 150.0}, 10)
    assert stored["targets"][0]["scores"][0] is None and stored["ended_early"] is None
    assert stored["weights"] and stored["versions"]["jax"] and stored["speed"]["compile_s"] > 0
    written = list(open_source(out).frames)
    assert len(written) == 10
    # The box is drawn in green around the spot of the last frame.
    y, x = 10 + 9, 5 + 27
    edge = written[-1][y + 4, x - 1 : x + 2].astype(int)
    assert (edge[:, 1] - edge[:, 2]).max() > 40
    printed = capsys.readouterr().out
    assert "fps" in printed and "compilation: " in printed and str(out) in printed


def test_several_targets_and_a_later_start(clip, tmp_path):
    start = ("--video", clip, "--start", 4, "--box", "17,14,9,9", "--box=-2,20,6,4")
    assert run(*start, "--out_dir", tmp_path) == 0
    assert not list(tmp_path.glob("*.webm"))
    table = table_rows(tmp_path / "clip_boxes.csv")
    order = [(str(t), n) for t in range(4, 10) for n in "12"]
    assert [(row["frame"], row["target"]) for row in table] == order
    assert boxes(table)[:2].tolist() == [[17, 14, 9, 9], [-2, 20, 6, 4]]
    # Both sit on the one spot, each with its own size.
    centers = boxes(table)[2:, :2] + (boxes(table)[2:, 2:] - 1) / 2
    np.testing.assert_allclose(centers[0::2], centers[1::2], atol=1e-3)
    assert boxes(table)[-1, 2:].tolist() == [6, 4]
    assert json.loads((tmp_path / "clip_boxes.json").read_text())["first_frame"] == 4


def test_a_folder_of_images_of_changing_size_and_depth(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    other_sizes = frame_with_spot(300, 50, 20, 280, 9), frame_with_spot(20, 280, 250, 6, 9)
    for t, frame in enumerate([*spots(2), *other_sizes]):
        cv2.imwrite(str(folder / f"{t}.png"), frame[..., 0] if t == 1 else frame)
    assert run("--video", folder, "--box", "5,10,9,9", "--out", tmp_path / "out.webm") == 0
    found = boxes(table_rows(tmp_path / "out.csv"))
    np.testing.assert_allclose(found[:, :2], [[5, 10], [8, 11], [20, 280], [250, 6]], atol=1e-3)
    assert [frame.shape for frame in open_source(tmp_path / "out.webm").frames] == [(48, 64, 3)] * 4


def test_the_demo(tmp_path, monkeypatch, capsys):
    small = synthetic.ClipConfig(height=64, width=96, num_frames=8, target_size=(16.0, 20.0))
    monkeypatch.setattr(synthetic, "ClipConfig", lambda: small)
    assert run("--out_dir", tmp_path / "demo", "--seed", 2) == 0
    assert sorted(os.listdir(tmp_path / "demo")) == ["boxes.csv", "boxes.json", "plot.png", "video.webm"]
    assert len(list(open_source(tmp_path / "demo" / "video.webm").frames)) == 8
    assert cv2.imread(str(tmp_path / "demo" / "plot.png")).std() > 5
    truth = list(synthetic.clip(small, 2))
    found = boxes(table_rows(tmp_path / "demo" / "boxes.csv"))
    np.testing.assert_allclose(found[0], truth[0].box, atol=1e-3)
    overlap = track.metrics.overlaps(found, np.array([example.box for example in truth]))[1:]
    seen = np.array([example.visibility > 0 for example in truth])[1:]
    printed = capsys.readouterr().out
    assert f"mean IoU {overlap[seen].mean():.3f}" in printed and "fps" in printed
    # With a name for the video, the rest lies beside it.
    assert run("--out", tmp_path / "elsewhere" / "spot.webp", "--seed", 2) == 0
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["spot.csv", "spot.json", "spot.png", "spot.webp"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--box", "5,10,0,9"), "is empty"),
        (("--box", "500,10,9,9"), "outside the 64x48 image"),
        (("--box", "0.31,0.25,0.12,0.12"), "smaller than a pixel; give x, y, w, h in pixels"),
        (("--box", "nan,10,9,9"), "finite"),
        (("--box", "5,10,9,9", "--start", "10"), "has no frame 10"),
        (("--box", "5,10,9,9", "--out", "movie.avi"), "rename the output"),
        (("--box", "5,10,9,9", "--set", "treshold=3"), "has no field 'treshold'"),
    ],
)
def test_bad_input_is_one_line(clip, tmp_path, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(tmp_path)
    assert run("--video", clip, *arguments) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and reason in message
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("way", ["itself", "symbolic link", "hard link", "through a folder"])
def test_the_video_is_never_replaced(clip, tmp_path, capsys, way):
    out, before = tmp_path / "link.webm", clip.read_bytes()
    if way == "symbolic link":
        out.symlink_to(clip)
    elif way == "hard link":
        out.hardlink_to(clip)
    else:
        out = clip if way == "itself" else tmp_path / "in" / ".." / "in" / "clip.webm"
    assert run("--video", clip, "--box", "5,10,9,9", "--out", out) == 1
    message = capsys.readouterr().err
    assert message == f"error: {out}: would replace {clip}, which is read; choose another name for the output\n"
    assert clip.read_bytes() == before and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["out.webm", "out.csv", "out.json"])
def test_a_file_of_somebody_else_stays(clip, tmp_path, capsys, name):
    (tmp_path / name).write_text('{"video": "mine"}')
    assert run("--video", clip, "--box", "5,10,9,9", "--out", tmp_path / "out.webm") == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / name}: is there already") and message.count("\n") == 1
    assert (tmp_path / name).read_text() == '{"video": "mine"}'
    assert sorted(os.listdir(tmp_path)) == sorted(["in", name])


def test_the_same_video_again_replaces_its_own_results_only(clip, tmp_path, capsys):
    again = ("--video", clip, "--box", "5,10,9,9", "--out", tmp_path / "out.webm")
    assert run(*again) == run(*again, "--start", 0) == 0
    other = clip.with_name("other.webm")
    other.write_bytes(clip.read_bytes())
    kept = {path: path.read_bytes() for path in tmp_path.glob("out.*")}
    assert len(kept) == 3 and run("--video", other, *again[2:]) == 1
    assert f"out.webm: is there already, and not from tracking {other}" in capsys.readouterr().err
    # The run wrote no .mp4: one that lies there is another's.
    (tmp_path / "out.mp4").write_bytes(b"mine")
    assert run(*again[:4], "--out", tmp_path / "out.mp4") == 1
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_folders_of_images_are_called_by_what_is_around_them(tmp_path):
    for folder in ("A/img", "B/img", "C.1/Color/frames", "D.2"):
        (tmp_path / folder).mkdir(parents=True)
        for t, frame in enumerate(spots(2)):
            cv2.imwrite(str(tmp_path / folder / f"{t}.png"), frame)
        assert run("--video", tmp_path / folder, "--box", "5,10,9,9", "--out_dir", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.csv"))
    assert names == ["A_boxes.csv", "B_boxes.csv", "C.1_boxes.csv", "D.2_boxes.csv"]
    picture = tmp_path / "A" / "img" / "9.webp"
    assert run("--video", picture.parent, "--box", "5,10,9,9", "--out", picture) == 1 and not picture.exists()


@pytest.mark.parametrize(
    "arguments",
    [("--box", "1,2,3,4"), ("--video", "x.mp4"), ("--video", "x.mp4", "--box", "1,2,3"), ("--start", "-1")],
)
def test_wrong_usage_exits_2(arguments):
    with pytest.raises(SystemExit) as raised:
        run(*arguments)
    assert raised.value.code == 2


@pytest.mark.parametrize(
    "given",
    [
        "clip.mp4 --box 1,2,3,4 --box 5,6,7,8",
        "--box 1,2,3,4 clip.mp4 --box 5,6,7,8",
        "--box 1,2,3,4 --box 5,6,7,8 clip.mp4",
    ],
)
def test_the_video_may_stand_anywhere(given):
    by_place = track.parse_arguments(given.split())
    assert by_place.video == "clip.mp4" and by_place.box == [[1, 2, 3, 4], [5, 6, 7, 8]]
    by_name = track.parse_arguments(given.replace("clip.mp4", "--video clip.mp4").split())
    assert vars(by_name) == vars(by_place) | {"place": None}


def test_two_videos_are_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        track.parse_arguments(["a.mp4", "--video", "b.mp4", "--box", "1,2,3,4"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(": error: two videos: a.mp4 and --video b.mp4; give one\n")


def test_a_missing_video(capsys):
    assert run("--video", "nowhere.mp4", "--box", "1,2,3,4") == 1
    assert capsys.readouterr().err.startswith("error: nowhere.mp4: no such file")


def test_a_truncated_video_keeps_what_was_tracked(clip, tmp_path, capsys):
    cut = tmp_path / "cut.webm"
    cut.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.55)])
    assert run("--video", cut, "--box", "5,10,9,9", "--out", tmp_path / "out.webm") == 1
    kept = len(table_rows(tmp_path / "out.csv"))
    assert 0 < kept < 10
    assert len(list(open_source(tmp_path / "out.webm").frames)) == kept
    message = capsys.readouterr().err.splitlines()[-1]
    assert "cut.webm" in message and f"frame {kept}" in message
    assert json.loads((tmp_path / "out.json").read_text())["ended_early"] in message


def test_a_corrupt_image_keeps_what_was_tracked(tmp_path, capsys):
    folder = tmp_path / "shots"
    folder.mkdir()
    for t, frame in enumerate(spots(4)):
        cv2.imwrite(str(folder / f"{t}.png"), frame)
    (folder / "2.png").write_bytes(b"no image")
    assert run("--video", folder, "--box", "5,10,9,9", "--out_dir", tmp_path) == 1
    assert len(table_rows(tmp_path / "shots_boxes.csv")) == 2
    assert "2.png" in capsys.readouterr().err.splitlines()[-1]


def test_a_video_that_cannot_be_written_keeps_the_boxes(clip, tmp_path, monkeypatch, capsys):
    encode = VideoWriter._encode

    def full_after_three(self, frame):
        if self.count == 3:
            raise av.FFmpegError(28, "No space left on device")
        encode(self, frame)

    monkeypatch.setattr(VideoWriter, "_encode", full_after_three)
    assert run("--video", clip, "--box", "5,10,9,9", "--out", tmp_path / "out.webm") == 1
    assert sorted(os.listdir(tmp_path)) == ["in", "out.csv", "out.json"]
    assert len(table_rows(tmp_path / "out.csv")) == 4
    assert "out.webm" in capsys.readouterr().err.splitlines()[-1]


def test_a_tracker_that_returns_nan_is_stopped(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: {"gain": np.float32(np.nan)})
    blind = SimpleNamespace(config=bright_spot.Config(), make=lambda config: _nan_after_two())
    monkeypatch.setattr(trackers, "get", lambda name: blind)
    assert run("--video", clip, "--box", "5,10,9,9", "--out_dir", tmp_path) == 1
    assert len(table_rows(tmp_path / "clip_boxes.csv")) == 3
    assert "frame 3: the tracker's box is not finite" in capsys.readouterr().err


def _nan_after_two():
    base = bright_spot.make()

    def step(params, state, frame):
        state, estimate = base.track(params, state, frame)
        center = estimate.box.center + jnp.where(state.frames > 2, np.nan, 0.0)
        return state, estimate._replace(box=estimate.box._replace(center=center))

    return base._replace(track=step)


def test_no_window_is_opened_unless_asked(clip, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(video, "show", lambda image: shown.append(image) or len(shown) == 3)
    monkeypatch.setattr(video, "select_boxes", lambda image: np.array([[5.0, 10, 9, 9]]))
    assert run("--video", clip, "--box", "5,10,9,9", "--out_dir", tmp_path) == 0
    assert shown == []
    assert run("--video", clip, "--show", "--out_dir", tmp_path) == 0
    assert len(shown) == 3 and len(table_rows(tmp_path / "clip_boxes.csv")) == 3


def test_a_long_video_is_never_held(monkeypatch, tmp_path):
    alive, most = [], []

    def frames():
        for frame in itertools.islice(itertools.cycle(spots(10)), 80):
            image = frame.copy()
            alive.append(weakref.ref(image))
            yield image
            del image
            most.append(sum(reference() is not None for reference in alive))

    monkeypatch.setattr(video, "open_source", lambda name: video.Source("long", frames(), 25.0, 80))
    assert run("--video", "long", "--box", "5,10,9,9", "--out_dir", tmp_path) == 0
    assert len(table_rows(tmp_path / "long_boxes.csv")) == 80
    assert max(most) <= 16


DRIVER = """
    import itertools, sys, time
    import trackers
    from types import SimpleNamespace
    from tests.helpers import bright_spot
    tracker = bright_spot.make(150.0)
    entry = SimpleNamespace(config=bright_spot.Config(), make=lambda config: tracker)
    trackers.get = lambda name: entry
    trackers.load_params = lambda name, weights: bright_spot.PARAMS
    from eval import track
    from eval.sources import video
    def endless(source):
        frames = (time.sleep(0.005) or frame for frame in itertools.cycle(bright_spot.spots(10)))
        return video.Source("endless", frames, 25.0, None)
    video.open_source = endless
    sys.exit(track.main(["--video", "endless", "--box", "5,10,9,9", "--out", sys.argv[1]]))
"""


def test_ctrl_c_writes_what_it_has_and_exits_130(tmp_path):
    out = tmp_path / "out.webm"
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(out)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    # The hidden file grows once frames are being written.
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(file.stat().st_size > 20_000 for file in tmp_path.glob(".out*")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert printed.splitlines()[-1].startswith("interrupted after ")
    kept = table_rows(tmp_path / "out.csv")
    files = sorted(file.name for file in tmp_path.iterdir() if file.is_file())
    assert files == ["out.csv", "out.json", "out.webm"]
    assert abs(len(list(open_source(out).frames)) - len(kept)) <= 1
    assert json.loads((tmp_path / "out.json").read_text())["ended_early"] == "interrupted"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_as_ctrl_c_does(tmp_path, monkeypatch, number, status):
    def frames():
        for index, frame in enumerate(itertools.cycle(spots(10))):
            if index in (30, 31):  # `timeout` sends it twice
                os.kill(os.getpid(), number)
            time.sleep(0.01)
            yield frame

    monkeypatch.setattr(video, "open_source", lambda name: video.Source("endless", frames(), 25.0, None))
    assert run("--video", "endless", "--box", "5,10,9,9", "--out", tmp_path / "out.webm") == status
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.json", "out.webm"]
    kept = len(table_rows(tmp_path / "out.csv"))
    assert kept > 10 and abs(len(list(open_source(tmp_path / "out.webm").frames)) - kept) <= 1
    assert json.loads((tmp_path / "out.json").read_text())["ended_early"] == "interrupted"
    assert signal.getsignal(number) == signal.SIG_DFL


def test_the_written_video_has_the_times_of_the_one_read(tmp_path):
    times = [0, 0.033, 0.067, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    with VideoWriter(tmp_path / "clip.webm") as writer:
        for frame, seconds in zip(spots(10), times, strict=True):
            writer.write(frame, seconds)
    options = ("--video", tmp_path / "clip.webm", "--box", "11,12,9,9", "--start", 2, "--out", tmp_path / "out.mp4")
    assert run(*options) == 0
    source = open_source(tmp_path / "out.mp4")
    assert len(list(source.frames)) == 8
    np.testing.assert_allclose(source.times, np.array(times[2:]) - times[2], atol=0.001)
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["video_fps"] == pytest.approx(9 / 0.7, abs=0.1) and stored["ended_early"] is None


def test_a_plot_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"plot\.png"):
        plot_track(tmp_path / "file" / "plot.png", np.ones(3), np.ones(3), np.ones(3))
