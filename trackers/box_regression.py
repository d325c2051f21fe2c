"""Box refinement without trained weights: ridge regression from pooled features to box deltas, learned on frame 1.

The bounding box regression of R-CNN (Girshick et al. 2014, Appendix C) as MDNet (Nam and Han 2016) uses it in
tracking, with precise RoI pooling: boxes are drawn around the target of frame 1, and one linear map learns the way
back from each. It finds position and scale from one crop, where a scale search needs a crop per scale.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ops.boxes import Box
from ops.prroi_pool import prroi_pool

Array = jax.Array
Taps = dict[str, Array]  # name -> [h, w, C] of one crop


@dataclass(frozen=True)
class RegressionConfig:
    """Chosen on procedural clips and a few videos that are not test sequences."""

    taps: tuple[str, ...] = ("layer1", "layer2")
    bins: int = 5  # pooled cells per side
    context: float = 1.3  # side of the pooled region over the box's
    crops: int = 4  # of frame 1, the first centered on the target
    boxes_per_crop: int = 96
    crop_center_jitter: float = 0.15  # of the target's sides, uniform in +-
    crop_scale_jitter: float = 0.15  # logarithm, uniform in +-
    center_jitter: float = 0.25  # of the box's sides, uniform in +-
    scale_jitter: float = 0.25  # logarithm, uniform in +-, both sides alike
    aspect_jitter: float = 0.075  # logarithm, uniform in +-, each side
    ridge: float = 0.08  # weight of |W|^2 beside the mean squared error, for features of mean square 1
    steps: int = 2  # regressions one after the other, per frame
    max_center_step: float = 0.25  # of the box's sides, per step
    max_scale_step: float = 0.15  # logarithm, per step


def crop_jitter(key: Array, box: Box, config: RegressionConfig) -> Box:
    """Where the crops of frame 1 are aimed: boxes `[crops, 2]`, the first the target's own."""
    key_center, key_scale = jax.random.split(key)
    moved = (jnp.arange(config.crops) > 0).astype(box.size.dtype)[:, None]
    center = jax.random.uniform(key_center, (config.crops, 2), minval=-1.0, maxval=1.0) * config.crop_center_jitter
    scale = jax.random.uniform(key_scale, (config.crops, 1), minval=-1.0, maxval=1.0) * config.crop_scale_jitter
    return Box(box.center[None] + moved * center * box.size[None], box.size[None] * jnp.exp(moved * scale))


def training_pairs(key: Array, taps: Taps, target: Box, crop_size: int, config: RegressionConfig):
    """Descriptors `[boxes_per_crop, D]` of boxes around `target` (crop pixels), and the deltas back to it `[.., 4]`."""
    keys = jax.random.split(key, 3)
    draw = [jax.random.uniform(k, (config.boxes_per_crop, 2), minval=-1.0, maxval=1.0) for k in keys]
    log_size = config.scale_jitter * draw[0][:, :1] + config.aspect_jitter * draw[1]
    size = target.size[None] * jnp.exp(log_size)
    offset = config.center_jitter * draw[2]
    boxes = Box(target.center[None] + offset * size, size)
    features = jax.vmap(lambda box: describe(taps, box, crop_size, config))(boxes)
    return features, jnp.concatenate([-offset, -log_size], -1)


def fit(features: Array, deltas: Array, config: RegressionConfig) -> Array:
    """The map `[D, 4]` that minimizes mean |features W - deltas|^2 + ridge D |W|^2; features `[N, D]`, deltas `[N, 4]`.

    Solved in its dual form, a system of N equations: D is ten times larger.
    """
    count, dimension = features.shape
    gram = features @ features.T / dimension + config.ridge * count * jnp.eye(count, dtype=features.dtype)
    return features.T @ jax.scipy.linalg.solve(gram, deltas, assume_a="pos") / dimension


def refine(taps: Taps, weights: Array, box: Box, crop_size: int, config: RegressionConfig) -> Box:
    """The box (crop pixels) after `steps` regressions. Both sides change by one factor: the aspect ratio is kept."""
    for _ in range(config.steps):
        delta = describe(taps, box, crop_size, config) @ weights
        center = jnp.clip(delta[:2], -config.max_center_step, config.max_center_step)
        scale = jnp.clip(jnp.mean(delta[2:]), -config.max_scale_step, config.max_scale_step)
        box = Box(box.center + center * box.size, box.size * jnp.exp(scale))
    return box


def describe(taps: Taps, box: Box, crop_size: int, config: RegressionConfig) -> Array:
    """What a box (crop pixels) shows: pooled features `[D]`, each tap's with mean 0 and mean square 1."""
    half = box.size * config.context / 2
    corners = jnp.concatenate([(box.center - half)[::-1], (box.center + half)[::-1]])
    parts = []
    for name in config.taps:
        pooled = prroi_pool(
            taps[name], corners, bins=config.bins, spatial_scale=taps[name].shape[0] / crop_size
        ).reshape(-1)
        pooled = pooled - jnp.mean(pooled)
        parts.append(pooled / jnp.sqrt(jnp.mean(pooled**2) + 1e-10))
    return jnp.concatenate(parts)
