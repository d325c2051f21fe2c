"""What holds for every tracker, in one table: each row is a small variant of a registered configuration."""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.frames import to_canvas, xywh_to_box
from eval.synthetic import ClipConfig, clip
from trackers import base

replace = dataclasses.replace


def small(name: str):
    """The configuration at a size a test can afford; thresholds off, so that random weights move the box."""
    config = trackers.get(name).config
    common = {"image_size": 96, "memory_size": 8, "train_skipping": 2}
    augmentation = replace(config.augmentation, shifts=((0.6, 0.6),), blurs=((2.0, 0.2),), rotations=(10.0,))
    augmentation = replace(augmentation, dropout_copies=1)
    found = replace(config.localization, not_found_threshold=-10.0)
    if name.startswith("dimp"):
        common |= {"init_steps": 3}
    else:
        common |= {"init_gn_steps": 2, "init_cg_steps": 3, "cg_steps": 2}
    return replace(config, **common, augmentation=augmentation, localization=found)


TRACKERS = ["atom", "atom_multiscale", "atom_filterbank", "dimp18"]
# One float of each Config, and two values of it
FLOATS = {name: ("search_area_scale", (4.5, 5.0)) for name in TRACKERS}


@lru_cache
def tracker(name: str) -> base.Tracker:
    return trackers.get(name).make(small(name))


@lru_cache
def params(name: str):
    return trackers.init_params(name, jax.random.key(1))


@lru_cache
def jitted(name: str):
    return jax.jit(base.run(tracker(name)))


@lru_cache
def scene(height: int = 200, width: int = 240, frames: int = 5):
    """A short clip `[T, H, W, 3]` uint8 and the target's box in its first frame, x, y, w, h."""
    config = ClipConfig(height=height, width=width, num_frames=frames, target_size=(30.0, 30.0), occluders=0)
    examples = list(clip(config, seed=3))
    return np.stack([example.image for example in examples]), np.asarray(examples[0].box, np.float64)


def frames_of(images: np.ndarray, canvas=None) -> base.Frame:
    frames = [to_canvas(image, canvas) for image in images]
    return jax.device_put(base.Frame(*map(np.stack, zip(*frames))))


def clip_input(canvas=None):
    images, box = scene()
    return frames_of(images, canvas or images.shape[1:3]), jax.device_put(xywh_to_box(box))


