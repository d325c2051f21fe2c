"""The scale filter: what it learns, that it finds a change of size and of shape, and when it leaves things alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from ops.crop import Crop
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN
from trackers.parts import scale_filter
from trackers.parts.online import Location
from trackers.parts.scale_filter import ScaleFilterConfig

CONFIG = ScaleFilterConfig(taps=("layer1",))
TARGET = Box(jnp.array([140.0, 150.0]), jnp.array([60.0, 48.0]))
SIZE = 288


def smooth_taps(seed: int = 0) -> dict[str, jax.Array]:
    """Random features that change over a few cells."""
    noise = jax.random.normal(jax.random.key(seed), (72, 72, 16))
    return {"layer1": sum(jnp.roll(noise, (i, j), (0, 1)) for i in range(-3, 4) for j in range(-3, 4))}


@pytest.fixture(scope="module")
def learned():
    return scale_filter.learn_first(jax.random.key(1), smooth_taps(), TARGET, SIZE, CONFIG)


def test_the_filter_is_that_of_the_normal_equations(learned):
    """Conjugate gradient from 0 on a problem of condition number below 1 + 1 / ridge = 11."""
    steps = np.arange(-8, 9)
    sizes = np.exp(-((steps * np.log(1.03)) ** 2) / (2 * 0.06**2))
    shapes = np.exp(-((steps * np.log(1.03**2)) ** 2) / (2 * 0.12**2))
    samples = np.asarray(learned.memory.samples[:4], np.float64)  # the filled slots, weight 1/4 each
    rows = samples.reshape(-1, samples.shape[-1]) / np.sqrt(4 * 34)
    right = rows.T @ (np.tile(np.concatenate([sizes, shapes]), 4) / np.sqrt(4 * 34))
    exact = np.linalg.solve(rows.T @ rows + 0.1 * np.eye(rows.shape[1]), right)
    np.testing.assert_allclose(learned.filter, exact, atol=1e-5 * np.abs(exact).max())


def test_boxes_of_one_area_and_many_shapes():
    log_sides, labels = scale_filter.boxes(CONFIG)
    sizes, shapes = np.split(log_sides, 2)
    np.testing.assert_allclose(sizes[:, 0], sizes[:, 1])
    np.testing.assert_allclose(shapes.sum(1), 0, atol=1e-7)  # height times width
    np.testing.assert_array_equal(shapes[:, 0], sizes[:, 0])
    np.testing.assert_allclose(np.diff(shapes[:, 0] - shapes[:, 1]), 2 * np.log(1.03), rtol=1e-5)  # height over width
    assert labels[8] == labels[8 + 17] == 1 > labels.max(where=log_sides.any(1), initial=0)
    only, _ = scale_filter.boxes(replace(CONFIG, follow_aspect=False))
    np.testing.assert_array_equal(only, sizes)


MORE_FACTORS = [pytest.param(factor, marks=pytest.mark.full) for factor in (0.95, 1.0, 1.06)]


@pytest.mark.parametrize("factor", [0.85, 1.15, *MORE_FACTORS])
def test_a_box_of_the_wrong_size_is_corrected(learned, factor):
    """On the features it was learned on: within half a step of the scales, clipped and with gain 1."""
    config = replace(CONFIG, gain=1.0, max_step=0.3)
    wrong = TARGET._replace(size=TARGET.size * factor)
    correction = scale_filter.estimate(learned, smooth_taps(), wrong, SIZE, config)
    growth = jnp.sqrt(jnp.prod(correction))
    assert abs(float(jnp.log(growth * factor))) < 0.5 * np.log(1.03)


@pytest.mark.parametrize("log_ratio", [-0.25, 0.25])
def test_a_box_of_the_wrong_shape_is_corrected(learned, log_ratio):
    """Wider or taller than the target at the same area: within half a step, and the size by one and a half at most."""
    config = replace(CONFIG, aspect_gain=1.0, aspect_max_step=0.4)
    wrong = TARGET._replace(size=TARGET.size * jnp.exp(jnp.array([-log_ratio, log_ratio]) / 2))
    height, width = scale_filter.estimate(learned, smooth_taps(), wrong, SIZE, config)
    assert abs(float(jnp.log(width / height)) + log_ratio) < np.log(1.03)
    assert abs(float(jnp.log(width * height)) / 2) < 1.5 * np.log(1.03)
    height, width = scale_filter.estimate(learned, smooth_taps(), wrong, SIZE, replace(config, follow_aspect=False))
    assert height == width  # asked to keep its shape


def test_steps_are_limited_and_damped(learned):
    config = replace(CONFIG, gain=0.5, max_step=0.1, aspect_gain=0.5, aspect_max_step=0.05)
    wrong = TARGET._replace(size=TARGET.size * 0.8)
    step = scale_filter.estimate(learned, smooth_taps(), wrong, SIZE, config)
    np.testing.assert_allclose(jnp.sqrt(jnp.prod(step)), np.exp(0.5 * 0.1), rtol=1e-6)
    wrong = TARGET._replace(size=TARGET.size * jnp.exp(jnp.array([-0.1, 0.1])))
    height, width = scale_filter.estimate(learned, smooth_taps(), wrong, SIZE, config)
    np.testing.assert_allclose(width / height, np.exp(-0.5 * 0.05), rtol=1e-6)


@pytest.mark.parametrize(("most", "expected"), [(6.0, True), (1.2, False), (1.1, False)])
def test_no_box_becomes_longer_than_allowed(learned, most, expected):
    """The target is 1.25 times as high as wide; a box that is wider than it would become higher."""
    config = replace(CONFIG, aspect_gain=1.0, aspect_max_step=0.4, max_aspect_ratio=most)
    square = TARGET._replace(size=jnp.full(2, jnp.sqrt(jnp.prod(TARGET.size))))
    after = square.size * scale_filter.estimate(learned, smooth_taps(), square, SIZE, config)
    assert (float(after[0] / after[1]) > 1.21) == expected
    assert expected or float(after[0] / after[1]) <= most + 1e-5
    longer = TARGET._replace(size=TARGET.size * jnp.array([1.1, 1 / 1.1]))  # beyond it from frame 1 on: not forced back
    after = longer.size * scale_filter.estimate(learned, smooth_taps(), longer, SIZE, replace(config, aspect_gain=1e-9))
    np.testing.assert_allclose(after[0] / after[1], longer.size[0] / longer.size[1], rtol=1e-5)


def test_a_flat_response_asks_for_no_step_beyond_the_grid():
    """Empty features: every scale answers 0, and nothing is divided by 0."""
    empty = {"layer1": jnp.zeros((72, 72, 16))}
    state = scale_filter.learn_first(jax.random.key(1), empty, TARGET, SIZE, CONFIG)
    assert np.isfinite(scale_filter.estimate(state, empty, TARGET, SIZE, CONFIG)).all()


def test_it_learns_a_new_look_and_only_when_asked(learned):
    """A target that looks different from now on: its size is found after some updates, not before."""
    config, other = replace(CONFIG, gain=1.0, max_step=0.3, learning_rate=0.2), smooth_taps(3)
    wrong = TARGET._replace(size=TARGET.size * 1.15)

    def error(state):
        growth = jnp.sqrt(jnp.prod(scale_filter.estimate(state, other, wrong, SIZE, config)))
        return abs(float(jnp.log(1.15 * growth)))

    kept = scale_filter.update(learned, other, TARGET, SIZE, jnp.array(False), config)
    jax.tree.map(np.testing.assert_array_equal, kept, learned)
    state = learned
    for _ in range(8):
        state = scale_filter.update(state, other, TARGET, SIZE, jnp.array(True), config)
    assert error(state) < 0.03 < error(learned)
    initial = float(state.memory.weights[: config.initial_samples].sum() / state.memory.weights.sum())
    assert initial > 0.2  # frame 1 is not forgotten


# What a tracker hands over: two search crops, and the one in which the target was found.
REGION = Crop(jnp.zeros((2, SIZE, SIZE, 3)), jnp.array([[500.0, 400.0], [90.0, 80.0]]), jnp.array([1.0, 0.5]))


def location(verdict: int = FOUND, score: float = 0.9) -> Location:
    center, index = jnp.array([88.0, 83.0]), jnp.int32(1)
    map_box = Box(center, jnp.full(2, 76.0))
    return Location(center, jnp.ones(()), jnp.int32(verdict), jnp.float32(score), jnp.zeros((19, 19)), map_box, index)


def in_image(box: Box) -> Box:
    """`box` of the second crop."""
    return Box((box.center - (SIZE - 1) / 2) * 0.5 + REGION.center[1], box.size * 0.5)


def both_crops(taps: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return jax.tree.map(lambda leaf: jnp.stack([smooth_taps(9)["layer1"], leaf]), taps)


def test_a_tracker_sees_the_crop_in_which_the_target_was_found(learned):
    wrong = TARGET._replace(size=TARGET.size * 1.06)
    expected = scale_filter.estimate(learned, smooth_taps(), wrong, SIZE, CONFIG)
    actual = scale_filter.follow(learned, both_crops(smooth_taps()), REGION, location(), in_image(wrong), CONFIG)
    assert np.all(expected < 1) and jnp.prod(expected) < 0.98**2
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_below_the_least_score_the_size_rests(learned):
    wrong, taps = in_image(TARGET._replace(size=TARGET.size * 1.06)), both_crops(smooth_taps())
    assert np.all(scale_filter.follow(learned, taps, REGION, location(score=0.39), wrong, CONFIG) == 1)


@pytest.mark.parametrize(
    ("verdict", "score", "number", "learns"),
    [
        (FOUND, 0.9, 6, True),
        (FOUND, 0.9, 7, False),
        (FOUND, 0.39, 6, False),
        (HARD_NEGATIVE, 0.9, 6, False),
        (UNCERTAIN, 0.9, 6, False),
        (LOST, 0.9, 6, False),
    ],
)
def test_a_tracker_learns_on_sure_frames_that_are_due(learned, verdict, score, number, learns):
    seen, box, taps = location(verdict, score), in_image(TARGET), both_crops(smooth_taps(3))
    after = scale_filter.learn(learned, taps, REGION, seen, box, jnp.int32(number), CONFIG)
    assert int(after.memory.count) == int(learned.memory.count) + learns
    assert np.array_equal(after.filter, learned.filter) != learns
