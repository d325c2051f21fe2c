"""Precise RoI pooling (Jiang et al., ECCV 2018, Eq. 4): the exact mean of the bilinear surface over each bin.

The integral separates into a weight per row and a weight per column, so that pooling is two matrix products
and its derivative, in the features and in the box, is what autodiff makes of them.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def prroi_pool(features: Array, box: Array, *, bins: int | tuple[int, int], spatial_scale: float) -> Array:
    """Average of the bilinearly interpolated features over `bins` equal parts of a box.

    features: `[h, w, C]`; cell i lies at coordinate i, outside the map the features are 0.
    box: `[4]` x1, y1, x2, y2 in image pixels; no rounding, no half-pixel offset.
    bins: number of bins, one for both axes or (down, across). spatial_scale: cells per image pixel.
    Returns `[down, across, C]`; 0, with gradients 0, where a side of the box is not positive.
    """
    valid, rows, columns = _box_weights(box, bins, spatial_scale, features)
    pooled = _pool(features, rows, columns)
    return jnp.where(valid, pooled, jnp.zeros_like(pooled))


def prroi_pool_widths(
    features: Array, rows: Array, columns: Array, *, bins: int | tuple[int, int], spatial_scale: float
) -> Array:
    """`prroi_pool` of boxes between the same two rows; what is pooled along them is computed once.

    rows: `[2]` y1, y2. columns: `[n, 2]` x1, x2 of each box. Returns `[n, down, across, C]`.
    """
    down, across = _both(bins)
    tall, down = _weights(rows, down, spatial_scale, features.shape[0], features.dtype)
    along = jax.vmap(lambda ends: _weights(ends, across, spatial_scale, features.shape[1], features.dtype))
    wide, across = along(columns)
    pooled = _pool(features, down, across.reshape(-1, across.shape[-1]))
    pooled = jnp.moveaxis(pooled.reshape(len(down), *across.shape[:2], -1), 1, 0)
    return jnp.where((tall & wide)[:, None, None, None], pooled, jnp.zeros_like(pooled))


def prroi_pool_windows(
    features: Array, box: Array, *, window: int, bins: int | tuple[int, int], spatial_scale: float
) -> tuple[Array, Array]:
    """`prroi_pool` of what a window of `window` x `window` cells (odd) sees around each cell, zeros beyond the map.

    Pooling and convolution are both linear: a convolution that is only wanted pooled is one small product with this.
    Returns `[down, across, window, window, C]`, and `[down, across]` what becomes of a map of ones.
    """
    valid, rows, columns = _box_weights(box, bins, spatial_scale, features)

    def moved(weights):  # `[window * bins, cells]`: a cell that the window sees at `step` has the weight of its middle
        padded = jnp.pad(weights, ((0, 0), (window // 2, window // 2)))
        cells = weights.shape[1]
        return jnp.concatenate([padded[:, step : step + cells] for step in reversed(range(window))])

    pooled = _pool(features, moved(rows), moved(columns))
    pooled = pooled.reshape(window, len(rows), window, len(columns), -1).transpose(1, 3, 0, 2, 4)
    ones = jnp.sum(rows, 1)[:, None] * jnp.sum(columns, 1)[None]
    return jnp.where(valid, pooled, jnp.zeros_like(pooled)), jnp.where(valid, ones, jnp.zeros_like(ones))


def _box_weights(
    box: Array, bins: int | tuple[int, int], spatial_scale: float, features: Array
) -> tuple[Array, Array, Array]:
    """Whether the sides of the box are positive, and the weights of rows `[down, h]` and of columns `[across, w]`."""
    down, across = _both(bins)
    tall, rows = _weights(box[1::2], down, spatial_scale, features.shape[0], features.dtype)
    wide, columns = _weights(box[::2], across, spatial_scale, features.shape[1], features.dtype)
    return tall & wide, rows, columns


def _both(bins: int | tuple[int, int]) -> tuple[int, int]:
    return (bins, bins) if isinstance(bins, int) else bins


def _weights(ends: Array, bins: int, spatial_scale: float, cells: int, dtype) -> tuple[Array, Array]:
    """Whether a side from `ends[0]` to `ends[1]` (image pixels) is positive, and the weights `[bins, cells]`."""
    start, stop = (ends * spatial_scale).astype(dtype)
    valid = stop > start
    start, stop = jnp.where(valid, start, jnp.zeros_like(start)), jnp.where(valid, stop, jnp.ones_like(stop))
    return valid, _averaging_weights(start, stop, bins, cells)


def _pool(features: Array, rows: Array, columns: Array) -> Array:
    """Features `[h, w, C]`, weights `[m, h]` and `[n, w]` -> `[m, n, C]`."""
    exact = jax.lax.Precision.HIGHEST  # the gradient to a box is a difference of nearly equal sums
    # Flat operands and a copy of `columns` for every row of bins: vmapped over boxes, these products and their
    # derivatives are matrix products as they stand; as einsums they transpose the strips, three times as slow.
    height, width, channels = features.shape
    strips = jnp.matmul(rows, features.reshape(height, width * channels), precision=exact)
    columns = jnp.broadcast_to(columns[None], (len(rows), *columns.shape))
    return jnp.matmul(columns, strips.reshape(len(rows), width, channels), precision=exact)


def _averaging_weights(start: Array, stop: Array, bins: int, cells: int) -> Array:
    """`[bins, cells]`: the mean of every cell's hat function max(0, 1 - |t - cell|) over every bin."""
    edges = start + (stop - start) * (jnp.arange(bins + 1, dtype=start.dtype) / bins)
    return _mean_of_hats(edges[:-1, None], edges[1:, None], jnp.arange(cells, dtype=start.dtype)[None])


@jax.custom_jvp
def _mean_of_hats(low: Array, high: Array, cells: Array) -> Array:
    """Bins from `low` to `high` `[bins, 1]`, cells `[1, cells]` -> `[bins, cells]`.

    The rising and the falling half of a hat are integrated apart: (b - a) times the height in the middle
    keeps all digits for a bin far smaller than a cell, where a difference of antiderivatives loses them.
    """
    rising_low, rising_high = (jnp.clip(edge - cells, -1, 0) for edge in (low, high))
    falling_low, falling_high = (jnp.clip(edge - cells, 0, 1) for edge in (low, high))
    mass = (rising_high - rising_low) * (1 + (rising_high + rising_low) / 2)
    mass += (falling_high - falling_low) * (1 - (falling_high + falling_low) / 2)
    return _over_width(mass, low, high)


@_mean_of_hats.defjvp
def _mean_of_hats_jvp(primals, tangents):
    # The fundamental theorem of calculus; the usual rule turns the clips into a program ten times as long.
    low, high, cells = primals
    low_tangent, high_tangent, _ = tangents
    mean = _mean_of_hats(low, high, cells)
    hat_low, hat_high = (jnp.maximum(1 - jnp.abs(edge - cells), 0) for edge in (low, high))
    change = (hat_high - mean) * high_tangent + (mean - hat_low) * low_tangent
    return mean, _over_width(change, low, high)


def _over_width(x: Array, low: Array, high: Array) -> Array:
    """x / (high - low), 0 for a side below the spacing of floating-point numbers, which counts as empty."""
    resolved = high > low
    return jnp.where(resolved, x / jnp.where(resolved, high - low, jnp.ones_like(low)), jnp.zeros_like(x))
