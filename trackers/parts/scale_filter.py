"""The target's change of size and shape, from one crop and without trained weights: a filter learned online.

Danelljan et al., "Discriminative Scale Space Tracking", PAMI 2017, carried over to a network's features: instead of
resampling the image once for every scale, boxes of many scales are pooled out of the feature maps of the one search
crop. A linear filter answers 1 for the box of the right size and falls off as a Gaussian in the logarithm of the
scale; it is ridge regression over the samples of frame 1 and of later frames, solved by conjugate gradient. Boxes of
the same area and many aspect ratios are among the samples, too; of their change a smaller share is followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ops import sample_memory
from ops.boxes import Box
from ops.crop import Crop
from ops.least_squares import gauss_newton, safe_sqrt
from ops.loops import any_lane
from ops.prroi_pool import prroi_pool_widths
from ops.sample_memory import SampleMemory
from ops.score_maps import vertex
from trackers.base import FOUND, LOST, Frame, State, select
from trackers.nets.resnet import TAP_STRIDES
from trackers.parts import search_region
from trackers.parts.online import Location
from trackers.parts.search_region import RegionConfig
from trackers.rules import ABOVE_ONE, ANY, COUNT, NOT_NEGATIVE, POSITIVE, SCALES, SHARE, one_of

Array = jax.Array
Taps = dict[str, Array]  # name -> [h, w, C] of one crop


@dataclass(frozen=True)
class ScaleFilterConfig:
    """Chosen on procedural clips, clips made of photographs and 77 videos, none of them test sequences."""

    taps: Annotated[tuple[str, ...], one_of(*TAP_STRIDES)] = ("layer1", "layer2")
    bins: Annotated[int, COUNT] = 5  # pooled cells per side
    context: Annotated[float, POSITIVE] = 1.4  # side of the pooled region over the box's
    scales: Annotated[int, SCALES] = 17  # sizes that are compared, and as many shapes
    # From one scale to the next; from one shape to the next its square, so that both have the same sides
    scale_step: Annotated[float, ABOVE_ONE] = 1.03
    label_sigma: Annotated[float, POSITIVE] = 0.06  # sigma of the label, logarithm of the scale
    # Weight of |filter|^2 beside the weighted squared error, for descriptors of norm 1
    ridge: Annotated[float, POSITIVE] = 0.1
    initial_samples: Annotated[int, COUNT] = 4  # number of samples of frame 1
    # Jitter of the center, uniform in +-this share of the box's sides: localization may be off by it
    center_jitter: Annotated[float, NOT_NEGATIVE] = 0.05
    init_cg_steps: Annotated[int, COUNT] = 30
    cg_steps: Annotated[int, NOT_NEGATIVE] = 5  # of a scheduled update
    train_skipping: Annotated[int, COUNT] = 5  # frames between scheduled updates
    memory_size: Annotated[int, COUNT] = 20
    learning_rate: Annotated[float, SHARE] = 0.025
    initial_min_weight: Annotated[float, SHARE] = 0.3  # weight of the samples of frame 1 together
    # Score of the localization below which the size is kept and nothing is learned
    min_score: Annotated[float, ANY] = 0.4
    gain: Annotated[float, NOT_NEGATIVE] = 0.6  # share of the measured change (its logarithm) that is followed
    max_step: Annotated[float, NOT_NEGATIVE] = 0.1  # greatest change per frame (its logarithm), before the gain
    follow_aspect: bool = True  # False: the box keeps its shape
    # As above, of the aspect ratio: width over height
    aspect_gain: Annotated[float, NOT_NEGATIVE] = 0.15
    aspect_sigma: Annotated[float, POSITIVE] = 0.12
    aspect_max_step: Annotated[float, NOT_NEGATIVE] = 0.2
    max_aspect_ratio: Annotated[float, ABOVE_ONE] = 6.0  # of the longer side to the other, unless frame 1 has more

    def misfits(self) -> Iterator[tuple[str, str]]:
        if not self.taps:
            yield "taps", "one name or more"
        if self.memory_size <= self.initial_samples:
            yield "memory_size", f"> initial_samples = {self.initial_samples}"


class ScaleFilter(NamedTuple):
    """What is learned."""

    filter: Array  # [D]
    memory: SampleMemory  # of [M, boxes, D], see `describe`


def start(
    key: Array, taps: Taps, box: Box, center: Array, scale: Array, crop_size: int, config: ScaleFilterConfig | None
) -> ScaleFilter | tuple[()]:
    """The filter of frame 1, of an online-learning tracker; nothing without a config.

    taps: `[N, h, w, C]` of the samples, of which sample 0 shows the target's `box` (image pixels) as it is, in a crop
    around `center` [2] with `scale` [] image pixels per crop pixel.
    """
    if config is None:
        return ()
    inside = search_region.to_crop(box, center, scale, crop_size)
    return learn_first(key, jax.tree.map(lambda leaf: leaf[0], taps), inside, crop_size, config)


def resize(
    state: State,
    taps: Taps,
    frame: Frame,
    region: Crop,
    location: Location,
    geometry: RegionConfig,
    config: ScaleFilterConfig | None,
) -> Box:
    """The box (image pixels) at `location`, as the filter and the location change it; the last one if LOST.

    state: has `box` and `scale_filter`. taps, region: as of `follow`; `geometry` cut the region. Without a config the
    size changes by `location.scale_factor` alone.
    """
    factor = location.scale_factor
    if config is not None:
        here = Box(location.center, state.box.size)
        factor = factor * follow(state.scale_filter, taps, region, location, here, config)
    size = search_region.rescale(state.box.size, factor, frame.extent, geometry.min_side)
    return select(location.verdict != LOST, Box(location.center, size), state.box)


def follow(
    state: ScaleFilter, taps: Taps, region: Crop, location: Location, box: Box, config: ScaleFilterConfig
) -> Array:
    """The factors `[2]` of height and width of `box` (image pixels); 1 unless the localization's score is good.

    taps: `[S, h, w, C]` of the search crops `region`, of which the target is seen in `location.crop_index`.
    """
    factor = estimate(state, *_view(taps, region, location, box), region.image.shape[1], config)
    return jnp.where(location.score > config.min_score, factor, 1)


def learn(
    state: ScaleFilter | tuple[()],
    taps: Taps,
    region: Crop,
    location: Location,
    box: Box,
    frame_number: Array,
    config: ScaleFilterConfig | None,
) -> ScaleFilter | tuple[()]:
    """Every `train_skipping`-th frame, where the target was FOUND with a good score: `box` has the right size.

    box: image pixels. taps, region, location: as of `follow`.
    """
    if config is None:
        return ()
    due = (frame_number - 1) % config.train_skipping == 0
    sure = (location.verdict == FOUND) & (location.score > config.min_score)
    return update(state, *_view(taps, region, location, box), region.image.shape[1], due & sure, config)


def _view(taps: Taps, region: Crop, location: Location, box: Box) -> tuple[Taps, Box]:
    """The taps of the crop that the target was found in, and the box in pixels of that crop."""
    index = location.crop_index
    inside = search_region.to_crop(box, region.center[index], region.scale[index], region.image.shape[1])
    return jax.tree.map(lambda leaf: leaf[index], taps), inside


def learn_first(key: Array, taps: Taps, box: Box, crop_size: int, config: ScaleFilterConfig) -> ScaleFilter:
    """The filter of frame 1, from its features and the target's box in crop pixels."""
    jitter = jax.random.uniform(key, (config.initial_samples, 2), minval=-1.0, maxval=1.0) * config.center_jitter
    samples = jax.vmap(lambda offset: describe(taps, Box(box.center + offset * box.size, box.size), crop_size, config))
    memory = sample_memory.create(config.memory_size, samples(jitter))
    start = jnp.zeros(memory.samples.shape[-1], memory.samples.dtype)
    return ScaleFilter(_solve(start, memory, config.init_cg_steps, config.init_cg_steps, config), memory)


