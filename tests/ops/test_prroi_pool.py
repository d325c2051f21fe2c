"""PrRoI pooling: what an exact average must satisfy, for any box, in values and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from ops.prroi_pool import prroi_pool, prroi_pool_widths, prroi_pool_windows

EMPTY = [[8.0, 4.0, 8.0, 20.0], [8.0, 4.0, 20.0, 4.0], [20.0, 20.0, 8.0, 30.0], [5.0, 5.0, 5.0, 5.0]]
jitted = jax.jit(prroi_pool, static_argnames=("bins", "spatial_scale"))


def surface(features, y, x):
    """Bilinear interpolation of `[h, w]` at one point, 0 outside: the function whose mean is pooled."""
    rows, columns = (np.maximum(0, 1 - np.abs(t - np.arange(n))) for t, n in zip((y, x), features.shape))
    return rows @ features @ columns


def test_equals_numerical_quadrature(rng, x64):
    features = rng.normal(size=(5, 6))
    box, bins, scale = np.array([-3.0, 2.5, 17.0, 14.0]), (2, 3), 0.25
    pooled = jitted(jnp.asarray(features)[..., None], jnp.asarray(box), bins=bins, spatial_scale=scale)
    x1, y1, x2, y2 = box * scale
    points = (np.arange(200) + 0.5) / 200
    for p in range(bins[0]):
        for q in range(bins[1]):
            ys = y1 + (y2 - y1) * (p + points) / bins[0]
            xs = x1 + (x2 - x1) * (q + points) / bins[1]
            mean = np.mean([[surface(features, y, x) for x in xs[::4]] for y in ys[::4]])
            assert pooled[p, q, 0] == pytest.approx(mean, abs=2e-2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 24), st.floats(0, 24), st.floats(0.1, 16), st.floats(0.1, 16))
def test_affine_surface_is_averaged_at_the_bin_centers(x1, y1, width, height):
    bins = 3
    rows, columns = jnp.arange(12.0), jnp.arange(12.0)
    features = (2 * rows[:, None] - 3 * columns[None])[..., None]
    box = jnp.array([x1, y1, x1 + width, y1 + height])
    pooled = jitted(features, box, bins=bins, spatial_scale=0.25)[..., 0]
    centers = (np.arange(bins) + 0.5) / bins
    expected = 2 * (y1 + height * centers)[:, None] / 4 - 3 * (x1 + width * centers)[None] / 4
    np.testing.assert_allclose(pooled, expected, atol=2e-3)


def test_bins_of_a_box_average_to_the_box(rng):
    features = jnp.asarray(rng.normal(size=(9, 9, 4)), jnp.float32)
    box = jnp.array([3.0, 10.0, 50.0, 61.0])
    fine = jitted(features, box, bins=(4, 3), spatial_scale=1 / 8)
    whole = jitted(features, box, bins=1, spatial_scale=1 / 8)[0, 0]
    assert fine.shape == (4, 3, 4)
    np.testing.assert_allclose(fine.mean((0, 1)), whole, atol=1e-6)


@pytest.mark.usefixtures("strict_dtypes")
def test_outside_the_map_is_zero(rng):
    features = jnp.asarray(rng.normal(size=(4, 4, 2)), jnp.float32)
    pooled = jitted(features, jnp.array([100.0, 100.0, 120.0, 130.0]), bins=2, spatial_scale=0.25)
    np.testing.assert_array_equal(pooled, 0)


@pytest.mark.parametrize("box", EMPTY)
def test_empty_box_gives_zero_and_zero_gradients(rng, box):
    features = jnp.asarray(rng.normal(size=(6, 6, 2)), jnp.float32)
    pool = lambda features, box: prroi_pool(features, box, bins=3, spatial_scale=0.25)  # noqa: E731
    pooled, pullback = jax.vjp(jax.jit(pool), features, jnp.array(box))
    np.testing.assert_array_equal(pooled, 0)
    for gradient in pullback(jnp.ones_like(pooled)):
        np.testing.assert_array_equal(gradient, 0)


def test_derivatives(x64):
    features = jnp.asarray(np.random.default_rng(2).normal(size=(6, 7, 2)))
    box = jnp.array([2.2, -3.1, 21.7, 16.4])
    pool = lambda features, box: prroi_pool(features, box, bins=(3, 2), spatial_scale=0.25)  # noqa: E731
    check_grads(jax.jit(pool), (features, box), order=1, modes=("fwd", "rev"))


def test_small_bins_keep_their_digits_in_float32(rng):
    features = rng.normal(size=(8, 8, 3)).astype(np.float32)
    box = np.array([20.2, 30.1, 20.25, 30.13], np.float32)
    pooled = jitted(jnp.asarray(features), jnp.asarray(box), bins=1, spatial_scale=0.125)[0, 0]
    y, x = (box[1] + box[3]) / 16, (box[0] + box[2]) / 16
    np.testing.assert_allclose(pooled, [surface(features[..., c], y, x) for c in range(3)], rtol=2e-3)


def test_many_boxes_equal_a_loop(rng):
    features = jnp.asarray(rng.normal(size=(6, 6, 2)), jnp.float32)
    boxes = jnp.asarray(EMPTY + [[1.0, 2.0, 18.0, 20.0], [-4.0, 3.0, 9.0, 40.0]])
    pool = lambda box: prroi_pool(features, box, bins=3, spatial_scale=0.25)  # noqa: E731
    together = jax.jit(jax.vmap(pool))(boxes)
    np.testing.assert_allclose(together, jnp.stack([pool(box) for box in boxes]), atol=1e-6)


@pytest.mark.parametrize("rows", [[2.0, 20.0], [-4.0, 9.5], [7.0, 7.0]])
def test_boxes_between_the_same_rows(rng, rows):
    """One of them is as wide as nothing, and another lies half beyond the map."""
    features = jnp.asarray(rng.normal(size=(6, 7, 2)), jnp.float32)
    columns = jnp.array([[1.0, 18.0], [5.0, 5.0], [-9.0, 11.0], [3.0, 90.0]])
    boxes = [jnp.array([x1, rows[0], x2, rows[1]]) for x1, x2 in columns]
    together = prroi_pool_widths(features, jnp.array(rows), columns, bins=(3, 4), spatial_scale=0.25)
    alone = [jitted(features, box, bins=(3, 4), spatial_scale=0.25) for box in boxes]
    np.testing.assert_allclose(together, jnp.stack(alone), atol=1e-6)
    assert bool(jnp.any(together != 0)) == (rows[1] > rows[0]) and not together[1].any()


@pytest.mark.parametrize("box", [[12.0, 9.0, 60.0, 50.0], [-20.0, -9.0, 31.0, 90.0], EMPTY[0]])
def test_windows_give_the_pooled_convolution(rng, box):
    features = jnp.asarray(rng.normal(size=(7, 9, 4)), jnp.float32)
    kernel, bias = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 3, 4, 5), 5))
    numbers = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(features[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)[0]
    expected = jitted(maps + bias[None, None], jnp.array(box), bins=(4, 3), spatial_scale=1 / 8)
    seen, ones = prroi_pool_windows(features, jnp.array(box), window=3, bins=(4, 3), spatial_scale=1 / 8)
    found = jnp.tensordot(seen, kernel, 3) + ones[..., None] * bias[None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
