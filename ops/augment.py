"""The samples of frame 1: one patch, larger than needed, shifted, flipped, blurred, rotated, rescaled.

A list of transforms is static data, so a configuration can hold it; where the content lands may be random. Every
transform but the rotation is separable: an output row (column) is a weighted sum of a few rows of the patch.
"""

from collections.abc import Callable
from math import ceil, cos, floor, radians, sin
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Transform(NamedTuple):
    """What to do with the patch.

    kind, amount: 'identity'; 'shift' (down, right) in halves of the output's side; 'flip', left for right; 'blur'
    (sigma down, sigma across) in pixels; 'rotate' (degrees,), counterclockwise as displayed; 'scale' (factor,), the
    content becomes smaller by it.
    """

    kind: str
    amount: tuple[float, ...] = ()


class _Taps(NamedTuple):
    """Per axis: output pixel u is the sum over taps of weight * patch[index]."""

    index: Array  # [taps, out] int32
    weight: Array  # [taps, out]


def sample_shifts(key: Array, transforms: tuple[Transform, ...], out_size: int, random_factor: float) -> Array:
    """How far (down, right) each transform moves the content, `[T, 2]` int32 pixels.

    'shift' moves by its amount, 'identity' not at all, every other kind at random by less than half of
    `random_factor` times the output's side. Both are cut toward zero.
    """
    fixed = [
        [int(part * out_size / 2) for part in transform.amount] if transform.kind == "shift" else [0, 0]
        for transform in transforms
    ]
    drawn = jax.random.uniform(key, (len(transforms), 2), minval=-0.5, maxval=0.5) * (out_size * random_factor)
    is_random = np.array([transform.kind not in ("identity", "shift") for transform in transforms])
    return jnp.where(is_random[:, None], jnp.trunc(drawn).astype(jnp.int32), np.array(fixed, np.int32))


def transform_patch(patch: Array, transforms: tuple[Transform, ...], shifts: Array, out_size: int) -> Array:
    """The middle of the patch under every transform, its content moved by `shifts`.

    patch: `[n, n, C]` float. shifts: `[T, 2]` int32 (down, right), see `sample_shifts`. Returns `[T, out, out, C]`.
    Outside the (transformed) patch its border is replicated; a blur sees zeros there, as pytracking's does. Rotations
    agree with OpenCV's warpAffine up to that function's rounding of coordinates.
    Raises ValueError for an unknown kind.
    """
    groups: dict[Callable, list[int]] = {}
    for i, transform in enumerate(transforms):
        if transform.kind not in _KINDS:
            raise ValueError(f"transform {transform.kind!r} is not in {tuple(_KINDS)}")
        groups.setdefault(_KINDS[transform.kind], []).append(i)
    order = np.argsort(np.concatenate(list(groups.values())))
    parts = [
        group(patch, [transforms[i] for i in members], shifts[np.array(members)], out_size)
        for group, members in groups.items()
    ]
    return jnp.concatenate(parts)[order]


def channel_dropout(key: Array, features: Array, rate: float | Array) -> Array:
    """Features `[h, w, C]` with every channel set to 0 with probability `rate`, the others divided by 1 - rate."""
    kept = jax.random.bernoulli(key, 1 - rate, features.shape[-1:])
    factor = kept.astype(features.dtype) / (1 - rate)
    return features * factor[None, None]


def _copies(patch: Array, transforms: list[Transform], shifts: Array, out_size: int) -> Array:
    size = patch.shape[0]

    def taps(transform, axis, shift):
        index = _positions(size, out_size, shift)
        index = size - 1 - index if transform.kind == "flip" and axis == 1 else index
        return _Taps(index[None], jnp.ones((1, out_size), patch.dtype))

    return _blend_all(patch, transforms, shifts, taps)


