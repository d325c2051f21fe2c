"""DiMP with a scale filter in place of the IoU-Net, with the released networks: place and size of the box."""

from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from ops.crop import Crop
from trackers import base, dimp
from trackers.images import xywh_to_box
from trackers.parts.first_frame import AugmentationConfig
from trackers.parts.scale_filter import ScaleFilterConfig
from trackers.parts.search_region import RegionConfig
from trackers.rules import validate

GROWTH = 1.04  # from frame to frame
FRAMES = 12
CONFIG = dimp.Config(
    model="dimp_tiny",
    region=RegionConfig(image_size=224),
    augmentation=AugmentationConfig(expanded_size=448, blurs=(), rotations=(), dropout_copies=0),
    online=replace(dimp.Config.online, memory_size=8),
    init_steps=3,
    use_iou_net=False,
    scale_filter=ScaleFilterConfig(memory_size=6),
)


@lru_cache
def params():
    return jax.device_put(trackers.load_params("dimp_tiny", None))


def clip(growth: float) -> tuple[base.Frame, base.Box]:
    """A chequered coat with a dark rim, before soft colors, that grows around its middle; and its first box."""
    rng = np.random.default_rng(0)
    behind = cv2.resize(rng.integers(60, 160, (6, 8, 3), np.uint8), (300, 240), interpolation=cv2.INTER_CUBIC)
    coat = cv2.resize(rng.integers(60, 256, (6, 5, 3), np.uint8), (300, 360), interpolation=cv2.INTER_NEAREST)
    cv2.rectangle(coat, (0, 0), (299, 359), (20, 20, 20), 24)
    frames = []
    for number in range(FRAMES):
        width, height = (round(side * growth**number) for side in (40, 48))
        image = behind.copy()
        top, left = 120 - height // 2, 150 - width // 2
        image[top : top + height, left : left + width] = cv2.resize(coat, (width, height), interpolation=cv2.INTER_AREA)
        frames.append(trackers.frame(image))
    first = xywh_to_box(np.array([130.0, 96.0, 40.0, 48.0]))
    return jax.device_put((base.Frame(*map(np.stack, zip(*frames))), first))


def side(size):
    return np.sqrt(np.prod(size, -1))


def aspect(size):
    return np.asarray(size)[..., 0] / np.asarray(size)[..., 1]


@lru_cache
def runner():
    """The filter's gains and least score are arguments: one compilation for all of its tests."""

    def run(params, gain, aspect_gain, min_score, frames, box):
        scales = replace(CONFIG.scale_filter, gain=gain, aspect_gain=aspect_gain, min_score=min_score)
        return base.run(dimp.make(replace(CONFIG, scale_filter=scales)))(params, jax.random.key(0), frames, box)

    return jax.jit(run)


@pytest.mark.parametrize("growth", [GROWTH, pytest.param(1 / GROWTH, marks=pytest.mark.full)])
def test_the_area_follows_a_target_that_grows_or_shrinks(growth):
    frames, box = clip(growth)
    estimates = runner()(params(), 0.6, 0.0, 0.4, frames, box)
    truth = side(box.size) * growth ** np.arange(FRAMES)
    found = side(estimates.box.size)
    assert abs(np.log(found[-1] / truth[-1])) < 0.15 < 0.4 < abs(np.log(truth[-1] / truth[0]))
    assert (estimates.verdict == base.FOUND).all() and "proposals" not in estimates.extras
    # a cell is 0.28 of the side of the target
    assert np.abs(estimates.box.center - box.center[None]).max() < 0.1 * side(box.size)
    np.testing.assert_allclose(aspect(estimates.box.size), aspect(box.size).repeat(FRAMES - 1), rtol=1e-5)
    shapes = aspect(runner()(params(), 0.6, 0.15, 0.4, frames, box).box.size)
    assert 1e-3 < np.abs(np.log(shapes / aspect(box.size))).max() < 0.1  # followed, though it does not change


def test_the_map_of_scores_lies_around_the_crop_and_peaks_where_the_target_is_located():
    """Half a cell beyond the crop; of features that are one impulse, under a filter that is one."""
    stages = dimp.make_stages(CONFIG)
    cells, size = 14, CONFIG.region.image_size
    box = base.Box(jnp.array([120.0, 150.0]), jnp.array([40.0, 60.0]))
    region = Crop(jnp.zeros((1, size, size, 3)), box.center[None] + 0.3, jnp.array([1.25]))
    frame = base.Frame(jnp.zeros((240, 300, 3), jnp.uint8), jnp.array([240, 300], jnp.int32))
    features = dimp.Features(jnp.zeros((1, cells, cells, 1)).at[0, 5, 8, 0].set(1.0), {})
    state = SimpleNamespace(box=box, lost_frames=jnp.int32(0), filter=jnp.zeros((4, 4, 1)).at[1, 2, 0].set(1.0))
    location = stages.localize(state, frame, region, features)
    peak = np.unravel_index(np.argmax(location.score_map), (15, 15))
    assert peak == (6, 8)
    place = location.map.center + (jnp.array(peak) - 7) * location.map.size / 15
    np.testing.assert_allclose(place, location.center, atol=1e-4)
    np.testing.assert_allclose(location.map.size, 15 * 16 * 1.25)
    np.testing.assert_array_equal(location.map.center, region.center[0])


@pytest.mark.parametrize(("gain", "min_score"), [(0.0, 0.4), (0.6, np.inf)])
def test_a_filter_that_sees_no_change_keeps_the_size(gain, min_score):
    frames, box = clip(GROWTH)
    sizes = runner()(params(), gain, gain, min_score, frames, box).box.size
    np.testing.assert_allclose(sizes, np.broadcast_to(box.size, sizes.shape), rtol=1e-5)


def test_a_lost_target_keeps_its_box_and_teaches_nothing():
    """Whatever the filter's own least score."""
    frames, box = clip(GROWTH)
    never = replace(CONFIG, localization=replace(CONFIG.localization, not_found_threshold=100.0))
    never = replace(never, scale_filter=replace(CONFIG.scale_filter, min_score=-1.0, train_skipping=1))
    validate(never)
    tracker = dimp.make(never)
    first, second = (jax.tree.map(lambda leaf, at=at: leaf[at], frames) for at in (0, 1))

    def both(params, box):
        before = tracker.init(params, jax.random.key(0), first, box)
        return before, *tracker.track(params, before, second)

    before, after, estimate = jax.jit(both)(params(), box)
    assert estimate.verdict == base.LOST
    for state in (after, estimate):
        jax.tree.map(np.testing.assert_array_equal, state.box, before.box)
    jax.tree.map(np.testing.assert_array_equal, after.scale_filter, before.scale_filter)
    assert np.any(after.scale_filter.filter)
