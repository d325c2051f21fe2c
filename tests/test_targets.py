"""Joining, leaving and starting again of targets, and the gradient of a clip loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_properties import at, box_of, frames_of, jit, params, scene, tracker
from trackers import base

CHEAP = "atom_filterbank"  # the code of `base` is the same for all


def test_targets_join_leave_and_start_again():
    images, xywh = scene()
    frames = frames_of(images)
    boxes = box_of([xywh, xywh + [4, 3, 0, 0]])
    keys = jax.random.split(jax.random.key(5), 2)
    group = base.many(tracker(CHEAP), 2)
    targets = jit(group.init)(params(CHEAP), keys, at(frames, 0), boxes)
    change, track = jit(base.set_targets(tracker(CHEAP))), jit(group.track)
    nobody, second = jnp.array([False, False]), jnp.array([False, True])
    targets = change(params(CHEAP), keys, at(frames, 0), targets, boxes, nobody, second)
    targets, estimate = track(params(CHEAP), targets, at(frames, 1))
    assert estimate.verdict[1] == base.LOST and estimate.confidence[1] == 0
    assert estimate.confidence[0] > 0
    targets = change(params(CHEAP), keys, at(frames, 1), targets, boxes, second, nobody)
    assert bool(targets.active.all())
    fresh = jit(tracker(CHEAP).init)(params(CHEAP), keys[1], at(frames, 1), at(boxes, 1))
    np.testing.assert_allclose(targets.states.filter[1], fresh.filter, rtol=1e-3, atol=1e-4)
    assert int(targets.states.frame_number[0]) == 2


def test_a_chunk_equals_single_frames():
    images, xywh = scene()
    frames = frames_of(images)
    state = jit(tracker(CHEAP).init)(params(CHEAP), jax.random.key(0), at(frames, 0), box_of(xywh))
    _, together = jit(base.track_chunk(tracker(CHEAP)))(params(CHEAP), state, frames)
    track = jit(tracker(CHEAP).track)
    for index in range(len(images)):
        state, estimate = track(params(CHEAP), state, at(frames, index))
        np.testing.assert_allclose(estimate.box.center, together.box.center[index], atol=1e-2)


@pytest.mark.parametrize("name", ["atom_filterbank", "dimp18"])
def test_gradients_of_a_clip_loss_are_finite(name):
    """Through init (the online learner included), crop, features, filter and score, to every group of parameters."""
    images, xywh = scene()
    frames, box = frames_of(images[:2]), box_of(xywh)

    def loss(params):
        estimates = base.run(tracker(name))(params, jax.random.key(0), frames, box)
        return jnp.sum(estimates.score) + 1e-3 * jnp.sum(estimates.box.size)

    gradient = jit(jax.grad(loss))(params(name))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    for group, leaves in gradient.items():
        assert sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(leaves)) > 0, f"no gradient reaches {group}"