def estimate(state: ScaleFilter, taps: Taps, box: Box, crop_size: int, config: ScaleFilterConfig) -> Array:
    """The factors `[2]` by which height and width of the box (crop pixels) should change, see `_toward`."""
    response = describe(taps, box, crop_size, config) @ state.filter
    growth = _toward(response[: config.scales], config.scale_step, config.max_step)
    sides = jnp.exp(config.gain * growth) * jnp.ones(2, box.size.dtype)
    if not config.follow_aspect:
        return sides
    change = _toward(response[config.scales :], config.scale_step**-2, config.aspect_max_step)
    change *= config.aspect_gain
    now, most = jnp.log(box.size[1] / box.size[0]), jnp.log(config.max_aspect_ratio)
    change = jnp.clip(change, jnp.minimum(-most - now, 0), jnp.maximum(most - now, 0))
    return sides * jnp.exp(jnp.stack([-change, change]) / 2)


def _toward(response: Array, step: float, limit: float) -> Array:
    """The logarithm `[]` of the best of factors `step` apart around 1: a parabola through the highest response."""
    best = jnp.clip(jnp.argmax(response), 1, len(response) - 2)
    before, at, after = response[best - 1], response[best], response[best + 1]
    log_factor = (best - (len(response) - 1) / 2 + vertex(before, at, after)) * np.log(step)
    return jnp.clip(log_factor, -limit, limit)


