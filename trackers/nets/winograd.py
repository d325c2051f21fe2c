"""Convolution of 3x3 and 5x5 kernels with fewer multiplications: Winograd's minimal filtering.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: kernel and image are transformed so
that a tile of 4 x 4 outputs is 36 products instead of 144 (3x3) or 64 instead of 400 (5x5). These are matrix products
over the channels, and so are the transforms, by constant matrices. Smaller tiles have smaller transforms, and more of
them make larger matrices. Its transposes are the gradients, with as few products.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

OUTPUTS = {3: (2, 3, 4), 5: (4,)}  # of a side of a tile, by the kernel's size
# Up to so many multiplications of a matrix, jaxlib 0.10 computes a batched product on one core; 0.12 splits it
UNSHARED = 2**22 if jax.__version_info__ < (0, 12) else 0
TRANSFORM = 12  # what transforms cost a channel of a place, in multiplications, as measured
# By how many there are: of the interpolation, before infinity. These lose the fewest digits of small ones.
POINTS = {
    3: (0.0, 1.0, -1.0),
    4: (0.0, 1.0, -1.0, 0.5),
    5: (0.0, 1.0, -1.0, 0.5, -2.0),
    7: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5),
}


def convolve(images: Array, kernel: Array, dilation: int, precision=None) -> Array:
    """Convolution without padding at stride 1: `[N, H, W, C]`, `[r, r, C, D]` -> `[N, h, w, D]`, r in `OUTPUTS`.

    The plain sum but for rounding: a relative L2 error of about 2e-6 (r = 3) or 4e-6 (r = 5) in float32.
    """
    height, width = (size - dilation * (kernel.shape[0] - 1) for size in images.shape[1:3])
    found = _tiled(_phases(images, dilation), kernel, -(-height // dilation), -(-width // dilation), precision)
    return _interleave(found, len(images), dilation)[:, :height, :width]


def transforms(size: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom's and Cook's matrices in one dimension: (`[n, n]` of an image, `[n, r]` of a kernel, `[m, n]` to outputs).

    The m outputs y_k = sum_j kernel_j image_(k + j) are back @ ((of_kernel @ kernel) * (of_image @ image)), and
    n = m + r - 1.
    """
    side = outputs + size - 1
    points = np.array(POINTS[side - 1])
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
    size = kernel.shape[0]
    outputs = best_outputs(kernel.shape, len(images), height, width)
    # In both dimensions at once each transform is one product with a matrix, which costs nothing to compile.
    of_image, of_kernel, back = (np.kron(one, one).astype(kernel.dtype) for one in transforms(size, outputs))
    product = partial(lax.dot, precision=precision)
    rows, columns = -(-height // outputs), -(-width // outputs)
    tiles = _tiles(images, outputs, size - 1, rows, columns)  # [n^2, N, rows, columns, C]
    places = product(of_image, tiles.reshape(len(tiles), -1)).reshape(len(tiles), -1, kernel.shape[2])
    weights = product(of_kernel, kernel.reshape(of_kernel.shape[1], -1)).reshape(len(tiles), *kernel.shape[2:])
    sums = lax.dot_general(places, weights, (((2,), (1,)), ((0,), (0,))), precision=precision)  # [n^2, T, D]
    found = product(back, sums.reshape(len(tiles), -1))
    found = found.reshape(outputs, outputs, len(images), rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
    return found.reshape(len(images), rows * outputs, columns * outputs, -1)[:, :height, :width]


def best_outputs(kernel: tuple[int, int, int, int], count: int, height: int, width: int) -> int:
    """Outputs of a side of a tile, for a kernel of this shape and `count` images of `height` x `width` outputs.

    It needs the fewest multiplications, where those that two threads share count half, and the transforms some: small
    tiles are many, and make matrices that are shared. On two cores of an EPYC with AVX-512 that takes .7 to .85 of the
    time for layers of 18 to 24 cells and 256 channels, on one up to 1.14.
    """
    size, _, channels, features = kernel

    def cost(outputs):
        tiles = count * -(-height // outputs) * -(-width // outputs)
        product = channels * features * (0.5 if tiles * channels * features > UNSHARED else 1)
        return (outputs + size - 1) ** 2 * tiles * (product + TRANSFORM * (channels + features))

    return min(OUTPUTS[size], key=cost)


def _tiles(images: Array, outputs: int, overlap: int, rows: int, columns: int) -> Array:
    """`[N, H, W, C]` -> `[n^2, N, rows, columns, C]`, each cell of the tiles of n = outputs + overlap cells a side.

    Put together of two halves in each dimension: with a slice for each of its cells XLA compiles ten times as long.
    """
    needed = outputs * (rows + 1), outputs * (columns + 1)
    missing = [(0, most - size) for most, size in zip(needed, images.shape[1:3])]
    split = jnp.pad(images, ((0, 0), *missing, (0, 0)))
    split = split.reshape(len(images), rows + 1, outputs, columns + 1, outputs, -1)
    split = jnp.concatenate([split[:, :-1], split[:, 1:, :overlap]], 2)
    split = jnp.concatenate([split[:, :, :, :-1], split[:, :, :, 1:, :overlap]], 4)
    return split.transpose(2, 4, 0, 1, 3, 5).reshape(-1, len(images), rows, columns, images.shape[-1])


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
