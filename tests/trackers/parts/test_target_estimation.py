"""Target estimation: which of the two ways a configuration asks for, and that the other one leaves no trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from ops.crop import Crop
from trackers import atom, dimp
from trackers.base import FOUND, Frame
from trackers.parts import target_estimation
from trackers.parts.online import Location

SIZE = dimp.TINY.region.image_size
BOX = Box(jnp.array([100.0, 120.0]), jnp.array([48.0, 40.0]))
CENTER, SCALE = BOX.center, jnp.float32(1.0)
PLAIN = atom.MULTISCALE_SEARCH  # neither: the size follows the crop that scores best


def taps(rng, count=1):
    shapes = {"layer1": (SIZE // 4, 64), "layer2": (SIZE // 8, 128)}
    return {name: jnp.asarray(rng.normal(size=(count, n, n, c)), jnp.float32) for name, (n, c) in shapes.items()}


def state_of(config, estimator):
    state = dimp.State(jax.random.key(1), jnp.int32(1), jnp.int32(0), BOX, None, None, *estimator)
    frame = Frame(jnp.zeros((240, 240, 3), jnp.uint8), jnp.array([240, 240]))
    region = Crop(jnp.zeros((1, SIZE, SIZE, 3)), CENTER[None], SCALE[None])
    at = Location(CENTER + 2.0, jnp.float32(1.1), jnp.int32(FOUND), jnp.float32(0.9), None, None, jnp.int32(0))
    return state, frame, region, at


@pytest.mark.parametrize(
    "config, wanted",
    [(atom.Config(), ("layer2", "layer3")), (dimp.TINY, ("layer1", "layer2")), (PLAIN, ())],
)
def test_taps(config, wanted):
    assert target_estimation.taps(config) == wanted


def test_a_scale_filter_sizes_the_box_and_learns_it(rng):
    first = taps(rng)
    estimator = target_estimation.start({}, jax.random.key(0), first, BOX, CENTER, SCALE, dimp.TINY)
    assert estimator.modulation == () and jnp.isfinite(estimator.scale_filter.filter).all()
    state, frame, region, at = state_of(dimp.TINY, estimator)
    after, box, extras = target_estimation.refine({}, state, first, frame, region, at, dimp.TINY)
    assert after is state and extras == {}
    np.testing.assert_array_equal(box.center, at.center)
    learned = target_estimation.learn(state, taps(rng), region, at, box, dimp.TINY)
    assert (learned.scale_filter.filter != state.scale_filter.filter).any()
    assert learned._replace(scale_filter=None) == state._replace(scale_filter=None)


def test_without_either_the_location_sizes_the_box(rng):
    estimator = target_estimation.start({}, jax.random.key(0), {}, BOX, CENTER, SCALE, PLAIN)
    assert estimator == ((), ())
    state, frame, region, at = state_of(PLAIN, estimator)
    _, box, _ = target_estimation.refine({}, state, {}, frame, region, at, PLAIN)
    np.testing.assert_allclose(box.size, 1.1 * BOX.size, rtol=1e-6)
    assert target_estimation.learn(state, {}, region, at, box, PLAIN) == state
