"""Crops: exact geometry, borders, and indifference to the canvas, under every rounding rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ops.boxes import to_xywh
from ops.crop import ROUNDINGS, covered, crop

EXTENT = np.array([40, 50], np.int32)
OUT = (12, 12)
CASES = [("replicate", rounding) for rounding in ROUNDINGS] + [
    (border, rounding) for border in ("inside", "inside_major") for rounding in ROUNDINGS[:3]
]
jitted = jax.jit(crop, static_argnames=("out_size", "border", "rounding"))


def frame(rng, extent=EXTENT):
    return rng.integers(0, 256, (*extent, 3)).astype(np.uint8)


def ramp(height, width):
    """Channels y, x and 1 of every pixel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.ones_like(y)], -1).astype(np.float32)


@pytest.mark.usefixtures("strict_dtypes")
def test_continuous_samples_where_it_says():
    center, side = np.float32([17.3, 25.8]), np.float32([15.0, 21.5])
    patch = jitted(ramp(40, 50), EXTENT, center, side, (10, 14))
    ys = center[0] + (np.arange(10) - 4.5) * side[0] / 10
    xs = center[1] + (np.arange(14) - 6.5) * side[1] / 14
    np.testing.assert_allclose(patch.image[..., 0], np.broadcast_to(ys[:, None], (10, 14)), atol=1e-4)
    np.testing.assert_allclose(patch.image[..., 1], np.broadcast_to(xs[None], (10, 14)), atol=1e-4)
    np.testing.assert_array_equal(patch.center, center)
    np.testing.assert_allclose(patch.scale, np.sqrt(1.5 * 21.5 / 14), rtol=1e-6)


@pytest.mark.parametrize("rounding", ["continuous", "pytracking_torch14", "ltr"])
def test_read_back_is_where_the_pixels_came_from(rounding):
    """These rules report the window they cut ('pytracking' reports half a pixel more: the reference's rule)."""
    center, side = np.float32([19.7, 24.2]), np.full(2, 17.4, np.float32)
    patch = jitted(ramp(40, 50), EXTENT, center, side, OUT, rounding=rounding)
    np.testing.assert_allclose(patch.image[..., :2].mean((0, 1)), patch.center, atol=1e-4)
    step = (patch.image[7, 7] - patch.image[6, 6])[:2]
    np.testing.assert_allclose(step, np.full(2, patch.scale), atol=1e-4)


def test_what_a_crop_covers_reaches_half_a_pixel_beyond_its_outer_pixels():
    center, size = np.float32([19.7, 24.2]), 12
    patch = jitted(ramp(40, 50), EXTENT, center, np.full(2, 17.4, np.float32), OUT)
    square = covered(patch.center, patch.scale, size, (size - 1) / 2)
    shares = (np.arange(size) + 0.5)[:, None] / size - 0.5
    places = np.asarray(square.center) + shares * np.asarray(square.size)  # of crop pixels (i, i)
    np.testing.assert_allclose(np.asarray(patch.image)[range(size), range(size), :2], places, atol=1e-4)
    whole = jitted(ramp(40, 50), EXTENT, np.float32([15.5, 21.5]), np.full(2, 12, np.float32), OUT)
    np.testing.assert_array_equal(whole.image[0, 0, :2], [10, 16])
    box = to_xywh(covered(whole.center, whole.scale, size, (size - 1) / 2))
    np.testing.assert_array_equal(box, [16, 10, 12, 12])  # pixel for pixel


def test_cells_that_lie_off_the_middle_are_covered_where_they_lie():
    square = covered(jnp.array([50.0, 60.0]), jnp.float32(4.0), 6, 3.0)  # index 3 of 0..5 at the center
    np.testing.assert_array_equal(square.center, [48.0, 58.0])
    np.testing.assert_array_equal(square.size, [24.0, 24.0])


@pytest.mark.parametrize("border, rounding", CASES)
def test_canvas_outside_the_extent_changes_nothing(rng, border, rounding):
    image = frame(rng)
    canvas = rng.integers(0, 256, (64, 80, 3)).astype(np.uint8)
    canvas[:40, :50] = image
    for center, side in (([3.2, 47.9], 30.0), ([20.0, 25.0], 55.0), ([-6.0, 60.0], 9.0)):
        arguments = (EXTENT, np.float32(center), np.full(2, side, np.float32), OUT)
        small = jitted(image, *arguments, border=border, rounding=rounding)
        large = jitted(canvas, *arguments, border=border, rounding=rounding)
        jax.tree.map(np.testing.assert_array_equal, small, large)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_moving_the_image_moves_the_crop(rng, rounding):
    image = frame(rng)
    center, side, shift = np.float32([19.3, 22.6]), np.full(2, 16.2, np.float32), np.array([5, 8])
    moved = np.roll(image, shift, (0, 1))
    here = jitted(image, EXTENT, center, side, OUT, rounding=rounding)
    there = jitted(moved, EXTENT, center + np.float32(shift), side, OUT, rounding=rounding)
    np.testing.assert_allclose(there.image, here.image, atol=1e-2)
    np.testing.assert_allclose(there.center, here.center + shift, atol=1e-4)


