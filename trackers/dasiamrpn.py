"""DaSiamRPN: SiamRPN that knows the distractors around its target, and looks farther when it has lost it.

Zhu et al., "Distractor-aware Siamese Networks for Visual Object Tracking", ECCV 2018 (arXiv:1808.06048). No code of
either part was ever published: the released trackers are `trackers.siamrpn` with weights that were trained with
semantic negative pairs. Both parts can be switched off (`distractors=None`, `rpn.lost=None`).
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops.nms import nms
from ops.prroi_pool import prroi_pool
from trackers import siamrpn
from trackers.base import Tracker
from trackers.nets import siamese
from trackers.parts import templates
from trackers.parts.templates import EXEMPLAR_SIZE, STRIDE, LostConfig, Matcher, Memory
from trackers.rules import ANY, NOT_NEGATIVE, PROBABILITY, SHARE, Rule, Search, one_of

Array = jax.Array
BINS = 6  # of a template's features, a side
# The paper grows the region by a constant step, from 255 to 767 pixels; every size is a program of its own.
LOCAL_TO_GLOBAL = LostConfig(enter=0.8, leave=0.95, sizes=(399, 527, 655, 783), window_influence=0.0)


@dataclass(frozen=True)
class DistractorConfig:
    """Distractor-aware re-ranking (Sec. 3.3). The paper leaves many numbers open: h and alpha hat are unofficial."""

    proposals: Annotated[int, Rule(">= 2", lambda value: value >= 2)] = 8  # number that non-maximum suppression keeps
    iou_threshold: Annotated[float, PROBABILITY] = 0.5  # IoU above which two proposals are one
    min_score: Annotated[float, ANY] = 0.5  # least score of a distractor (the paper's h)
    influence: Annotated[float, NOT_NEGATIVE, Search(0.1, 1.0)] = 0.5  # weight of the distractors (alpha hat)
    rate: Annotated[float, SHARE, Search(0.003, 0.3, log=True)] = 0.01  # learning rate (eta)
    # Average over frames: with weights beta_t, or with `rate` for each new frame
    average: Annotated[str, one_of("paper", "exponential")] = "paper"
    weight: Annotated[float, NOT_NEGATIVE] = 1.0  # of the similarity, beside the rank that size, aspect and window give


@dataclass(frozen=True)
class Config:
    """All numbers of DaSiamRPN; the defaults are the released VOT model's and the paper's."""

    rpn: siamrpn.Config = field(default_factory=lambda: replace(siamrpn.SIAMRPN_BIG, lost=LOCAL_TO_GLOBAL))
    distractors: DistractorConfig | None = field(default_factory=DistractorConfig)


VOT = Config(replace(siamrpn.Config(), lost=LOCAL_TO_GLOBAL))
OTB = Config(replace(siamrpn.SIAMRPN_OTB, lost=LOCAL_TO_GLOBAL))
# of our head. On training videos the growing search gained nothing with the one before it, and similarity at its full
# weight loses to the host.
DISTILLED = Config(siamrpn.DISTILLED, DistractorConfig(weight=0.3))


class Sums(NamedTuple):
    """Over all frames: sums of features of unit length, and of their weights (the paper's incremental form)."""

    beta: Array  # [] weight of the newest frame, beta_t
    target: Array  # [6, 6, C] sum of beta_t phi(z_t)
    target_weight: Array  # [] sum of beta_t
    distractors: Array  # [6, 6, C] sum of beta_t sum_i phi(d_i,t)
    distractor_weight: Array  # [] sum of beta_t times the number of distractors


def make(config: Config) -> Tracker:
    """The tracker; `params` of `config.rpn.model`."""
    memory = None if config.distractors is None else make_memory(config)
    return siamrpn.make(config.rpn, memory)


def make_matcher(config: Config) -> Matcher:
    """The template contract: SiamRPN's."""
    return siamrpn.make_matcher(config.rpn)


def make_memory(config: Config) -> Memory:
    """Re-ranking as the memory of a template tracker."""
    options = config.distractors
    network = siamese.make(config.rpn.model)

    def start(params, frame, box, fill):
        taps = network.exemplar_taps(params, templates.exemplar(frame, box, fill, config.rpn.rounding))
        features = describe(taps[-1][0], jnp.zeros((1, 2)), jnp.full(1, float(EXEMPLAR_SIZE)))[0]
        nothing = jnp.zeros_like(features)
        return Sums(jnp.ones(()), features, jnp.ones(()), nothing, jnp.zeros(()))

    def choose(sums, propose, features, box):
        proposals = propose()
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), proposals)
        kept, valid = nms(flat.box, flat.ranked, options.iou_threshold, options.proposals)
        found = jax.tree.map(lambda leaf: leaf[kept], flat)
        scale = EXEMPLAR_SIZE / templates.context_side(box.size)  # crop pixels per image pixel
        offset = (found.box.center - box.center[None]) * scale
        described = describe(features.taps[-1][0], offset, templates.context_side(found.box.size) * scale)
        rank = found.ranked + options.weight * similarity(sums, described, options)
        best = jnp.argmax(jnp.where(valid, rank, -jnp.inf))
        distractor = valid & (found.score > options.min_score) & (jnp.arange(options.proposals) != best)
        return templates.at(proposals, kept[best]), add(sums, described[best], described, distractor, options)

    return Memory(start, choose)


