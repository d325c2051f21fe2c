"""Cross-correlation of a feature map with one filter, as a matrix product followed by shift-and-add.

A convolution with a single output channel leaves matrix units idle. `X f` is computed here as one product,
(positions x C) @ (C x taps), whose `taps` maps are shifted and summed. Autodiff turns that into the same
kind of product, in either direction, so that no derivative is written by hand. Products have full float32
precision on every device: a step length of the optimizers is a ratio of sums of their squares.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def correlate(features: Array, filter: Array) -> Array:
    """`X f` of DiMP: correlation with zero padding k // 2 on every side.

    features: `[h, w, C]`, filter: `[kh, kw, C]`.
    Returns scores `[h + 2 (kh // 2) - kh + 1, w + 2 (kw // 2) - kw + 1]`: the size of the features for odd
    kernels and one more for even ones (18 x 18 with 4 x 4 gives 19 x 19), where score index i is centered on
    feature coordinate i - 1/2.
    """
    (height, width, channels), (kh, kw, _) = features.shape, filter.shape
    positions, taps = features.reshape(height * width, channels), filter.reshape(kh * kw, channels)
    products = jnp.matmul(positions, taps.T, precision=jax.lax.Precision.HIGHEST)
    tap_maps = products.T.reshape(kh, kw, height, width)
    rows = _shift_and_add(tap_maps.transpose(0, 2, 1, 3))
    return _shift_and_add(rows.transpose(2, 0, 1)).T


def correlate_same(features: Array, filter: Array) -> Array:
    """`correlate` with the last row and column dropped for even kernels (ATOM) -> scores `[h, w]`."""
    height, width, _ = features.shape
    return correlate(features, filter)[:height, :width]


def correlate_adjoint(features: Array, scores: Array, kernel_size: tuple[int, int]) -> Array:
    """`X^T s`: features `[h, w, C]` and scores of the size `correlate` returns -> filter `[kh, kw, C]`."""
    filter = jax.ShapeDtypeStruct((*kernel_size, features.shape[-1]), features.dtype)
    (adjoint,) = jax.linear_transpose(lambda filter: correlate(features, filter), filter)(scores)
    return adjoint


def _shift_and_add(maps: Array) -> Array:
    """`[..., k, n]` -> `[..., n + 2 (k // 2) - k + 1]`: out[x] = sum over j of maps[j, x + j - k // 2].

    Outside the maps there are zeros. Rows of length L laid end to end and cut again into rows of length L + 1
    start j places further on in row j: all shifts are one pad and one reshape, and so is their transpose
    (sixteen separate shifts transpose into a slow program).
    """
    *batch, taps, size = maps.shape
    unpadded = [(0, 0)] * len(batch)
    padded_size = size + 2 * (taps // 2)
    padded = jnp.pad(maps, [*unpadded, (0, 0), (taps // 2, taps // 2)])
    line = jnp.pad(padded.reshape(*batch, taps * padded_size), [*unpadded, (0, taps)])
    sheared = line.reshape(*batch, taps, padded_size + 1)
    return sheared[..., : padded_size - taps + 1].sum(-2)
