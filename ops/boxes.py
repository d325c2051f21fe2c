"""Boxes. Inside the project a box is `Box(center, size)` in (y, x); x, y, w, h exists only at the edges.

Pixel i has its center at coordinate i. The edge convention is 0-based with center = xy + (wh - 1) / 2, so that a
box x = 0, w = 3 is centered on pixel 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Box(NamedTuple):
    """An axis-aligned box in pixels of whatever image it lies in."""

    center: Array  # [..., 2] (y, x)
    size: Array  # [..., 2] (height, width), > 0


def from_xywh(xywh: Array) -> Box:
    """`[..., 4]` x, y, w, h (0-based) -> Box."""
    xywh = jnp.asarray(xywh)
    upper_left, size = xywh[..., 1::-1], xywh[..., :1:-1]
    return Box(upper_left + (size - 1) / 2, size)


def to_xywh(box: Box) -> Array:
    """Box -> `[..., 4]` x, y, w, h (0-based)."""
    upper_left = box.center - (box.size - 1) / 2
    return jnp.concatenate([upper_left[..., ::-1], box.size[..., ::-1]], axis=-1)


def xywh_to_corners(xywh: Array) -> Array:
    """`[..., 4]` x, y, w, h -> x1, y1, x2, y2 with x2 = x + w (continuous, no -1)."""
    return jnp.concatenate([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], axis=-1)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of x, y, w, h boxes, `[..., 4]` each; 0 where a side is not positive."""
    intersection, union, _ = _overlap(a, b)
    return jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1), 0)


def giou(a: Array, b: Array) -> Array:
    """Generalized IoU (Rezatofighi et al. 2019, Eq. 2-3) of x, y, w, h boxes, in (-1, 1]."""
    intersection, union, hull = _overlap(a, b)
    overlap = jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1), 0)
    return overlap - jnp.where(hull > 0, (hull - union) / jnp.where(hull > 0, hull, 1), 0)


def _overlap(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Areas of the intersection, the union and the smallest enclosing box."""
    a1, a2 = a[..., :2], a[..., :2] + a[..., 2:]
    b1, b2 = b[..., :2], b[..., :2] + b[..., 2:]
    intersection = jnp.prod(jnp.maximum(jnp.minimum(a2, b2) - jnp.maximum(a1, b1), 0), -1)
    union = jnp.prod(jnp.maximum(a[..., 2:], 0), -1) + jnp.prod(jnp.maximum(b[..., 2:], 0), -1) - intersection
    hull = jnp.prod(jnp.maximum(a2, b2) - jnp.minimum(a1, b1), -1)
    return intersection, union, hull
