"""`python -m eval.claims.effort`: the simulated annotator, by cases whose answers are known."""

import json
from itertools import combinations

import numpy as np
import pytest

import trackers
from eval.claims import effort
from eval.claims.effort import Clip
from eval.sources import synthetic
from eval.targets import Programs
from eval.web import document as web
from tests.helpers import bright_spot, trivial_tracker

SIDE = 9


def clip(places, seen=True):
    """A bright square at (x, y) of each frame."""
    images = [bright_spot.frame_with_spot(48, 64, x, y, SIDE) for x, y in places]
    boxes = np.array([[x, y, SIDE, SIDE] for x, y in places], float)
    return Clip(images, boxes, np.broadcast_to(seen, len(places)))


CORNER = [(2 + 2 * t, 5) for t in range(12)] + [(24, 7 + 2 * t) for t in range(12)]  # right, then down


@pytest.fixture(scope="module")
def programs():
    return Programs.of(bright_spot.make(), 1)


def runs(programs, shown):
    return effort.Runs(programs, bright_spot.PARAMS, shown)


def test_lines_need_a_box_at_every_turn():
    assert effort.annotate(clip(CORNER), [0, 23], effort.lines) == [0, 9, 11, 23]  # from 9 on all have IoU 0
    assert len(effort.fewest(clip(CORNER))) == 3
    assert effort.annotate(clip(CORNER[:10]), [0, 9], effort.lines) == [0, 9]
    assert effort.annotate(clip(CORNER[:1]), [0], effort.lines) == [0] == effort.fewest(clip(CORNER[:1]))
    seen = np.ones(24, bool)
    seen[6:18] = False  # the line is wrong where nobody looks
    assert effort.annotate(clip(CORNER, seen), [0, 23], effort.lines) != [0, 23]
    seen[1:23] = False
    assert effort.annotate(clip(CORNER, seen), [0, 23], effort.lines) == [0, 23] == effort.fewest(clip(CORNER, seen))


def test_the_fewest_are_the_fewest():
    """Beside every choice of key frames, on short walks; and lines between them are right in every frame."""
    rng = np.random.default_rng(0)
    for length in range(2, 9):
        shown = clip(np.cumsum(rng.integers(-6, 7, (length, 2)), 0) + 25, rng.random(length) < 0.8)
        shown.seen.flags.writeable = True
        shown.seen[[0, -1]] = True
        inner = [at for at in range(1, length - 1) if shown.seen[at]]
        choices = (chosen for count in range(length) for chosen in combinations(inner, count))
        expected = next(len(one) + 2 for one in choices if is_right(shown, [0, *one, length - 1]))
        found = effort.fewest(shown)
        assert len(found) == expected and is_right(shown, found)
        assert len(effort.annotate(shown, [0, length - 1], effort.lines)) >= expected


def is_right(shown, chosen):
    document, target = web.Document(), None
    for frame in chosen:
        document, target = web.draw(document, target, frame, shown.boxes[frame])
        document = effort.lines(document, target, frame)
    return effort.worst_frame(document.target(target), shown) is None


def test_a_tracker_that_does_not_fail_needs_one_box(programs):
    shown = clip(CORNER)
    cost = runs(programs, shown)
    assert effort.annotate(shown, [0], cost) == [0]
    assert cost.cost.frames == 24 and cost.cost.seconds > 0


def test_a_tracker_that_fails_is_corrected_from_both_sides(programs):
    """The square goes dark in frames 8 to 13: the tracker is lost there, and on the square from 14 on."""
    shown = clip(CORNER)
    dark = [np.minimum(image, 90) if 8 <= at <= 13 else image for at, image in enumerate(shown.images)]
    cost = runs(programs, shown._replace(images=dark))
    assert effort.annotate(shown, [0], cost) == [0, 8, 9, 10, 11, 12, 13]
    hidden = shown._replace(images=dark, seen=np.array([not 8 <= at <= 13 for at in range(24)]))
    assert effort.annotate(hidden, [0], runs(programs, hidden)) == [0]

    document, target = web.draw(web.Document(), None, 4, shown.boxes[4])
    document = cost(document, target, 4)
    document, _ = web.draw(document, target, 20, shown.boxes[20])
    document = cost(document, target, 20)
    kinds = [row and row.kind for row in web.rows(document.target(target), 3, 23)]
    assert kinds == [None, "key", *["blended"] * 15, "key", *["tracked"] * 3]


