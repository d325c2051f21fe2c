"""Sampling a resized window out of a padded frame, exactly or with the rounding of a reference implementation.

Every rule reduces to one list of source positions per axis, so the bilinear sampling is separable: blend two
rows for every output row, then two columns for every output column. Pixels outside the extent are never read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box

Array = jax.Array

BORDERS = ("replicate", "constant", "inside", "inside_major")
ROUNDINGS = ("continuous", "pytracking", "pytracking_torch14", "ltr", "pysot", "dasiamrpn", "siamfc")


class Crop(NamedTuple):
    """A resized window and where it really lies."""

    image: Array  # [oh, ow, C] float, same range as the source (0..255 for uint8)
    center: Array  # [2] (y, x) image pixels, read back after rounding
    scale: Array  # [] image pixels per crop pixel (geometric mean of the two axes), read back


class _Window(NamedTuple):
    """A window on the grid of pixels offset, offset + step, ... of the image; all `[2]` (y, x)."""

    first: Array  # int32 grid index that `position` counts from
    position: Array  # float, grid cells from `first` to the center of output pixel 0
    stride: Array  # float, grid cells from one output pixel to the next
    bounds: tuple[Array, Array] | None  # int32 lowest and highest grid index of the window; None: unbounded
    offset: Array  # int32 image pixel of grid index 0
    step: Array  # int32 image pixels per grid cell
    center: Array  # float, image pixels
    side: Array  # float, image pixels


class _Taps(NamedTuple):
    """What one axis of the output is blended from; all `[out]`."""

    lower: Array  # int32 image row (column)
    upper: Array  # int32
    lower_weight: Array  # float; 0 where a constant border takes over
    upper_weight: Array


def crop(
    image: Array,
    extent: Array,
    center: Array,
    side: Array,
    out_size: tuple[int, int],
    *,
    border: str = "replicate",
    fill: Array | None = None,
    rounding: str = "continuous",
    max_scale_change: float = 1.5,
) -> Crop:
    """The window of `side` around `center`, resampled to `out_size` by bilinear interpolation (no antialias).

    image: `[H, W, C]` uint8 or float canvas. extent: `[2]` int32 true (height, width), at most (H, W).
    center: `[2]` (y, x) image pixels. side: `[2]` (height, width) of the window, image pixels. out_size: static.

    border: 'replicate' or 'constant' (`fill` `[C]`) give pixels outside the extent a value. 'inside' shrinks
    the window by at most `max_scale_change` and shifts it until it lies inside the image as far as it can,
    and replicates the rest; 'inside_major' shrinks only until the first of the two axes fits.

    rounding:
    'continuous': crop pixel u samples image y = center + (u - (out - 1) / 2) side / out; read back as asked.
    'pytracking': pytracking's `sample_patch`: center cut to an integer, every n-th pixel kept if the window is
      n times larger than the output, side rounded, corners at -(side - 1) / 2 and side / 2 + 1 by true
      division (PyTorch >= 1.5), then cut toward zero; the read-back is that of the corners before the cut.
    'pytracking_torch14': the same with divisions that floor (PyTorch <= 1.4, as when the papers were written).
    'ltr': pytracking's crop of training frames: side rounded up, corner rounded half to even, the last row
      and column of the image never used. It resizes uint8 in fixed point: up to 1 gray level off.
    'pysot', 'dasiamrpn', 'siamfc': the projects' crops of whole pixels: side rounded half to even; its first pixel is
      center - (side + 1) / 2 rounded half up, the same rounded half to even, and center - (side - 1) / 2 rounded half
      to even. They resize uint8 in fixed point, too.
    Raises ValueError for unknown names, a missing or superfluous fill, and an inside border with a rounding other than
    'continuous' and pytracking's.
    """
    _check_names(border, fill, rounding)
    out = jnp.array(out_size, center.dtype)
    if border.startswith("inside"):
        side = _shrink_to_fit(side, extent, border, max_scale_change)
    if rounding == "continuous":
        window = _continuous_window(extent, center, side, out, border)
    elif rounding == "ltr":
        extent = extent - 1
        window = _ltr_window(center, side, out)
    elif not rounding.startswith("pytracking"):
        window = _whole_window(center, side, out, rounding)
    else:
        floored = rounding == "pytracking_torch14"
        window = _pytracking_window(extent, center, side, out, border, floored=floored)
    rows, columns = (_taps(window, extent, out_size[axis], axis, border == "constant") for axis in (0, 1))
    return Crop(_sample(image, rows, columns, fill), window.center, jnp.sqrt(jnp.prod(window.side / out)))


def covered(center: Array, scale: Array, cells: int, middle: float) -> Box:
    """The square of the image that `cells` by `cells` cells cover, of which index `middle` lies at `center`.

    center: `[2]` (y, x) and scale: `[]` image pixels per cell. A whole `Crop` of n pixels a side is
    `covered(crop.center, crop.scale, n, (n - 1) / 2)`: pixel u has its middle at center + (u - (n - 1) / 2) scale, and
    the square reaches half a crop pixel beyond those of the first and the last one.
    """
    return Box(center + ((cells - 1) / 2 - middle) * scale, jnp.stack([cells * scale] * 2))


def mean_color(image: Array, extent: Array) -> Array:
    """`[C]` float32 mean of each channel over the true extent `[2]` of a canvas `[H, W, C]`."""
    rows, columns = (jnp.arange(size) < extent[axis] for axis, size in enumerate(image.shape[:2]))
    inside = rows[:, None, None] & columns[None, :, None]
    dtype = jnp.int32 if image.dtype == jnp.uint8 else image.dtype  # sums of a row of uint8 are exact
    sums = jnp.sum(jnp.where(inside, image.astype(dtype), 0), 1).astype(jnp.float32)
    return jnp.sum(sums, 0) / (extent[0] * extent[1]).astype(jnp.float32)


def _check_names(border: str, fill: Array | None, rounding: str) -> None:
    if border not in BORDERS or rounding not in ROUNDINGS:
        raise ValueError(f"border {border!r} is not in {BORDERS} or rounding {rounding!r} not in {ROUNDINGS}")
    if (fill is not None) != (border == "constant"):
        raise ValueError(f"a fill goes with border 'constant' and with no other, not with {border!r}")
    if border.startswith("inside") and rounding not in ("continuous", "pytracking", "pytracking_torch14"):
        raise ValueError(f"rounding {rounding!r} has no inside border")


def _shrink_to_fit(side: Array, extent: Array, border: str, max_scale_change: float) -> Array:
    excess = side / extent.astype(side.dtype)
    worst = jnp.max(excess) if border == "inside" else jnp.min(excess)
    return _divide(side, jnp.clip(worst, 1, max_scale_change))


def _divide(pair: Array, scalar: Array) -> Array:
    """`[2]` / `[]`, correctly rounded: XLA turns division by a broadcast scalar into a product with its
    inverse, and one unit in the last place before a truncation is a pixel after it.
    """
    return jnp.stack([pair[0] / scalar, pair[1] / scalar])


def _continuous_window(extent: Array, center: Array, side: Array, out: Array, border: str) -> _Window:
    if border.startswith("inside"):
        start = _shift_inside(center - (side - 1) / 2, side, extent.astype(side.dtype))
        center = start + (side - 1) / 2
    first = jnp.floor(center)  # counting from a pixel nearby keeps the digits of a fraction in large images
    stride = side / out
    return _Window(
        first=first.astype(jnp.int32),
        position=center - first - (out - 1) / 2 * stride,
        stride=stride,
        bounds=None,
        offset=jnp.zeros(2, jnp.int32),
        step=jnp.ones(2, jnp.int32),
        center=center,
        side=side,
    )


def _pytracking_window(extent: Array, center: Array, side: Array, out: Array, border: str, *, floored: bool) -> _Window:
    inside = border.startswith("inside")
    position = jnp.trunc(center).astype(jnp.int32)
    side = jnp.trunc(side) if inside else side
    step = jnp.maximum(jnp.trunc(jnp.min(side / out) - 0.1), 1).astype(jnp.int32)
    offset = jnp.mod(position, step)
    position = (position - offset) // step
    grid_step = step.astype(side.dtype)
    size = jnp.maximum(jnp.round(_divide(side, grid_step)), 2)
    half_below, half_above = (size - 1) / 2, size / 2
    if floored:
        half_below, half_above = jnp.floor(half_below), jnp.floor(half_above)
    start = position.astype(side.dtype) - half_below
    size = half_below + half_above + 1
    if inside:
        available = _grid_size(extent, offset, step).astype(side.dtype)
        start = _shift_inside(start, size, available, whole=True)
    first = jnp.trunc(start).astype(jnp.int32)
    stop = jnp.trunc(start + size).astype(jnp.int32)
    center, side = grid_step * (start + size / 2) - 0.5, grid_step * size
    return _integer_window(first, stop - first, out, offset, step, center=center, side=side)


def _ltr_window(center: Array, side: Array, out: Array) -> _Window:
    size = jnp.maximum(jnp.ceil(side), 1)
    return _window_from(jnp.round(center + 0.5 - size / 2), size, out)


def _whole_window(center: Array, side: Array, out: Array, rounding: str) -> _Window:
    size = jnp.maximum(jnp.round(side), 1)
    match rounding:
        case "pysot":
            first = jnp.floor(center - (size + 1) / 2 + 0.5)
        case "dasiamrpn":
            first = jnp.round(center - (size + 1) / 2)
        case "siamfc":
            first = jnp.round(center - (size - 1) / 2)
    return _window_from(first, size, out)


def _window_from(first: Array, size: Array, out: Array) -> _Window:
    """The window of `size` whole pixels from pixel `first` on."""
    return _integer_window(
        first.astype(jnp.int32),
        size.astype(jnp.int32),
        out,
        jnp.zeros(2, jnp.int32),
        jnp.ones(2, jnp.int32),
        center=first + (size - 1) / 2,
        side=size,
    )


def _integer_window(
    first: Array, size: Array, out: Array, offset: Array, step: Array, *, center: Array, side: Array
) -> _Window:
    """A window of whole grid cells resized to `out` with half-pixel centers."""
    stride = size.astype(out.dtype) / out
    step = jnp.broadcast_to(step, (2,))
    return _Window(first, (stride - 1) / 2, stride, (first, first + size - 1), offset, step, center, side)


def _shift_inside(start: Array, size: Array, available: Array, *, whole: bool = False) -> Array:
    """Moves [start, start + size) into [0, available); what cannot fit sticks out equally on both sides.

    Coordinates of edges: grid cell i reaches from i to i + 1. whole: a whole number sticks out at the start.
    """
    start = start + jnp.maximum(-start, 0) - jnp.maximum(start + size - available, 0)
    outside = (jnp.maximum(-start, 0) + jnp.maximum(start + size - available, 0)) / 2
    outside = jnp.floor(outside) if whole else outside
    return jnp.where(outside > 0, -outside, start)


def _grid_size(extent: Array, offset: Array, step: Array) -> Array:
    return (extent - offset + step - 1) // step


def _taps(window: _Window, extent: Array, size: int, axis: int, constant_border: bool) -> _Taps:
    dtype = window.position.dtype
    position = window.position[axis] + jnp.arange(size, dtype=dtype) * window.stride[axis]
    floor = jnp.floor(position)
    lower = window.first[axis] + floor.astype(jnp.int32)
    upper = lower + 1
    if window.bounds is not None:
        lower, upper = (jnp.clip(i, window.bounds[0][axis], window.bounds[1][axis]) for i in (lower, upper))
    last = _grid_size(extent, window.offset, window.step)[axis] - 1
    weights = 1 - (position - floor), position - floor
    if constant_border:
        weights = tuple(
            jnp.where((i >= 0) & (i <= last), weight, jnp.zeros_like(weight))
            for i, weight in zip((lower, upper), weights)
        )
    lower, upper = (window.offset[axis] + window.step[axis] * jnp.clip(i, 0, last) for i in (lower, upper))
    return _Taps(lower, upper, *weights)


def _sample(image: Array, rows: _Taps, columns: _Taps, fill: Array | None) -> Array:
    """Blends rows, then columns; only what was gathered is converted to float."""
    dtype = image.dtype if jnp.issubdtype(image.dtype, jnp.floating) else jnp.float32
    rows, columns = jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, (rows, columns)
    )

    def blend(source, taps, axis):
        shape = [-1 if i == axis else 1 for i in range(3)]
        lower, upper = (jnp.take(source, i, axis=axis, mode="clip").astype(dtype) for i in taps[:2])
        return lower * taps.lower_weight.reshape(shape) + upper * taps.upper_weight.reshape(shape)

    sampled = blend(blend(image, rows, 0), columns, 1)
    if fill is None:
        return sampled
    covered = jnp.outer(rows.lower_weight + rows.upper_weight, columns.lower_weight + columns.upper_weight)
    return sampled + (1 - covered)[:, :, None] * fill.astype(dtype)[None, None]
