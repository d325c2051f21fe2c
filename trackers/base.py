"""The one interface: what a tracker is, what goes in and out of it, and the ways to run one.

`make(config)` of every tracker module returns a `Tracker`, two pure functions that close over the configuration
and over nothing else; parameters are an argument, a State holds everything that changes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box

Array = jax.Array
Params = Any
State = Any

FOUND, UNCERTAIN, HARD_NEGATIVE, LOST = range(4)


class Frame(NamedTuple):
    """One video frame on a canvas of fixed size; what lies outside `extent` is never read."""

    image: Array  # [H, W, 3] uint8 RGB
    extent: Array  # [2] int32 true (height, width), <= (H, W)


class Estimate(NamedTuple):
    """What a tracker says of one frame.

    `extras` are what it saw there, for people: "search", "score_map" and "map" of most trackers, "proposals",
    "proposal_ious", "memory_weights" and "memory_slot" of some. README.md says under "What a tracker saw" what each key
    means, the same for all that have it. A tracker may have none; no box depends on them.
    """

    box: Box  # image pixels
    score: Array  # [] the tracker's own score at the chosen place
    confidence: Array  # [] in [0, 1], comparable with the tracker's documented `lost` threshold
    verdict: Array  # [] int32 FOUND, UNCERTAIN, HARD_NEGATIVE (a distractor is near) or LOST (box is the last one)
    extras: dict[str, Any]  # arrays and Boxes, see above


class Tracker(NamedTuple):
    """An algorithm as a value."""

    init: Callable[[Params, Array, Frame, Box], State]  # (params, key, frame 1, box) -> State
    track: Callable[[Params, State, Frame], tuple[State, Estimate]]  # one frame; State keeps its structure


def track_chunk(tracker: Tracker) -> Callable[[Params, State, Frame], tuple[State, Estimate]]:
    """`(params, state, frames [T, ...]) -> (state, estimates [T, ...])`: a scan; hosts stream chunks of a video."""

    def chunk(params, state, frames):
        return jax.lax.scan(lambda state, frame: tracker.track(params, state, frame), state, frames)

    return chunk


def run(tracker: Tracker) -> Callable[[Params, Array, Frame, Box], Estimate]:
    """`(params, key, frames [T, ...], box of frame 0) -> estimates [T - 1, ...]` of frames 1..T-1."""

    def whole(params, key, frames, box):
        first = jax.tree.map(lambda leaf: leaf[0], frames)
        rest = jax.tree.map(lambda leaf: leaf[1:], frames)
        return track_chunk(tracker)(params, tracker.init(params, key, first, box), rest)[1]

    return whole


class Targets(NamedTuple):
    """Several targets of one video in fixed slots; targets join, leave and are re-initialized by a mask."""

    states: State  # [N, ...] one tracker State a slot
    active: Array  # [N] bool


def many(tracker: Tracker, slots: int) -> Tracker:
    """A tracker of up to `slots` targets in one video, itself a `Tracker` over `Targets`.

    init:  `(params, keys [N], frame, boxes [N, ...]) -> Targets`, every slot active.
    track: one frame for all slots in one call; an idle slot reports LOST with confidence 0 (its state runs on
    without meaning, since freezing it would copy every memory on every frame).
    Use `set_targets` to change who is in which slot between frames.
    """

    def init(params, keys, frame, boxes):
        states = jax.vmap(tracker.init, in_axes=(None, 0, None, 0))(params, keys, frame, boxes)
        return Targets(states, jnp.ones(slots, bool))

    def track(params, targets, frame):
        states, estimates = jax.vmap(tracker.track, in_axes=(None, 0, None))(params, targets.states, frame)
        idle = estimates._replace(
            confidence=jnp.zeros_like(estimates.confidence), verdict=jnp.full_like(estimates.verdict, LOST)
        )
        return Targets(states, targets.active), select(targets.active, estimates, idle)

    return Tracker(init, track)


def set_targets(tracker: Tracker) -> Callable[[Params, Array, Frame, Targets, Box, Array, Array], Targets]:
    """`(params, keys [N], frame, targets, boxes [N, ...], start [N] bool, stop [N] bool) -> Targets`.

    Slots in `start` are initialized (again) on their row of `boxes`, slots in `stop` become idle.
    """

    def change(params, keys, frame, targets, boxes, start, stop):
        fresh = jax.vmap(tracker.init, in_axes=(None, 0, None, 0))(params, keys, frame, boxes)
        return Targets(select(start, fresh, targets.states), (targets.active & ~stop) | start)

    return change


def run_many(tracker: Tracker, slots: int) -> Callable[[Params, Array, Frame, Box], Estimate]:
    """`(params, keys [N], frames [T, ...], boxes [N, ...]) -> estimates [T - 1, N, ...]` in one compiled call."""
    return run(many(tracker, slots))


def select(mask: Array, new: Any, old: Any) -> Any:
    """Leaf by leaf: rows of `new` where `mask` `[N]` (or `[]`) holds, else of `old`."""

    def pick(new_leaf, old_leaf):
        return jnp.where(mask.reshape(mask.shape + (1,) * (new_leaf.ndim - mask.ndim)), new_leaf, old_leaf)

    return jax.tree.map(pick, new, old)