def test_the_worst_frame():
    """The earliest of equal ones; what is said to be lost is as bad as nothing, however right its box."""
    shown = clip([(10, 10)] * 6)
    box = tuple(shown.boxes[0])
    document, target = web.draw(web.Document(), None, 0, box)
    found = {at: web.Entry(box) for at in range(1, 6)} | {3: web.Entry((12.0, 10.0, 9.0, 9.0))}
    document = web.with_entries(document, target, web.FORWARD, found)
    assert effort.worst_frame(document.target(target), shown) == 3  # IoU 7 / 11
    for bad in (5, 4):
        document = web.with_entries(document, target, web.FORWARD, {bad: web.Entry(box, verdict=effort.LOST)})
        assert effort.worst_frame(document.target(target), shown) == bad
    near = web.with_entries(document, target, web.FORWARD, {at: web.Entry(box) for at in (4, 5)})
    near = web.with_entries(near, target, web.FORWARD, {3: web.Entry((11.0, 10.0, 9.0, 9.0))})  # IoU 8 / 10
    assert effort.worst_frame(near.target(target), shown) is None


def test_the_command(tmp_path, monkeypatch, capsys):
    """Whole, with a tracker that only sees the brightest pixel, on clips of a few frames."""
    module = trivial_tracker
    entry = trackers.Entry(module.Config(), module.make, init_params=lambda key: module.params())
    monkeypatch.setattr(module, "ENTRY", entry, raising=False)
    monkeypatch.setattr(effort, "prepare_process", lambda: None)
    out = tmp_path / "effort.json"
    options = ["--tracker", "tests.helpers.trivial_tracker:ENTRY", "--clips", "2", "--frames", "8", "--seed", "4"]
    assert effort.main([*options, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [one["seed"] for one in report["clips"]] == [4, 5] and report["clip"]["num_frames"] == 8
    assert report["rule"].startswith("the true box is drawn") and report["versions"]["jax"]
    for one in report["clips"]:
        shown = effort.drawn(synthetic.ClipConfig(num_frames=8), one["seed"])
        assert one["seen_frames"] == shown.seen.sum()
        assert one["lines"]["key_frames"] == effort.annotate(shown, [0, 7], effort.lines)
        assert one["tracker"]["key_frames"][0] == 0 and one["tracker"]["tracked_frames"] >= 8
    for way, mean in report["mean_key_frames"].items():
        assert mean == np.mean([len(one[way]["key_frames"]) for one in report["clips"]])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5 and printed[2].startswith("| 4 | 8 | ")


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--tracker", "nothing"], "nothing"), (["--weights", "OUT"], "OUT"), (["--set", "speed=2"], "speed")],
)
def test_mistakes_are_one_line(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(effort, "prepare_process", lambda: None)
    out = tmp_path / "effort.json"
    options = [str(out) if one == "OUT" else one for one in options]
    assert effort.main([*options, "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message.replace("OUT", str(out)) in line and not out.exists()


def test_frames_count_where_half_of_the_target_is_seen(monkeypatch):
    config = synthetic.ClipConfig(num_frames=2)
    unseen = [example._replace(visibility=share) for example, share in zip(synthetic.clip(config, 0), (0.49, 0.5))]
    monkeypatch.setattr(synthetic, "clip", lambda *_: unseen)
    assert effort.drawn(config, 0).seen.tolist() == [False, True]
    unseen[1] = unseen[0]
    with pytest.raises(ValueError, match="clip 0 is half seen in no frame; choose another --seed"):
        effort.drawn(config, 0)
