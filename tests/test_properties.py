"""What holds for every tracker, in one table: each row is a small variant of a registered configuration.

Compiling is nearly all the work here, so one canvas, one clip length and one compiled run of each tracker serve as
many properties as they can, and XLA optimizes less than it would for a user.
"""

import dataclasses
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.frames import to_canvas, xywh_to_box
from eval.synthetic import ClipConfig, clip
from trackers import base

replace = dataclasses.replace
FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
jit = partial(jax.jit, compiler_options=FAST_COMPILE)

CANVAS = (256, 320)
FRAMES = 3
TRACKERS = ["atom_filterbank", "atom_multiscale", "atom", "dimp18"]
pytestmark = pytest.mark.parametrize("name", TRACKERS)


def small(name: str):
    """The configuration at a size a test can afford; nothing counts as lost, so that random weights move the box."""
    config = trackers.get(name).config
    augmentation = replace(
        config.augmentation,
        expanded_size=128,
        shifts=((0.6, 0.6),),
        flip=False,
        blurs=((2.0, 0.2),),
        rotations=(10.0,),
        dropout_copies=1,
    )
    found = replace(config.localization, not_found_threshold=-10.0)
    common = {"image_size": 64, "memory_size": 8, "train_skipping": 2}
    if name.startswith("dimp"):
        common |= {"init_steps": 3}
    else:
        common |= {"init_gn_steps": 2, "init_cg_steps": 3, "cg_steps": 2, "compressed_dim": 8}
    return replace(config, **common, augmentation=augmentation, localization=found)


@lru_cache
def tracker(name: str) -> base.Tracker:
    return trackers.get(name).make(small(name))


@lru_cache
def params(name: str):
    return jax.device_put(trackers.init_params(name, jax.random.key(1)))


@lru_cache
def compiled_run(name: str):
    return jit(base.run(tracker(name)))


@lru_cache
def scene():
    """A short clip `[T, 256, 320, 3]` whose target keeps 90 pixels from the border, and its first box x, y, w, h.

    A crop of frame 1 reaches ten times the target's half side: none of them sees the border.
    """
    config = ClipConfig(*CANVAS, num_frames=FRAMES, target_size=(12.0, 12.0), occluders=0)
    for seed in range(100):
        examples = list(clip(config, seed=seed))
        x, y, w, h = examples[0].box
        if 100 < x + w / 2 < 220 and 90 < y + h / 2 < 166:
            return np.stack([example.image for example in examples]), np.asarray(examples[0].box, np.float64)
    raise AssertionError("no clip with its target in the middle")


def frames_of(images: np.ndarray, canvas=CANVAS) -> base.Frame:
    frames = [to_canvas(image, canvas) for image in images]
    return jax.device_put(base.Frame(*map(np.stack, zip(*frames))))


def box_of(xywh) -> base.Box:
    return jax.device_put(xywh_to_box(np.asarray(xywh)))


@lru_cache
def reference(name: str) -> base.Estimate:
    """What the compiled run says of the clip."""
    images, xywh = scene()
    return jax.device_get(compiled_run(name)(params(name), jax.random.key(0), frames_of(images), box_of(xywh)))


def assert_same_boxes(actual, expected, atol=2e-2):
    """Pixels: features in float32, summed in another order, move the maximum of a flat map by about a hundredth."""
    np.testing.assert_allclose(actual.center, expected.center, atol=atol)
    np.testing.assert_allclose(actual.size, expected.size, atol=atol)


