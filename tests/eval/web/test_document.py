"""The annotation as data: what actions keep and forget, what is shown, what changed, files, undo."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import annotations
from eval.annotations import FORMATS, table
from eval.annotations.tracks import Row, Video, make_track, seen
from eval.scoring import metrics
from eval.web import document as web
from eval.web import stored
from eval.web.document import BACKWARD, FILLED, FORWARD, Document, Entry
from eval.web.history import DEPTH, History
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN

END = 14  # frames 0 .. END - 1 in drawn-up cases
BOX = (10.0, 20.0, 30.0, 40.0)


def run(frames, box=BOX, confidence=0.5, verdict=FOUND, score=2.0):
    return {frame: Entry(box, confidence, verdict, score) for frame in frames}


def tracked(keys=(0, 10), end=20):
    """One target with key frames, and boxes from both sides between all of them and outside."""
    document, car = web.draw(Document(), None, keys[0], BOX, name="car")
    for frame in keys[1:]:
        document, _ = web.draw(document, car, frame, BOX)
    for direction in (FORWARD, BACKWARD):
        document = web.with_entries(document, car, direction, run(range(end)))
    return document, car


def frames_of(document, direction, target=1):
    return sorted(getattr(document.target(target), direction))


def kinds(document, first, last, target=1):
    return [row and row.kind for row in web.rows(document.target(target), first, last)]


# What is forgotten


def test_a_new_or_moved_key_frame_forgets_what_started_elsewhere():
    document, car = tracked((2, 10))
    assert frames_of(document, FORWARD) == [*range(3, 10), *range(11, 20)]
    assert frames_of(document, BACKWARD) == [0, 1, *range(3, 10)]
    new, _ = web.draw(document, car, 6, (0, 0, 9, 9))
    assert frames_of(new, FORWARD) == [3, 4, 5, *range(11, 20)] and frames_of(new, BACKWARD) == [0, 1, 7, 8, 9]
    moved, _ = web.draw(document, car, 10, (0, 0, 9, 9))
    assert frames_of(moved, FORWARD) == [*range(3, 10)] and frames_of(moved, BACKWARD) == [0, 1]
    deleted = web.delete(document, car, 10, 10)
    assert deleted.target(car).keys == {2: BOX}
    assert frames_of(deleted, FORWARD) == [*range(3, 10)] and frames_of(deleted, BACKWARD) == [0, 1]
    same, _ = web.draw(document, car, 10, BOX)
    assert same == document  # it was not moved


def test_a_key_frame_forgets_lines_on_both_sides_but_no_file():
    document, car = web.draw(Document(), None, 0, BOX)
    document = web.with_entries(document, car, FILLED, {n: Entry(BOX, kind="imported") for n in (15, 16)})
    for frame in (10, 20, 30):
        document, _ = web.draw(document, car, frame, BOX)
    for frame in (5, 25):
        document = web.interpolate(document, car, frame)
    new, _ = web.draw(document, car, 12, BOX)
    assert frames_of(new, FILLED) == [*range(1, 10), 15, 16, *range(21, 30)]
    new, _ = web.draw(new, car, 20, (0, 0, 9, 9))
    assert frames_of(new, FILLED) == [*range(1, 10), 15, 16]
    new = web.delete(new, car, 8, 15)
    assert frames_of(new, FILLED) == [16] and [*new.target(car).keys] == [0, 20, 30]


def test_absence():
    document, car = tracked((0, 5, 10), end=10)
    document = web.mark_absent(document, car, 2, 3)
    assert kinds(document, 0, 5) == ["key", "blended", "absent", "absent", "blended", "key"]
    document = web.mark_absent(document, car, 4, 6)  # the key frame 5 among them
    assert document.target(car).absent == ((2, 6),) and [*document.target(car).keys] == [0, 10]
    assert frames_of(document, FORWARD) == [1, 2, 3, 4] and frames_of(document, BACKWARD) == [6, 7, 8, 9]
    assert web.shown(document.target(car), 4) == (None, 0, LOST, web.NOBODY, "absent")
    document, _ = web.draw(document, car, 4, BOX)  # a person sees it after all
    assert document.target(car).absent == ((2, 3), (5, 6)) and kinds(document, 3, 5) == ["absent", "key", "absent"]
    document = web.delete(document, car, 3, 8)
    assert document.target(car).absent == ((2, 2),)
    assert kinds(document, 0, 10) == ["key", "tracked", "absent"] + [None] * 6 + ["tracked", "key"]


# What is shown


def between(forward, backward, frame, keys=(0, 10)):
    document, car = tracked(keys, end=0)
    document = web.with_entries(document, car, FORWARD, {frame: forward})
    return web.shown(web.with_entries(document, car, BACKWARD, {frame: backward}).target(car), frame)


def test_two_runs_are_blended():
    """By hand: in frame 4 of 0..10 the weights are 0.9 * 0.6 = 0.54 and 0.45 * 0.4 = 0.18, 3 to 1."""
    forward = Entry((0.0, 0.0, 40.0, 40.0), 0.9, HARD_NEGATIVE, 7.0)
    backward = Entry((8.0, 4.0, 44.0, 40.0), 0.45, UNCERTAIN, 5.0)
    both = between(forward, backward, 4)
    assert both == ((2, 1, 41, 40), 0.7875, HARD_NEGATIVE, web.NOBODY, "blended")
    near_the_end = between(forward, backward, 8)  # 0.18 and 0.36
    assert near_the_end.box == (5.3333, 2.6667, 42.6667, 40) and near_the_end.verdict == UNCERTAIN
    apart = between(forward, backward._replace(box=(100.0, 100.0, 9.0, 9.0)), 4)
    assert apart == (*forward[:-1], "blended")
    lost = forward._replace(verdict=LOST)
    assert between(lost, backward, 1) == (*backward[:-1], "blended")  # however near it is
    assert between(lost, backward._replace(verdict=LOST), 4) == (*lost[:-1], "blended")
    assert between(lost, backward._replace(verdict=LOST), 6).box == backward.box
    unsure = between(forward._replace(confidence=0.0), backward._replace(confidence=0.0), 5)
    assert unsure.box == (4, 2, 42, 40) and unsure.confidence == 0


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_boxes_that_overlap_by_less_than_the_limit_are_not_averaged(data):
    """Beside eval.scoring.metrics."""
    side, place = st.floats(1, 50), st.floats(-20, 20)
    one, other = (tuple(round(data.draw(part), 4) for part in (place, place, side, side)) for _ in range(2))
    overlap = float(metrics.overlaps(np.array(one), np.array(other)))
    assert math.isclose(web._overlap(one, other), overlap, abs_tol=1e-9)
    both = between(Entry(one, 0.5), Entry(other, 0.5), 5)
    assert (both.box in (one, other)) or overlap >= web.BLENDED_FROM - 1e-9


def test_lines():
    document, car = web.draw(Document(), None, 2, (0, 0, 10, 20))
    document, _ = web.draw(document, car, 6, (8, 4, 14, 20))
    document = web.with_entries(document, car, FORWARD, run(range(3, 9)))
    document = web.with_entries(document, car, BACKWARD, run([1, 3, 4]))
    line = web.interpolate(document, car, 3)
    assert [row.box for row in web.rows(line.target(car), 2, 6)] == [
        *[(0, 0, 10, 20), (2, 1, 11, 20), (4, 2, 12, 20), (6, 3, 13, 20), (8, 4, 14, 20)]
    ]
    assert kinds(line, 0, 9) == [None, "tracked", "key", *["interpolated"] * 3, "key", "tracked", "tracked", None]
    again = web.with_entries(line, car, BACKWARD, run([4]))  # what a run finds later goes over the line
    assert kinds(again, 3, 5) == ["interpolated", "tracked", "interpolated"]
    third, _ = web.draw(line, car, 8, BOX)
    assert kinds(web.interpolate(third, car, 6), 3, 7) == [*["interpolated"] * 3, "key", "interpolated"]
    for frame in (0, 1, 7):
        with pytest.raises(ValueError, match=f"no two key frames enclose frame {frame}; draw"):
            web.interpolate(document, car, frame)


def test_neighbors():
    target = tracked((2, 5, 9), end=0)[0].targets[0]
    expected = {0: (None, 2), 2: (None, 5), 3: (2, 5), 5: (2, 9), 9: (5, None), 30: (9, None)}
    assert {frame: web.neighbors(target, frame) for frame in expected} == expected


# Any sequence of actions


def mixed():
    """Two targets with everything: gaps, absence, two runs, a line, a file's boxes."""
    document, car = tracked((2, 8), end=12)
    document = web.mark_absent(document, car, 10, 13)
    document = web.delete(document, car, 5, 6)
    document, dog = web.draw(document, None, 4, (1.5, 2.25, 3, 4), name='"dog" & <cat>')
    document, _ = web.draw(document, dog, 6, (2.5, 2.25, 3, 4))
    document = web.interpolate(document, dog, 5)
    document = web.with_entries(document, dog, FILLED, {9: Entry(BOX, 0.25, LOST, -1.5, "imported")})
    document, _ = web.draw(document, None, 0, BOX, name="nothing")
    return web.delete(document, 3, 0, 0)


