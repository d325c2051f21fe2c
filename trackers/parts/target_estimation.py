"""From where the target is to its box, what ATOM and DiMP share: an IoU-Net, or a filter over scales and shapes.

"Target estimation" as ATOM's paper (Sec. 3.1) has it, beside the classifier that finds the place. A tracker's
configuration has `use_iou_net`, `refinement`, `scale_filter` and `region`, its state `key`, `box`, `frame_number` and
both fields of `Estimator`.
"""

from typing import Any, NamedTuple, Protocol

import jax

from ops.boxes import Box
from ops.crop import Crop
from trackers.base import Frame, Params, State
from trackers.parts import box_refinement, scale_filter
from trackers.parts.box_refinement import RefinementConfig
from trackers.parts.online import Location
from trackers.parts.scale_filter import ScaleFilter, ScaleFilterConfig, Taps
from trackers.parts.search_region import RegionConfig

Array = jax.Array


class Config(Protocol):
    """What is read of a tracker's configuration."""

    use_iou_net: bool
    refinement: RefinementConfig
    scale_filter: ScaleFilterConfig | None
    region: RegionConfig


class Estimator(NamedTuple):
    """What frame 1 gives; each is empty where the other is used."""

    modulation: tuple[Array, ...]  # of the IoU-Net, [256] twice
    scale_filter: ScaleFilter | tuple[()]


def taps(config: Config) -> tuple[str, ...]:
    """The layers of the backbone that are looked at."""
    if config.use_iou_net:
        return ("layer2", "layer3")
    return config.scale_filter.taps if config.scale_filter else ()


def start(params: Params, key: Array, taps: Taps, box: Box, center: Array, scale: Array, config: Config) -> Estimator:
    """Of frame 1: its samples' taps `[N, h, w, C]`, of which sample 0 shows `box` as it is; center, scale: its crop."""
    modulation = ()
    if config.use_iou_net:
        modulation = box_refinement.modulation(params, taps, box, center, scale, config.region)
    size = config.region.image_size
    return Estimator(modulation, scale_filter.start(key, taps, box, center, scale, size, config.scale_filter))


def refine(
    params: Params, state: State, taps: Taps, frame: Frame, region: Crop, location: Location, config: Config
) -> tuple[State, Box, dict[str, Any]]:
    """The box at `location`, the last one if LOST, and what `Estimate.extras` shows of how it came about."""
    if config.use_iou_net:
        return box_refinement.refine(params, state, taps, region, location, config.region, config.refinement)
    return state, scale_filter.resize(state, taps, frame, region, location, config.region, config.scale_filter), {}


def learn(state: State, taps: Taps, region: Crop, location: Location, box: Box, config: Config) -> State:
    """The scale filter learns the box of a frame; an IoU-Net learns nothing while it tracks."""
    learned = scale_filter.learn(
        state.scale_filter, taps, region, location, box, state.frame_number, config.scale_filter
    )
    return state._replace(scale_filter=learned)
