"""A tracker simple enough to know its answer: the box sits on the center of mass of the bright pixels."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import Box
from trackers.base import FOUND, LOST, Estimate, Tracker

Array = jax.Array


@dataclass(frozen=True)
class Config:
    threshold: float = 150.0


class State(NamedTuple):
    box: Box
    frames: Array  # [] int32 tracked so far


def make(threshold: float = 200.0) -> Tracker:
    """Pixels brighter than `threshold` are the target; LOST, with the box kept, where there are none."""

    def init(params, key, frame, box):
        return State(box, jnp.zeros((), jnp.int32))

    def track(params, state, frame):
        height, width = frame.image.shape[:2]
        y, x = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
        inside = (y[:, None] < frame.extent[0]) & (x[None, :] < frame.extent[1])
        bright = ((frame.image.mean(-1) > threshold * params["gain"]) & inside).astype(jnp.float32)
        mass = bright.sum()
        center = jnp.stack([(bright.sum(1) * y).sum(), (bright.sum(0) * x).sum()]) / jnp.maximum(mass, 1)
        found = mass > 0
        box = Box(jnp.where(found, center, state.box.center), state.box.size)
        confidence = jnp.where(found, 0.9, 0.0)
        verdict = jnp.where(found, FOUND, LOST).astype(jnp.int32)
        return State(box, state.frames + 1), Estimate(box, mass, confidence, verdict, {})

    return Tracker(init, track)


PARAMS = {"gain": np.float32(1)}


def frame_with_spot(height: int, width: int, x: int, y: int, side: int = 5) -> np.ndarray:
    """`[height, width, 3]` uint8, dark but for a square whose box is x, y, side, side."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


def spots(count, height=48, width=64):
    """Frames with a spot, and enough dim noise that each takes its share of a video file."""
    noise = np.random.default_rng(0).integers(0, 90, (count, height, width, 3), np.uint8)
    return [np.maximum(frame_with_spot(height, width, 5 + 3 * t, 10 + t, 9), noise[t]) for t in range(count)]
