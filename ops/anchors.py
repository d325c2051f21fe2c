"""Anchors of a region proposal network: the grid, and boxes as offsets from its anchors."""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import Box

Array = jax.Array
CENTERS = ("floor", "true_division")
STRIDE = 8  # pixels of the search crop from cell to cell
SCALES = (8.0,)
RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)  # height over width


def anchors(
    score_size: int,
    *,
    stride: int = STRIDE,
    scales: tuple[float, ...] = SCALES,
    ratios: tuple[float, ...] = RATIOS,
    centers: str = "floor",
) -> Box:
    """The anchors of every cell of a score map, in pixels of the search crop from the crop's middle.

    Ratios are height over width. Before scaling, an anchor has the area of a cell, stride^2, and integer sides:
    w = int(sqrt(stride^2 / ratio)), h = int(w ratio), as in all released SiamRPN trackers. centers: "floor" puts cell i
    at (i - S // 2) stride; "true_division", what DaSiamRPN's code does since Python 3, at (i - S / 2) stride, half a
    stride to the upper left if S is odd. Returns a Box of float32 `[S, S, k, 2]`, (y, x) cells, k = ratios times
    scales, scales running fastest. ValueError for unknown centers.
    """
    if centers not in CENTERS:
        raise ValueError(f"unknown centers {centers!r}; choose one of {', '.join(CENTERS)}")
    widths = [int(sqrt(stride**2 / ratio)) for ratio in ratios]
    sizes = [(int(width * ratio) * scale, width * scale) for width, ratio in zip(widths, ratios) for scale in scales]
    first = score_size // 2 if centers == "floor" else score_size / 2
    position = (np.arange(score_size) - first) * stride
    grid = np.stack(np.meshgrid(position, position, indexing="ij"), -1)[:, :, None]
    shape = (score_size, score_size, len(sizes), 2)
    center, size = (np.broadcast_to(part, shape).astype(np.float32) for part in (grid, np.array(sizes)))
    return Box(jnp.asarray(center), jnp.asarray(size))


def encode(anchors: Box, boxes: Box) -> Array:
    """Boxes as offsets from anchors, `[..., 4]`: dx / w, dy / h, log(w' / w), log(h' / h) (Ren et al. 2015, Eq. 2).

    The order is that of the networks' channels. Leading axes (equally many) broadcast; sizes must be positive.
    """
    offset = (boxes.center - anchors.center) / anchors.size
    growth = jnp.log(boxes.size / anchors.size)
    return jnp.concatenate([offset[..., ::-1], growth[..., ::-1]], -1)


def decode(anchors: Box, deltas: Array) -> Box:
    """The boxes that lie at `deltas` `[..., 4]` from the anchors: the inverse of `encode`."""
    center = anchors.center + deltas[..., 1::-1] * anchors.size
    return Box(center, anchors.size * jnp.exp(deltas[..., :1:-1]))