def describe(tap: Array, offset: Array, side: Array) -> Array:
    """Features of unit length `[N, 6, 6, C]` of squares in a crop.

    tap: `[h, w, C]`, cells of 8 pixels with the middle cell in the middle of the crop. offset: `[N, 2]` of the squares
    from there, side: `[N]` what a template would show (127 at the scale of the crop), both in crop pixels.
    """
    middle = (jnp.array(tap.shape[:2], tap.dtype) - 1) / 2
    cells = BINS * side / EXEMPLAR_SIZE  # an exemplar of 127 pixels has 6 x 6 cells
    center, half = middle[None] + offset / STRIDE, cells[:, None] / 2
    corners = jnp.concatenate([(center - half)[:, ::-1], (center + half)[:, ::-1]], -1)
    pooled = jax.vmap(lambda box: prroi_pool(tap, box, bins=BINS, spatial_scale=1.0))(corners)
    length = jnp.sqrt(jnp.sum(pooled**2, (1, 2, 3), keepdims=True) + 1e-12)
    return pooled / length


def similarity(sums: Sums, features: Array, options: DistractorConfig) -> Array:
    """How much more proposals `[N, 6, 6, C]` are like the target than like its distractors: `[N]` (paper, Eq. 5)."""
    target = sums.target / sums.target_weight
    distractors = sums.distractors / jnp.maximum(sums.distractor_weight, 1e-12)  # 0 where none was ever seen
    return jnp.tensordot(features, target - options.influence * distractors, 3, precision=jax.lax.Precision.HIGHEST)


def add(sums: Sums, target: Array, features: Array, distractor: Array, options: DistractorConfig) -> Sums:
    """The sums with one more frame: its target `[6, 6, C]`, and those of `features` `[N, ...]` that are distractors."""
    if options.average == "exponential":
        keep, weight = 1 - options.rate, jnp.float32(options.rate)
    else:
        keep, weight = 1.0, 1 + options.rate / (1 - options.rate) * sums.beta
    count = jnp.sum(distractor).astype(features.dtype)
    others = jnp.tensordot(distractor.astype(features.dtype), features, 1, precision=jax.lax.Precision.HIGHEST)
    return Sums(
        beta=weight,
        target=keep * sums.target + weight * target,
        target_weight=keep * sums.target_weight + weight,
        distractors=keep * sums.distractors + weight * others,
        distractor_weight=keep * sums.distractor_weight + weight * count,
    )