def _blurs(patch: Array, transforms: list[Transform], shifts: Array, out_size: int) -> Array:
    size = patch.shape[0]

    def taps(transform, axis, shift):
        radius = max(ceil(2 * other.amount[axis]) for other in transforms)
        sigma = transform.amount[axis]
        reach = np.arange(-radius, radius + 1)
        kernel = np.exp(-((reach / sigma) ** 2) / 2) * (abs(reach) <= ceil(2 * sigma))
        kernel = jnp.asarray(kernel / kernel.sum(), patch.dtype)[:, None]
        index = _positions(size, out_size, shift)[None] + reach[:, None]
        inside = (index >= 0) & (index < size)
        return _Taps(jnp.clip(index, 0, size - 1), jnp.where(inside, kernel, jnp.zeros_like(kernel)))

    return _blend_all(patch, transforms, shifts, taps)


def _rescalings(patch: Array, transforms: list[Transform], shifts: Array, out_size: int) -> Array:
    size = patch.shape[0]

    def taps(transform, axis, shift):
        resized = round(size / transform.amount[0])
        resized += (resized - size) % 2
        source = (_positions(resized, out_size, shift).astype(patch.dtype) + 0.5) * (size / resized) - 0.5
        source = jnp.clip(source, 0, size - 1)
        below = jnp.floor(source)
        index = below.astype(jnp.int32)
        return _Taps(
            jnp.stack([index, jnp.minimum(index + 1, size - 1)]), jnp.stack([1 - source + below, source - below])
        )

    return _blend_all(patch, transforms, shifts, taps)


def _rotations(patch: Array, transforms: list[Transform], shifts: Array, out_size: int) -> Array:
    size = patch.shape[0]

    def rotate(cosine, sine, shift):
        y, x = (_positions(size, out_size, shift[axis]).astype(patch.dtype) - (size - 1) / 2 for axis in (0, 1))
        source_y = sine * x[None] + cosine * y[:, None] + (size - 1) / 2
        source_x = cosine * x[None] - sine * y[:, None] + (size - 1) / 2
        return _bilinear(patch, source_y, source_x)

    angles = [radians(transform.amount[0]) for transform in transforms]
    cosines, sines = (jnp.asarray([f(angle) for angle in angles], patch.dtype) for f in (cos, sin))
    return jax.vmap(rotate)(cosines, sines, shifts)


_KINDS = {
    "identity": _copies,
    "shift": _copies,
    "flip": _copies,
    "blur": _blurs,
    "scale": _rescalings,
    "rotate": _rotations,
}


def _positions(size: int, out_size: int, shift: Array) -> Array:
    """`[out]` int32: which of `size` pixels each output pixel shows when the middle is cut out and moved."""
    return jnp.clip(jnp.arange(out_size, dtype=jnp.int32) - floor((out_size - size) / 2) - shift, 0, size - 1)


def _blend_all(patch: Array, transforms: list[Transform], shifts: Array, taps: Callable) -> Array:
    """One vmapped blend for transforms of equal tap count: `taps(transform, axis, shift [])` per transform."""

    def stacked(axis):
        each = [taps(transform, axis, shifts[i, axis]) for i, transform in enumerate(transforms)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def blend(rows, columns):
        return _weighted_sum(_weighted_sum(patch, rows, 0), columns, 1)

    return jax.vmap(blend)(stacked(0), stacked(1))


def _weighted_sum(source: Array, taps: _Taps, axis: int) -> Array:
    """One pass along an axis. The loop over taps keeps XLA from redoing the rows' sum for every column's tap."""

    def add(total, tap):
        shape = [-1 if i == axis else 1 for i in range(3)]
        return total + jnp.take(source, tap.index, axis=axis) * tap.weight.reshape(shape), None

    shape = [taps.index.shape[1] if i == axis else n for i, n in enumerate(source.shape)]
    return jax.lax.scan(add, jnp.zeros(shape, source.dtype), taps)[0]


def _bilinear(patch: Array, y: Array, x: Array) -> Array:
    """Patch `[n, n, C]` at points y, x `[h, w]`, the border replicated -> `[h, w, C]`."""
    below_y, below_x = jnp.floor(y), jnp.floor(x)

    def at(dy, dx):
        index = ((below + d).astype(jnp.int32) for below, d in ((below_y, dy), (below_x, dx)))
        rows, columns = (jnp.clip(i, 0, patch.shape[0] - 1) for i in index)
        weight = (y - below_y if dy else 1 - y + below_y) * (x - below_x if dx else 1 - x + below_x)
        return patch[rows, columns] * weight[:, :, None]

    return at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)
