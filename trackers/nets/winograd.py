"""Convolution of 3x3 and 5x5 kernels with fewer multiplications: Winograd's minimal filtering.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: kernel and image are transformed so
that a tile of 2 x 2 outputs is 16 products instead of 36 (3x3) or 36 instead of 100 (5x5). These are matrix products
over the channels; the transforms are sums of a few shifted arrays.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from trackers.nets import windows

Array = jax.Array

# By the kernel's size. For 3, tiles of 4 x 4 outputs were no faster (train/NOTES.md).
OUTPUTS = {3: 2, 5: 4}  # of a side of a tile
POINTS = {3: (0.0, 1.0, -1.0), 5: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)}  # of the interpolation, before infinity


def convolve(images: Array, kernel: Array, dilation: int, precision=None) -> Array:
    """Convolution without padding at stride 1: `[N, H, W, C]`, `[r, r, C, D]` -> `[N, h, w, D]`, r in `POINTS`.

    The plain sum but for rounding: a relative L2 error of about 1e-6 (r = 3) or 2e-6 (r = 5) in float32.
    """
    height, width = (size - dilation * (kernel.shape[0] - 1) for size in images.shape[1:3])
    found = _tiled(_phases(images, dilation), kernel, -(-height // dilation), -(-width // dilation), precision)
    return _interleave(found, len(images), dilation)[:, :height, :width]


def transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom's and Cook's matrices in one dimension: (`[n, n]` of an image, `[n, r]` of a kernel, `[m, n]` to outputs).

    The m outputs y_k = sum_j kernel_j image_(k + j) are back @ ((of_kernel @ kernel) * (of_image @ image)), and
    n = m + r - 1.
    """
    points, outputs = np.array(POINTS[size]), OUTPUTS[size]
    side = outputs + size - 1
    of_image, of_kernel, back = np.zeros((side, side)), np.zeros((side, size)), np.zeros((outputs, side))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        of_image[row, :-1] = np.polynomial.polynomial.polyfromroots(others)
        of_kernel[row] = point ** np.arange(size) / np.prod(point - others)
        back[:, row] = point ** np.arange(outputs)
    of_image[-1] = np.polynomial.polynomial.polyfromroots(points)
    of_kernel[-1, -1] = back[-1, -1] = 1
    return of_image, of_kernel, back


def _tiled(images: Array, kernel: Array, height: int, width: int, precision) -> Array:
    """`[N, H, W, C]` -> `[N, height, width, D]`; where the images end too early they are continued with zeros."""
    of_image, of_kernel, back = transforms(kernel.shape[0])
    (outputs, side), count = back.shape, len(images)
    rows, columns = -(-height // outputs), -(-width // outputs)
    needed = (outputs * (rows - 1) + side, outputs * (columns - 1) + side)
    missing = [max(stop - size, 0) for stop, size in zip(needed, images.shape[1:3])]
    images = jnp.pad(images, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))

    def along(axis: int, array: Array) -> list[Array]:
        """The transform of all tiles in one dimension, `axis` of `[.., H, W, C]`."""
        tiles = columns if axis == -2 else rows
        return _combine(of_image, windows.along(array, axis, side, tiles, outputs))

    # Stacked by rows [n, ...], apart by columns: a product of n matrices for each of the n columns. One product of all
    # n^2 would have to be copied in and out, and n^2 of their own take several times as long to compile.
    strips = jnp.stack(along(-3, images))
    of_rows = jnp.stack(_combine(of_kernel, list(kernel)))  # [n, r, C, D]
    strips, of_rows = lax.optimization_barrier((strips, of_rows))  # else they are computed again for every column
    places = [place.reshape(side, count * rows * columns, -1) for place in along(-2, strips)]
    weights = _combine(of_kernel, list(jnp.moveaxis(of_rows, 1, 0)))
    over_channels = (((2,), (1,)), ((0,), (0,)))
    products = [
        lax.dot_general(place, weight, over_channels, precision=precision)
        for place, weight in zip(places, weights, strict=True)
    ]
    by_column = lax.optimization_barrier(_combine(back, products))  # m x [n, T, D]
    by_row = [_combine(back, list(one.reshape(side, count, rows, columns, -1))) for one in by_column]
    whole = jnp.stack([jnp.stack(one, 3) for one in zip(*by_row)], 2)  # [N, rows, m, columns, m, D]
    return whole.reshape(count, rows * outputs, columns * outputs, -1)[:, :height, :width]


def _combine(matrix: np.ndarray, arrays: list[Array]) -> list[Array]:
    """`matrix` times the vector of `arrays`, zeros and ones not multiplied."""

    def term(factor, array):
        return array if factor == 1 else array * np.array(factor, array.dtype)

    return [sum(term(factor, array) for factor, array in zip(row, arrays, strict=True) if factor) for row in matrix]


def _phases(images: Array, step: int) -> Array:
    """`[N, H, W, C]` -> `[step^2 N, H / step, W / step, C]`, every step-th row and column, continued with zeros."""
    if step == 1:
        return images
    count, height, width, channels = images.shape
    tall, wide = -(-height // step), -(-width // step)
    whole = jnp.pad(images, ((0, 0), (0, tall * step - height), (0, wide * step - width), (0, 0)))
    split = whole.reshape(count, tall, step, wide, step, channels)
    return split.transpose(2, 4, 0, 1, 3, 5).reshape(step * step * count, tall, wide, channels)


def _interleave(phases: Array, count: int, step: int) -> Array:
    """What `_phases` took apart."""
    if step == 1:
        return phases
    _, tall, wide, channels = phases.shape
    split = phases.reshape(step, step, count, tall, wide, channels)
    return split.transpose(2, 3, 0, 4, 1, 5).reshape(count, tall * step, wide * step, channels)
