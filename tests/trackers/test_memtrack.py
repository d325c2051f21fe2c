"""MemTrack's tracker on small networks: with and without its memory, what it writes, and what it says of itself."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.crop import mean_color
from tests.helpers.narrow_memtrack import NARROW, narrow, start  # noqa: F401, a fixture
from tests.helpers.scene import assert_same_boxes, at, box_of, frames_of, scene
from trackers import base, memtrack, siamfc
from trackers.parts import templates
from trackers.rules import substitute, validate

HOST = replace(memtrack.Config.host, instance_size=159, upsampling=8)
CONFIG = memtrack.Config(HOST)
FRAMES = 4

pytestmark = pytest.mark.usefixtures("narrow")


@lru_cache
def followed(config):
    """The first state, and after each frame of the scene the states `[T - 1, ...]` and the estimates."""
    return run(memtrack.make(config), params())


@lru_cache
def params():
    """Untrained, but for a response of order 1 and gates that are half open."""
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.2 * rng.normal(size=leaf.shape), jnp.float32), start()) | {
        "head": {
            "params": {"norm": {"scale": jnp.ones(1), "bias": jnp.zeros(1)}},
            "batch_stats": {"norm": {"mean": jnp.zeros(1), "var": 1e9 * jnp.ones(1)}},
        }
    }


def run(tracker: base.Tracker, params):
    images, xywh = scene()
    frames, box = frames_of(images), box_of(xywh)

    @jax.jit
    def whole(params, frames, box):
        def step(state, frame):
            state, estimate = tracker.track(params, state, frame)
            return state, (state, estimate)

        state = tracker.init(params, jax.random.key(0), at(frames, 0), box)
        return state, jax.lax.scan(step, state, jax.tree.map(lambda leaf: leaf[1:], frames))[1]

    return whole(params, frames, box)


def test_without_memory_it_is_siamfc_with_the_same_networks():
    _, (_, estimates) = followed(replace(CONFIG, memory=False))
    matcher = memtrack.make_matcher(CONFIG)
    plain = templates.compose((matcher,), (), follow=lambda old, choice, frame: templates.damped(old, choice))
    _, (_, expected) = run(plain, params())
    assert_same_boxes(estimates.box, expected.box, atol=1e-4)
    np.testing.assert_allclose(estimates.score, expected.score, rtol=1e-5)
    assert set(estimates.extras) == {"index", "scale", "search", "score_map", "map"}


def test_the_memory_counts_and_a_closed_gate_shuts_it_out():
    off = followed(replace(CONFIG, memory=False))[1][1]
    on = followed(CONFIG)[1][1]
    assert not np.allclose(on.score, off.score, rtol=1e-3)
    memory = params()["memory"]["params"]
    gate = memory["residual"]
    closed = {"memory": {"params": memory | {"residual": {**gate, "bias": gate["bias"] - 100}}}}
    shut = run(memtrack.make(CONFIG), params() | closed)[1][1]
    np.testing.assert_allclose(shut.score, off.score, rtol=1e-5)
    assert_same_boxes(shut.box, off.box, atol=1e-4)


def test_what_is_written_and_said():
    """The first template first; then what each frame decided, at the place where it found the target."""
    first, (states, estimates) = followed(CONFIG)
    extras = estimates.extras
    np.testing.assert_array_equal(states.memory.slots[0, 0], first.template[0])
    assert not np.any(states.memory.slots[0, 1:])
    cells = siamfc.cells(HOST.instance_size)
    assert extras["attention"].shape == (FRAMES - 1, cells, cells)
    assert extras["score_map"].shape == (FRAMES - 1, 25, 25)  # of 40 x 40 places
    covered = cells * templates.STRIDE / HOST.instance_size  # of the search crop
    np.testing.assert_allclose(extras["map"].size, covered * extras["search"].size, rtol=1e-5)
    for name in ("attention", "factors", "read_weights"):
        np.testing.assert_allclose(extras[name].reshape(FRAMES - 1, -1).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(extras["write_weights"].sum(1), 1 - extras["factors"][:, 0], rtol=1e-5)
    images, _ = scene()
    matcher = memtrack.make_matcher(CONFIG)
    for index in range(FRAMES - 1):
        box, frame = at(estimates.box, index), at(frames_of(images), index + 1)
        expected = matcher.embed(params(), frame, box, mean_color(frame.image, frame.extent))[0]
        np.testing.assert_allclose(states.last[index], expected, atol=1e-4)
    written = extras["decay"][0] * extras["factors"][0, 1] + extras["factors"][0, 2]
    share = (extras["write_weights"][0] * written)[:, None, None, None]
    expected = states.memory.slots[0] * (1 - share) + share * states.last[0][None]
    np.testing.assert_allclose(states.memory.slots[1], expected, atol=1e-5)


def test_equal_scales_give_what_one_scale_gives():
    several = followed(replace(CONFIG, host=replace(HOST, scale_step=1.0)))
    one = followed(replace(CONFIG, host=replace(HOST, scales=1)))
    assert several[1][1].extras["scale"].tolist() == [1] * (FRAMES - 1)
    for actual, expected in zip(jax.tree.leaves(several[1][0]), jax.tree.leaves(one[1][0])):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.full
def test_jit_equals_eager():
    images, xywh = scene()
    tracker, frames = memtrack.make(CONFIG), frames_of(images)
    state = tracker.init(params(), jax.random.key(0), at(frames, 0), box_of(xywh))
    _, estimate = tracker.track(params(), state, at(frames, 1))
    _, (_, expected) = followed(CONFIG)
    for actual, wanted in zip(jax.tree.leaves(estimate), jax.tree.leaves(at(expected, 0))):
        np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "path, value",
    [
        ("host.rounding", "pysot"),
        ("host.instance_size", 250),
        ("host.scales", 2),
        ("host.model", "siamfc"),
        ("memory", 1),
    ],
)
def test_numbers_that_cannot_be(path, value):
    validate(CONFIG)
    with pytest.raises(ValueError, match=f"^{path}="):
        validate(substitute(CONFIG, {path: value}))
