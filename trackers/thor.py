"""THOR: a short-term and a long-term memory of templates around any tracker that matches templates.

Sauer et al., "Tracking Holistic Object Representations", BMVC 2019 (arXiv:1907.12920). Nothing is trained. Every
`dilation` frames the target as it looks now becomes a template: the short-term memory takes it in place of its oldest
one, the long-term memory if the volume that its templates span grows (`ops.template_memory`). All templates meet the
same features of the search region; each response is modulated by what all of them see, and the long-term memory
decides where the two disagree.

The paper is followed. What its released code does otherwise is there by name: `diversity="rolled"`,
`scores="first_frame"`, `siamfc.Config.grid="thor"`, `siamrpn.Config.scale="whole"`.
"""

from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops import template_memory
from ops.boxes import Box, iou, to_xywh
from ops.loops import any_lane
from ops.score_maps import tukey_window
from ops.template_memory import BOUNDS, DIVERSITIES, LongTerm, ShortTerm
from trackers import siamfc, siamrpn
from trackers.base import Tracker, select
from trackers.nets.siamese import Taps, Template
from trackers.parts import templates
from trackers.parts.templates import Choice, Matcher, Memory, Proposals
from trackers.rules import COUNT, NOT_NEGATIVE, PROBABILITY, Search, one_of

Array = jax.Array


@dataclass(frozen=True)
class Config:
    """All numbers of THOR around a host. Six-digit numbers are the authors', found by search on the test sets."""

    host: siamfc.Config | siamrpn.Config
    short_slots: Annotated[int, NOT_NEGATIVE]  # slots of the short-term memory; 0: none
    # Slots of the long-term memory, the first template's among them; 1, and no short-term memory: nothing is learned
    long_slots: Annotated[int, COUNT]
    bound: Annotated[str, one_of(*BOUNDS)]  # test of whether a new template is still the target
    # Least similarity of a new template, as a share of the first template's to itself
    lower_bound: Annotated[float, PROBABILITY, Search(0.2, 0.95)]
    # IoU of the two boxes below which the long-term template decides
    iou_threshold: Annotated[float, PROBABILITY, Search(0.5, 1.0)]
    # Alpha of the Tukey window on templates that are compared ("tempering"); 0: no window
    tukey_alpha: Annotated[float, PROBABILITY]
    dilation: Annotated[int, COUNT] = 10  # frames from template to template
    modulate: bool = True
    diversity: Annotated[str, one_of(*DIVERSITIES)] = "gram"
    # "first_frame": the rank as a share of the first tracked frame's, as for the released SiamFC
    scores: Annotated[str, one_of("host", "first_frame")] = "host"


_SIAMFC = replace(siamfc.Config(), scale_penalty=0.982769, window_influence=0.199673, scale_rate=0.641662)


def _siamrpn(host: siamrpn.Config, penalty_k: float, size_rate: float) -> siamrpn.Config:
    return replace(host, penalty_k=penalty_k, window_influence=0.357794, size_rate=size_rate)


