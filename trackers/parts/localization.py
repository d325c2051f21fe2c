"""From a score map to a displacement and a verdict: the "advanced localization" of ATOM and DiMP.

The rule is pytracking's: the highest peak wins, unless a second one, far from the first, is about as high; then
the distance to where the target was decides.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops.score_maps import vertex
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN
from trackers.rules import ANY, FACTOR, NOT_NEGATIVE, POSITIVE, Search

Array = jax.Array


@dataclass(frozen=True)
class LocalizationConfig:
    """Thresholds; the defaults are those of `atom/default`, `dimp18` and `dimp50`."""

    not_found_threshold: Annotated[float, ANY, Search(0.05, 0.5)] = 0.25  # score below which the target is LOST
    # Second peak over first, above which a distractor may have been taken
    distractor_threshold: Annotated[float, NOT_NEGATIVE] = 0.8
    # Second peak over first, above which the sample is a hard negative
    hard_negative_threshold: Annotated[float, NOT_NEGATIVE] = 0.5
    # Distance beyond which a peak is far, in halves of the map
    displacement_scale: Annotated[float, NOT_NEGATIVE] = 0.8
    # Neighborhood without a second peak, in sizes of the target
    neighborhood_scale: Annotated[float, NOT_NEGATIVE] = 2.2
    # Share of `not_found_threshold` that is asked of a peak where the target was, if the frame before showed it; it
    # rises to 1 for a peak `reach` sizes of the target away. What is below the whole threshold is followed, not learned
    near_share: Annotated[float, FACTOR] = 1.0
    reach: Annotated[float, POSITIVE] = 2.0
    window_output: bool = False  # the first peak is sought under a cosine window


LEAST_SCORE = 0.02  # below it, scores around a peak are noise


class Peak(NamedTuple):
    """What the score map says."""

    displacement: Array  # [2] (y, x) cells from the center of the map
    score: Array  # [] at the highest peak
    verdict: Array  # [] int32 of trackers.base


def locate(
    scores: Array,
    unwindowed: Array,
    previous: Array,
    target_size: Array,
    config: LocalizationConfig,
    seen: Array | bool = True,
) -> Peak:
    """The target's displacement in a score map whose zero displacement is at index `n // 2`.

    scores: `[n, n]`; the first peak is theirs. unwindowed: `[n, n]`, the second peak is sought in them (DiMP's VOT
    setting applies a window to the first only; else hand over the same map). previous: `[2]` (y, x) where the target
    was, in cells from the center: distances count from there (ATOM: 0). target_size: `[2]` in cells. seen: `[]` bool,
    whether the target was seen in the frame before.
    """
    size = scores.shape[0]
    first, score = _argmax(scores)
    rest = jnp.where(_neighborhood(first, config.neighborhood_scale * target_size, size), 0, unwindowed)
    second, second_score = _argmax(rest)
    first, second = (peak.astype(scores.dtype) - size // 2 for peak in (first, second))

    far = config.displacement_scale * size / 2
    first_is_far = jnp.linalg.norm(first - previous) > far
    second_is_far = jnp.linalg.norm(second - previous) > far
    rivals = second_score > config.distractor_threshold * score
    take_second = rivals & first_is_far & ~second_is_far
    hard = (second_score > config.hard_negative_threshold * score) & (second_score > config.not_found_threshold)
    verdict = jnp.where(hard, HARD_NEGATIVE, FOUND)
    verdict = jnp.where(rivals, jnp.where(first_is_far != second_is_far, HARD_NEGATIVE, UNCERTAIN), verdict)
    verdict = jnp.where(score < config.not_found_threshold, UNCERTAIN, verdict)
    distance = jnp.linalg.norm(first - previous) / jnp.sqrt(jnp.prod(target_size))
    near = config.near_share + (1 - config.near_share) * jnp.minimum(distance / config.reach, 1)
    lost = score < jnp.where(seen, near, 1) * config.not_found_threshold
    verdict = jnp.where(lost, LOST, verdict).astype(jnp.int32)
    return Peak(jnp.where(take_second & ~lost, second, first), score, verdict)


def between_cells(scores: Array, place: Array) -> Array:
    """The peak of `scores` `[n, n]` near the cell `place` `[2]` (as of `Peak.displacement`), to a fraction of a cell.

    Scores fall off around a target as the Gaussians that they are trained on, whose logarithm is a parabola: the one
    through a cell and its two neighbors, along each axis. At most half a cell away; the cell itself where it is no
    maximum, or at the border of the map.
    """
    size = scores.shape[0]
    cell = (place + size // 2).astype(jnp.int32)
    index = jnp.clip(cell, 1, size - 2)
    around = jnp.log(jnp.maximum(jax.lax.dynamic_slice(scores, index - 1, (3, 3)), LEAST_SCORE))
    offset = vertex(around[[0, 1], [1, 0]], around[1, 1], around[[2, 1], [1, 2]])  # along y, along x
    return place + jnp.where(jnp.any(index != cell), 0, offset)


def _argmax(scores: Array) -> tuple[Array, Array]:
    """Index `[2]` and value of the maximum (the first of equals).

    By rows: XLA's CPU backend takes ten times as long for the place of a maximum as for the maximum.
    """
    highest = jnp.max(scores, 1)
    row = jnp.argmax(highest)
    return jnp.stack([row, jnp.argmax(scores[row])]), highest[row]


def _neighborhood(center: Array, extent: Array, size: int) -> Array:
    """`[size, size]` bool: from round(center - extent / 2) up to, not with, round(center + extent / 2 + 1)."""
    start = jnp.round(center - extent / 2)[:, None]
    stop = jnp.round(center + extent / 2 + 1)[:, None]
    index = jnp.arange(size)[None]
    inside = (index >= start) & (index < stop)
    return inside[0][:, None] & inside[1][None]
