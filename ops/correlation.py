"""Cross-correlation of feature maps with one filter, as a matrix product followed by shift-and-add.

A convolution with a single output channel leaves matrix units idle. `X f` is computed here as one product,
(taps x C) @ (C x positions), whose `taps` maps are shifted and summed. Autodiff turns that into the same
kind of product, in either direction, so that no derivative is written by hand. Products have full float32
precision on every device: a step length of the optimizers is a ratio of sums of their squares.

Many feature maps that share a filter go in as leading axes, not through `vmap`: one product serves them all.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def correlate(features: Array, filter: Array) -> Array:
    """`X f` of DiMP: correlation with zero padding k // 2 on every side.

    features: `[..., h, w, C]`, filter: `[kh, kw, C]`.
    Returns scores `[..., h + 2 (kh // 2) - kh + 1, w + 2 (kw // 2) - kw + 1]`: the size of the features for odd
    kernels and one more for even ones (18 x 18 with 4 x 4 gives 19 x 19), where score index i is centered on
    feature coordinate i - 1/2.
    """
    (*maps, channels), (kh, kw, _) = features.shape, filter.shape
    taps, positions = filter.reshape(kh * kw, channels), features.reshape(-1, channels)
    channels_last = (((1,), (1,)), ((), ()))
    products = jax.lax.dot_general(taps, positions, channels_last, precision=jax.lax.Precision.HIGHEST)
    rows = _shift_and_add(products.reshape(kh, kw, *maps), -2)
    return _shift_and_add(rows, -1)


def correlate_same(features: Array, filter: Array) -> Array:
    """`correlate` with the last row and column dropped for even kernels (ATOM) -> scores `[..., h, w]`."""
    height, width = features.shape[-3:-1]
    return correlate(features, filter)[..., :height, :width]


def correlate_adjoint(features: Array, scores: Array, kernel_size: tuple[int, int]) -> Array:
    """`X^T s`: features `[..., h, w, C]` and scores of the size `correlate` returns -> filter `[kh, kw, C]`."""
    filter = jax.ShapeDtypeStruct((*kernel_size, features.shape[-1]), features.dtype)
    (adjoint,) = jax.linear_transpose(lambda filter: correlate(features, filter), filter)(scores)
    return adjoint


def _shift_and_add(maps: Array, axis: int) -> Array:
    """`[k, ...]` -> `[...]`, with n + 2 (k // 2) - k + 1 in place of n along `axis`: the sum over j of maps[j],
    moved by k // 2 - j; zeros come in.

    `lax.split` transposes into one concatenation, where k slices would become k sums of padded arrays.
    """
    taps = maps.shape[0]
    moved = []
    for j, part in enumerate(jax.lax.split(maps, (1,) * taps, 0)):
        padding = [(0, 0, 0)] * (maps.ndim - 1)
        padding[axis] = (taps // 2 - j, taps // 2 - (taps - 1) + j, 0)
        moved.append(jax.lax.pad(part[0], jnp.zeros((), maps.dtype), padding))
    return sum(moved[1:], moved[0])
