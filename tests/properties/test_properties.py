"""What holds for every tracker, in one table: each row is a small variant of a registered configuration.

`TRACKER=module:ATTRIBUTE python -m pytest tests/properties` asks the same of a tracker of your own, as it is
configured.

The networks are the real ones. Compiling them is nearly all the work here, so one canvas and one executable of `init`
and of `track` per tracker serve most properties.
"""

import os
from collections import Counter
from dataclasses import fields, replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import trackers
from eval.sources.synthetic import ClipConfig, clip
from tests.golden import formula
from tests.helpers import oracle
from trackers import base
from trackers.images import xywh_to_box
from trackers.nets import models
from trackers.rules import validate
from trackers.weights.convert import from_peer

CANVAS, EXTENT = (256, 320), (220, 300)
FRAMES = 4
ONLINE = ["atom_filterbank", "atom_multiscale", "atom", "dimp18", "dimp50", "dimp_tiny"]  # they learn a filter
SIAMESE = ["siamfc", "siamrpn", "dasiamrpn_vot", "siamrpnpp_alexnet", "siamrpnpp_mobilenetv2", "siamrpnpp_resnet50"]
SIAMESE += ["thor_siamfc", "thor_siamrpn", "memtrack"]
OWN = os.environ.get("TRACKER")
TRACKERS = [OWN] if OWN else [*ONLINE, *SIAMESE]
SCHEMAS = {
    "atom": "atom18",
    "atom_multiscale": "atom18",
    "dimp18": "dimp18",
    "dimp50": "dimp50",
    "siamfc": "siamfc",
    "siamrpn": "SiamRPNvot",
    "siamrpnpp_alexnet": "siamrpn_alex_dwxcorr",
    "siamrpnpp_mobilenetv2": "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpnpp_resnet50": "siamrpn_r50_l234_dwxcorr",
}
LAST_BLOCK = {  # of the backbone; below it lies the plain network
    "dimp50": "layer3_5",
    "dimp_tiny": "layer3_0",
    "siamfc": "conv5",
    "siamrpn": "conv5",
    "dasiamrpn_vot": "conv5",
    "thor_siamfc": "conv5",
    "thor_siamrpn": "conv5",
    "siamrpnpp_alexnet": "conv5",
    "siamrpnpp_mobilenetv2": "layer7_0",
    "siamrpnpp_resnet50": "layer4_2",
    "memtrack": "conv5",
}
MASKS = [False, False], [True, False], [False, True], [True, True]  # of two targets: nobody, first, second, both
TRACES = Counter()  # of the executable of `track`, by tracker
every_tracker = pytest.mark.parametrize("name", TRACKERS)


def small(name: str):
    """The configuration at a size a test can afford; every frame is learned from, so that random weights move on."""
    config = trackers.get(name).config
    if name == OWN:
        return config
    if name in SIAMESE:
        config = small_siamese(config)
        validate(config)
        return config
    few = {"expanded_size": 128, "shifts": ((0.6, 0.6),), "flip": False, "blurs": ((2.0, 0.2),), "rotations": (10.0,)}
    changes = {
        "region": replace(config.region, image_size=64),
        "online": replace(config.online, memory_size=8, train_skipping=2),
        "augmentation": replace(config.augmentation, **few, dropout_copies=1),
        "localization": replace(config.localization, not_found_threshold=-10.0, distractor_threshold=100.0),
        "refinement": replace(config.refinement, steps=2),
    }
    if name.startswith("dimp"):
        changes |= {"init_steps": 3}
    else:
        changes |= {"init_gn_steps": 2, "init_cg_steps": 3, "cg_steps": 2, "compressed_dim": 8}
    if name == "atom_multiscale":  # both ways to a scale in one row: `atom_multiscale_search` has none of its own
        changes["scale_factors"] = trackers.get("atom_multiscale_search").config.scale_factors[1:4]
    if getattr(config, "scale_filter", None):
        few = {"memory_size": 3, "initial_samples": 2, "train_skipping": 1, "init_cg_steps": 3, "cg_steps": 2}
        changes["scale_filter"] = replace(config.scale_filter, bins=2, min_score=-10.0, **few)
    config = replace(config, **changes)
    validate(config)
    return config


def small_siamese(config):
    """Search regions of 9 x 9 places; every score is good enough, and a lost target looks farther by one size."""
    if hasattr(config, "rpn"):
        return replace(config, rpn=small_siamese(config.rpn))
    if hasattr(config, "host"):
        config = replace(config, host=small_siamese(config.host))
        every_frame = {"short_slots": 2, "long_slots": 3, "dilation": 1}  # makes a template
        return replace(config, **every_frame) if hasattr(config, "short_slots") else config
    config = replace(config, instance_size=127 + 8 * 8)
    if getattr(config, "lost", None):
        config = replace(config, lost=replace(config.lost, enter=0.0, sizes=(127 + 8 * 10,)))
    return config


