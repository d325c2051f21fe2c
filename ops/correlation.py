"""Cross-correlation of feature maps: with one filter, with several (up-channel), channel by channel (depthwise).

Filters that sum over the channels are a matrix product followed by shift-and-add: a convolution with a single output
channel leaves matrix units idle. `X f` is computed here as one product, (taps x C) @ (C x positions), whose `taps` maps
are shifted and summed. Autodiff turns that into the same kind of product, in either direction, so that no derivative is
written by hand. Products have full float32 precision on every device: a step length of the optimizers is a ratio of
sums of their squares.

Many feature maps that share a filter go in as leading axes, not through `vmap`: one product serves them all.

Depthwise correlation has no product of matrices in it; it is a sum of shifted maps, which XLA fuses into one loop
(measured next to the alternatives by `python -m eval.benchmark.correlation`).
"""

from functools import partial

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
    rows = _shift_and_add(products.reshape(kh, kw, *maps), -2, kh // 2)
    return _shift_and_add(rows, -1, kw // 2)


def correlate_same(features: Array, filter: Array) -> Array:
    """`correlate` with the last row and column dropped for even kernels (ATOM) -> scores `[..., h, w]`."""
    height, width = features.shape[-3:-1]
    return correlate(features, filter)[..., :height, :width]


def correlate_adjoint(features: Array, scores: Array, kernel_size: tuple[int, int]) -> Array:
    """`X^T s`: features `[..., h, w, C]` and scores of the size `correlate` returns -> filter `[kh, kw, C]`."""
    filter = jax.ShapeDtypeStruct((*kernel_size, features.shape[-1]), features.dtype)
    (adjoint,) = jax.linear_transpose(lambda filter: correlate(features, filter), filter)(scores)
    return adjoint


def cross_correlate(search: Array, template: Array) -> Array:
    """SiamFC's response (Bertinetto et al. 2016, eq. 2): the template at every place where it lies inside.

    search: `[..., H, W, C]`, template: `[h, w, C]`. Returns `[..., H - h + 1, W - w + 1]`.
    """
    return up_channel_correlate(search, template[..., None])[..., 0]


def up_channel_correlate(search: Array, kernels: Array) -> Array:
    """SiamRPN's correlation (Li et al. 2018, eq. 3): N kernels, made of one template, at every place inside.

    search: `[..., H, W, C]`, kernels: `[h, w, C, N]`. Returns `[..., H - h + 1, W - w + 1, N]`.
    """
    (*maps, channels), (kh, kw, _, count) = search.shape, kernels.shape
    taps = jnp.swapaxes(kernels, -1, -2).reshape(kh * kw * count, channels)
    channels_last = (((1,), (1,)), ((), ()))
    products = jax.lax.dot_general(
        taps, search.reshape(-1, channels), channels_last, precision=jax.lax.Precision.HIGHEST
    )
    rows = _shift_and_add(products.reshape(kh, kw, count, *maps), -2, 0)
    return jnp.moveaxis(_shift_and_add(rows, -1, 0), 0, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_correlate(search: Array, template: Array, stride: int = 1, dilation: int = 1) -> Array:
    """SiamRPN++'s correlation (Li et al. 2019, section 3.4), also a depthwise convolution: each channel on its own.

    search: `[..., H, W, C]`, template: `[h, w, C]`, at every `stride`-th place where it lies inside, with
    `dilation - 1` cells between its own. Returns `[..., (H - (h - 1) dilation - 1) // stride + 1, .., C]`.
    Differentiable in reverse mode, any number of times; not in forward mode.
    """
    return _depthwise(search, template, stride, dilation)


def _depthwise(search: Array, template: Array, stride: int, dilation: int) -> Array:
    rows, columns = (
        _outputs(length, taps, stride, dilation) for length, taps in zip(search.shape[-3:-1], template.shape)
    )

    def shifted(i: int, j: int) -> Array:
        y, x = i * dilation, j * dilation
        return search[..., y : y + (rows - 1) * stride + 1 : stride, x : x + (columns - 1) * stride + 1 : stride, :]

    kh, kw, channels = template.shape
    ones = (1,) * (search.ndim - 1)
    terms = [shifted(i, j) * template[i, j].reshape(*ones, channels) for i in range(kh) for j in range(kw)]
    return sum(terms[1:], terms[0])


def _outputs(length: int, taps: int, stride: int, dilation: int) -> int:
    return (length - (taps - 1) * dilation - 1) // stride + 1


def _depthwise_forward(search: Array, template: Array, stride: int, dilation: int):
    return _depthwise(search, template, stride, dilation), (search, template)


def _depthwise_backward(
    stride: int, dilation: int, saved: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    """Both derivatives are depthwise correlations again.

    Autodiff of the forward pass would instead give a sum of as many padded maps, and a reduction over all positions
    for every cell of the template, which takes XLA's CPU backend six times as long.
    """
    search, template = saved
    kh, kw, channels = template.shape
    padding = [(0, 0, 0)] * cotangent.ndim
    for axis, taps in ((-3, kh), (-2, kw)):
        length, border = search.shape[axis], (taps - 1) * dilation
        unread = length - border - 1 - (cotangent.shape[axis] - 1) * stride
        padding[axis] = (border, border + unread, stride - 1)
    spread = jax.lax.pad(cotangent, jnp.zeros((), cotangent.dtype), padding)
    of_search = depthwise_correlate(spread, template[::-1, ::-1], 1, dilation)

    def add_row(total: Array, row: Array) -> tuple[Array, None]:
        """The sums over one row of the cotangent, with the rows of the search map that it meets."""
        height = (kh - 1) * dilation + 1
        strip = jax.lax.dynamic_slice_in_dim(search, row * stride, height, -3)[..., ::dilation, :, :]
        weights = jax.lax.dynamic_slice_in_dim(cotangent, row, 1, -3)
        columns = []
        for j in range(kw):
            first = j * dilation
            met = strip[..., first : first + (cotangent.shape[-2] - 1) * stride + 1 : stride, :]
            columns.append(sum(met[..., b, :] * weights[..., b, :] for b in range(cotangent.shape[-2])))
        return total + jnp.stack(columns, -2), None

    total = jnp.zeros((*search.shape[:-3], kh, kw, channels), search.dtype)
    total, _ = jax.lax.scan(add_row, total, jnp.arange(cotangent.shape[-3]))
    return of_search, total.sum(tuple(range(search.ndim - 3)))


depthwise_correlate.defvjp(_depthwise_forward, _depthwise_backward)


def _shift_and_add(maps: Array, axis: int, margin: int) -> Array:
    """`[k, ...]` -> `[...]`, with n + 2 margin - k + 1 in place of n along `axis`: the sum over j of maps[j], moved by
    margin - j; zeros come in.

    `lax.split` transposes into one concatenation, where k slices would become k sums of padded arrays.
    """
    taps = maps.shape[0]
    moved = []
    for j, part in enumerate(jax.lax.split(maps, (1,) * taps, 0)):
        padding = [(0, 0, 0)] * (maps.ndim - 1)
        padding[axis] = (margin - j, margin - (taps - 1) + j, 0)
        moved.append(jax.lax.pad(part[0], jnp.zeros((), maps.dtype), padding))
    return sum(moved[1:], moved[0])
