"""ATOM on fixed features: the filter that frame 1 gives finds the target again, and every frame teaches."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from ops.boxes import Box
from ops.crop import Crop
from tests.helpers.scene import at, box_of, frames_of, scene
from trackers import atom
from trackers.base import FOUND, LOST, Frame

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


def test_what_it_saw_lies_where_it_looked(started):
    track, params, state, frames = started
    _, here = track(params, state, at(frames, 0))
    side = CONFIG.region.search_area_scale * float(jnp.sqrt(jnp.prod(state.box.size)))
    np.testing.assert_allclose(here.extras["search"].center, state.box.center, atol=1e-3)
    np.testing.assert_allclose(here.extras["search"].size, side, rtol=1e-5)
    lost = state._replace(lost_frames=jnp.int32(2))  # looks around from here
    _, around = track(params, lost, at(frames, 0))
    moved = np.abs(around.extras["search"].center - state.box.center)
    assert moved.max() == pytest.approx(side / 2, rel=1e-4)
    np.testing.assert_allclose(around.extras["map"].center - around.extras["search"].center, -side / 40, rtol=1e-3)


def test_the_slot_that_a_frame_is_written_into_is_told(started):
    track, params, state, frames = started
    after, first = track(params, state, at(frames, 0))
    before = np.count_nonzero(state.memory.weights)
    assert first.extras["memory_slot"] == after.memory.last_slot == before
    np.testing.assert_array_equal(first.extras["memory_weights"], after.memory.weights)
    assert np.count_nonzero(first.extras["memory_weights"]) == before + 1
    blank = at(frames, 0)._replace(image=jnp.full_like(frames.image[0], 128))
    _, nothing = track(params, after, blank)
    assert nothing.extras["memory_slot"] == -1
    np.testing.assert_array_equal(nothing.extras["memory_weights"], after.memory.weights)


@pytest.mark.parametrize("kernel_size", [3, 4])
def test_the_map_of_scores_lies_where_the_target_is_located(kernel_size):
    """The bump's center of mass, in the second of two crops, whatever the half cell of an even kernel."""
    config = replace(CONFIG, kernel_size=kernel_size, scale_factors=(1.0, 1.1), use_iou_net=False)
    stages, cells, size = atom.make_stages(config), 20, config.region.image_size
    box = Box(jnp.array([120.0, 150.0]), jnp.array([40.0, 60.0]))
    centers = jnp.stack([box.center, box.center + 0.4])
    region = Crop(jnp.zeros((2, size, size, 3)), centers, jnp.array([1.2, 1.32]))
    frame = Frame(jnp.zeros((240, 300, 3), jnp.uint8), jnp.array([240, 300], jnp.int32))
    y, x = np.mgrid[:cells, :cells]
    bump = np.exp(-((y - 7.3) ** 2 + (x - 11.8) ** 2) / 4).astype(np.float32)
    features = atom.Features(jnp.asarray(np.stack([0.5 * bump, bump]))[..., None], {})
    impulse = jnp.zeros((kernel_size, kernel_size, 1)).at[kernel_size // 2, kernel_size // 2, 0].set(1.0)
    state = SimpleNamespace(box=box, projection=jnp.ones((1, 1)), filter=impulse, lost_frames=jnp.int32(0))
    location = stages.localize(state, frame, region, features)
    assert location.crop_index == 1
    scores = np.asarray(location.score_map)
    assert scores.shape == (cells, cells)
    mass = np.array([(scores * axis).sum() for axis in (y, x)]) / scores.sum()
    cell = np.asarray(location.map.size) / cells
    np.testing.assert_allclose(cell, 8 * 1.32, rtol=1e-5)
    place = location.map.center + (mass - (cells - 1) / 2) * cell
    np.testing.assert_allclose(place, location.center, atol=0.1 * cell[0])
