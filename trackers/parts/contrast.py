"""Whether there is anything to see where a tracker looks: a covered lens, a blank picture, a place beyond the frame.

A network answers a plain gray crop, too: what is left of its response comes from rounding and from the sensor's noise,
and a tracker that ranks places against each other follows it anywhere. Frames with contrast are not touched.
"""

import jax
import jax.numpy as jnp

from ops.crop import Crop
from trackers.nets import windows

Array = jax.Array

BLOCK = 8  # crop pixels a side: smaller than any target, large enough to average noise away
# Gray levels. A blank picture has at most 4 with noise of +-2, and 9 with a standard deviation of 2 around a target of
# 8 pixels; a search region of the real sequences at hand has at least 111.
LEAST = 10.0


def visible(region: Crop, extent: Array) -> Array:
    """`[]` bool: whether the search crops `region` `[S, ...]` show anything of a frame of `extent` `[2]`."""
    return contrast(region, extent) >= LEAST


def contrast(region: Crop, extent: Array) -> Array:
    """Gray levels `[]` from the darkest to the brightest block of the search crops, in the channel where it is most.

    region: leaves `[S, ...]`, images `[S, H, W, C]`. extent: `[2]` true (height, width) of the frame; what lies beyond
    does not count, and -inf is returned where the crops show nothing else. No gradient flows through it.
    """
    region = jax.lax.stop_gradient(region)
    shape = region.image.shape
    rows, columns = (_inside(region, extent, axis) for axis in (0, 1))
    flat = region.image.reshape(*shape[:2], -1)
    strips = _blocks(jnp.where(rows[:, :, None], flat, 0), 1).reshape(shape[0], -1, *shape[2:])
    sums = _blocks(jnp.where(columns[:, None, :, None], strips, 0), 2)
    counts = (_blocks(inside.astype(sums.dtype), 1) for inside in (rows, columns))
    count = jnp.einsum("sy,sx->syx", *counts)[..., None]
    means, known = sums / jnp.maximum(count, 1), count >= BLOCK**2 / 2
    both = jnp.where(known, jnp.stack([means, -means]), -jnp.inf)  # one reduction: of the brightest and the darkest
    return jnp.max(jnp.sum(jnp.max(both, (1, 2, 3)), 0))


def _inside(region: Crop, extent: Array, axis: int) -> Array:
    """`[S, size]` bool: which rows (columns) of the crops lie in the frame."""
    size = region.image.shape[axis + 1]
    offset = (jnp.arange(size, dtype=region.scale.dtype) - (size - 1) / 2)[None] * region.scale[:, None]
    position = region.center[:, axis, None] + offset
    return (position >= 0) & (position <= (extent[axis] - 1).astype(position.dtype))


def _blocks(array: Array, axis: int) -> Array:
    """Sums over every `BLOCK` elements of an axis; as slices, several times as fast as a reduction on a CPU."""
    return sum(windows.along(array, axis, BLOCK, array.shape[axis] // BLOCK, BLOCK))
