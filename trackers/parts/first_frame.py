"""The training samples of frame 1: augmented crops of the target, what ATOM and DiMP share (ATOM, Sec. 3.4)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ops import augment
from ops.augment import Transform
from ops.boxes import Box
from ops.crop import crop
from trackers.base import Frame
from trackers.parts import search_region
from trackers.parts.online import OnlineConfig
from trackers.parts.search_region import RegionConfig
from trackers.rules import ANY, EVEN, FRACTION, NOT_NEGATIVE, POSITIVE

Array = jax.Array


@dataclass(frozen=True)
class AugmentationConfig:
    """The samples of frame 1, in this order: identity, shifts, flip, blurs, rotations, dropout copies of the identity.

    The defaults are those of pytracking's `dimp18` and `dimp50`: 15 samples.
    """

    # Side of the patch that transforms act on, crop pixels; even like the crop's
    expanded_size: Annotated[int, EVEN] = 576
    # Shifts (y, x) of the target, in halves of the crop's side
    shifts: Annotated[tuple[tuple[float, float], ...], ANY] = ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6))
    flip: bool = True
    # Sigmas (y, x), crop pixels
    blurs: Annotated[tuple[tuple[float, float], ...], POSITIVE] = ((3.0, 1.0), (1.0, 3.0), (2.0, 2.0))
    rotations: Annotated[tuple[float, ...], ANY] = (10.0, -10.0, 45.0, -45.0)  # degrees
    # Random shift of flip, blurs and rotations, uniform in +-half of this share of the crop's side
    random_shift: Annotated[float, NOT_NEGATIVE] = 1 / 3
    dropout_copies: Annotated[int, NOT_NEGATIVE] = 2
    dropout_rate: Annotated[float, FRACTION] = 0.2  # share of the channels


# 30 samples: pytracking's `atom/default`, `atom/default_vot` and `dimp18_vot18`
ATOM_AUGMENTATION = AugmentationConfig(
    blurs=((2.0, 0.2), (0.2, 2.0), (3.0, 1.0), (1.0, 3.0), (2.0, 2.0)),
    rotations=(5.0, -5.0, 10.0, -10.0, 20.0, -20.0, 30.0, -30.0, 45.0, -45.0, -60.0, 60.0),
    dropout_copies=7,
)


def transforms(config: AugmentationConfig) -> tuple[Transform, ...]:
    """What is done to the patch, one transform for each crop that goes through the network."""
    return (
        Transform("identity"),
        *(Transform("shift", shift) for shift in config.shifts),
        *((Transform("flip"),) if config.flip else ()),
        *(Transform("blur", sigma) for sigma in config.blurs),
        *(Transform("rotate", (angle,)) for angle in config.rotations),
    )


def sample_count(config: AugmentationConfig) -> int:
    """How many samples enter the memory."""
    return len(transforms(config)) + config.dropout_copies


def sample_geometry(box: Box, config: RegionConfig) -> tuple[Array, Array]:
    """Where the crops of frame 1 count as centered `[2]`, and image pixels per crop pixel `[]`."""
    center = box.center if config.rounding == "continuous" else jnp.round(box.center)
    return center, search_region.scale(box.size, config.search_area_scale, config.image_size)


def augmented_crops(
    key: Array, frame: Frame, center: Array, scale: Array, region: RegionConfig, config: AugmentationConfig
) -> tuple[Array, Array]:
    """Crops `[N, size, size, 3]` of frame 1 and by how much the target is moved in each, `[N, 2]` (y, x) crop pixels.

    All are cut from one patch of `expanded_size`, so that a shift or rotation brings in what is really there.
    """
    out = (config.expanded_size, config.expanded_size)
    side = jnp.stack([scale * config.expanded_size] * 2)
    patch = crop(frame.image, frame.extent, center, side, out, border=region.border, rounding=region.rounding)
    wanted = transforms(config)
    shifts = augment.sample_shifts(key, wanted, region.image_size, config.random_shift)
    return augment.transform_patch(patch.image, wanted, shifts, region.image_size), shifts.astype(jnp.float32)


def misfits(region: RegionConfig, augmentation: AugmentationConfig, online: OnlineConfig) -> Iterator[tuple[str, str]]:
    """For `trackers.rules`, of a Config with these three: the samples must fit into the patch and into the memory."""
    if augmentation.expanded_size < region.image_size:
        yield "augmentation.expanded_size", f">= region.image_size = {region.image_size}"
    # Samples that are never replaced leave a slot to the others.
    samples = sample_count(augmentation)
    least = samples if online.init_samples_min_weight is None else samples + 1
    if online.memory_size < least:
        yield "online.memory_size", f">= {least}: {samples} samples come from frame 1"


def one_by_one(features: Callable[[Array], Any], images: Array) -> Any:
    """`features(images)`, one image at a time: a batch needs the memory of all at once and is no faster on a CPU."""
    every = jax.lax.map(lambda image: features(image[None]), images)
    return jax.tree.map(lambda leaf: leaf[:, 0], every)


def with_dropout(key: Array, features: Array, config: AugmentationConfig) -> tuple[Array, Array]:
    """The features `[N, h, w, C]`, then `dropout_copies` of the first with channels dropped.

    Also returns which crop each sample shows, `[N + copies]` int32.
    """
    count, copies = features.shape[0], config.dropout_copies
    keys = jax.random.split(key, copies)
    dropped = jax.vmap(lambda key: augment.channel_dropout(key, features[0], config.dropout_rate))(keys)
    origin = jnp.concatenate([jnp.arange(count, dtype=jnp.int32), jnp.zeros(copies, jnp.int32)])
    return jnp.concatenate([features, dropped]), origin
