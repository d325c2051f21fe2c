"""What SiamRPN's anchors are trained on, as pysot chooses it: labels, box offsets, weights of the offsets.

Of one search crop, to be vmapped. Boxes are x, y, w, h in pixels of the crop, the center is x + w / 2.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops.anchors import RATIOS, SCALES, STRIDE, anchors, encode
from ops.boxes import Box, iou
from trackers.rules import COUNT, NOT_NEGATIVE, POSITIVE, PROBABILITY

Array = jax.Array


@dataclass(frozen=True)
class AnchorTargetConfig:
    """The anchors and how they are chosen; the defaults are SiamRPN++'s."""

    search_size: Annotated[int, COUNT] = 255  # pixels of a side of the search crop
    score_size: Annotated[int, COUNT] = 25  # cells of a side of the score map
    stride: Annotated[int, COUNT] = STRIDE
    scales: Annotated[tuple[float, ...], POSITIVE] = SCALES
    ratios: Annotated[tuple[float, ...], POSITIVE] = RATIOS
    positive_iou: Annotated[float, PROBABILITY] = 0.6  # an anchor that overlaps by more is positive
    negative_iou: Annotated[float, PROBABILITY] = 0.3  # one that overlaps by less is negative, the others are ignored
    max_positives: Annotated[int, COUNT] = 16  # of a crop, chosen at random
    # Of a crop, both kinds; negatives do not take the place of missing positives
    max_anchors: Annotated[int, COUNT] = 64
    window: Annotated[int, COUNT] = 7  # cells of a side: negatives of a negative pair are near its target, ...
    window_negatives: Annotated[int, NOT_NEGATIVE] = 16  # ... at most so many


class AnchorTargets(NamedTuple):
    """Targets of the anchors of one crop."""

    labels: Array  # [S, S, k] int32: 1 positive, 0 negative, -1 ignored
    deltas: Array  # [S, S, k, 4] box offsets, see `ops.anchors.encode`; 0 in a negative pair
    weights: Array  # [S, S, k] of the offsets: one over the number of positives at those, else 0


def anchor_targets(key: Array, box: Array, negative: Array, config: AnchorTargetConfig) -> AnchorTargets:
    """Targets for a crop that shows `box` `[4]`, sides > 0; `negative` `[]` bool: it is not the template's target.

    Of many positives and negatives, a random choice is kept, each being as likely as any other.
    """
    positive_key, negative_key, window_key = jax.random.split(key, 3)
    _, labels, deltas = assign(box, config)
    positive = choose(positive_key, labels == 1, config.max_positives)
    background = choose(negative_key, labels == 0, config.max_anchors - config.max_positives)
    near = jnp.broadcast_to(negative_window(box, config)[..., None], labels.shape)
    near = choose(window_key, near, config.window_negatives)

    positive &= jnp.logical_not(negative)  # which may be a bool of Python
    labels = jnp.where(positive, 1, jnp.where(jnp.where(negative, near, background), 0, -1))
    weights = positive / (jnp.sum(positive) + 1e-6)
    return AnchorTargets(labels, jnp.where(negative, 0, deltas), weights.astype(deltas.dtype))


def assign(box: Array, config: AnchorTargetConfig) -> tuple[Array, Array, Array]:
    """What all anchors would be trained on: overlap `[S, S, k]` with `box` `[4]`, labels `[S, S, k]`, deltas."""
    grid = anchors(config.score_size, stride=config.stride, scales=config.scales, ratios=config.ratios)
    grid = Box(grid.center + (config.search_size - 1) / 2, grid.size)
    corner = grid.center - grid.size / 2
    box = box[None, None, None]
    overlap = iou(jnp.concatenate([corner[..., ::-1], grid.size[..., ::-1]], -1), box)
    labels = jnp.where(overlap > config.positive_iou, 1, jnp.where(overlap < config.negative_iou, 0, -1))
    return overlap, labels, encode(grid, Box(box[..., 1::-1] + box[..., :1:-1] / 2, box[..., :1:-1]))


def negative_window(box: Array, config: AnchorTargetConfig) -> Array:
    """`[S, S]` bool: the cells around the middle of `box` `[4]` that lie in the score map.

    pysot rounds up half a cell further: the window is centered one cell below and right of the target, or nearly.
    """
    offset = (box[1::-1] + box[:1:-1] / 2 - (config.search_size - 1) / 2) / config.stride
    middle = config.score_size // 2 + jnp.ceil(offset + 0.5)
    cells = jnp.arange(config.score_size, dtype=middle.dtype)
    near = jnp.abs(cells[None] - middle[:, None]) <= config.window // 2
    return near[0][:, None] & near[1][None]


def choose(key: Array, candidates: Array, count: int) -> Array:
    """At most `count` of the candidates (bool, any shape), at random and all equally likely, as a mask."""
    order = jnp.where(candidates.ravel(), jax.random.uniform(key, (candidates.size,)), -1)
    best, index = jax.lax.top_k(order, min(count, candidates.size))
    return jnp.zeros(candidates.size, bool).at[index].set(best >= 0).reshape(candidates.shape)
