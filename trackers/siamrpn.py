"""SiamRPN and SiamRPN++: a region proposal network whose kernels come from the template.

Li et al., "High Performance Visual Tracking with Siamese Region Proposal Network", CVPR 2018, and "SiamRPN++:
Evolution of Siamese Visual Tracking with Very Deep Networks", CVPR 2019 (arXiv:1812.11703). The two differ in their
networks (`model`) and numbers, not in how a box is chosen. DaSiamRPN's additions are in `trackers.dasiamrpn`.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from ops import anchors
from ops.boxes import Box
from trackers.base import Frame, Tracker
from trackers.nets import models, siamese
from trackers.nets.rpn import DepthwiseRPN, UpChannelRPN
from trackers.parts import templates
from trackers.parts.templates import EXEMPLAR_SIZE, REGION, STRIDE, Grid, LostConfig, Matcher, Memory, Proposals
from trackers.rules import NOT_NEGATIVE, OF_THE_TRACKER, PROBABILITY, Search, one_of

Array = jax.Array
MIN_SIDE = 10.0  # image pixels; no box gets smaller


@dataclass(frozen=True)
class Config:
    """All numbers of a SiamRPN tracker; the defaults are SiamRPN's with DaSiamRPN's released "vot" weights."""

    # Of `trackers.nets.models`
    model: Annotated[str, models.with_part(UpChannelRPN, DepthwiseRPN), OF_THE_TRACKER] = "siamrpn"
    instance_size: Annotated[int, REGION] = 271  # crop pixels of a side of the search region
    # Cells that a side of the score map has more than (instance_size - 127) / 8 + 1
    base_size: Annotated[int, NOT_NEGATIVE] = 0
    penalty_k: Annotated[float, NOT_NEGATIVE, Search(0.01, 0.5, log=True)] = 0.04  # of a change in size or aspect
    window_influence: Annotated[float, PROBABILITY, Search(0.05, 0.6)] = 0.44
    size_rate: Annotated[float, PROBABILITY, Search(0.1, 0.9)] = 0.45  # of the size, times penalty and score
    centers: Annotated[str, one_of(*anchors.CENTERS)] = "floor"  # of anchors; "true_division": DaSiamRPN's, see there
    small_instance_size: Annotated[int | None, REGION] = None  # for a target smaller than that share of frame 1
    small_share: Annotated[float, PROBABILITY] = 0.004
    lost: LostConfig | None = None
    clip_state: bool = True  # the box is kept in the frame; else only what is reported
    rounding: Annotated[str, one_of("continuous", "pysot", "dasiamrpn")] = "continuous"  # of the crop
    # Of the decoded boxes; "whole": of a template of whole image pixels, THOR's released host
    scale: Annotated[str, one_of("exact", "whole")] = "exact"


SIAMRPN_OTB = replace(Config(), penalty_k=0.22, window_influence=0.40, size_rate=0.30)
SIAMRPN_BIG = replace(
    Config(),
    model="siamrpn_big",
    penalty_k=0.055,
    window_influence=0.42,
    size_rate=0.295,
    small_instance_size=287,
)
# pysot's config.yaml files
ALEXNET = Config("siamrpnpp_alexnet", 287, penalty_k=0.16, window_influence=0.40, size_rate=0.30)
RESNET50 = Config("siamrpnpp_resnet50", 255, 8, penalty_k=0.05, window_influence=0.42, size_rate=0.38)
RESNET50_OTB = Config("siamrpnpp_resnet50_otb", 255, 8, penalty_k=0.24, window_influence=0.50, size_rate=0.25)
RESNET50_LT = Config(
    "siamrpnpp_resnet50_lt",
    255,
    8,
    penalty_k=0.05,
    window_influence=0.28,
    size_rate=0.22,
    lost=LostConfig(enter=0.8, leave=0.998, sizes=(831,), window_influence=0.001),
    clip_state=False,
)
MOBILENETV2 = Config("siamrpnpp_mobilenetv2", 255, 8, penalty_k=0.04, window_influence=0.40, size_rate=0.50)
# of our heads, whose sizes are less certain than pysot's: found by eval.tune on held-out training videos
MOBILENETV2_1_0 = replace(
    MOBILENETV2, model="siamrpnpp_mobilenetv2_1.0", penalty_k=0.12, window_influence=0.2, size_rate=0.133
)
# of our head, on the features of `siamfc_distilled`
DISTILLED = replace(SIAMRPN_OTB, model="siamrpn_distilled")


def make(config: Config, memory: Memory | None = None) -> Tracker:
    """The tracker; `params` of `config.model`."""
    usual = [make_matcher(config)]
    first = None
    if config.small_instance_size is not None:
        usual.append(make_matcher(replace(config, instance_size=config.small_instance_size)))

        def first(frame: Frame, box: Box) -> Array:
            share = jnp.prod(box.size) / jnp.prod(frame.extent.astype(box.size.dtype))
            return (share < config.small_share).astype(jnp.int32)

    while_lost = []
    if config.lost is not None:
        influence = config.lost.window_influence
        for size in config.lost.sizes:
            while_lost.append(make_matcher(replace(config, instance_size=size, window_influence=influence)))

    def follow(old, choice, frame):
        box = templates.damped(old, choice)
        return keep_inside(box, frame) if config.clip_state else box

    return templates.compose(
        tuple(usual),
        tuple(while_lost),
        first=first,
        follow=follow,
        report=keep_inside,
        lost=config.lost,
        memory=memory,
        whole_fill=config.rounding != "continuous",
    )


def keep_inside(box: Box, frame: Frame) -> Box:
    """The center within the frame, sides of at least `MIN_SIDE` and no longer than the frame's."""
    extent = frame.extent.astype(box.size.dtype)
    return Box(jnp.clip(box.center, 0, extent), jnp.clip(box.size, MIN_SIDE, extent))