def at(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_jit_equals_eager(name):
    images, xywh = scene()
    frames = frames_of(images)
    state = tracker(name).init(params(name), jax.random.key(0), at(frames, 0), box_of(xywh))
    _, estimate = tracker(name).track(params(name), state, at(frames, 1))
    assert_same_boxes(estimate.box, at(reference(name).box, 0))
    np.testing.assert_allclose(estimate.score, reference(name).score[0], rtol=2e-3, atol=1e-4)


def test_state_is_a_fixed_point(name):
    """Structure, shapes, dtypes and weak types: whoever feeds State back never compiles again."""
    images, xywh = scene()
    frame = at(frames_of(images), 0)
    state = jax.eval_shape(tracker(name).init, params(name), jax.random.key(0), frame, box_of(xywh))
    after, _ = jax.eval_shape(tracker(name).track, params(name), state, frame)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    described = [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
    assert described == [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(after)]


def test_one_trace_for_a_whole_run(name):
    images, xywh = scene()
    traces = []

    def counted(params, state, frame):
        traces.append(1)
        return tracker(name).track(params, state, frame)

    # Tracing is what is counted; compiling each of them would show nothing more.
    track = jax.jit(counted)
    frame = at(frames_of(images), 0)
    state = jax.eval_shape(tracker(name).init, params(name), jax.random.key(0), frame, box_of(xywh))
    for _ in range(3):
        state = track.eval_shape(params(name), state, frame)[0]
    assert len(traces) == 1


def test_many_targets_equal_one_at_a_time(name):
    images, xywh = scene()
    other = xywh + [4, 3, 0, 0]
    keys = jax.random.split(jax.random.key(5), 2)
    frames = frames_of(images)
    together = jit(base.run_many(tracker(name), 2))(params(name), keys, frames, box_of([xywh, other]))
    for target, start in enumerate((xywh, other)):
        alone = compiled_run(name)(params(name), keys[target], frames, box_of(start))
        assert_same_boxes(jax.tree.map(lambda leaf, target=target: leaf[:, target], together.box), alone.box)


def test_padding_and_canvas_change_nothing(name):
    images, xywh = scene()
    images = images[:, :220, :300]  # the canvas is larger than the frame
    clean = frames_of(images)
    noise = np.random.default_rng(0).integers(0, 256, clean.image.shape, np.uint8)
    noise[:, :220, :300] = images
    dirty = clean._replace(image=jax.device_put(noise))
    expected = compiled_run(name)(params(name), jax.random.key(0), clean, box_of(xywh))
    actual = compiled_run(name)(params(name), jax.random.key(0), dirty, box_of(xywh))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    elsewhere = compiled_run(name)(params(name), jax.random.key(0), frames_of(images, (384, 512)), box_of(xywh))
    assert_same_boxes(elsewhere.box, expected.box)


@pytest.mark.parametrize("shift", [3, 7])
def test_translating_the_video_translates_the_boxes(name, shift):
    images, xywh = scene()
    shifted = np.roll(images, (shift, shift), (1, 2))  # what wraps around is beyond every crop
    start = box_of(xywh + [shift, shift, 0, 0])
    actual = compiled_run(name)(params(name), jax.random.key(0), frames_of(shifted), start).box
    expected = reference(name).box
    assert_same_boxes(actual._replace(center=actual.center - shift), expected)


def test_the_key_decides(name):
    images, xywh = scene()
    again = compiled_run(name)(params(name), jax.random.key(0), frames_of(images), box_of(xywh))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), reference(name))
    other = compiled_run(name)(params(name), jax.random.key(7), frames_of(images), box_of(xywh))
    assert not np.array_equal(other.score, reference(name).score)


def test_a_float_of_the_config_can_be_batched(name):
    images, xywh = scene()
    frames, box = frames_of(images), box_of(xywh)

    def with_value(scale):
        config = replace(small(name), search_area_scale=scale)
        return base.run(trackers.get(name).make(config))(params(name), jax.random.key(0), frames, box)

    batched = jit(jax.vmap(with_value))(jnp.array([5.0, 4.0]))
    assert small(name).search_area_scale == 5.0
    assert_same_boxes(at(batched.box, 0), reference(name).box)
    assert not np.allclose(batched.score[1], reference(name).score)


def test_no_implicit_transfers(name):
    images, xywh = scene()
    args = params(name), jax.random.key(0), frames_of(images), box_of(xywh)
    compiled_run(name)(*args)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(compiled_run(name)(*args))
