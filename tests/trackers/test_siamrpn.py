"""SiamRPN's rules on maps that are given: the anchor that is chosen, its penalty, the limits of a box."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.anchors import anchors
from ops.boxes import Box
from trackers import siamrpn
from trackers.base import Frame
from trackers.parts import templates

CONFIG = replace(siamrpn.ALEXNET, penalty_k=0.0, window_influence=0.0)
CELLS = siamrpn.score_size(CONFIG)
BOX = Box(jnp.array([100.0, 120.0]), jnp.array([40.0, 40.0]))


def maps(anchor, y, x, deltas=(0.0, 0.0, 0.0, 0.0)):
    """Logits `[S, S, 2, k]` that are sure of one anchor, and its offsets."""
    logits = np.zeros((CELLS, CELLS, 2, 5), np.float32)
    logits[..., 0, :] = 5.0
    logits[y, x, :, anchor] = -5.0, 5.0
    offsets = np.zeros((CELLS, CELLS, 4, 5), np.float32)
    offsets[y, x, :, anchor] = deltas
    return jnp.asarray(logits), jnp.asarray(offsets)


def chosen(found, config=CONFIG):
    return templates.choose(jax.jit(siamrpn.make_matcher(config).decode)(found, BOX))


def test_the_anchor_of_the_best_score_is_the_box():
    grid, middle = anchors(CELLS), CELLS // 2
    scale = 127 / float(templates.context_side(BOX.size))
    for anchor, y, x in ((2, middle, middle), (0, middle + 3, middle - 2), (4, 1, CELLS - 1)):
        found = chosen(maps(anchor, y, x))
        assert int(found.index) == (anchor * CELLS + y) * CELLS + x
        np.testing.assert_allclose(found.box.center, BOX.center + grid.center[y, x, anchor] / scale, rtol=1e-5)
        np.testing.assert_allclose(found.box.size, grid.size[y, x, anchor] / scale, rtol=1e-5)
        np.testing.assert_allclose(found.score, 1 / (1 + np.exp(-10)), rtol=1e-6)


@pytest.mark.parametrize("centers", ["floor", "true_division"])
def test_the_map_that_is_handed_out_peaks_where_the_anchor_lies(centers):
    config = replace(CONFIG, centers=centers)
    matcher = siamrpn.make_matcher(config)
    frame = Frame(jnp.zeros((240, 320, 3), jnp.uint8), jnp.array([240, 320], jnp.int32))
    region = matcher.region(frame, BOX, jnp.zeros(3))
    for anchor, y, x in ((2, 0, 3), (0, CELLS // 2, CELLS - 1)):
        found = chosen(maps(anchor, y, x), config)
        seen = templates.sight(region, found, matcher.grid, CELLS)
        assert np.unravel_index(np.argmax(seen["score_map"]), (CELLS, CELLS)) == (y, x)
        cell = seen["map"].size / CELLS
        np.testing.assert_allclose(cell, seen["search"].size * 8 / config.instance_size, rtol=1e-5)
        place = seen["map"].center + (jnp.array([y, x]) - (CELLS - 1) / 2) * cell
        np.testing.assert_allclose(place, found.box.center, atol=1e-3)


def test_offsets_move_and_stretch_the_anchor():
    plain, moved = chosen(maps(2, 10, 10)), chosen(maps(2, 10, 10, (0.25, -0.5, np.log(2), 0.0)))
    np.testing.assert_allclose(moved.box.size, plain.box.size * jnp.array([1.0, 2.0]), rtol=1e-5)
    shift = np.array([-0.5, 0.25]) * np.asarray(plain.box.size)
    np.testing.assert_allclose(moved.box.center - plain.box.center, shift, rtol=1e-4)


def test_a_change_of_shape_is_penalized():
    """Two anchors of one score: without a penalty the first wins, with one that of the target's shape."""
    logits, offsets = maps(0, 10, 10)
    logits = logits.at[10, 10, :, 2].set(logits[10, 10, :, 0])
    of_anchor = [int(chosen((logits, offsets), replace(CONFIG, penalty_k=k)).index) // CELLS**2 for k in (0.0, 0.2)]
    assert of_anchor == [0, 2]
    free, held = (chosen((logits, offsets), replace(CONFIG, penalty_k=k)) for k in (0.0, 0.2))
    assert held.rate <= free.rate


def test_a_box_stays_in_the_frame():
    frame = Frame(jnp.zeros((100, 200, 3), jnp.uint8), jnp.array([80, 150], jnp.int32))
    found = siamrpn.keep_inside(Box(jnp.array([-5.0, 170.0]), jnp.array([2.0, 400.0])), frame)
    np.testing.assert_array_equal(found.center, [0, 150])
    np.testing.assert_array_equal(found.size, [siamrpn.MIN_SIDE, 150])