FRAME = st.integers(0, END - 1)
RANGE = st.tuples(FRAME, st.integers(0, 4)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SIDES = st.tuples(st.floats(-9, 99), st.floats(-9, 99), st.floats(1.5, 60), st.floats(1.5, 60))
SCORE = st.sampled_from([math.nan, -0.25, 3.0])
ENTRY = st.tuples(SIDES, st.floats(0, 1), st.integers(0, 3), SCORE).map(lambda said: Entry(*said))
ENTRIES = st.dictionaries(FRAME, ENTRY, max_size=8)
WHO = st.integers(1, 3)
ACTIONS = st.one_of(
    st.tuples(st.just("new"), FRAME, SIDES),
    st.tuples(st.just("draw"), WHO, FRAME, SIDES),
    st.tuples(st.just("mark_absent"), WHO, RANGE),
    st.tuples(st.just("delete"), WHO, RANGE),
    st.tuples(st.just("interpolate"), WHO, FRAME),
    st.tuples(st.just("run"), WHO, st.sampled_from([FORWARD, BACKWARD]), ENTRIES),
    st.tuples(st.just("import"), WHO, ENTRIES),
    st.tuples(st.just("rename"), WHO, st.sampled_from("abc")),
    st.tuples(st.just("remove"), st.integers(2, 3)),
)


def act(document, action, *arguments):
    """The document after an action; the same one where it is refused with one line."""
    try:
        match action:
            case "new":
                return web.draw(document, None, *arguments)[0]
            case "draw":
                return web.draw(document, *arguments)[0]
            case "mark_absent" | "delete":
                return getattr(web, action)(document, arguments[0], *arguments[1])
            case "run":
                return web.with_entries(document, *arguments)
            case "import":
                found = {frame: entry._replace(kind="imported") for frame, entry in arguments[1].items()}
                return web.with_entries(document, arguments[0], FILLED, found)
            case _:
                return getattr(web, action)(document, *arguments)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return document


def states(actions):
    """The document before them and after each."""
    found = [mixed()]
    for action in actions:
        found.append(act(found[-1], *action))
    return found


def rows_of(document):
    """Frame by frame, by the rule in words; what both runs say is whatever `shown` makes of it."""
    found = {}
    for target in document.targets:
        for frame in range(END + 5):
            both = frame in target.forward and frame in target.backward
            if any(first <= frame <= last for first, last in target.absent):
                expected = web.IS_ABSENT
            elif frame in target.keys:
                expected = (target.keys[frame], 1, FOUND, web.NOBODY, "key")
            elif both:
                expected = web.shown(target, frame)
                assert expected.kind == "blended"
            else:
                said = [getattr(target, direction).get(frame) for direction in (FORWARD, BACKWARD, FILLED)]
                expected = next(filter(None, said), None)
            assert web.shown(target, frame) == expected
            found[target.id, frame] = expected
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, min_size=3, max_size=14))
def test_what_always_holds(actions):
    kept = {}  # of the files' texts
    for before, document in pairwise(states(actions) + [Document()]):
        names = [target.name for target in document.targets]
        assert len(set(names)) == len(names) and all(target.id < document.next_id for target in document.targets)
        for target in document.targets:
            assert all(first <= last for first, last in target.absent)
            assert all(last + 1 < first for (_, last), (first, _) in pairwise(target.absent))
            assert [*target.keys] == sorted(target.keys)
            assert not any(first <= key <= last for key in target.keys for first, last in target.absent)
            assert not target.keys.keys() & {*target.forward, *target.backward, *target.filled}
            assert all(min(target.keys, default=END) < frame for frame in target.forward)
            assert all(max(target.keys, default=-1) > frame for frame in target.backward)
            whole = web.rows(target, 0, END + 4)
            assert whole == [web.shown(target, frame) for frame in range(END + 5)]
        old, new = rows_of(before), rows_of(document)
        found = web.differences(before, document)
        for target in document.targets:
            differing = [f for f in range(END + 5) if new[target.id, f] != old.get((target.id, f))]
            expected = [(target.id, differing[0], differing[-1])] if differing else []
            assert [row for row in found.rows if row[0] == target.id] == expected
        heads = [{one.id: web._head(one) for one in some.targets} for some in (before, document)]
        changed = {one for one in {*heads[0], *heads[1]} if heads[0].get(one) != heads[1].get(one)}
        now = {target.id: target for target in document.targets}
        assert found.targets == {one: now.get(one) for one in changed}
        text = stored.file_text(document, {"a": 1}, kept)
        assert stored.parse_file(text) == document and text == stored.file_text(document, {"a": 1})
        assert kept.keys() == now.keys()  # so that it does not grow


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, min_size=3, max_size=8))
def test_only_deleting_and_absence_take_key_frames(actions):
    for (before, document), (action, who, *arguments) in zip(pairwise(states(actions)), actions):
        kept = {target.id: target.keys for target in document.targets}
        assert action != "draw" or len(document.targets) == len(before.targets)
        for target in before.targets:
            gone = target.keys.keys() - kept.get(target.id, {}).keys()
            if gone and action != "remove":
                assert action in ("delete", "mark_absent") and target.id == who
                assert all(arguments[0][0] <= frame <= arguments[0][1] for frame in gone)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=8), st.data())
