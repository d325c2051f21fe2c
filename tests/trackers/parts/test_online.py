"""What the composed tracker says it saw, on stages whose answers are given."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from ops.crop import Crop
from ops.sample_memory import SampleMemory
from trackers import base
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN, Frame
from trackers.parts import online
from trackers.parts.online import Location, OnlineConfig, Stages

CONFIG = OnlineConfig(memory_size=6, replacement="next_free", train_skipping=20)
INITIAL = 2
PLACE = Box(jnp.array([30.0, 40.0]), jnp.array([50.0, 50.0]))


class State(NamedTuple):
    frame_number: jax.Array
    lost_frames: jax.Array
    box: Box
    filter: jax.Array
    memory: SampleMemory


def tracker(index: int = 1) -> base.Tracker:
    """`params` is the verdict of every frame; the target is found in the search crop `index` of two."""

    def init(params, key, frame, box):
        memory = online.remember(jnp.ones((INITIAL, 3)), CONFIG)
        return State(jnp.int32(1), jnp.int32(0), box, jnp.zeros(3), memory)

    def crop(state, frame):
        image = jnp.broadcast_to(frame.image[None, :64, :64].astype(jnp.float32), (2, 64, 64, 3))
        return Crop(image, state.box.center[None] + jnp.array([[0.0, 0.0], [3.0, -5.0]]), jnp.array([1.0, 0.5]))

    def localize(state, frame, region, features):
        score = jnp.ones(())
        return Location(state.box.center, score, features, score, jnp.eye(5), PLACE, jnp.int32(index))

    def refine(params, state, frame, region, features, location):
        return state, location_box(state, location), {"proposals": Box(jnp.zeros((4, 2)), jnp.ones((4, 2)))}

    def location_box(state: State, location: Location) -> Box:
        return Box(location.center, state.box.size)

    def update(params, state, region, features, location, box):
        sample = jnp.full(3, 2.0)
        return online.learn(
            state, sample, location, box, lambda *_: state.filter, CONFIG, steps=(0, 0), initial=INITIAL
        )

    return online.compose(Stages(init, crop, lambda params, images: params, localize, refine, update))


def frame(level: int = 200) -> Frame:
    image = np.zeros((80, 80, 3), np.uint8)
    image[:40] = level
    return jax.device_put(Frame(image, np.array([80, 80], np.int32)))


BOX = Box(jnp.array([30.0, 31.0]), jnp.array([12.0, 10.0]))


@pytest.mark.parametrize("index", [0, 1])
def test_the_square_is_that_of_the_crop_in_which_the_target_was_found(index):
    one = tracker(index)
    state = one.init(jnp.int32(FOUND), jax.random.key(0), frame(), BOX)
    extras = one.track(jnp.int32(FOUND), state, frame())[1].extras
    offset, side = (([0, 0], 64), ([3, -5], 32))[index]
    np.testing.assert_array_equal(extras["search"].center, BOX.center + jnp.array(offset, jnp.float32))
    np.testing.assert_array_equal(extras["search"].size, [side, side])
    jax.tree.map(np.testing.assert_array_equal, extras["map"], PLACE)
    np.testing.assert_array_equal(extras["score_map"], np.eye(5))
    assert extras["proposals"].center.shape == (4, 2)


def test_only_a_frame_that_teaches_has_a_slot():
    one = tracker()
    state = one.init(jnp.int32(FOUND), jax.random.key(0), frame(), BOX)
    slots = []
    for verdict, level in (
        (FOUND, 200),
        (UNCERTAIN, 200),
        (HARD_NEGATIVE, 200),
        (LOST, 200),
        (FOUND, 0),  # nothing to see
        (FOUND, 200),
    ):
        before = state.memory
        state, estimate = one.track(jnp.int32(verdict), state, frame(level))
        slots.append(int(estimate.extras["memory_slot"]))
        weights = estimate.extras["memory_weights"]
        np.testing.assert_array_equal(weights, state.memory.weights)
        assert np.array_equal(weights, before.weights) == (slots[-1] < 0)
    assert slots == [2, -1, 3, -1, -1, 4]


def test_several_targets_have_each_their_own():
    several = base.many(tracker(), 2)
    boxes = Box(jnp.stack([BOX.center, BOX.center + 4]), jnp.stack([BOX.size] * 2))
    targets = several.init(jnp.int32(FOUND), jax.random.split(jax.random.key(0), 2), frame(), boxes)
    targets = targets._replace(active=jnp.array([True, False]))
    _, estimates = several.track(jnp.int32(FOUND), targets, frame())
    assert estimates.verdict.tolist() == [FOUND, LOST]
    extras = estimates.extras
    np.testing.assert_array_equal(extras["search"].center, boxes.center + jnp.array([[3.0, -5.0]]))
    assert extras["memory_weights"].shape == (2, CONFIG.memory_size) and extras["memory_slot"].tolist() == [2, 2]
    assert extras["proposals"].size.shape == (2, 4, 2) and extras["score_map"].shape == (2, 5, 5)
