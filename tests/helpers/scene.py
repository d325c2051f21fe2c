"""A drawn clip as frames on the device, a tracker that follows it, and how far two runs may differ."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

import trackers
from eval.sources.synthetic import ClipConfig, clip
from trackers import base
from trackers.images import xywh_to_box

CANVAS = (256, 320)
FRAMES = 4


@lru_cache
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A clip `[T, 256, 320, 3]`, and the first box x, y, w, h of a target so small that no crop sees the border."""
    config = ClipConfig(*CANVAS, num_frames=FRAMES, target_size=(12.0, 12.0), occluders=0)
    for seed in range(100):
        examples = list(clip(config, seed=seed))
        x, y, w, h = examples[0].box
        if 100 < x + w / 2 < 200 and 90 < y + h / 2 < 140:
            return np.stack([example.image for example in examples]), np.asarray(examples[0].box, np.float64)
    raise AssertionError("no clip with its target in the middle")


def frames_of(images: np.ndarray, canvas: tuple[int, int] = CANVAS) -> base.Frame:
    frames = [trackers.frame(image, canvas) for image in images]
    return jax.device_put(base.Frame(*map(np.stack, zip(*frames))))


def box_of(xywh) -> base.Box:
    return jax.device_put(xywh_to_box(np.asarray(xywh)))


def two_boxes(xywh) -> base.Box:
    return box_of([xywh, xywh + [4, 3, 0, 0]])


def at(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def follow(tracker: base.Tracker, params, key, frames: base.Frame, box: base.Box) -> base.Estimate:
    """The estimates `[T - 1, ...]`, one frame after the other."""
    state, estimates = tracker.init(params, key, at(frames, 0), box), []
    for index in range(1, len(frames.image)):
        state, estimate = tracker.track(params, state, at(frames, index))
        estimates.append(estimate)
    return stack(estimates)


def assert_same_boxes(actual: base.Box, expected: base.Box, atol: float = 1e-2):
    """Pixels: sums in another order, in float32, move the maximum of a flat map by thousandths."""
    np.testing.assert_allclose(actual.center, expected.center, atol=atol)
    np.testing.assert_allclose(actual.size, expected.size, atol=atol)