def test_undo_and_redo(actions, data):
    past = states(actions)
    history = History(past[0])
    for number, document in enumerate(past[1:], 1):
        assert history.apply(f"step {number}", document) == number
    at = len(past) - 1
    for _ in range(10):
        assert history.document == past[at]
        assert history.undo_label == (f"step {at}" if at else None)
        assert history.redo_label == (f"step {at + 1}" if at + 1 < len(past) else None)
        by = data.draw(st.sampled_from([-1, 1]))
        if 0 <= at + by < len(past):
            at += by
            assert (history.undo if by < 0 else history.redo)() == past[at]
        else:
            with pytest.raises(ValueError, match="there is nothing to "):
                (history.undo if by < 0 else history.redo)()


def test_a_run_is_one_step_whatever_happens_meanwhile():
    document, car = web.draw(Document(), None, 0, BOX, name="car")
    history = History(document)

    def track(frames):
        return lambda document: web.with_entries(document, car, FORWARD, run(frames))

    step = history.apply("track car", track([1, 2])(document))
    history.apply("draw dog", web.draw(history.document, None, 0, BOX, name="dog")[0])
    history.amend(step, track([3, 4]))
    assert frames_of(history.document, FORWARD) == [1, 2, 3, 4] and len(history.document.targets) == 2
    history.undo()
    assert frames_of(history.document, FORWARD) == [1, 2, 3, 4] and len(history.document.targets) == 1
    assert history.undo() == document and history.undo_label is None
    history.amend(step, track([5]))
    assert history.document == document and frames_of(history.redo(), FORWARD) == [1, 2, 3, 4, 5]
    history.undo()
    history.apply("draw cat", web.draw(history.document, None, 0, BOX, name="cat")[0])
    history.amend(step, track([6]))  # of a run whose step nothing can bring back
    assert not history.document.target(car).forward and history.redo_label is None