def test_borders_far_outside(rng):
    image, fill = frame(rng), np.float32([10.0, 120.0, 250.0])
    arguments = (image, EXTENT, np.float32([-30.0, 20.5]), np.full(2, 12.0, np.float32), OUT)
    replicated = jitted(*arguments).image
    np.testing.assert_allclose(replicated, np.broadcast_to(image[:1, 15:27], (*OUT, 3)), rtol=1e-6)
    filled = jitted(*arguments, border="constant", fill=fill).image
    np.testing.assert_allclose(filled, np.broadcast_to(fill, (*OUT, 3)))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_constant_border_equals_a_padded_image(rng, rounding):
    """The fill takes part in the blending, exactly as if the image had a border of that color."""
    image, fill, pad = frame(rng), np.float32([10.0, 120.0, 250.0]), 16
    framed = np.broadcast_to(fill, (40 + 2 * pad, 50 + 2 * pad, 3)).copy()
    framed[pad:-pad, pad:-pad] = image
    if rounding == "ltr":
        framed[39 + pad], framed[:, 49 + pad] = fill, fill
    center, side = np.float32([36.3, 45.2]), np.full(2, 16.2, np.float32)
    here = jitted(image, EXTENT, center, side, OUT, border="constant", fill=fill, rounding=rounding)
    there = jitted(framed, EXTENT + 2 * pad, center + pad, side, OUT, rounding=rounding)
    np.testing.assert_allclose(here.image, there.image, atol=1e-2)


def test_inside_shifts_then_shrinks():
    crop_inside = lambda center, side, border: jitted(  # noqa: E731
        ramp(40, 50), EXTENT, np.float32(center), np.full(2, side, np.float32), OUT, border=border
    )
    shifted = crop_inside([2.0, 48.0], 20.0, "inside")
    np.testing.assert_allclose(shifted.center, [9.5, 39.5], atol=1e-5)
    np.testing.assert_allclose(shifted.scale, 20 / 12, rtol=1e-6)
    shrunk = crop_inside([2.0, 48.0], 48.0, "inside")
    np.testing.assert_allclose(shrunk.center, [19.5, 29.5], atol=1e-5)
    np.testing.assert_allclose(shrunk.scale, 40 / 12, rtol=1e-6)
    major = crop_inside([2.0, 48.0], 60.0, "inside_major")
    np.testing.assert_allclose(major.center, [19.5, 24.5], atol=1e-5)
    np.testing.assert_allclose(major.scale, 50 / 12, rtol=1e-6)
    bounded = crop_inside([2.0, 48.0], 120.0, "inside")
    np.testing.assert_allclose(bounded.scale, 80 / 12, rtol=1e-6)
    np.testing.assert_allclose(shrunk.image[[0, -1], 0, 0], [40 / 24 - 0.5, 39.5 - 40 / 24], atol=1e-4)


def test_vmap_and_jit_equal_eager(rng):
    image = frame(rng)
    centers = np.float32([[3.2, 47.9], [20.0, 25.0], [-6.0, 60.0]])
    sides = np.float32([[30.0, 30.0], [55.0, 44.0], [9.0, 30.0]])
    for border, rounding in (("inside", "pytracking"), ("replicate", "continuous")):
        cut = lambda center, side: crop(image, EXTENT, center, side, OUT, border=border, rounding=rounding)  # noqa: B023, E731
        together = jax.jit(jax.vmap(cut))(centers, sides)
        for i in range(len(centers)):
            alone = cut(jnp.asarray(centers[i]), jnp.asarray(sides[i]))
            for batched, single in zip(together, alone):
                np.testing.assert_allclose(batched[i], single, atol=1e-3)


def test_continuous_crop_is_differentiable(x64):
    image = jnp.asarray(np.random.default_rng(1).normal(size=(8, 9, 2)))
    cut = lambda image, center: jnp.sum(  # noqa: E731
        crop(image, jnp.array([8, 9], jnp.int32), center, jnp.array([4.3, 5.1]), (5, 5)).image ** 2
    )
    check_grads(jax.jit(cut), (image, jnp.array([3.37, 4.21])), order=1, modes=("fwd", "rev"), eps=1e-5)


def test_unknown_names_are_refused(rng):
    arguments = (frame(rng), EXTENT, jnp.zeros(2), jnp.ones(2), OUT)
    for options in (
        {"border": "mirror"},
        {"rounding": "nearest"},
        {"border": "constant"},
        {"fill": jnp.zeros(3)},
        {"rounding": "ltr", "border": "inside"},
    ):
        with pytest.raises(ValueError):
            crop(*arguments, **options)
