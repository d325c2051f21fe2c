"""Where a tracker looks in a frame: what ATOM and DiMP share."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import Box
from ops.crop import Crop, crop
from trackers.base import Frame
from trackers.rules import NOT_NEGATIVE, POSITIVE, Search, multiple_of, one_of

Array = jax.Array

INSIDE_RATIO = 0.2  # share of the target that must stay in the frame (pytracking's `target_inside_ratio`)


@dataclass(frozen=True)
class RegionConfig:
    """The search crop; the defaults are those of pytracking's `dimp18` and `dimp50`, which have no `min_side`."""

    image_size: Annotated[int, multiple_of(32)] = 288  # side, pixels; backbones and centered score maps ask for it
    search_area_scale: Annotated[float, POSITIVE, Search(3.5, 6.0)] = 5.0  # side over sqrt(target area)
    # Rounding of the crop to whole pixels; the last two are pytracking's
    rounding: Annotated[str, one_of("continuous", "pytracking", "pytracking_torch14")] = "continuous"
    border: Annotated[str, one_of("replicate", "inside", "inside_major")] = "replicate"
    min_side: Annotated[float, POSITIVE] = 4.0  # least side of a target without the IoU-Net, image pixels
    redetection_rings: Annotated[int, NOT_NEGATIVE] = 0  # see `redetection_offset`; 0 in pytracking


def search_crops(box: Box, lost_frames: Array, frame: Frame, factors: Array, config: RegionConfig) -> Crop:
    """Square crops around the target, one for each of `factors` `[S]` on its scale; leaves are `[S, ...]`."""
    side = scale(box.size, config.search_area_scale, config.image_size) * config.image_size
    center = box.center + redetection_offset(lost_frames, config.redetection_rings) * side
    center = keep_in_frame(center, box.size, frame.extent)
    out = (config.image_size, config.image_size)

    def one(factor):
        sides = jnp.stack([factor * side] * 2)
        return crop(
            frame.image, frame.extent, center, sides, out, border=config.border, rounding=config.rounding
        )

    return jax.vmap(one)(factors)


def scale(size: Array, search_area_scale: float | Array, crop_size: int) -> Array:
    """Image pixels per crop pixel `[]` of a square crop of area `search_area_scale^2` times the target's.

    size: `[2]` of the target, image pixels.
    """
    return search_area_scale * jnp.sqrt(jnp.prod(size)) / crop_size


def to_crop(box: Box, center: Array, scale: Array, crop_size: int) -> Box:
    """The box (image pixels) in pixels of a crop around `center` [2] with `scale` [] image pixels per crop pixel."""
    return Box((box.center - center) / scale + (crop_size - 1) / 2, box.size / scale)


def keep_in_frame(center: Array, size: Array, extent: Array) -> Array:
    """The center `[2]`, moved so that `INSIDE_RATIO` of the target stays in the frame on each axis."""
    margin = (0.5 - INSIDE_RATIO) * size
    return jnp.clip(center, -margin, extent + margin)


def rescale(size: Array, factor: Array, extent: Array, min_side: float | Array) -> Array:
    """`size` [2] times `factor` [] or [2], neither shrunk below `min_side` pixels nor grown beyond the frame.

    A target that is smaller (larger) than that already keeps its size: it is not forced up or down.
    """
    wanted = size * factor
    least = jnp.max(jnp.minimum(min_side, size) / wanted)
    most = jnp.min(jnp.maximum(extent, size) / wanted)
    return wanted * jnp.clip(jnp.ones(()), least, most)


def redetection_offset(lost_frames: Array, rings: int) -> Array:
    """Where to look after `lost_frames` [] frames without the target: `[2]` in units of the crop's side.

    0 for the first frame and every second one after it (the target often comes back where it left); the frames
    between walk outwards over a grid of half-overlapping crops, `rings` rings of it, repeatedly. The cost per
    frame stays that of one crop. 0 rings: always 0, as in pytracking.
    """
    grid = [(y, x) for y in range(-rings, rings + 1) for x in range(-rings, rings + 1) if (y, x) != (0, 0)]
    if not grid:
        return jnp.zeros(2)
    walk = np.array(sorted(grid, key=lambda cell: (max(map(abs, cell)), np.arctan2(*cell))), np.float32) / 2
    visit = (lost_frames // 2 - 1) % len(walk)
    return jnp.where((lost_frames > 0) & (lost_frames % 2 == 0), jnp.asarray(walk)[visit], 0)