def update(
    state: ScaleFilter, taps: Taps, box: Box, crop_size: int, learn: Array, config: ScaleFilterConfig
) -> ScaleFilter:
    """Learns that `box` (crop pixels) has the right size; where `learn` [] is False nothing changes."""

    def learned(state):
        memory = sample_memory.insert(
            state.memory,
            describe(taps, box, crop_size, config),
            config.learning_rate,
            initial=config.initial_samples,
            min_initial_weight=config.initial_min_weight,
            write=learn,
        )
        steps = jnp.where(learn, config.cg_steps, 0)
        return ScaleFilter(_solve(state.filter, memory, steps, config.cg_steps, config), memory)

    return jax.lax.cond(any_lane(learn), learned, lambda state: state, state)  # in most frames nothing is due


def describe(taps: Taps, box: Box, crop_size: int, config: ScaleFilterConfig) -> Array:
    """What the box (crop pixels) shows at every scale, then in every shape: `[boxes, D]`, rows of norm 1.

    boxes: `config.scales`, and where the shape may change as many again. D: pooled features.
    """
    log_sides = jnp.asarray(boxes(config)[0]).reshape(-1, config.scales, 2)  # [1 or 2, scales, 2]

    def of_one_height(log_sides):
        half = box.size[None] * config.context * jnp.exp(log_sides) / 2
        ends = box.center[None, None] + jnp.stack([-half, half], 1)  # [1 or 2, first and last, 2]
        parts = []
        for name in config.taps:
            spatial_scale = taps[name].shape[0] / crop_size
            pooled = prroi_pool_widths(
                taps[name], ends[0, :, 0], ends[:, :, 1], bins=config.bins, spatial_scale=spatial_scale
            )
            pooled = pooled.reshape(len(ends), -1)
            pooled -= jnp.mean(pooled, 1, keepdims=True)
            parts.append(pooled / jnp.sqrt(len(config.taps) * jnp.sum(pooled**2, 1, keepdims=True) + 1e-10))
        return jnp.concatenate(parts, 1)

    described = jax.vmap(of_one_height, 1, 1)(log_sides)
    return described.reshape(-1, described.shape[-1])


def boxes(config: ScaleFilterConfig) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the sides (height, width) of the boxes that are compared, `[boxes, 2]`, and their labels `[boxes]`.

    Both float32. First the scales, then the shapes, each from the smallest height to the largest; their heights are
    the same, and so are their widths.
    """
    logs = (np.arange(config.scales) - (config.scales - 1) / 2)[:, None] * np.log(config.scale_step)
    log_sides, labels = logs * [1, 1], np.exp(-(logs**2) / (2 * config.label_sigma**2))
    if config.follow_aspect:
        log_sides = np.concatenate([log_sides, logs * [1, -1]])
        labels = np.concatenate([labels, np.exp(-((2 * logs) ** 2) / (2 * config.aspect_sigma**2))])
    return log_sides.astype(np.float32), labels[:, 0].astype(np.float32)


def _solve(filter: Array, memory: SampleMemory, steps, max_steps: int, config: ScaleFilterConfig) -> Array:
    label = jnp.asarray(boxes(config)[1])

    def residuals(filter, samples, weights, ridge):
        errors = safe_sqrt(weights / len(label))[:, None] * (samples @ filter - label[None])
        return errors, jnp.sqrt(ridge) * filter

    return gauss_newton(
        residuals,
        filter,
        (memory.samples, memory.weights, jnp.asarray(config.ridge, filter.dtype)),
        num_steps=jnp.minimum(steps, 1),
        max_steps=1,
        cg_steps=steps,
        max_cg_steps=max_steps,
    )