@lru_cache
def tracker(name: str) -> base.Tracker:
    return trackers.get(name).make(small(name))


@lru_cache
def params(name: str):
    """Random weights, the same on every machine, that keep activations of order 1; or released ones."""
    model = trackers.get(name).model
    if name == OWN:
        return jax.device_put(trackers.init_params(name, jax.random.key(0)))
    if model == "memtrack":  # of which no schema is at hand
        found = drawn_params(model)
    elif model not in SCHEMAS:
        return jax.device_put(trackers.load_params(name, None))
    else:
        state = formula.weights(oracle.schema(SCHEMAS[model]), "properties", SCHEMAS[model])
        found = from_peer(state, model, "formula")[0]
    shrink = {"siamfc": 20, "memtrack": 600}.get(model)  # their score is a probability, which large responses make 1
    if shrink:
        last = found["backbone"]["params"]["conv5"]
        last |= {name: leaf / shrink for name, leaf in last.items()}
    return jax.device_put(found)


def drawn_params(model: str):
    """Kernels that keep the size of what goes through, all else as before training."""

    def draw(path, leaf):
        name = "/".join(key.key for key in path)
        if path[-1].key != "kernel":
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)
        return formula.normal("properties", name, leaf.shape, np.sqrt(2 / np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(draw, models.expected_variables(model))


@lru_cache
def compiled(name: str) -> base.Tracker:
    def track(params, state, frame):
        TRACES[name] += 1
        return tracker(name).track(params, state, frame)

    return base.Tracker(jax.jit(tracker(name).init), jax.jit(track))


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


@lru_cache
def reference(name: str) -> base.Estimate:
    images, xywh = scene()
    return follow(compiled(name), params(name), jax.random.key(0), frames_of(images), box_of(xywh))


def assert_same_boxes(actual: base.Box, expected: base.Box, atol: float = 1e-2):
    """Pixels: sums in another order, in float32, move the maximum of a flat map by thousandths."""
    np.testing.assert_allclose(actual.center, expected.center, atol=atol)
    np.testing.assert_allclose(actual.size, expected.size, atol=atol)


def learned_model(state):
    """What a State knows of its target's looks: a filter, or templates."""
    if OWN:
        return [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if hasattr(state, "filter"):
        return state.filter
    return state.template, getattr(getattr(state, "remembered", ()), "templates", ())


def assert_same_model(states, expected, slot: int):
    for leaf, other in zip(jax.tree.leaves(learned_model(states)), jax.tree.leaves(learned_model(expected))):
        np.testing.assert_allclose(leaf[slot], other, rtol=1e-3, atol=1e-4 * float(jnp.abs(other).max()))


@every_tracker
def test_the_reference_moves_and_learns(name):
    """What the other tests compare is not trivial."""
    images, xywh = scene()
    state = compiled(name).init(params(name), jax.random.key(0), at(frames_of(images), 0), box_of(xywh))
    after = compiled(name).track(params(name), state, at(frames_of(images), 1))[0]
    if name in ONLINE:
        assert int(after.memory.count) == int(state.memory.count) + 1
    if name.startswith("thor"):
        assert int(after.remembered.short.count) == 1
    boxes = reference(name).box
    assert float(jnp.abs(jnp.diff(boxes.center, axis=0)).max()) > 0.1
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(boxes))


# These two have every part that the others have, and each compiles hundreds of single operations.
@pytest.mark.parametrize("name", [OWN] if OWN else ["atom_filterbank", "dimp_tiny", "siamfc", "dasiamrpn_vot"])
def test_jit_equals_eager(name):
    images, xywh = scene()
    estimate = at(follow(tracker(name), params(name), jax.random.key(0), frames_of(images[:2]), box_of(xywh)), 0)
    assert_same_boxes(estimate.box, at(reference(name).box, 0))
    np.testing.assert_allclose(estimate.score, reference(name).score[0], rtol=1e-3)


@pytest.mark.parametrize("name", [OWN] if OWN else trackers.names())
def test_state_is_a_fixed_point(name):
    """Structure, shapes, dtypes and weak types: whoever feeds State back never compiles again."""
    entry = trackers.get(name)
    frame, box = jax.eval_shape(lambda: (at(frames_of(scene()[0]), 0), box_of(scene()[1])))
    weights = params(name) if entry.model is None else models.expected_variables(entry.model)
    maker = entry.make(entry.config)
    state = jax.eval_shape(maker.init, weights, jax.random.key(0), frame, box)
    after, _ = jax.eval_shape(maker.track, weights, state, frame)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    described = [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
    assert described == [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(after)]


@every_tracker
def test_one_trace_for_a_whole_run(name):
    assert len(reference(name).score) == FRAMES - 1
    assert TRACES[name] == 1


@every_tracker
def test_run_on_a_tight_canvas_equals_frame_by_frame_on_a_wide_one(name):
    """Padding, whatever is in it, and the size of the canvas change nothing, nor does `track_chunk`'s scan."""
    images, xywh = scene()
    images = images[:, : EXTENT[0], : EXTENT[1]]
    clean, box, key = frames_of(images), box_of(xywh), jax.random.key(0)
    noise = np.random.default_rng(0).integers(0, 256, clean.image.shape, np.uint8)
    noise[:, : EXTENT[0], : EXTENT[1]] = images
    dirty = clean._replace(image=jax.device_put(noise))
    expected = follow(compiled(name), params(name), key, clean, box)
    actual = follow(compiled(name), params(name), key, dirty, box)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    whole = jax.jit(base.run(tracker(name)))(params(name), key, frames_of(images, EXTENT), box)
    assert_same_boxes(whole.box, expected.box)
    np.testing.assert_array_equal(whole.verdict, expected.verdict)


@every_tracker
def test_many_targets_equal_one_at_a_time_whoever_joins_and_leaves(name):
    images, xywh = scene()
    frames, boxes, keys = frames_of(images), two_boxes(xywh), jax.random.split(jax.random.key(5), 2)
    frame, weights = [at(frames, index) for index in range(FRAMES)], params(name)
    change, track = jax.jit(base.set_targets(tracker(name))), jax.jit(base.many(tracker(name), 2).track)
    nobody, first, second, both = (jnp.array(mask) for mask in MASKS)
    alone = [follow(compiled(name), weights, keys[slot], frames, at(boxes, slot)).box for slot in (0, 1)]
    fresh = [compiled(name).init(weights, keys[slot], frame[2], at(boxes, slot)) for slot in (0, 1)]

    idle = base.Targets(jax.tree.map(jnp.zeros_like, stack(fresh)), nobody)
    targets = change(weights, keys, frame[0], idle, boxes, both, nobody)
    targets, seen = track(weights, targets, frame[1])
    for slot in (0, 1):
        assert_same_boxes(at(seen.box, slot), at(alone[slot], 0))

    targets = change(weights, keys, frame[1], targets, boxes, nobody, second)
    targets, seen = track(weights, targets, frame[2])
    assert_same_boxes(at(seen.box, 0), at(alone[0], 1))
    assert seen.verdict.tolist() == [base.FOUND, base.LOST] and seen.confidence[1] == 0 < seen.confidence[0]

    targets = change(weights, keys, frame[2], targets, boxes, second, nobody)
    assert_same_model(targets.states, fresh[1], 1)
    targets, seen = track(weights, targets, frame[3])
    assert_same_boxes(at(seen.box, 0), at(alone[0], 2))
    assert_same_boxes(at(seen.box, 1), compiled(name).track(weights, fresh[1], frame[3])[1].box)

    targets = change(weights, keys, frame[2], targets, boxes, first, nobody)  # started again while it is tracked
    assert_same_model(targets.states, fresh[0], 0)
    assert targets.active.all()
    if name in ONLINE:
        assert targets.states.frame_number.tolist() == [1, 2]


def test_run_many_equals_a_loop_of_runs():
    """`run_many` is `run` of `many`, whatever the tracker: one of them is enough."""
    name, (images, xywh) = OWN or "atom_filterbank", scene()
    frames, boxes, keys = frames_of(images), two_boxes(xywh), jax.random.split(jax.random.key(5), 2)
    together = jax.jit(base.run_many(tracker(name), 2))(params(name), keys, frames, boxes)
    for slot in (0, 1):
        alone = follow(compiled(name), params(name), keys[slot], frames, at(boxes, slot))
        assert_same_boxes(jax.tree.map(lambda leaf, slot=slot: leaf[:, slot], together.box), alone.box)


@every_tracker
@pytest.mark.parametrize("shift", [3, 7])
def test_translating_the_video_translates_the_boxes(name, shift):
    images, xywh = scene()
    shifted = np.roll(images, (shift, shift), (1, 2))  # what wraps around is beyond every crop
    box = box_of(xywh + [shift, shift, 0, 0])
    actual = follow(compiled(name), params(name), jax.random.key(0), frames_of(shifted), box).box
    assert_same_boxes(actual._replace(center=actual.center - shift), reference(name).box)


@every_tracker
def test_the_key_decides_where_anything_is_random(name):
    images, xywh = scene()
    again = follow(compiled(name), params(name), jax.random.key(0), frames_of(images), box_of(xywh))
    jax.tree.map(np.testing.assert_array_equal, again, reference(name))
    other = follow(compiled(name), params(name), jax.random.key(7), frames_of(images), box_of(xywh))
    if name != OWN:  # of which nobody says whether anything is random
        assert np.array_equal(other.score, reference(name).score) == (name in SIAMESE)


def with_float(name: str, factor) -> tuple:
    """The small configuration with one of its floats times `factor`."""
    config = small(name)
    if hasattr(config, "rpn"):
        return replace(config, rpn=replace(config.rpn, size_rate=config.rpn.size_rate * factor))
    if hasattr(config, "host"):
        return replace(config, host=with_factor(config.host, factor))
    if hasattr(config, "region"):
        return replace(config, region=with_factor(config.region, factor))
    return with_factor(config, factor)


def with_factor(config, factor):
    first = next((field.name for field in fields(config) if isinstance(getattr(config, field.name), float)), None)
    known = ("search_area_scale", "size_rate", "window_influence", first)
    field = next(field for field in known if hasattr(config, field))
    return replace(config, **{field: getattr(config, field) * factor})


@every_tracker
def test_a_float_of_the_config_can_be_batched(name):
    """Each of two values in one call gives what the tracker with that value gives."""
    images, xywh = scene()
    frames, box = frames_of(images[:2]), box_of(xywh)

    def with_value(factor):
        changed = trackers.get(name).make(with_float(name, factor))
        return at(follow(changed, params(name), jax.random.key(0), frames, box), 0)

    # the peaks of SiamFC's responses move if the window is gone, and hardly before
    other = 0.0 if name in ("siamfc", "thor_siamfc", "memtrack") else 0.8
    compiled_batch = jax.jit(jax.vmap(with_value))
    batched = compiled_batch(jnp.array([1.0, other]))
    assert_same_boxes(at(batched.box, 0), at(reference(name).box, 0))
    assert not all(np.allclose(part[1], part[0], rtol=1e-5) for part in batched.box)
    swapped = compiled_batch(jnp.array([other, 1.0]))
    assert_same_boxes(at(swapped.box, 0), at(batched.box, 1))


@every_tracker
def test_gradients_of_a_clip_loss_are_finite(name):
    """Through init, crop, features, localization, refinement and one update, to every group of parameters.

    Of the backbone the last block of the last tap is asked: below it lies the plain network.
    """
    images, xywh = scene()
    frames, box = frames_of(images[:2]), box_of(xywh)
    config = small(name)
    if name in ONLINE:
        config = replace(config, online=replace(config.online, train_skipping=1))
    maker, last_block = trackers.get(name).make(config), LAST_BLOCK.get(name, "layer3_1")
    learned, fixed = {}, {}
    for path, leaf in flatten_dict(params(name)).items():
        asked = path[0] != "backbone" or last_block in path or trackers.get(name).model is None
        (learned if asked else fixed)[path] = leaf

    def gradient(learned, weights):
        def loss(learned):
            everything = unflatten_dict(learned | fixed)
            state = maker.init(everything, jax.random.key(0), at(frames, 0), box)
            state, estimate = maker.track(everything, state, at(frames, 1))
            energy = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(learned_model(state)))
            return weights @ jnp.stack([estimate.score, jnp.sum(estimate.box.size), energy])

        return jax.grad(loss)(learned)

    compiled_gradient = jax.jit(gradient)
    every = compiled_gradient(learned, jnp.ones(3))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in every.values())
    for group in params(name):
        assert any(bool(jnp.any(leaf != 0)) for path, leaf in every.items() if path[0] == group), group
    of_score = compiled_gradient(learned, jnp.array([1.0, 0.0, 0.0]))
    for path, leaf in of_score.items():
        # The IoU-Net refines the box after the frame is scored, and only the slope of what it predicts counts.
        if path[0] == "iou_net":
            assert not np.any(leaf), path
        if path[-2:] == ("iou_predictor", "bias"):
            assert not np.any(every[path]), path


@every_tracker
def test_no_implicit_transfers(name):
    images, xywh = scene()
    frames, box, key = frames_of(images), box_of(xywh), jax.random.key(0)
    first, second = at(frames, 0), at(frames, 1)
    reference(name)  # compiles
    with jax.transfer_guard("disallow"):
        state = compiled(name).init(params(name), key, first, box)
        jax.block_until_ready(compiled(name).track(params(name), state, second))