def test_the_past_is_bounded():
    history = History()
    for number in range(DEPTH + 50):
        last = history.apply(str(number), replace(history.document, next_id=number + 1))
    for _ in range(DEPTH):
        history.undo()
    assert history.undo_label is None and history.document.next_id == 50
    history.amend(1, lambda document: replace(document, next_id=1000 + document.next_id))
    assert history.document.next_id == 1050 and history.redo().next_id == 1051 and last == DEPTH + 50


def test_ten_thousand_frames():
    """A run's report, what changed by it, and the rows of all frames."""
    document, car = tracked((0, 9999), end=9999)
    for frame in range(5000, 5020):
        after = web.with_entries(document, car, FORWARD, run([frame], (1, 1, 9, 9)))
        assert web.differences(document, after) == ({}, [(car, frame, frame)])
        document = after
    assert len(web.rows(document.target(car), 0, 9999)) == 10_000


# Mistakes

ONE = tracked((0, 10), end=0)[0]
WRONG = [
    (lambda: web.draw(ONE, 7, 0, BOX), "target 7: there is none"),
    (lambda: web.draw(ONE, None, -1, BOX), "frame -1: must be a whole number from 0"),
    (lambda: web.draw(ONE, None, 1.5, BOX), "frame 1.5: must be a whole number"),
    (lambda: web.draw(ONE, None, 10**7, BOX), "below 1000000"),
    (lambda: web.draw(ONE, None, 0, (0, 0, math.nan, 5)), "must be finite"),
    (lambda: web.draw(ONE, None, 0, (0, 0, 9, 0.5)), "smaller than a pixel"),
    (lambda: web.draw(ONE, None, 0, (0, 0, 9)), "must be four numbers"),
    (lambda: web.draw(ONE, None, 0, (0, 0, 10**400, 9)), "must be four numbers"),
    (lambda: web.draw(ONE, None, 0, BOX, name="car"), "another target has it"),
    (lambda: web.draw(ONE, None, 0, BOX, name=" "), "must be text with letters"),
    (lambda: web.rename(ONE, 1, "a\nb"), "must be text with letters that can be printed, on one line"),
    (lambda: web.set_tracker(ONE, 1, ""), "tracker ''"),
    (lambda: web.mark_absent(ONE, 1, 5, 4), "the last is before the first; exchange them"),
    (lambda: web.delete(ONE, 1, 5, 4), "the last is before the first; exchange them"),
    (lambda: web.remove(ONE, 2), "target 2: there is none"),
    (lambda: web.with_entries(ONE, 1, "sideways", {}), "none of forward, backward, filled"),
    (lambda: web.with_entries(ONE, 1, FORWARD, run([1], (0, 0, math.inf, 1))), "frame 1: the box"),
    (lambda: web.with_entries(ONE, 1, FORWARD, run([1], (0, 0, -1, 1))), "frame 1: the box"),
    (lambda: web.with_entries(ONE, 1, FORWARD, run([1], confidence=1.5)), "the confidence 1.5 is not in 0..1"),
    (lambda: web.with_entries(ONE, 1, FORWARD, run([1], verdict=4)), "the verdict 4"),
    (lambda: web.with_entries(ONE, 1, FILLED, run([1])), "'tracked' is not what can be filled"),
]


