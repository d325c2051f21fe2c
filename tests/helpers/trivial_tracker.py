"""Small real trackers for tests of what surrounds a tracker: quick to compile, with nothing to learn."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box
from trackers.base import FOUND, Estimate, Frame, Tracker
from trackers.rules import NOT_NEGATIVE


@dataclass(frozen=True)
class Config:
    gain: Annotated[float, NOT_NEGATIVE] = 1.0  # share of the way to the brightest pixel that the box moves
    jitter: Annotated[float, NOT_NEGATIVE] = 0.0  # standard deviation, in pixels, of a random offset drawn at the start
    threshold: Annotated[int, NOT_NEGATIVE] = 0  # gray level at which the confidence is 0


class State(NamedTuple):
    box: Box
    offset: jax.Array  # [2] from the brightest pixel of frame 1 to the center of its box


def make(config: Config = Config()) -> Tracker:
    """Follows the brightest pixel inside the extent; parameters: {"bias": [2]}, added to the center."""

    def init(params, key, frame: Frame, box: Box) -> State:
        noise = config.jitter * jax.random.normal(key, (2,))
        return State(box, box.center - brightest(frame)[0] + noise)

    def track(params, state: State, frame: Frame):
        place, value = brightest(frame)
        target = place + state.offset + params["bias"]
        box = Box(state.box.center + config.gain * (target - state.box.center), state.box.size)
        confidence = (value - config.threshold) / 255
        return State(box, state.offset), Estimate(box, value, confidence, jnp.int32(FOUND), {})

    return Tracker(init, track)


def brightest(frame: Frame) -> tuple[jax.Array, jax.Array]:
    """(y, x) and value of the brightest pixel inside the extent."""
    gray = frame.image.astype(jnp.float32).sum(-1) / 3
    rows = jnp.arange(gray.shape[0])[:, None] < frame.extent[0]
    columns = jnp.arange(gray.shape[1])[None] < frame.extent[1]
    inside = jnp.where(rows & columns, gray, -1)
    index = jnp.argmax(inside)
    return jnp.stack(jnp.divmod(index, gray.shape[1])).astype(jnp.float32), inside.reshape(-1)[index]


def params() -> dict[str, jax.Array]:
    return {"bias": jnp.zeros(2)}
