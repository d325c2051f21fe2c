"""Box refinement by gradient ascent on a predicted IoU: what ATOM and DiMP share (ATOM paper, Sec. 3.2).

Boxes here are x, y, w, h in crop pixels, `[P, 4]`; `predict_iou` maps them to predicted IoUs `[P]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ops.boxes import Box
from ops.crop import Crop
from ops.loops import any_lane
from trackers.base import LOST, Params, State, select
from trackers.nets import iou_net
from trackers.nets.iou_net import IoUNet
from trackers.parts.online import Location
from trackers.parts.search_region import RegionConfig
from trackers.rules import ABOVE_ONE, COUNT, NOT_NEGATIVE, POSITIVE

Array = jax.Array


@dataclass(frozen=True)
class RefinementConfig:
    """Numbers of the released ATOM and DiMP parameter files."""

    steps: Annotated[int, COUNT] = 5  # gradient ascent steps
    step_length: Annotated[float, NOT_NEGATIVE] = 1.0
    step_decay: Annotated[float, NOT_NEGATIVE] = 1.0  # factor on the step length after each step
    random_boxes: Annotated[int, NOT_NEGATIVE] = 9  # proposals beside the current box
    position_jitter: Annotated[float, NOT_NEGATIVE] = 0.1  # uniform in +-half of this share of sqrt(w h)
    size_jitter: Annotated[float, NOT_NEGATIVE] = 0.5  # uniform in +-half of this share of sqrt(w h)
    min_side: Annotated[float, POSITIVE] = 1.0  # crop pixels
    max_aspect_ratio: Annotated[float, ABOVE_ONE] = 6.0
    top_k: Annotated[int, COUNT] = 3  # boxes averaged


def proposals(key: Array, box: Array, config: RefinementConfig) -> Array:
    """The box `[4]` itself and `random_boxes` jittered copies of it, `[1 + random_boxes, 4]`."""
    side = jnp.sqrt(box[2] * box[3])
    jitter = jax.random.uniform(key, (config.random_boxes, 4), box.dtype, -0.5, 0.5) * side
    center = (box[:2] + box[2:] / 2)[None] + jitter[:, :2] * config.position_jitter
    size = jnp.maximum(box[None, 2:] + jitter[:, 2:] * config.size_jitter, jnp.min(box[2:]) / 3)
    return jnp.concatenate([box[None], jnp.concatenate([center - size / 2, size], -1)])


def ascend(
    predict_iou: Callable[[Array], Array], boxes: Array, config: RefinementConfig
) -> tuple[Array, Array, tuple[Array, Array]]:
    """`steps` ascents `box += step dIoU/dbox * (w, h, w, h)` of each box on its own.

    Returns the boxes `[P, 4]`, the IoUs `[P]` predicted before the last step (pytracking's rule), and the history
    `(boxes [steps, P, 4], iou [steps, P])` before each step.
    """

    def step(carry, _):
        boxes, length = carry
        iou, pull = jax.vjp(predict_iou, boxes)
        (slope,) = pull(jnp.ones_like(iou))
        scale = jnp.concatenate([boxes[:, 2:], boxes[:, 2:]], -1)
        return (boxes + length * slope * scale, length * config.step_decay), (boxes, iou)

    length = jnp.asarray(config.step_length, boxes.dtype)
    (boxes, _), history = jax.lax.scan(step, (boxes, length), None, length=config.steps)
    return boxes, history[1][-1], history


def climb(
    params: Params,
    modulation: tuple[Array, Array],
    layer2: Array,
    layer3: Array,
    boxes: Array,
    config: RefinementConfig,
) -> tuple[Array, Array]:
    """`ascend` of boxes `[P, 4]` in a crop with taps `[h, w, C]`: the boxes and the IoUs.

    The IoU-Net's features are computed in windows around the boxes, and pooled from them. Where a box reaches beyond
    them, at first or on its way, the ascent is made once more with the features of the whole crop.
    """
    net, variables, shapes = _net(params), params["iou_net"], (layer2.shape[:2], layer3.shape[:2])

    def ascent(features, corners=None):
        predict = partial(net.apply, variables, modulation, features, corners=corners, method="predict")
        return ascend(predict, boxes, config)

    def in_whole_maps():
        return ascent(net.apply(variables, layer2, layer3, method="features"))[:2]

    if any(min(shape) <= cells for shape, cells in zip(shapes, iou_net.WINDOWS)):
        return in_whole_maps()
    corners = iou_net.window_corners(boxes, shapes)
    found, iou, (seen, _) = ascent(net.apply(variables, layer2, layer3, corners, method="windows"), corners)
    exact = iou_net.covered(seen.reshape(-1, 4), corners, shapes)
    # A branch, not a loop of no or one turn, with which the frame of DiMP-18 takes 1.5 times as long
    again = jax.lax.cond(any_lane(~exact), in_whole_maps, lambda: (found, iou))
    return select(exact, (found, iou), again)


def average_best(boxes: Array, iou: Array, fallback: Array, config: RefinementConfig) -> tuple[Array, Array]:
    """Mean of the `top_k` admissible boxes by IoU; `fallback` `[4]` if none is admissible.

    A box is not admissible if one of its numbers or its IoU is not finite. Returns the box `[4]` and whether one was
    admissible (`[]` bool).
    """
    boxes = boxes.at[:, 2:].max(config.min_side)
    ratio = boxes[:, 2] / boxes[:, 3]
    admissible = (ratio < config.max_aspect_ratio) & (ratio > 1 / config.max_aspect_ratio)
    admissible &= jnp.isfinite(iou) & jnp.all(jnp.isfinite(boxes), 1)
    ranked, order = jax.lax.top_k(jnp.where(admissible, iou, -jnp.inf), min(config.top_k, iou.shape[0]))
    taken = jnp.isfinite(ranked)
    weight = taken / jnp.maximum(jnp.sum(taken), 1)
    best = jnp.where(taken[:, None], boxes[order], 0)
    return jnp.where(taken[0], weight @ best, fallback), taken[0]


def to_crop(box: Box, sample_center: Array, sample_scale: Array, crop_size: int, *, pixel_centers: bool) -> Array:
    """Image box -> x, y, w, h in the crop whose center is `sample_center`, `sample_scale` image px per crop px.

    The networks are trained with x = center - w / 2 (`pixel_centers=False`); pytracking's trackers hand them
    x = center - (w - 1) / 2, which puts a centered target on an exact cell of the score map.
    """
    center = (box.center - sample_center) / sample_scale + (crop_size - 1) / 2
    size = box.size / sample_scale
    upper_left = center - (size - 1) / 2 if pixel_centers else center - size / 2
    return jnp.concatenate([upper_left[::-1], size[::-1]])


def to_image(xywh: Array, sample_center: Array, sample_scale: Array, crop_size: int) -> Box:
    """x, y, w, h in the crop -> image box, with the networks' own x = center - w / 2.

    After `to_crop(..., pixel_centers=True)` this drifts by half a crop pixel per frame, as in pytracking.
    """
    size = xywh[:1:-1]
    center = (xywh[1::-1] + size / 2 - (crop_size - 1) / 2) * sample_scale + sample_center
    return Box(center, size * sample_scale)


def modulation(
    params: Params, taps: dict[str, Array], box: Box, center: Array, scale: Array, config: RegionConfig
) -> tuple[Array, Array]:
    """The IoU-Net's view of the target: modulation vectors `[inner]` from sample 0 of frame 1.

    taps: layer2 and layer3 `[N, ...]` of the samples; center, scale: where sample 0 lies in the image.
    """
    reference = to_crop(box, center, scale, config.image_size, pixel_centers=config.rounding != "continuous")
    layer2, layer3 = taps["layer2"][0], taps["layer3"][0]
    return _net(params).apply(params["iou_net"], layer2, layer3, reference, method="modulation")


def refine(
    params: Params,
    state: State,
    taps: dict[str, Array],
    region: Crop,
    location: Location,
    geometry: RegionConfig,
    config: RefinementConfig,
) -> tuple[State, Box, dict[str, Any]]:
    """The box of highest predicted IoU around `location`; the last box if the target is LOST or no box is admissible.

    Besides, for `Estimate.extras`, the boxes after the ascent with the IoUs that `ascend` returns: before their sides
    are kept above `min_side` and the best are averaged.

    state: has `key`, `box` and `modulation`. taps: layer2 and layer3 `[1, ...]` of the search crop `region`, which
    was cut as `geometry` says.
    """
    center, scale = region.center[0], region.scale[0]
    key, key_proposals = jax.random.split(state.key)
    located = Box(location.center, state.box.size)
    pixel_centers = geometry.rounding != "continuous"
    start = to_crop(located, center, scale, geometry.image_size, pixel_centers=pixel_centers)
    boxes = proposals(key_proposals, start, config)
    boxes, iou = climb(params, state.modulation, taps["layer2"][0], taps["layer3"][0], boxes, config)
    best, admissible = average_best(boxes, iou, start, config)
    box = to_image(best, center, scale, geometry.image_size)
    every = jax.vmap(lambda one: to_image(one, center, scale, geometry.image_size))(boxes)
    seen = {"proposals": every, "proposal_ious": iou}
    return state._replace(key=key), select(admissible & (location.verdict != LOST), box, state.box), seen


def _net(params: Params) -> IoUNet:
    """The IoU-Net of the width that the parameters have."""
    return IoUNet(inner=params["iou_net"]["params"]["fc3_rt"]["linear"]["bias"].shape[0])
