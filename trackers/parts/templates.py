"""Trackers that compare templates of a target with a search region: what the Siamese family shares.

Every one of them is a `Matcher`, a handful of pure functions for one size of search region, and `compose` makes a
`Tracker` of it. A wrapper such as a memory of templates stands on the same functions: `embed` a template anywhere,
`match` many of them with the features of one search region by `vmap`, `decode` what each of them says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ops import anchors
from ops.boxes import Box
from ops.crop import Crop, covered, crop, mean_color
from trackers.base import FOUND, LOST, UNCERTAIN, Estimate, Frame, Params, Tracker, select
from trackers.nets.siamese import Features, Siamese, Taps, Template
from trackers.parts import contrast
from trackers.rules import PROBABILITY, Rule

Array = jax.Array
Response = Any  # what one template sees in the search crops

EXEMPLAR_SIZE = 127  # pixels of a side of a template's crop, in every published model
STRIDE = anchors.STRIDE  # crop pixels per cell, of every network
REGION = Rule(
    f"{EXEMPLAR_SIZE} and a positive multiple of {STRIDE} more",
    lambda value: value > EXEMPLAR_SIZE and (value - EXEMPLAR_SIZE) % STRIDE == 0,
)
CONTEXT = 0.5  # of w + h, added to both sides
MAP_CELLS = 25  # most cells of a side of a score map that is handed out: a long clip keeps every frame's


class Grid(NamedTuple):
    """The S x S places of a search crop that are scored."""

    cells: int  # S
    stride: float  # crop pixels from one to the next
    middle: float  # index in the middle of the crop


class Proposals(NamedTuple):
    """What one template says of A x S x S places."""

    score: Array  # [A, S, S] in 0..1
    ranked: Array  # [A, S, S] the score after penalties and window; the highest is chosen
    box: Box  # [A, S, S, 2] image pixels
    rate: Array  # [A, S, S] in 0..1, the share of the size's change that is taken
    crop: Array  # [A, S, S] int32, which of the search crops it was seen in


class Choice(NamedTuple):
    """One place of `Proposals`."""

    index: Array  # [] int32 into the flattened places
    score: Array  # []
    ranked: Array  # []
    box: Box
    rate: Array  # []
    crop: Array  # [] int32
    score_map: Array  # [S, S] of all places, each the highest score of its anchors


class Matcher(NamedTuple):
    """Template matching in search regions of one size; `box` is that of the frame before, `fill` `[3]` the border."""

    embed: Callable[[Params, Frame, Box, Array], Template]  # (params, frame, box, fill)
    describe: Callable[[Params, Frame, Box, Array], tuple[Template, Taps]]  # and the maps that it is made of
    region: Callable[[Frame, Box, Array], Crop]  # search crops [N, ...] around the box
    features: Callable[[Params, Array], Features]  # of crop images [N, size, size, 3] RGB 0..255
    match: Callable[[Params, Template, Features], Response]  # one template; K by vmap over its axis
    decode: Callable[[Response, Box], Proposals]
    grid: Grid  # of the proposals


Propose = Callable[..., Proposals]  # what a template says of this frame; without one, the first template


def _keep(params: Params, remembered: Any, frame: Frame, box: Box, fill: Array) -> Any:
    return remembered


class Memory(NamedTuple):
    """What a tracker remembers beside its first template, and how it chooses with it; `box` as in `Matcher`.

    A frame in which the target is lost teaches nothing.
    """

    start: Callable[[Params, Frame, Box, Array], Any]  # (params, frame 1, box, fill)
    choose: Callable[[Any, Propose, Features, Box], tuple["Choice", Any]]  # (remembered, ..) -> choice, remembered
    learn: Callable[[Params, Any, Frame, Box, Array], Any] = _keep  # (.., remembered, frame, its box, fill)


@dataclass(frozen=True)
class LostConfig:
    """Failure and recovery (Zhu et al. 2018, Sec. 3.4; pysot's long-term tracker). Scores are those of the choice.

    The last of `sizes` serves all later frames.
    """

    enter: Annotated[float, PROBABILITY]  # score below which the target is lost and its box stays
    leave: Annotated[float, PROBABILITY]  # score above which it is found again
    # Sizes of the search region in the first, second, .. frame after the loss
    sizes: Annotated[tuple[int, ...], REGION]
    window_influence: Annotated[float, PROBABILITY]  # while lost


class State(NamedTuple):
    """One target."""

    box: Box  # image pixels
    fill: Array  # [3] color beyond the border of the image: the mean of frame 1
    template: Template
    remembered: Any  # of `Memory`
    usual: Array  # [] int32 which of the usual matchers
    lost_frames: Array  # [] int32 since the target was last seen


def compose(
    usual: tuple[Matcher, ...],
    while_lost: tuple[Matcher, ...],
    *,
    first: Callable[[Frame, Box], Array] | None = None,
    follow: Callable[[Box, Choice, Frame], Box],
    report: Callable[[Box, Frame], Box] = lambda box, frame: box,
    lost: LostConfig | None = None,
    memory: Memory | None = None,
    whole_fill: bool = False,
) -> Tracker:
    """The tracker that looks with one matcher a frame; all of them share one kind of template.

    usual: matchers for a target that is in sight, of which `first` picks one for good on frame 1 (`[]` int32; the only
    one by default). while_lost: for the first, second, .. frame after the loss. follow: the next box. report: what is
    said of it. memory: None chooses what ranks highest. whole_fill: the border's color is cut to whole numbers, as in
    DaSiamRPN and pysot.

    The target is LOST, with confidence 0, in a frame without contrast where it is sought (`trackers.parts.contrast`),
    and where no place ranks above 0: its box rests, and nothing is learned.
    """
    looks = (*usual, *while_lost)
    cells = map_cells(*looks)
    memory = memory or Memory(lambda *_: (), lambda remembered, propose, *_: (choose(propose()), remembered))

    def init(params, key, frame, box):
        del key  # nothing is random
        fill = mean_color(frame.image, frame.extent)
        fill = jnp.floor(fill) if whole_fill else fill
        index = jnp.int32(0) if first is None else first(frame, box)
        template, remembered = usual[0].embed(params, frame, box, fill), memory.start(params, frame, box, fill)
        return State(box, fill, template, remembered, index, jnp.int32(0))

    def track(params, state, frame):
        def look(matcher, state):
            region = matcher.region(frame, state.box, state.fill)
            features = matcher.features(params, region.image)

            def propose(template=state.template):
                return finite(matcher.decode(matcher.match(params, template, features), state.box), state.box)

            choice, remembered = memory.choose(state.remembered, propose, features, state.box)
            extras = {"index": choice.index, **sight(region, choice, matcher.grid, cells)}
            choice = choice._replace(score_map=())  # whose size is that of the look
            return choice, remembered, contrast.visible(region, frame.extent), extras

        index = _look_index(state, len(usual), len(while_lost))
        choice, remembered, visible, extras = _switch(index, look, looks, state)
        box = follow(state.box, choice, frame)
        remembered = memory.learn(params, remembered, frame, box, state.fill)
        something = visible & (choice.ranked > 0)
        seen = something if lost is None else something & (choice.score >= lost.enter)
        box, remembered = select(seen, (box, remembered), (state.box, state.remembered))
        again = ~seen
        if lost is not None:
            again |= (state.lost_frames > 0) & (choice.score <= lost.leave)
        lost_frames = jnp.where(again, state.lost_frames + 1, 0)
        verdict = jnp.where(seen, jnp.where(again, UNCERTAIN, FOUND), LOST).astype(jnp.int32)
        confidence = jnp.where(something, jnp.clip(choice.score, 0, 1), 0)
        estimate = Estimate(report(box, frame), choice.score, confidence, verdict, extras)
        return state._replace(box=box, remembered=remembered, lost_frames=lost_frames), estimate

    return Tracker(init, track)


def finite(proposals: Proposals, box: Box) -> Proposals:
    """The proposals, of which places with a number that is not finite are worth 0 and keep `box`."""
    kept, found = jnp.ones((), bool), proposals
    for leaf in (found.score, found.ranked, found.rate):
        kept &= jnp.isfinite(leaf)
    for leaf in found.box:
        kept &= jnp.all(jnp.isfinite(leaf), -1)
    score, ranked, rate = (jnp.where(kept, leaf, 0) for leaf in (found.score, found.ranked, found.rate))
    center, size = (
        jnp.where(kept[..., None], leaf, jnp.broadcast_to(rest, leaf.shape)) for leaf, rest in zip(found.box, box)
    )
    return Proposals(score, ranked, Box(center, size), rate, found.crop)


def choose(proposals: Proposals) -> Choice:
    """The place with the highest rank; of proposals that are `finite`."""
    return at(proposals, jnp.argmax(proposals.ranked))


def at(proposals: Proposals, index: Array) -> Choice:
    """The place of an index `[]` into the flattened places."""
    index = index.astype(jnp.int32)

    def pick(leaf, trailing=0):
        return leaf.reshape(-1, *leaf.shape[leaf.ndim - trailing :])[index]

    box = Box(pick(proposals.box.center, 1), pick(proposals.box.size, 1))
    score, ranked, rate, crop = map(pick, (proposals.score, proposals.ranked, proposals.rate, proposals.crop))
    return Choice(index, score, ranked, box, rate, crop, jnp.max(proposals.score, 0))


def map_cells(*looks: Matcher) -> int:
    """Cells of a side of the score maps that a tracker with these looks hands out, whichever it looks with."""
    return min(MAP_CELLS, *(look.grid.cells for look in looks))


def sight(region: Crop, choice: Choice, grid: Grid, cells: int) -> dict[str, Any]:
    """What `Estimate.extras` has of a look: "search", "score_map" `[cells, cells]` and "map".

    region: the search crops `[N, ...]`, of which the choice names one. grid: of its places.
    """
    center, scale, size = region.center[choice.crop], region.scale[choice.crop], region.image.shape[1]
    return {
        "search": covered(center, scale, size, (size - 1) / 2),
        "score_map": coarse(choice.score_map, cells),
        "map": covered(center, grid.stride * scale, grid.cells, grid.middle),
    }


def coarse(scores: Array, cells: int) -> Array:
    """`[S, S]` -> `[cells, cells]`, of S or fewer: the highest score of the places that fall into each."""
    size = scores.shape[0]
    if size == cells:
        return scores
    edges = np.arange(cells + 1) * size // cells
    first, last = edges[:-1, None], edges[1:, None] - 1
    places = np.minimum(first + np.arange(np.max(last - first) + 1), last)
    return jnp.max(jnp.max(scores[places], 1)[:, places], 2)


def damped(old: Box, choice: Choice) -> Box:
    """The chosen box, its size on the way from the old one."""
    return Box(choice.box.center, old.size + choice.rate * (choice.box.size - old.size))


def embeddings(network: Siamese, rounding: str) -> tuple[Callable, Callable]:
    """`embed` and `describe` of a `Matcher` of `network`; rounding: of the crop."""

    def describe(params, frame, box, fill):
        taps = network.exemplar_taps(params, exemplar(frame, box, fill, rounding))
        return network.template(params, taps), taps

    return lambda *args: describe(*args)[0], describe


def exemplar(frame: Frame, box: Box, fill: Array, rounding: str) -> Array:
    """The crop `[1, 127, 127, 3]` that a template is made of."""
    return square_crop(frame, box.center, context_side(box.size), EXEMPLAR_SIZE, fill, rounding).image[None]


def context_side(size: Array) -> Array:
    """Side `[...]` of the square that a template shows: sqrt((w + p)(h + p)), p = (w + h) / 2 (Bertinetto et al. 2016).

    size: `[..., 2]`.
    """
    return jnp.sqrt(jnp.prod(size + CONTEXT * jnp.sum(size, -1, keepdims=True), -1))


def square_crop(frame: Frame, center: Array, side: Array, size: int, fill: Array, rounding: str) -> Crop:
    """A square of `side` [] image pixels as `size` crop pixels, with `fill` `[3]` beyond the image."""
    sides = jnp.stack([side, side])
    return crop(frame.image, frame.extent, center, sides, (size, size), border="constant", fill=fill, rounding=rounding)


def _look_index(state: State, usual: int, while_lost: int) -> Array:
    wide = usual + jnp.minimum(state.lost_frames, while_lost) - 1
    return jnp.where((state.lost_frames > 0) & (while_lost > 0), wide, state.usual)


def _switch(index: Array, look: Callable, looks: tuple[Matcher, ...], state: State) -> Any:
    """`look(looks[index], state)`, where one size alone needs no branch."""
    if len(looks) == 1:
        return look(looks[0], state)
    return jax.lax.switch(index, [lambda state, matcher=matcher: look(matcher, state) for matcher in looks], state)
