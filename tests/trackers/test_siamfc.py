"""SiamFC's rules on responses that are given: where a peak leads, what scale costs, how far the window pulls."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from trackers import siamfc
from trackers.base import Frame
from trackers.nets.siamese import Features
from trackers.parts import templates

CONFIG = siamfc.Config()
BOX = Box(jnp.array([100.0, 120.0]), jnp.array([40.0, 60.0]))


def response(*peaks):
    """`[3, 17, 17]`: bumps of a given height at (scale, y, x) cells from the middle."""
    y, x = np.mgrid[:17, :17] - 8
    maps = np.zeros((3, 17, 17), np.float32)
    for height, scale, py, px in peaks:
        maps[scale] += height * np.exp(-((y - py) ** 2 + (x - px) ** 2) / 4)
    return jnp.asarray(maps)


def chosen(found, config=CONFIG, bias=0.0):
    return templates.choose(jax.jit(siamfc.make_matcher(config).decode)(siamfc.Response(found, jnp.float32(bias)), BOX))


@pytest.mark.parametrize("cells", [(0, 0), (2, -3), (-1, 4)])
def test_a_peak_moves_the_box_by_its_cells(cells):
    found = chosen(response((5.0, 1, *cells)), replace(CONFIG, window_influence=0.0))
    pixels = 8 * float(templates.context_side(BOX.size)) / 127  # of the image, a cell
    np.testing.assert_allclose(found.box.center - BOX.center, np.array(cells) * pixels, atol=pixels / 8)
    np.testing.assert_array_equal(found.box.size, BOX.size)
    assert 0.9 < found.score < 1


@pytest.mark.parametrize("grid", ["whole", "thor"])
def test_the_map_that_is_handed_out_peaks_at_the_place_and_in_the_crop_of_the_best(grid):
    config = replace(CONFIG, grid=grid, window_influence=0.0)
    matcher = siamfc.make_matcher(config)
    frame = Frame(jnp.zeros((240, 320, 3), jnp.uint8), jnp.array([240, 320], jnp.int32))
    region = matcher.region(frame, BOX, jnp.zeros(3))
    for scale, cells in ((1, (0, 0)), (1, (5, -6)), (2, (-7, 2))):
        found = chosen(response((5.0, scale, *cells)), config)
        seen = templates.sight(region, found, matcher.grid, 25)
        side = float(templates.context_side(BOX.size)) * 255 / 127 * config.scale_step ** (scale - 1)
        np.testing.assert_allclose(seen["search"].size, side, rtol=1e-5)
        np.testing.assert_allclose(seen["search"].center, BOX.center, atol=1e-4)
        covers = config.upsampling / 255 * (17 * 8 / config.upsampling if grid == "whole" else 8)
        np.testing.assert_allclose(seen["map"].size, side * covers, rtol=1e-5)
        peak = np.unravel_index(np.argmax(seen["score_map"]), (25, 25))
        cell = np.asarray(seen["map"].size) / 25
        place = seen["map"].center + (np.array(peak) - 12) * cell
        assert (np.abs(place - found.box.center) < 0.6 * cell).all()  # cells have 10 or 11 places
        assert seen["score_map"].max() == found.score


def test_another_scale_must_be_better_than_the_penalty():
    small, present, large = (CONFIG.scale_step**step for step in (-1, 0, 1))
    assert CONFIG.scale_penalty == 0.9745
    for height, factor in ((1.02, present), (1.04, large)):
        found = chosen(response((1.0, 1, 0, 0), (height, 2, 0, 0)))
        np.testing.assert_allclose(found.box.size, BOX.size * factor, rtol=1e-6)
    found = chosen(response((1.0, 1, 0, 0), (1.04, 0, 0, 0)))
    np.testing.assert_allclose(found.box.size, BOX.size * small, rtol=1e-6)
    damped = templates.damped(BOX, found)
    np.testing.assert_allclose(damped.size, BOX.size * (1 + CONFIG.scale_rate * (small - 1)), rtol=1e-5)


@pytest.mark.parametrize("bias", [-20.0, -2.0, 3.0])
def test_the_bias_of_the_head_changes_the_score_alone(bias):
    for height in (1.02, 1.04):  # below and above what the penalty asks for
        found = response((1.0, 1, 2.3, -1.2), (height, 2, 3.2, -2.3))
        plain, shifted = chosen(found), chosen(found + bias, bias=bias)
        assert shifted.index == plain.index and shifted.rate == plain.rate
        for actual, expected in zip(shifted.box, plain.box):
            np.testing.assert_array_equal(actual, expected)
        logit = jax.scipy.special.logit
        np.testing.assert_allclose(logit(shifted.score), logit(plain.score) + bias, rtol=1e-4)


def test_the_response_knows_what_correlation_0_gives(rng):
    template, search = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((1, 6, 6, 8), (3, 9, 9, 8)))
    heads = {
        "siamfc": {"params": {"bias": jnp.float32(-3.5)}},
        "memtrack": {
            "params": {"norm": {"scale": jnp.full(1, 2.0), "bias": jnp.full(1, -1.0)}},
            "batch_stats": {"norm": {"mean": jnp.full(1, 6.0), "var": jnp.full(1, 16.0)}},
        },
    }
    for (model, head), expected in zip(heads.items(), (-3.5, -1 - 2 * 6 / 4)):
        matcher = siamfc.make_matcher(replace(CONFIG, model=model, instance_size=151))
        found = matcher.match({"head": head}, template, Features(search, ()))
        assert found.maps.shape == (3, 4, 4) and found.nothing.shape == ()
        np.testing.assert_allclose(found.nothing, expected, rtol=1e-3)


def test_a_size_neither_vanishes_nor_outgrows_the_frame():
    frame = Frame(jnp.zeros((200, 300, 3), jnp.uint8), jnp.array([150, 280], jnp.int32))

    def followed(size, chosen_size):
        old = Box(jnp.array([70.0, 90.0]), jnp.array(size))
        new = Box(jnp.array([75.0, 95.0]), jnp.array(chosen_size))
        one, nothing = jnp.float32(1), jnp.int32(0)
        choice = templates.Choice(nothing, one, one, new, jnp.float32(0.5), nothing, jnp.ones((3, 3)))
        box = siamfc.follow(old, choice, frame)
        np.testing.assert_array_equal(box.center, new.center)
        return box.size.tolist()

    assert followed([40.0, 60.0], [44.0, 66.0]) == [42.0, 63.0]
    assert followed([1.25, 8.0], [0.5, 3.2]) == [1.25, 8.0]
    assert followed([140.0, 100.0], [170.0, 121.0]) == [140.0, 100.0]
    assert followed([0.5, 4.0], [1.0, 8.0]) == [0.75, 6.0]  # one that is too small may grow
    assert followed([160.0, 100.0], [150.0, 90.0]) == [155.0, 95.0]


def test_the_window_prefers_what_is_near():
    both = response((1.0, 1, 0, 0), (1.02, 1, 6, 6))
    far, near = (chosen(both, replace(CONFIG, window_influence=share)) for share in (0.0, 0.3))
    assert np.linalg.norm(far.box.center - BOX.center) > 20 > 5 > np.linalg.norm(near.box.center - BOX.center)
