"""Several targets of a video: who joins when, starts anew, is tracked backwards, and what is drawn and written."""

import itertools
import json
import os
import sys
from types import SimpleNamespace

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval import annotations, targets, track
from eval.scoring.formats import boxes_of, read_results
from eval.sources import video
from eval.sources.video import Source, VideoError, open_source
from eval.sources.video_writer import VideoWriter
from eval.targets import Run, Target, Tracked, Trail, follow
from tests.helpers import bright_spot
from tests.helpers.bright_spot import PARAMS, spots
from tests.helpers.videos import spot_video, table_rows

TRACKER = bright_spot.make(150.0)
OTHERS = ("mot", "coco", "youtube-vis")
BOX = [5.0, 10, 9, 9]  # of the spot in frame 0; 5 + 3 t, 10 + t in frame t


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    entry = SimpleNamespace(config=bright_spot.Config(), make=lambda config: TRACKER)
    monkeypatch.setattr(trackers, "get", lambda name: entry)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: PARAMS)


@pytest.fixture
def clip(tmp_path):
    return spot_video(tmp_path / "in" / "clip.webm")


def source(count=10):
    return Source("drawn", iter(spots(count)), 25.0, count)


def command(*arguments):
    return track.main([str(argument) for argument in arguments])


def test_a_trail_gives_back_what_it_was_given():
    rng = np.random.default_rng(0)
    frames = [
        Tracked(rng.normal(size=(3, 4)), rng.normal(size=3) * np.nan, rng.random(3), rng.integers(0, 4, 3), float(t))
        for t in range(600)
    ]
    trail = Trail()
    for number, frame in enumerate(frames, 1):
        trail.append(frame)
        assert len(trail) == number
    for there, given in zip([*trail, *trail[5:9], trail[-1]], [*frames, *frames[5:9], frames[-1]], strict=True):
        for one, other in zip(there, given):
            np.testing.assert_array_equal(one, other)
        assert there.verdicts.dtype.kind == "i" and there.boxes.shape == (3, 4)
    with pytest.raises(IndexError):
        trail[600]


def test_a_target_joins_and_another_starts_anew_without_compiling_again(monkeypatch):
    made = []
    of = targets.Programs.of
    monkeypatch.setattr(targets.Programs, "of", lambda *arguments: made.append(of(*arguments)) or made[0])
    run = Run()
    chosen = [Target("car", {0: BOX, 6: [23, 16, 5, 7]}), Target("dog", {4: [17, 14, 9, 3]})]
    follow(run, TRACKER, PARAMS, source(), chosen)
    assert run.names == ["car", "dog"] and run.problem is None and len(run.tracked) == 10
    sizes = np.array([one.boxes[:, 2:] for one in run.tracked])
    assert np.isnan(sizes[:4, 1]).all() and (sizes[4:, 1] == [9, 3]).all()
    assert (sizes[:6, 0] == [9, 9]).all() and (sizes[6:, 0] == [5, 7]).all()
    centers = np.array([one.boxes[:, :2] + (one.boxes[:, 2:] - 1) / 2 for one in run.tracked])
    spot = np.array([[9 + 3 * t, 14 + t] for t in range(10)])
    np.testing.assert_allclose(centers[1:6, 0], spot[1:6], atol=1e-3)
    np.testing.assert_allclose(centers[5:, 1], spot[5:], atol=1e-3)
    assert [t for t, one in enumerate(run.tracked) if np.isnan(one.scores[0])] == [0, 6]
    assert [t for t, one in enumerate(run.tracked) if np.isnan(one.scores[1])] == [0, 1, 2, 3, 4]
    programs = made[0]
    compiled = [len(program._executables) for program in programs]
    assert len(made) == 1 and compiled == [1, 1, 1]
    video_of = targets.annotated(run, "clip")
    assert [(track.id, track.name, *track.frames[[0, -1]]) for track in video_of.tracks] == [
        (1, "car", 0, 9),
        (2, "dog", 4, 9),
    ]


def test_targets_that_start_together_need_two_programs(monkeypatch):
    made = []
    of = targets.Programs.of
    monkeypatch.setattr(targets.Programs, "of", lambda *arguments: made.append(of(*arguments)) or made[0])
    follow(Run(), TRACKER, PARAMS, source(3), targets.numbered([BOX, BOX]))
    assert [len(program._executables) for program in made[0]] == [1, 1, 0]