def assert_close(actual, expected, atol=1e-3):
    """Boxes in pixels; 1e-3 is far below what float32 convolutions summed in another order can move a peak."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), actual, expected)


def step(name, state, frame):
    return tracker(name).track(params(name), state, frame)


@pytest.mark.parametrize("name", TRACKERS)
def test_jit_equals_eager(name):
    frames, box = clip_input()
    first, second = (jax.tree.map(lambda leaf: leaf[i], frames) for i in (0, 1))
    key = jax.random.key(0)
    state = jax.jit(tracker(name).init)(params(name), key, first, box)
    eager_state = tracker(name).init(params(name), key, first, box)
    assert_close(state.filter, eager_state.filter)
    assert_close(step(name, eager_state, second)[1].box, jax.jit(tracker(name).track)(params(name), state, second)[1].box)


@pytest.mark.parametrize("name", TRACKERS)
def test_state_is_a_fixed_point(name):
    frames, box = clip_input()
    first = jax.tree.map(lambda leaf: leaf[0], frames)
    state = jax.eval_shape(tracker(name).init, params(name), jax.random.key(0), first, box)
    after, _ = jax.eval_shape(tracker(name).track, params(name), state, first)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    described = [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
    assert described == [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(after)]


@pytest.mark.parametrize("name", TRACKERS)
def test_run_many_equals_a_loop_of_runs(name):
    frames, box = clip_input()
    boxes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 6.0]), box)
    keys = jax.random.split(jax.random.key(5), 2)
    together = jax.jit(base.run_many(tracker(name), 2))(params(name), keys, frames, boxes)
    for target in range(2):
        alone = jitted(name)(params(name), keys[target], frames, jax.tree.map(lambda leaf: leaf[target], boxes))
        assert_close(jax.tree.map(lambda leaf: leaf[:, target], together.box), alone.box, atol=5e-2)


@pytest.mark.parametrize("name", TRACKERS)
def test_targets_join_leave_and_start_again(name):
    frames, box = clip_input()
    frame = [jax.tree.map(lambda leaf: leaf[i], frames) for i in range(3)]
    boxes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 6.0]), box)
    keys = jax.random.split(jax.random.key(5), 2)
    group = base.many(tracker(name), 2)
    targets = jax.jit(group.init)(params(name), keys, frame[0], boxes)
    change = jax.jit(base.set_targets(tracker(name)))
    nobody, second = jnp.array([False, False]), jnp.array([False, True])
    targets = change(params(name), keys, frame[0], targets, boxes, nobody, second)
    targets, estimate = jax.jit(group.track)(params(name), targets, frame[1])
    assert estimate.verdict[1] == base.LOST and estimate.confidence[1] == 0
    targets = change(params(name), keys, frame[1], targets, boxes, second, nobody)
    assert bool(targets.active.all())
    fresh = jax.jit(tracker(name).init)(params(name), keys[1], frame[1], jax.tree.map(lambda leaf: leaf[1], boxes))
    assert_close(targets.states.filter[1], fresh.filter)


@pytest.mark.parametrize("name", TRACKERS)
def test_one_trace_for_a_whole_run(name):
    frames, box = clip_input()
    traces = []

    def counted(params, state, frame):
        traces.append(1)
        return tracker(name).track(params, state, frame)

    track = jax.jit(counted)
    state = jax.jit(tracker(name).init)(params(name), jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], frames), box)
    for index in range(1, 5):
        state, _ = track(params(name), state, jax.tree.map(lambda leaf: leaf[index], frames))
    assert len(traces) == 1


@pytest.mark.parametrize("name", TRACKERS)
def test_padding_changes_nothing(name):
    tight, box = clip_input()
    wide, _ = clip_input(canvas=(256, 320))
    dirty = wide._replace(image=jnp.where(wide.image == 0, jnp.uint8(255), wide.image).at[:, :200, :240].set(tight.image))
    expected = jitted(name)(params(name), jax.random.key(0), tight, box)
    for frames in (wide, dirty):
        assert_close(jitted(name)(params(name), jax.random.key(0), frames, box).box, expected.box)


@pytest.mark.parametrize("shift", [3, 7])
@pytest.mark.parametrize("name", TRACKERS)
def test_translating_the_video_translates_the_boxes(name, shift):
    images, xywh = scene()
    # Constant surroundings, wide enough that no crop sees the border of the shifted video differently.
    canvas = np.full((len(images), 700, 740, 3), 128, np.uint8)
    shifted = canvas.copy()
    canvas[:, 250:450, 250:490] = images
    shifted[:, 250 + shift : 450 + shift, 250 + shift : 490 + shift] = images
    box = jax.device_put(xywh_to_box(xywh + [250, 250, 0, 0]))
    moved = jax.device_put(xywh_to_box(xywh + [250 + shift, 250 + shift, 0, 0]))
    key = jax.random.key(0)
    expected = jitted(name)(params(name), key, frames_of(canvas, (700, 740)), box).box
    actual = jitted(name)(params(name), key, frames_of(shifted, (700, 740)), moved).box
    # float32 positions near 400 resolve 3e-5 pixels; crops, features and peaks magnify that
    np.testing.assert_allclose(actual.center - shift, expected.center, atol=5e-2)
    np.testing.assert_allclose(actual.size, expected.size, atol=5e-2)


@pytest.mark.parametrize("name", TRACKERS)
def test_the_key_decides(name):
    frames, box = clip_input()
    first = jitted(name)(params(name), jax.random.key(0), frames, box)
    again = jitted(name)(params(name), jax.random.key(0), frames, box)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = jitted(name)(params(name), jax.random.key(7), frames, box)
    assert not np.array_equal(first.score, other.score)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_float_of_the_config_can_be_batched(name):
    frames, box = clip_input()
    field, values = FLOATS[name]

    def with_value(value):
        config = replace(small(name), **{field: value})
        return base.run(trackers.get(name).make(config))(params(name), jax.random.key(0), frames, box)

    batched = jax.jit(jax.vmap(with_value))(jnp.array(values))
    for index, value in enumerate(values):
        expected = jax.jit(lambda value=value: with_value(value))()
        assert_close(jax.tree.map(lambda leaf: leaf[index], batched.box), expected.box, atol=5e-2)


@pytest.mark.parametrize("name", TRACKERS)
def test_gradients_of_a_clip_loss_are_finite(name):
    frames, box = clip_input()
    frames = jax.tree.map(lambda leaf: leaf[:3], frames)

    def loss(learned):
        estimates = base.run(tracker(name))(learned, jax.random.key(0), frames, box)
        return jnp.sum(estimates.score) + 1e-3 * jnp.sum(estimates.box.size)

    gradient = jax.jit(jax.grad(loss))(params(name))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    for group, leaves in gradient.items():
        norm = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(leaves))
        assert norm > 0, f"no gradient reaches {group}"


@pytest.mark.parametrize("name", TRACKERS)
def test_no_implicit_transfers(name):
    frames, box = clip_input()
    weights, key = jax.device_put(params(name)), jax.random.key(0)
    jitted(name)(weights, key, frames, box)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(jitted(name)(weights, key, frames, box))
