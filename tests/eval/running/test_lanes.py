"""Sequences tracked in lock-step: what one lane does is nothing to the others, and nothing compiles on the way."""

import threading
from collections import Counter

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.running import lanes as lock_step
from eval.running.lanes import AloneError, Lanes, Start, group_by_canvas, track_group
from eval.running.passes import Compiled, track_sequence
from eval.scoring.results import TrackResult
from eval.sources.sequences import Sequence, SequenceError
from eval.sources.synthetic import ClipConfig, clip
from tests.helpers import trivial_tracker
from tests.helpers.small_trackers import small
from trackers.base import Tracker

CANVAS = (256, 256)


def draw(folder, name: str, count: int, **changes) -> Sequence:
    """A drawn clip on disk; its length is also its seed."""
    config = ClipConfig(height=96, width=128, num_frames=count, target_size=(24.0, 24.0), **changes)
    frames, boxes = [], []
    for number, example in enumerate(clip(config, seed=count)):
        frames.append(folder / f"{name}_{number}.png")
        assert cv2.imwrite(str(frames[-1]), example.image[..., ::-1])
        boxes.append(example.box)
    return Sequence(name, tuple(frames), np.array(boxes), np.ones(count, bool))


def starts_of(sequences: list[Sequence]) -> dict[Sequence, Start]:
    keys = jax.random.split(jax.random.key(3), len(sequences))
    return {sequence: Start(key, sequence.boxes[0]) for sequence, key in zip(sequences, keys)}


def outcomes_of(frames) -> dict[str, object]:
    """What became of each sequence; each ends once."""
    ended = [(sequence.name, outcome) for sequence, outcome in frames if outcome is not None]
    assert len(dict(ended)) == len(ended)
    return dict(ended)


def counted(tracker: Tracker) -> tuple[Tracker, Counter]:
    """The same tracker, and how often each of its functions was traced."""
    traces = Counter()

    def init(*args):
        traces["init"] += 1
        return tracker.init(*args)

    def track(*args):
        traces["track"] += 1
        return tracker.track(*args)

    return Tracker(init, track), traces


@pytest.mark.full
def test_dimp_in_two_lanes_does_what_it_does_alone(tmp_path):
    """Three clips of other lengths, so that a lane takes a second one while the other is in the middle of its own.

    Boxes to 0.01 px, confidence to 1e-3: a batched convolution sums in another order, and the optimizers that learn the
    filter and refine the box carry the last bits on; a wrong key, frame or lane moves a box by pixels.
    """
    tracker, traces = counted(trackers.get("dimp_tiny").make(small("dimp_tiny")))
    params = jax.device_put(trackers.load_params("dimp_tiny", None))
    starts = starts_of([draw(tmp_path, name, count, speed=3.0) for name, count in (("a", 6), ("b", 3), ("c", 4))])
    together = outcomes_of(track_group(Lanes.of(tracker), 2, params, CANVAS, starts))
    assert traces == {"init": 2, "track": 1}  # init: once for its shapes
    compiled = Compiled.of(tracker)
    for sequence, start in starts.items():
        alone = track_sequence(compiled, params, sequence, start.key)
        np.testing.assert_allclose(together[sequence.name].boxes, alone.boxes, atol=0.01)
        np.testing.assert_allclose(together[sequence.name].confidence, alone.confidence, atol=1e-3)
        assert (together[sequence.name].seconds > 0).all()
        assert np.abs(alone.boxes[-1] - alone.boxes[0]).max() > 1  # it went somewhere


def test_one_lane_fails_and_the_others_go_on(tmp_path):
    """A box that is not finite, an unreadable image and one that is too large: each ends its own sequence."""
    inner = trivial_tracker.make()

    def track(params, state, frame):
        state, estimate = inner.track(params, state, frame)
        dark = estimate.score < 100
        box = jax.tree.map(lambda leaf: jnp.where(dark, jnp.nan, leaf), estimate.box)
        return state._replace(box=box), estimate._replace(box=box)

    sequences = [draw(tmp_path, name, count) for name, count in (("a", 9), ("b", 8), ("c", 7), ("d", 6), ("e", 5))]
    good, dark, broken, large, last = sequences
    cv2.imwrite(str(dark.frames[3]), np.zeros((96, 128, 3), np.uint8))
    broken.frames[2].write_bytes(b"")
    cv2.imwrite(str(large.frames[1]), np.zeros((300, 128, 3), np.uint8))
    tracker, traces = counted(Tracker(inner.init, track))
    params, starts, lanes = trivial_tracker.params(), starts_of(sequences), Lanes.of(Tracker(inner.init, track))
    found = outcomes_of(track_group(lanes, 3, params, CANVAS, starts))
    for name, message in (("b", f"{dark.frames[3]}: the tracker returned"), ("c", f"{broken.frames[2]}: not an image")):
        assert isinstance(found[name], SequenceError) and str(found[name]).startswith(message)
    assert isinstance(found["d"], AloneError)
    compiled = Compiled.of(tracker)
    for sequence in (good, last):
        alone = track_sequence(compiled, params, sequence, starts[sequence].key)
        np.testing.assert_array_equal(found[sequence.name].boxes, alone.boxes)
        np.testing.assert_array_equal(found[sequence.name].confidence, alone.confidence)
    assert traces == {"init": 1, "track": 1}


def test_a_call_is_shared_by_the_lanes_that_track(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(lock_step, "perf_counter", lambda: float(next(clock)))  # a call takes one second
    starts = starts_of([draw(tmp_path, name, count) for name, count in (("a", 5), ("b", 3))])
    found = outcomes_of(track_group(Lanes.of(trivial_tracker.make()), 2, trivial_tracker.params(), CANVAS, starts))
    np.testing.assert_array_equal(found["a"].seconds, [1, 0.5, 0.5, 1, 1])
    np.testing.assert_array_equal(found["b"].seconds, [1, 0.5, 0.5])


def test_left_in_the_middle_it_ends_its_threads(tmp_path):
    before = set(threading.enumerate())
    starts = starts_of([draw(tmp_path, name, count) for name, count in (("a", 30), ("b", 20))])
    frames = track_group(Lanes.of(trivial_tracker.make()), 2, trivial_tracker.params(), CANVAS, starts)
    assert next(frames).outcome is None
    reading = set(threading.enumerate()) - before
    assert len(reading) == 3
    frames.close()
    for thread in reading:
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_groups_by_canvas_begin_with_the_longest(tmp_path):
    small_ones = [draw(tmp_path, name, count) for name, count in (("a", 2), ("b", 4))]
    wide = draw(tmp_path, "c", 3)
    cv2.imwrite(str(wide.frames[0]), np.zeros((96, 300, 3), np.uint8))
    gone = draw(tmp_path, "d", 3)
    gone.frames[0].unlink()
    groups, unreadable = group_by_canvas([*small_ones, wide, gone])
    assert groups == {(256, 256): small_ones[::-1], (256, 512): [wide]}
    assert list(unreadable) == [gone] and "No such file" in str(unreadable[gone])


@pytest.mark.parametrize("count", [1, 4])
def test_a_sequence_of_one_frame(tmp_path, count):
    starts = starts_of([draw(tmp_path, name, 1) for name in "ab"])
    found = outcomes_of(track_group(Lanes.of(trivial_tracker.make()), count, trivial_tracker.params(), CANVAS, starts))
    assert all(isinstance(found[name], TrackResult) and len(found[name].boxes) == 1 for name in "ab")