def test_a_later_run_with_the_same_programs_has_all_before_its_first_frame():
    """The annotator keeps programs; a run without later targets does not need the third."""
    programs = targets.Programs.of(TRACKER, 2)
    list(targets.track_frames(programs, PARAMS, spots(3), targets.numbered([BOX, BOX])))
    assert not programs.change._executables
    later = [Target("car", {0: BOX}), Target("dog", {2: BOX})]
    next(targets.track_frames(programs, PARAMS, spots(3), later))
    assert len(programs.change._executables) == 1


def test_a_target_is_followed_as_if_it_were_alone():
    """Whoever joins or starts anew leaves the states of the others as they are."""

    def drifting():
        base = bright_spot.make(150.0)

        def step(params, state, frame):
            state, estimate = base.track(params, state, frame)
            box = estimate.box._replace(center=estimate.box.center + state.frames)
            return state, estimate._replace(box=box)

        return base._replace(track=step)

    def boxes(chosen, first=0):
        run = Run(first)
        follow(run, drifting(), PARAMS, source(), chosen)
        return np.array([one.boxes for one in run.tracked])

    car, dog = Target("car", {0: BOX}), Target("dog", {3: [14, 13, 9, 9], 7: [26, 17, 4, 4]})
    both = boxes([car, dog])
    np.testing.assert_array_equal(both[:, 0], boxes([car])[:, 0])
    np.testing.assert_array_equal(both[3:, 1], boxes([dog], 3)[:, 0])


