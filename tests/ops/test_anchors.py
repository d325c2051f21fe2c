"""Anchors and box offsets: the released grids, inverses, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ops.anchors import anchors, decode, encode
from ops.boxes import Box
from tests.helpers import oracle


def as_peers(box):
    """center x, center y, w, h in the references' order: anchor, y, x."""
    columns = np.concatenate([np.asarray(box.center)[..., ::-1], np.asarray(box.size)[..., ::-1]], -1)
    return np.moveaxis(columns, 2, 0).reshape(-1, 4)


def test_sides_and_centers():
    grid = anchors(19)
    assert grid.center.shape == grid.size.shape == (19, 19, 5, 2)
    assert grid.center.dtype == grid.size.dtype == jnp.float32
    np.testing.assert_array_equal(grid.size[4, 7, :, ::-1], [(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)])
    np.testing.assert_array_equal(grid.center[:, 3, 2, 0], np.arange(-72, 73, 8))
    np.testing.assert_array_equal(grid.center[3, :, 2, 1], np.arange(-72, 73, 8))
    biased = anchors(19, centers="true_division")
    np.testing.assert_array_equal(biased.center, grid.center - 4)
    np.testing.assert_array_equal(anchors(20, centers="true_division").center, anchors(20).center)
    with pytest.raises(ValueError, match="unknown centers 'middle'"):
        anchors(19, centers="middle")


def test_several_scales_run_fastest():
    grid = anchors(3, scales=(4.0, 8.0), ratios=(0.5, 1.0))
    np.testing.assert_array_equal(grid.size[0, 0], [(20, 44), (40, 88), (32, 32), (64, 64)])


def test_golden_anchors():
    """A set may leave the grids out; their sides and centers are checked above, too."""
    stored = {(name, key): oracle.arrays(name)[key] for name in ("post_pysot", "post_dasiamrpn")
              for key in oracle.arrays(name) if "/anchors_" in key}  # fmt: skip
    for (_, key), expected in stored.items():
        centers = "true_division" if "true_division" in key else "floor"
        grid = anchors(round((len(expected) / 5) ** 0.5), centers=centers)
        np.testing.assert_array_equal(as_peers(grid), expected)
    training = oracle.arrays("train_pysot")
    search, score_size = (int(n) for n in training["cfg_thrhigh_thrlow_pos_neg_total_search_out_base"][5:7])
    grid = anchors(score_size)
    middle, half = np.asarray(grid.center)[..., ::-1] + search // 2, np.asarray(grid.size)[..., ::-1] / 2
    corners = np.transpose(np.concatenate([middle - half, middle + half], -1), (3, 2, 0, 1))
    assert corners.shape[1:] == training["overlap"].shape[1:]
    if "anchors_x1y1x2y2" in training:
        np.testing.assert_array_equal(corners, training["anchors_x1y1x2y2"])


def random_boxes(rng, shape):
    center = rng.uniform(-100, 100, (*shape, 2)).astype(np.float32)
    return Box(center, np.exp(rng.uniform(0, 5, (*shape, 2))).astype(np.float32))


def test_offsets_are_in_the_order_of_the_channels():
    anchor = Box(jnp.array([10.0, 20.0]), jnp.array([40.0, 80.0]))
    box = Box(jnp.array([14.0, 36.0]), jnp.array([80.0, 240.0]))
    np.testing.assert_allclose(encode(anchor, box), [0.2, 0.1, np.log(3), np.log(2)], rtol=1e-6)


def test_decode_is_the_inverse_of_encode(rng, strict_dtypes):
    grid, boxes = anchors(7), random_boxes(rng, (7, 7, 5))
    boxes = Box(*map(jnp.asarray, boxes))
    found = decode(grid, encode(grid, boxes))
    np.testing.assert_allclose(found.center, boxes.center, atol=1e-4)
    np.testing.assert_allclose(found.size, boxes.size, rtol=1e-5)
    deltas = jnp.asarray(rng.normal(0, 1, (7, 7, 5, 4)), jnp.float32)
    np.testing.assert_allclose(encode(grid, decode(grid, deltas)), deltas, atol=1e-5)
    jitted = jax.jit(jax.vmap(jax.vmap(decode)))(grid, deltas)
    for one, other in zip(jitted, decode(grid, deltas)):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-5)


def test_gradients_against_finite_differences(x64, rng):
    grid = Box(*(leaf.astype(jnp.float64) for leaf in anchors(3)))
    boxes = Box(*(jnp.asarray(leaf, jnp.float64) for leaf in random_boxes(rng, (3, 3, 5))))
    deltas = jnp.asarray(rng.normal(0, 0.5, (3, 3, 5, 4)))
    there_and_back = jax.jit(lambda boxes, deltas: (encode(grid, boxes), decode(grid, deltas)))
    check_grads(there_and_back, (boxes, deltas), 1, modes=["rev"])
