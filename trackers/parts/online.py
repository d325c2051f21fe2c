"""The five stages of one frame of an online-learning tracker, and the tracker they make.

ATOM and DiMP differ in what the stages compute, not in their order. Stages stay apart as functions so that a
benchmark can time each of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box
from ops.crop import Crop
from trackers.base import Estimate, Frame, Params, State, Tracker

Array = jax.Array


class Location(NamedTuple):
    """Where the classifier sees the target, before its box is refined."""

    center: Array  # [2] image pixels
    scale_factor: Array  # [] change of the target's size found by a scale search, else 1
    verdict: Array  # [] int32 of trackers.base
    score: Array  # [] of the maximum
    score_map: Array  # [n, n] around the center of the search crop
    crop_index: Array  # [] int32 which of the crops it was found in


class Stages(NamedTuple):
    """One frame: `crop -> features -> localize -> refine -> update`."""

    init: Callable[[Params, Array, Frame, Box], State]
    crop: Callable[[State, Frame], Crop]  # one or more [S, ...] search crops
    features: Callable[[Params, Array], Any]  # crop images [S, size, size, 3] -> features
    localize: Callable[[State, Frame, Crop, Any], Location]
    refine: Callable[[Params, State, Frame, Crop, Any, Location], tuple[State, Box]]
    update: Callable[[Params, State, Crop, Any, Location, Box], State]


def compose(stages: Stages) -> Tracker:
    """The tracker whose frame is the five stages in order."""

    def track(params, state, frame):
        region = stages.crop(state, frame)
        features = stages.features(params, region.image)
        location = stages.localize(state, frame, region, features)
        state, box = stages.refine(params, state, frame, region, features, location)
        state = stages.update(params, state, region, features, location, box)
        confidence = jnp.clip(location.score, 0, 1)  # labels are in 0..1, and so is a good score
        extras = {"score_map": location.score_map}
        return state, Estimate(box, location.score, confidence, location.verdict, extras)

    return Tracker(stages.init, track)
