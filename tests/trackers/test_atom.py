"""ATOM on fixed features: the filter that frame 1 gives finds the target again, and every frame teaches."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from tests.helpers.scene import at, box_of, frames_of, scene
from trackers import atom
from trackers.base import FOUND, LOST

CONFIG = replace(
    atom.FILTER_BANK,
    online=replace(atom.FILTER_BANK.online, memory_size=40),
    compressed_dim=16,
    init_cg_steps=30,
    init_gn_steps=3,
    scale_filter=None,
)


@pytest.fixture(scope="module")
def started():
    """The compiled `track`, parameters, the state after frame 1 and the frames."""
    images, xywh = scene()
    tracker, params = atom.make(CONFIG), trackers.init_params("atom_filterbank", jax.random.key(0))
    frames = frames_of(images)
    state = jax.jit(tracker.init)(params, jax.random.key(0), at(frames, 0), box_of(xywh))
    return jax.jit(tracker.track), params, state, frames


def test_the_target_is_found_where_frame_1_shows_it(started):
    track, params, state, frames = started
    _, estimate = track(params, state, at(frames, 0))
    cell = float(jnp.sqrt(jnp.prod(state.box.size))) * CONFIG.region.search_area_scale / 20
    np.testing.assert_allclose(estimate.box.center, state.box.center, atol=cell)
    assert int(estimate.verdict) == FOUND and estimate.score > 0.5


def test_the_box_follows_the_target(started):
    track, params, state, frames = started
    moved = frames._replace(image=jnp.roll(frames.image, (5, -4), (1, 2)))
    _, here = track(params, state, at(frames, 0))
    _, there = track(params, state, at(moved, 0))
    np.testing.assert_allclose(there.box.center - here.box.center, [5, -4], atol=1.5)


def test_an_empty_frame_is_lost_and_teaches_nothing(started):
    track, params, state, frames = started
    blank = at(frames, 0)._replace(image=jnp.full_like(frames.image[0], 128))
    after, estimate = track(params, state, blank)
    assert int(estimate.verdict) == LOST
    np.testing.assert_array_equal(estimate.box.center, state.box.center)
    assert int(after.memory.count) == int(state.memory.count) and int(after.lost_frames) == 1
    seen, _ = track(params, state, at(frames, 1))
    assert int(seen.memory.count) == int(state.memory.count) + 1 and int(seen.lost_frames) == 0