@pytest.mark.parametrize(("mistake", "message"), WRONG, ids=[message for _, message in WRONG])
def test_mistakes(mistake, message):
    with pytest.raises(ValueError, match=message) as caught:
        mistake()
    assert "\n" not in str(caught.value)


def test_names():
    document, _ = web.draw(ONE, None, 0, BOX)
    document, dog = web.draw(document, None, 0, BOX, name=" dog ", tracker="siamfc")
    document, _ = web.draw(document, dog, 1, BOX, tracker="mine:ENTRY")
    assert [(one.name, one.tracker) for one in document.targets] == [
        *[("car", web.DEFAULT_TRACKER), ("target 2", web.DEFAULT_TRACKER), ("dog", "mine:ENTRY")]
    ]
    document = web.remove(document, 2)
    document, last = web.draw(web.rename(document, dog, "target 4"), None, 0, BOX)
    assert last == 4 and document.target(4).name == "target 4-2"


# Files


def test_a_file_holds_both_what_is_shown_and_all():
    document = mixed()
    text = stored.file_text(document, {"video": "clip.mp4", "image_size": [64, 48]})
    assert stored.parse_file(text) == document
    (video,) = annotations.parse("clip.mp4.json", text)
    assert video.size == (64, 48) and [track.name for track in video.tracks] == ["car", '"dog" & <cat>']
    for track in video.tracks:
        target = document.target(track.id)
        assert track.frames.tolist() == [*range(track.frames[0], track.frames[-1] + 1)]
        for frame, box, there in zip(track.frames.tolist(), track.boxes, seen(track)):
            row = web.shown(target, frame)
            assert there == (row is not None and row.verdict != LOST)
            if row and row.box:
                assert tuple(box) == row.box
    assert stored.file_text(stored.parse_file(text), {"video": "clip.mp4", "image_size": [64, 48]}) == text
    assert stored.parse_file(stored.file_text(Document(), {})) == Document()


@pytest.mark.parametrize("name", [*FORMATS, ".csv", ".json"])
def test_every_format_says_where_targets_are_seen(name):
    video = stored.to_video(mixed(), "clip", (64, 48))
    form = {**FORMATS, **annotations.OURS}[name]
    (again,) = annotations.parse(f"clip{form.suffix}", form.render(video))
    for track, before in zip(again.tracks, video.tracks, strict=True):
        there = [frame for frame, is_seen in zip(track.frames.tolist(), seen(track)) if is_seen]
        rows = web.rows(mixed().target(before.id), 0, 20)
        assert there == [frame for frame, row in enumerate(rows) if row and row.verdict != LOST]