# The released settings: host, slots, bound, IoU threshold, alpha
SIAMFC_OTB_DYNAMIC = Config(_SIAMFC, 3, 5, "dynamic", 0.790933, 0.938244, 0.232146)
SIAMFC_OTB_ENSEMBLE = Config(_SIAMFC, 2, 9, "ensemble", 0.362411, 0.959911, 0.859503)
SIAMFC_VOT_DYNAMIC = Config(_SIAMFC, 7, 10, "dynamic", 0.814394, 0.731403, 0.919536)
SIAMFC_VOT_ENSEMBLE = Config(_SIAMFC, 7, 6, "ensemble", 0.247764, 0.753538, 0.462796)
_BIG = siamrpn.SIAMRPN_BIG
SIAMRPN_OTB_DYNAMIC = Config(_siamrpn(_BIG, 0.385994, 0.38457), 7, 7, "dynamic", 0.883665, 0.980916, 0.0)
SIAMRPN_OTB_ENSEMBLE = Config(_siamrpn(_BIG, 0.692764, 0.73434), 3, 7, "ensemble", 0.281661, 1.0, 0.567957)
SIAMRPN_VOT_DYNAMIC = Config(_siamrpn(_BIG, 0.0595839, 0.597262), 3, 4, "dynamic", 0.759742, 0.943046, 0.451395)
SIAMRPN_VOT_ENSEMBLE = Config(_siamrpn(_BIG, 0.0584502, 0.353687), 9, 11, "ensemble", 0.394676, 0.875719, 0.374259)
# The same for the smaller network of DaSiamRPN's, whose search region has one size
_ONE_SIZE = {"model": "siamrpn", "small_instance_size": None}
SIAMRPN = replace(SIAMRPN_OTB_DYNAMIC, host=replace(SIAMRPN_OTB_DYNAMIC.host, **_ONE_SIZE))
SIAMRPN_ENSEMBLE = replace(SIAMRPN_OTB_ENSEMBLE, host=replace(SIAMRPN_OTB_ENSEMBLE.host, **_ONE_SIZE))
# Ours, not tuned: the host's own numbers, and a small memory, since each template goes through all of a head's levels
MOBILENETV2 = replace(SIAMRPN_VOT_DYNAMIC, short_slots=2, long_slots=3, host=siamrpn.MOBILENETV2)
MOBILENETV2_1_0 = replace(MOBILENETV2, host=siamrpn.MOBILENETV2_1_0)
# The same with the memory of the released SiamRPN: this head has one level
DISTILLED = replace(SIAMRPN_OTB_DYNAMIC, host=siamrpn.DISTILLED)


class Remembered(NamedTuple):
    """Of one target, beside its first template."""

    templates: Template  # every leaf [short_slots + long_slots, ...]: the short-term slots first
    short: ShortTerm | tuple[()]  # empty without slots
    long: LongTerm
    frames: Array  # [] int32 tracked
    chosen: Array  # [] int32 the slot that was followed in the last frame
    first_score: Array  # [] of the first slot in the first tracked frame; 0 before


def make(config: Config) -> Tracker:
    """The host with the memory; `params` of the host's model."""
    return _module(config.host).make(config.host, make_memory(config, make_matcher(config)))


def make_matcher(config: Config) -> Matcher:
    """The host's."""
    return _module(config.host).make_matcher(config.host)


def make_memory(config: Config, matcher: Matcher) -> Memory:
    """The memory of `templates.compose`, of templates that `matcher` makes; of the config all but the host is used."""
    short_slots, slots = config.short_slots, config.short_slots + config.long_slots

    def start(params, frame, box, fill):
        template, taps = matcher.describe(params, frame, box, fill)
        vector = comparable(taps, config.tukey_alpha)
        return Remembered(
            templates=jax.tree.map(lambda leaf: jnp.repeat(leaf[None], slots, 0), template),
            short=template_memory.short_term(vector, short_slots) if short_slots else (),
            long=template_memory.long_term(vector, config.long_slots),
            frames=jnp.int32(0),
            chosen=jnp.int32(short_slots),
            first_score=jnp.zeros(()),
        )

    def choose(remembered, propose, features, box):
        proposals = jax.vmap(propose)(remembered.templates)
        choice, chosen, first_score = decide(proposals, box, remembered.first_score, config)
        return choice, remembered._replace(chosen=chosen, first_score=first_score)

    def learn(params, remembered, frame, box, fill):
        remembered = remembered._replace(frames=remembered.frames + 1)
        if slots == 1:
            return remembered

        due = remembered.frames % config.dilation == 0

        def insert(remembered):
            template, taps = matcher.describe(params, frame, box, fill)
            learned = remember(remembered, template, comparable(taps, config.tukey_alpha), config)
            return select(due, learned, remembered)

        return jax.lax.cond(any_lane(due), insert, lambda remembered: remembered, remembered)

    return Memory(start, choose, learn)