def test_a_run_by_names(clip, tmp_path, monkeypatch, capsys):
    drawn, write = [], VideoWriter.write
    monkeypatch.setattr(VideoWriter, "write", lambda self, image, at: drawn.append(image) or write(self, image, at))
    out = tmp_path / "out" / "tracked.mp4"
    car, dog = "car=5,10,9,9", "the dog, left=17,14,9,3@4"
    assert command("--video", clip, "--target", dog, "--target", car, "--out", out) == 0
    assert "tracked 2 targets through 9 frames" in capsys.readouterr().out
    table = table_rows(out.with_suffix(".csv"))
    order = [(t, name) for t in range(10) for name in ("the dog, left", "car") if name == "car" or t >= 4]
    assert [(int(row["frame"]), row["target"]) for row in table] == order
    stored = json.loads(out.with_suffix(".json").read_text())
    assert [(one["name"], one["first_frame"], len(one["boxes"])) for one in stored["targets"]] == [
        ("the dog, left", 4, 6),
        ("car", 0, 10),
    ]
    assert stored["image_size"] == [64, 48] and (stored["first_frame"], stored["frames"]) == (0, 10)
    assert len(list(open_source(out).frames)) == len(drawn) == 10
    for number, since in ((0, 4), (1, 0)):  # each has its color, from its start on
        counts = (np.stack(drawn) == video.target_color(number)).all(-1).sum((1, 2))
        assert counts[since:].min() > 4 and not counts[:since].any(), counts
    # The same command replaces its files; old and new tables are read.
    assert command("--video", clip, "--target", car, "--out", out) == 0
    assert list(read_results(out.with_suffix(".csv"))) == ["tracked"]


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_backwards(clip, tmp_path, kind):
    place, out = clip, tmp_path / "out.webm"
    if kind == "folder":
        place = tmp_path / "shots" / "img"
        place.mkdir(parents=True)
        for t, image in enumerate(spots(10)):
            cv2.imwrite(str(place / f"{t}.png"), image)
    options = ("--target", "car=26,17,9,9@7", "--target", "car=16,15,5,5@3", "--target", "dog=20,15,3,3@5")
    assert command("--video", place, "--reverse", *options, "--out", out) == 0
    table = table_rows(tmp_path / "out.csv")
    order = [(t, name) for t in range(8) for name in ("car", "dog") if name == "car" or t <= 5]
    assert [(int(row["frame"]), row["target"]) for row in table] == order
    car = [[float(row[side]) for side in "xywh"] for row in table if row["target"] == "car"]
    sizes = [5] * 4 + [9] * 4
    expected = [[9 + 3 * t - (s - 1) / 2, 14 + t - (s - 1) / 2, s, s] for t, s in enumerate(sizes)]
    np.testing.assert_allclose(car, expected, atol=1)
    scored = [row["score"] != "" for row in table if row["target"] == "car"]
    assert scored == [True, True, True, False, True, True, True, False]
    stored = json.loads((tmp_path / "out.json").read_text())
    assert (stored["first_frame"], stored["frames"], stored["backwards"]) == (0, 8, True)
    written = list(open_source(out).frames)
    assert len(written) == 8
    for t, image in enumerate(written):  # in the order of the video
        y, x = np.unravel_index(image.min(-1).astype(int).argmax(), image.shape[:2])
        assert abs(y - (14 + t)) <= 5 and abs(x - (9 + 3 * t)) <= 5
    for run in read_results(tmp_path / "out.csv").values():
        assert len(boxes_of(run[0])) in (6, 8)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--target", "car=5,10,9,9@30"), "has no frame 30"),
        (("--target", "car=5,10,9,9", "--target", "dog=5,10,0,9@4"), "is empty"),
        (("--target", "car=5,10,9,9", "--target", "car=6,10,9,9@0"), "target car: is given twice for frame 0"),
        (("--box", "5,10,9,9", "--target", "1=6,10,9,9"), "target 1: is given twice for frame 0"),
        (("--target", "car=5,10,9,9", "--reverse"), "before frame 0 there is nothing"),
        (("--target", "car=5,10,9,9@30", "--reverse"), "has no frame 30"),
    ],
)
def test_what_cannot_be_tracked_is_one_line(clip, tmp_path, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(tmp_path)
    assert command("--video", clip, *arguments) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and reason in message
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("address", ["0", "rtsp://localhost:1/live"])
def test_what_is_live_has_no_past(address, capsys):
    assert command("--video", address, "--target", "car=5,10,9,9@30", "--reverse") == 1
    message = capsys.readouterr().err
    assert "cannot be read backwards; record it to a file first" in message and message.count("\n") == 1


@pytest.mark.parametrize("text", ["5,6,9,9", "=5,6,9,9", "car=5,6,9", "car=5,6,9,9@", "car=5,6,9,9@-1", "a\n=1,2,3,4"])
def test_targets_of_another_form(text):
    with pytest.raises(SystemExit) as raised:
        command("--video", "clip.mp4", "--target", text)
    assert raised.value.code == 2


@pytest.mark.parametrize(
    ("late", "kept", "reason"),
    [
        ("dog=500,10,9,9@4", 4, "frame 4, target dog: box 500,10,9,9: lies outside the 64x48 image"),
        ("dog=5,10,9,9@40", 10, "has no frame 40, where target dog starts; its last one is 9"),
    ],
)
def test_a_later_target_that_cannot_start_costs_nothing_before(clip, tmp_path, capsys, late, kept, reason):
    assert command("--video", clip, "--target", "car=5,10,9,9", "--target", late, "--out_dir", tmp_path) == 1
    assert reason in capsys.readouterr().err
    assert [row["target"] for row in table_rows(tmp_path / "clip_boxes.csv")] == ["car"] * kept
    stored = json.loads((tmp_path / "clip_boxes.json").read_text())
    assert reason in stored["ended_early"] and [one["name"] for one in stored["targets"]] == ["car"]


@pytest.mark.parametrize("name", ["cvat", *(pytest.param(n, marks=pytest.mark.full) for n in OTHERS)])
def test_targets_of_a_file_and_other_formats(clip, tmp_path, name, capsys):
    out = tmp_path / "first.webm"
    options = ("--target", "car=5,10,9,9", "--target", "dog=20,15,9,3@5", "--out", out)
    assert command("--video", clip, *options, "--to", name, "--to", "mot", "--start", 0) == 0
    form = annotations.FORMATS[name]
    boxes = tmp_path / f"first.{name}{form.suffix}"
    assert str(boxes) in capsys.readouterr().out and (tmp_path / "first.mot.txt").exists()
    again = ("--video", clip, "--boxes", boxes, "--out_dir", tmp_path / "again")
    assert command(*again) == 0
    text = (tmp_path / "again" / "clip_boxes.csv").read_text()
    names = {"car": "1", "dog": "2"} if name == "mot" else {}
    expected = (tmp_path / "first.csv").read_text()
    for one, other in names.items():
        expected = expected.replace(f",{one},", f",{other},")
    assert text == expected
    # Back from the last box of each, as it is seen last.
    assert command("--video", clip, "--boxes", boxes, "--reverse", "--out_dir", tmp_path / "back") == 0
    back = table_rows(tmp_path / "back" / "clip_boxes.csv")
    assert len(back) == 20 and [row["score"] == "" for row in back] == [False] * 18 + [True] * 2
    # What is read is not replaced; files of others stay.
    assert command("--video", clip, "--boxes", tmp_path / "first.csv", "--out", out) == 1
    assert f"{tmp_path / 'first.csv'}, which is read" in capsys.readouterr().err
    boxes.write_text("mine")
    assert command("--video", clip, *again[2:], "--reverse") == 1 and "mine" in boxes.read_text()
    assert str(boxes) in capsys.readouterr().err


def test_other_formats_beside_are_replaced_by_the_same_video_only(clip, tmp_path, capsys):
    (tmp_path / "out.cvat.xml").write_text("mine")
    run = ("--video", clip, "--box", "5,10,9,9", "--out", tmp_path / "out.webm", "--to", "cvat")
    assert command(*run) == 1 and "out.cvat.xml: is there already" in capsys.readouterr().err
    (tmp_path / "out.cvat.xml").unlink()
    assert command(*run) == command(*run) == 0
    (video_of,) = annotations.read(tmp_path / "out.cvat.xml")
    assert video_of.name == "clip" and video_of.size == (64, 48) and len(video_of.tracks[0].frames) == 10


def test_a_recording_needs_its_package_and_replaces_nothing(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    run = ("--video", clip, "--box", "5,10,9,9", "--out-dir", tmp_path, "--rerun", tmp_path / "a.rrd")
    assert command(*run) == 1 and "--rerun needs a package" in capsys.readouterr().err.splitlines()[-1]
    assert os.listdir(tmp_path) == ["in"]
    (tmp_path / "a.rrd").write_text("mine")
    assert command(*run) == 1 and "a.rrd: is there already" in capsys.readouterr().err
    assert (tmp_path / "a.rrd").read_text() == "mine"


def test_images_have_their_names(tmp_path):
    folder = tmp_path / "shots" / "img"
    folder.mkdir(parents=True)
    for t, image in enumerate(spots(3)):
        cv2.imwrite(str(folder / f"shot{t}.png"), image)
    assert command("--video", folder, "--box", "5,10,9,9", "--out_dir", tmp_path, "--to", "youtube-vis") == 0
    whole = json.loads((tmp_path / "shots_boxes.youtube-vis.json").read_text())
    assert whole["videos"][0]["file_names"] == ["shot0.png", "shot1.png", "shot2.png"]


def test_several_videos_in_a_file(clip, tmp_path, capsys):
    vis = {"videos": [{"id": 1, "name": "clip"}, {"id": 2, "name": "other"}], "categories": [{"id": 1, "name": "car"}]}
    vis["annotations"] = [{"id": i, "video_id": i, "category_id": 1, "bboxes": [None, [8, 11, 9, 9]]} for i in (1, 2)]
    (tmp_path / "boxes.json").write_text(json.dumps(vis))
    assert command("--video", clip, "--boxes", tmp_path / "boxes.json", "--out_dir", tmp_path) == 0
    assert [row["frame"] for row in table_rows(tmp_path / "clip_boxes.csv")] == [str(t) for t in range(1, 10)]
    clip.rename(clip.with_name("third.webm"))
    third = clip.with_name("third.webm")
    assert command("--video", third, "--boxes", tmp_path / "boxes.json", "--out_dir", tmp_path) == 1
    assert "holds several videos and not one called third" in capsys.readouterr().err


def test_an_interruption_backwards_keeps_what_was_tracked(clip, tmp_path, monkeypatch):
    def frames():
        yield from spots(10)[9:5:-1]
        raise KeyboardInterrupt

    monkeypatch.setattr(track, "open_backwards", lambda path, last: Source("clip", frames(), 25.0, 10))
    options = ("--target", "car=32,19,9,9@9", "--reverse", "--out", tmp_path / "out.webm")
    assert command("--video", clip, *options) == 130
    assert [int(row["frame"]) for row in table_rows(tmp_path / "out.csv")] == [6, 7, 8, 9]
    assert len(list(open_source(tmp_path / "out.webm").frames)) == 4


def test_a_target_that_stops_being_finite_is_named():
    base = bright_spot.make(150.0)

    def step(params, state, frame):
        state, estimate = base.track(params, state, frame)
        center = estimate.box.center + jnp.where(state.frames > 2, jnp.nan, 0.0)
        return state, estimate._replace(box=estimate.box._replace(center=center))

    run = Run()
    with pytest.raises(VideoError, match="frame 3: the tracker's box is not finite"):
        follow(run, base._replace(track=step), PARAMS, source(), [Target("a", {0: BOX}), Target("b", {8: BOX})])
    assert len(run.tracked) == 3


def test_the_colors_of_neighbors_differ():
    colors = np.array([video.target_color(number) for number in range(12)])
    for one, other in itertools.pairwise(colors):
        assert np.abs(one - other).max() > 90
    assert len({*map(tuple, colors.tolist())}) == 12