def score_size(config: Config) -> int:
    """Cells of a side of the score map."""
    return (config.instance_size - EXEMPLAR_SIZE) // STRIDE + 1 + config.base_size


def make_matcher(config: Config) -> Matcher:
    """The template contract for one size of the search region. Responses: cls `[S, S, 2, k]`, loc `[S, S, 4, k]`."""
    network = siamese.make(config.model)
    cells = score_size(config)
    grid = anchors.anchors(cells, stride=STRIDE, centers=config.centers)
    window = jnp.asarray(np.outer(np.hanning(cells), np.hanning(cells)), jnp.float32)

    def region(frame, box, fill):
        side = templates.context_side(box.size) * config.instance_size / EXEMPLAR_SIZE
        crop = templates.square_crop(frame, box.center, side, config.instance_size, fill, config.rounding)
        return jax.tree.map(lambda leaf: leaf[None], crop)

    def match(params, template, features):
        return jax.tree.map(lambda leaf: leaf[0], network.correlate(params, template, features.search))

    def decode(response, box):
        logits, deltas = response
        score = jax.nn.softmax(logits, axis=-2)[..., 1, :]  # [S, S, k]
        side = templates.context_side(box.size)
        scale = EXEMPLAR_SIZE / (jnp.round(side) if config.scale == "whole" else side)  # crop pixels per image pixel
        found = anchors.decode(grid, jnp.moveaxis(deltas, -2, -1))
        before = box.size * scale
        growth = _change(templates.context_side(found.size) / templates.context_side(before))
        turn = _change(before[1] / before[0] / (found.size[..., 1] / found.size[..., 0]))
        penalty = jnp.exp(-(growth * turn - 1) * config.penalty_k)
        ranked = penalty * score * (1 - config.window_influence) + window[..., None] * config.window_influence
        boxes = Box(box.center[None, None, None] + found.center / scale, found.size / scale)
        crop = jnp.zeros(score.shape, jnp.int32)  # there is one
        proposals = Proposals(score, ranked, boxes, penalty * score * config.size_rate, crop)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 2, 0), proposals)  # pysot's order: anchor, y, x

    places = Grid(cells, STRIDE, cells // 2 if config.centers == "floor" else cells / 2)
    return Matcher(*templates.embeddings(network, config.rounding), region, network.features, match, decode, places)


def _change(ratio: Array) -> Array:
    return jnp.maximum(ratio, 1 / ratio)
