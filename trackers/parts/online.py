"""The five stages of one frame of an online-learning tracker, the tracker they make, and how its filter learns on.

ATOM and DiMP differ in what the stages compute, not in their order. Stages stay apart as functions so that a
benchmark can time each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ops import sample_memory
from ops.boxes import Box
from ops.crop import Crop, covered
from ops.sample_memory import SampleMemory
from trackers.base import FOUND, HARD_NEGATIVE, LOST, Estimate, Frame, Params, State, Tracker
from trackers.parts import contrast
from trackers.rules import COUNT, SHARE, Search, one_of

Array = jax.Array


@dataclass(frozen=True)
class OnlineConfig:
    """What is learned while tracking, and when: the memory of samples and the schedule of updates."""

    memory_size: Annotated[int, COUNT]  # samples
    # Sample that a new one replaces, see `ops.sample_memory.insert`
    replacement: Annotated[str, one_of(*sample_memory.REPLACEMENTS)]
    train_skipping: Annotated[int, COUNT]  # frames between scheduled updates
    learning_rate: Annotated[float, SHARE, Search(0.003, 0.05, log=True)] = 0.01  # weight of a new sample
    hard_negative_learning_rate: Annotated[float, SHARE] = 0.02  # the same of a frame with a distractor
    # Least weight of the samples of frame 1 together, which are never replaced; None: they are like all others
    init_samples_min_weight: Annotated[float | None, SHARE] = 0.25


class Location(NamedTuple):
    """Where the classifier sees the target, before its box is refined."""

    center: Array  # [2] image pixels
    scale_factor: Array  # [] change of the target's size found by a scale search, else 1
    verdict: Array  # [] int32 of trackers.base
    score: Array  # [] of the maximum
    score_map: Array  # [n, n]
    map: Box  # image pixels, what the score map covers
    crop_index: Array  # [] int32 which of the crops it was found in


class Stages(NamedTuple):
    """One frame: `crop -> features -> localize -> refine -> update`."""

    init: Callable[[Params, Array, Frame, Box], State]
    crop: Callable[[State, Frame], Crop]  # one or more [S, ...] search crops
    features: Callable[[Params, Array], Any]  # crop images [S, size, size, 3] -> features
    localize: Callable[[State, Frame, Crop, Any], Location]
    refine: Callable[[Params, State, Frame, Crop, Any, Location], tuple[State, Box, dict[str, Any]]]  # and its extras
    update: Callable[[Params, State, Crop, Any, Location, Box], State]


def compose(stages: Stages) -> Tracker:
    """The tracker whose frame is the five stages in order; its State has the `memory` that `learn` fills.

    The target is LOST, with score 0, in a frame without contrast where it is sought (`trackers.parts.contrast`), and
    where the score is not finite.
    """

    def track(params, state, frame):
        region = stages.crop(state, frame)
        features = stages.features(params, region.image)
        location = stages.localize(state, frame, region, features)
        seen = contrast.visible(region, frame.extent) & jnp.isfinite(location.score)
        location = location._replace(
            center=jnp.where(seen, location.center, state.box.center),
            verdict=jnp.where(seen, location.verdict, LOST),
            score=jnp.where(seen, location.score, 0),
        )
        state, box, extras = stages.refine(params, state, frame, region, features, location)
        state = stages.update(params, state, region, features, location, box)
        confidence = jnp.clip(location.score, 0, 1)  # labels are in 0..1, and so is a good score
        index, size = location.crop_index, region.image.shape[1]
        extras = extras | {
            "search": covered(region.center[index], region.scale[index], size, (size - 1) / 2),
            "score_map": location.score_map,
            "map": location.map,
            "memory_weights": state.memory.weights,
            "memory_slot": jnp.where(_teaches(location), state.memory.last_slot, -1),
        }
        return state, Estimate(box, location.score, confidence, location.verdict, extras)

    return Tracker(stages.init, track)


def remember(samples: Any, config: OnlineConfig) -> SampleMemory:
    """The memory with the samples of frame 1, pytree of `[N, ...]`."""
    return sample_memory.create(config.memory_size, samples, replacement=config.replacement)


def learn(
    state: State,
    sample: Any,
    location: Location,
    box: Box,
    optimize: Callable[[SampleMemory, Array, Array], Array],
    config: OnlineConfig,
    *,
    steps: tuple[int, int],
    initial: int,
) -> State:
    """The State after a frame: its memory, its filter, its box and its counts.

    state: has `frame_number`, `lost_frames`, `box`, `filter` and `memory`. sample: of this frame, which enters where
    the target was FOUND or a HARD_NEGATIVE is near. optimize: `(memory, number of steps [] int32, whether the sample
    entered [] bool) -> filter`. steps: of a scheduled update and of one after a hard negative; in other frames 0.
    initial: number of samples of frame 1.
    """
    number = state.frame_number + 1
    hard = location.verdict == HARD_NEGATIVE
    write = _teaches(location)
    memory = sample_memory.insert(
        state.memory,
        sample,
        jnp.where(hard, config.hard_negative_learning_rate, config.learning_rate),
        initial=initial,
        min_initial_weight=config.init_samples_min_weight,
        replacement=config.replacement,
        write=write,
    )
    scheduled = (number - 1) % config.train_skipping == 0
    filter = optimize(memory, jnp.where(hard, steps[1], jnp.where(scheduled, steps[0], 0)), write)
    lost = jnp.where(location.verdict == LOST, state.lost_frames + 1, 0)
    return state._replace(frame_number=number, lost_frames=lost, box=box, filter=filter, memory=memory)


def _teaches(location: Location) -> Array:
    """`[]` bool: whether the frame's sample enters the memory."""
    return (location.verdict == FOUND) | (location.verdict == HARD_NEGATIVE)
