"""3x3 convolution with 16 multiplications for four outputs instead of 36: Winograd's minimal filtering F(2 x 2, 3 x 3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: kernel and image are transformed so
that a tile of 2 x 2 outputs is 16 products, which are matrix products over the channels. The transforms are sums of a
few shifted arrays. (Tiles of 4 x 4 need fewer still, but their transforms of the kernel cost what they save.)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

OUTPUTS, SIDE = 2, 4  # of a side of a tile: its outputs, and what they see
# one dimension: BACK @ ((OF_KERNEL @ kernel) * (OF_IMAGE @ image)), eqs. 2 to 6
OF_IMAGE = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OF_KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
BACK = ((1, 1, 1, 0), (0, 1, -1, -1))


def convolve(images: Array, kernel: Array, dilation: int, precision=None) -> Array:
    """Convolution without padding at stride 1: `[N, H, W, C]`, `[3, 3, C, D]` -> `[N, h, w, D]`.

    The plain sum but for rounding: a relative L2 error of about 1e-6 in float32.
    """
    height, width = (size - 2 * dilation for size in images.shape[1:3])
    found = _tiled(_phases(images, dilation), kernel, -(-height // dilation), -(-width // dilation), precision)
    return _interleave(found, len(images), dilation)[:, :height, :width]


def _tiled(images: Array, kernel: Array, height: int, width: int, precision) -> Array:
    """`[N, H, W, C]` -> `[N, height, width, D]`; where the images end too early they are continued with zeros."""
    count, rows, columns = len(images), -(-height // OUTPUTS), -(-width // OUTPUTS)
    missing = [max(OUTPUTS * tiles + 2 - size, 0) for tiles, size in zip((rows, columns), images.shape[1:3])]
    images = jnp.pad(images, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))

    def shifted(array: Array, axis: int, tiles: int) -> list[Array]:
        return [
            lax.slice_in_dim(array, start, start + OUTPUTS * (tiles - 1) + 1, OUTPUTS, axis) for start in range(SIDE)
        ]

    places = [
        place.reshape(count * rows * columns, -1)
        for strip in _combine(OF_IMAGE, shifted(images, 1, rows))
        for place in _combine(OF_IMAGE, shifted(strip, 2, columns))
    ]
    weights = [weight for row in _combine(OF_KERNEL, list(kernel)) for weight in _combine(OF_KERNEL, list(row))]
    over_channels = (((2,), (1,)), ((0,), (0,)))
    products = lax.dot_general(jnp.stack(places), jnp.stack(weights), over_channels, precision=precision)
    products = products.reshape(SIDE, SIDE, count, rows, columns, -1)
    outputs = [jnp.stack(_combine(BACK, list(strip)), 3) for strip in _combine(BACK, list(products))]
    whole = jnp.stack(outputs, 2)  # [N, rows, 2, columns, 2, D]
    return whole.reshape(count, rows * OUTPUTS, columns * OUTPUTS, -1)[:, :height, :width]


def _combine(matrix: tuple, arrays: list[Array]) -> list[Array]:
    """`matrix` times the vector of `arrays`, zeros and ones not multiplied."""

    def term(factor, array):
        return array if factor == 1 else array * np.array(factor, array.dtype)

    return [sum(term(factor, array) for factor, array in zip(row, arrays, strict=True) if factor) for row in matrix]


def _phases(images: Array, step: int) -> Array:
    """`[N, H, W, C]` -> `[step^2 N, H / step, W / step, C]`, every step-th row and column, continued with 0."""
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