def comparable(taps: Taps, alpha: float | Array) -> Array:
    """Feature maps `[1, h, w, C]` of a template as one vector `[n]`, with a Tukey window on each ("tempering")."""

    def temper(tap):
        rows, columns = (tukey_window(size, alpha).astype(tap.dtype) for size in tap.shape[1:3])
        return (tap * (rows[:, None] * columns[None])[None, :, :, None]).reshape(-1)

    return jnp.concatenate([temper(tap) for tap in taps])


def remember(remembered: Remembered, template: Template, vector: Array, config: Config) -> Remembered:
    """Both memories after a new template, which is compared by `vector` `[n]`.

    Where the long-term memory decided in this frame, the short-term memory has drifted off: it starts over.
    """
    bank, short, gamma = remembered.templates, remembered.short, 1.0
    if config.short_slots:
        short, slot, gamma = template_memory.insert_short_term(short, vector, diversity=config.diversity)
        bank = jax.tree.map(lambda leaf, new: leaf.at[slot].set(new), bank, template)
    long = remembered.long
    if config.long_slots > 1:
        long, decision = template_memory.insert_long_term(
            long, vector, gamma, bound=config.bound, lower_bound=config.lower_bound
        )
        slot, taken = config.short_slots + jnp.maximum(decision, 0), decision > 0
        bank = jax.tree.map(lambda leaf, new: leaf.at[slot].set(jnp.where(taken, new, leaf[slot])), bank, template)
    if config.short_slots:
        drifted = remembered.chosen >= config.short_slots
        short = select(drifted, template_memory.refill_short_term(short, vector, diversity=config.diversity), short)
        first = slice(config.short_slots)
        bank = jax.tree.map(lambda leaf, new: leaf.at[first].set(jnp.where(drifted, new, leaf[first])), bank, template)
    return remembered._replace(templates=bank, short=short, long=long)


def decide(proposals: Proposals, box: Box, first_score: Array, config: Config) -> tuple[Choice, Array, Array]:
    """(choice, the slot that made it `[]` int32, first_score) from what the templates say, leading axis of slots.

    Each memory speaks with the template that ranks highest; the long-term memory's place is taken where the two
    boxes, both damped from `box`, overlap by less than the threshold. The score is the long-term memory's either way.
    """
    short_slots = config.short_slots
    ranked = modulated(proposals.ranked) if config.modulate else proposals.ranked
    choices = jax.vmap(templates.choose)(proposals._replace(ranked=ranked))
    strength, score = jnp.max(ranked, (1, 2, 3)), choices.score
    if config.scores == "first_frame":
        known = first_score > 0
        strength_first = jnp.where(known, first_score, strength[0])
        strength = score = jnp.where(known, jnp.clip(strength / strength_first, 0, 1), 1.0)
        first_score = strength_first
    long = short_slots + jnp.argmax(strength[short_slots:])
    chosen = long
    if short_slots:
        short = jnp.argmax(strength[:short_slots])
        boxes = to_xywh(jax.vmap(templates.damped, (None, 0))(box, choices))
        chosen = jnp.where(iou(boxes[short], boxes[long]) < config.iou_threshold, long, short)
    choice = jax.tree.map(lambda leaf: leaf[chosen], choices)._replace(score=score[long])
    return choice, chosen.astype(jnp.int32), first_score


def modulated(ranked: Array) -> Array:
    """Ranks `[K, A, S, S]` >= 0 times what all templates see, a map that is 1 where it is highest.

    A template's map is the mean over its A anchors, and counts as much as its own maximum.
    """
    maps = jnp.mean(ranked, 1)
    together = jnp.mean(maps * jnp.max(maps, (1, 2), keepdims=True), 0)
    highest = jnp.max(together)
    return ranked * (together / jnp.where(highest > 0, highest, 1))[None, None]


def _module(host: siamfc.Config | siamrpn.Config):
    return siamfc if isinstance(host, siamfc.Config) else siamrpn