def test_import():
    tracks = [
        make_track(1, "car", [Row(3, BOX, 0.5, "found", 1.5), Row(4, BOX, math.nan, "lost"), Row(9, BOX, 1, "odd")]),
        make_track(2, "cat", [Row(0, (0, 0, 0, 0), 0.25, "distractor")]),
    ]
    document = stored.of_video(ONE, Video("clip", tracks))
    assert [target.name for target in document.targets] == ["car", "car-2", "cat"] and document.next_id == 4
    assert document.target(2).filled == {
        3: Entry(BOX, 0.5, FOUND, 1.5, "imported"),
        4: Entry(BOX, 1.0, LOST, web.NOBODY, "imported"),
        9: Entry(BOX, 1.0, FOUND, web.NOBODY, "imported"),
    }
    assert document.target(3).filled[0].verdict == HARD_NEGATIVE
    again = stored.of_video(Document(), table.read_json(stored.file_text(document, {}), "clip")[0])
    assert [kinds(again, 3, 9, target) for target in (1, 2)] == [["imported"] * 7] * 2


DAMAGE = [
    ("targets", {}, "targets: must be a list"),
    ("targets", [7], r"targets\[0\]: must be an object"),
    ("next_id", 1, "next_id: 1 is not above the ids of the targets; write 4"),
    ("next_id", None, "next_id: None"),
    ("id", 0, r"targets\[0\]: id 0: must be above 0"),
    ("id", 2, r"targets\[1\]: id 2: must be above 0, and no other target's"),
    ("name", '"dog" & <cat>', r"targets\[1\]: name .* another target has it"),
    ("name", 7, r"targets\[0\]: name 7: must be text"),
    ("tracker", "", r"targets\[0\]: tracker ''"),
    ("keys", None, r"targets\[0\]: keys: must be a list"),
    ("keys", [[2, 1, 1, 9]], r"targets\[0\]: keys\[0\]: .* is not a list of 5"),
    ("keys", [[2, 1, 1, 9, 9], [2, 1, 1, 9, 9]], r"targets\[0\]: keys\[1\]: frame 2 is there twice"),
    ("keys", [[2, 1, 1, 9, None]], r"keys\[0\]: .* is not of numbers"),
    ("keys", [[2, 1, 1, 9, True]], r"keys\[0\]: .* is not of numbers"),
    ("keys", [[2, 1, 1, 9, 1e400]], "must be finite"),
    ("keys", [[2.0, 1, 1, 9, 9]], r"keys\[0\]: frame 2.0: must be a whole number"),
    ("keys", [[11, 1, 1, 9, 9]], "in frame 11 the target is absent"),
    ("keys", [[4, 1, 1, 9, 9]], "forward: frame 3 is a key frame, or follows from none"),
    ("absent", [[5, 4]], r"targets\[0\]: frames 5 to 4: the last is before"),
    ("forward", [[3, 1, 1, 9, 9, 0.5, 0]], r"forward\[0\]: .* is not a list of 8"),
    ("forward", [[3, 1, 1, 9, 9, 0.5, 9, 1.0]], "frame 3: the verdict 9"),
    ("forward", [[3, 1, 1, 9, 9, None, 0, 1.0]], "is not of numbers"),
    ("backward", [[10**6, 1, 1, 9, 9, 0.5, 0, 1.0]], "below 1000000"),
    ("imported", [[3, 1, 1, 9, 10**400, 0.5, 0, 1.0]], r"targets\[0\]: "),
]


@pytest.mark.parametrize(("key", "value", "message"), DAMAGE)
def test_damage_is_one_line_with_its_place(key, value, message):
    whole = json.loads(stored.file_text(mixed(), {}))["annotation"]
    (whole if key in whole else whole["targets"][0])[key] = value
    with pytest.raises(ValueError, match=message) as caught:
        stored.parse_file(json.dumps({"annotation": whole}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", '{"annotation": 7}', '{"targets": []}', "[" * 100_000])
def test_what_is_no_file_of_ours(text):
    with pytest.raises(ValueError):
        stored.parse_file(text)
