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
    bins_y, bins_x = (bins, bins) if isinstance(bins, int) else bins
    box = (box * spatial_scale).astype(features.dtype)
    valid = jnp.all(box[2:] > box[:2])
    x1, y1, x2, y2 = jnp.where(valid, box, jnp.array([0, 0, 1, 1], box.dtype))
    rows = _averaging_weights(y1, y2, bins_y, features.shape[0])
    columns = _averaging_weights(x1, x2, bins_x, features.shape[1])
    exact = jax.lax.Precision.HIGHEST  # the gradient to a box is a difference of nearly equal sums
    strips = jnp.einsum("ph,hwc->pwc", rows, features, precision=exact)
    pooled = jnp.einsum("qw,pwc->pqc", columns, strips, precision=exact)
    return jnp.where(valid, pooled, jnp.zeros_like(pooled))


def _averaging_weights(start: Array, stop: Array, bins: int, cells: int) -> Array:
    """`[bins, cells]`: the mean of every cell's hat function max(0, 1 - |t - cell|) over every bin.

    The rising and the falling half of a hat are integrated apart: (b - a) times the height in the middle
    keeps all digits for a bin far smaller than a cell, where a difference of antiderivatives loses them.
    """
    edges = start + (stop - start) * (jnp.arange(bins + 1, dtype=start.dtype) / bins)
    offsets = edges[:, None] - jnp.arange(cells, dtype=start.dtype)[None]
    rising, falling = jnp.clip(offsets, -1, 0), jnp.clip(offsets, 0, 1)
    mass = (rising[1:] - rising[:-1]) * (1 + (rising[1:] + rising[:-1]) / 2)
    mass += (falling[1:] - falling[:-1]) * (1 - (falling[1:] + falling[:-1]) / 2)
    width = (edges[1:] - edges[:-1])[:, None]
    resolved = width > 0  # a side below the spacing of floating-point numbers counts as empty
    return jnp.where(resolved, mass / jnp.where(resolved, width, jnp.ones_like(width)), jnp.zeros_like(mass))
