"""What holds for every tracker, in one table: each row is a small variant of a registered configuration.

`TRACKER=module:ATTRIBUTE python -m pytest tests/properties` asks the same of a tracker of your own, as it is
configured.

Compiling is nearly all the work here, so one canvas and one executable of `init` and of `track` per tracker serve most
properties.
"""

import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import trackers
from ops.boxes import iou, to_xywh
from tests.helpers.narrow import narrow_models
from tests.helpers.scene import (
    FRAMES,
    assert_same_boxes,
    at,
    box_of,
    follow,
    frames_of,
    scene,
    stack,
    two_boxes,
)
from tests.helpers.small_trackers import NARROW, learns_online, params, registered, small, tracker
from trackers import base
from trackers.nets import models

EXTENT = (220, 300)
# On narrow networks; the full tier has the real ones.
NARROW_ROWS = ["atom_multiscale", "atom", "dimp18", "dimp_tiny"]
NARROW_ROWS += ["siamfc", "dasiamrpn_vot", "siamrpnpp_mobilenetv2", "thor_siamfc", "thor_siamrpn", "memtrack"]
REAL_ROWS = ["atom_multiscale", "atom", "dimp18", "dimp50", "dimp_tiny", "siamfc", "siamrpn", "dasiamrpn_vot"]
REAL_ROWS += ["siamrpnpp_alexnet", "siamrpnpp_mobilenetv2", "siamrpnpp_resnet50"]
REAL_ROWS += ["thor_siamfc", "thor_siamrpn", "memtrack"]
OWN = os.environ.get("TRACKER")
# What is particular to these, others run as well.
COVERED = ["atom_multiscale", "atom", "dimp18", "dimp_tiny", "siamfc", "siamrpnpp_mobilenetv2", "thor_siamfc"]
ROWS = ["atom_filterbank", *(name + NARROW for name in NARROW_ROWS if name not in COVERED)]
ROWS += [pytest.param(name, marks=pytest.mark.full) for name in (*(name + NARROW for name in COVERED), *REAL_ROWS)]
if OWN:
    ROWS = [OWN]
LAST_BLOCK = {  # of the backbone; below it lies the plain network
    "atom_multiscale": "layer3_1",
    "atom": "layer3_1",
    "dimp18": "layer3_1",
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
every_tracker = pytest.mark.parametrize("name", ROWS)


@pytest.fixture(autouse=True)
def networks(request):
    """Narrow ones for the rows that say so."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    with narrow_models() if name and name.endswith(NARROW) else nullcontext():
        yield


@lru_cache
def compiled(name: str) -> base.Tracker:
    def track(params, state, frame):
        TRACES[name] += 1
        return tracker(name).track(params, state, frame)

    return base.Tracker(jax.jit(tracker(name).init), jax.jit(track))


@lru_cache
def reference(name: str) -> base.Estimate:
    images, xywh = scene()
    return follow(compiled(name), params(name), jax.random.key(0), frames_of(images), box_of(xywh))


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
    if learns_online(name):
        assert int(after.memory.count) == int(state.memory.count) + 1
    if name.startswith("thor"):
        assert int(after.remembered.short.count) == 1
    boxes = reference(name).box
    assert float(jnp.abs(jnp.diff(boxes.center, axis=0)).max()) > 0.1
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(boxes))


# Each compiles hundreds of single operations.
EAGER = [pytest.param(name + NARROW, marks=pytest.mark.full) for name in ("dimp_tiny", "siamfc")]
REAL = ("atom_filterbank", "dimp_tiny", "siamfc", "dasiamrpn_vot")
EAGER += [pytest.param(name, marks=pytest.mark.full) for name in REAL]


@pytest.mark.parametrize("name", [OWN] if OWN else ["dasiamrpn_vot" + NARROW, *EAGER])
def test_jit_equals_eager(name):
    images, xywh = scene()
    estimate = at(follow(tracker(name), params(name), jax.random.key(0), frames_of(images[:2]), box_of(xywh)), 0)
    assert_same_boxes(estimate.box, at(reference(name).box, 0))
    np.testing.assert_allclose(estimate.score, reference(name).score[0], rtol=1e-3)


# The first of those that have networks and code in common stands for the others.
FIRST = {(entry.model, entry.make): name for name, entry in reversed([(n, trackers.get(n)) for n in trackers.names()])}
ALL = [name if name in FIRST.values() else pytest.param(name, marks=pytest.mark.full) for name in trackers.names()]


@lru_cache
def shapes(name: str) -> tuple:
    """State before and after a frame and the estimate of a tracker as it is registered: nothing is compiled."""
    entry = trackers.get(name)
    frame, box = jax.eval_shape(lambda: (at(frames_of(scene()[0]), 0), box_of(scene()[1])))
    weights = params(name) if entry.model is None else models.expected_variables(entry.model)
    maker = entry.make(entry.config)
    state = jax.eval_shape(maker.init, weights, jax.random.key(0), frame, box)
    return state, *jax.eval_shape(maker.track, weights, state, frame)


@pytest.mark.parametrize("name", [OWN] if OWN else ALL)
def test_state_is_a_fixed_point(name):
    """Structure, shapes, dtypes and weak types: feeding State back never triggers recompilation."""
    state, after, _ = shapes(name)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    described = [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
    assert described == [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(after)]


@pytest.mark.parametrize("name", [] if OWN else ALL)
def test_what_a_tracker_saw_has_the_same_form_in_all(name):
    state, _, estimate = shapes(name)
    extras, config = estimate.extras, trackers.get(name).config
    for leaf in jax.tree.leaves((extras["search"], extras["map"])):
        assert (leaf.shape, leaf.dtype) == ((2,), jnp.float32)
    cells, _ = extras["score_map"].shape
    assert extras["score_map"].shape == (cells, cells) and 13 <= cells <= 25
    assert ("index" in extras) != ("memory_slot" in extras) == learns_online(name)
    if learns_online(name):
        slots = config.online.memory_size
        assert extras["memory_weights"].shape == (slots,) == state.memory.weights.shape
        assert (extras["memory_slot"].shape, extras["memory_slot"].dtype) == ((), jnp.int32)
    assert ("proposals" in extras) == (learns_online(name) and getattr(config, "use_iou_net", True))
    if "proposals" in extras:
        count = 1 + config.refinement.random_boxes
        assert extras["proposals"].center.shape == extras["proposals"].size.shape == (count, 2)
        assert extras["proposal_ious"].shape == (count,)


@every_tracker
def test_a_tracker_looks_around_the_box_before(name):
    if name == OWN and "search" not in reference(name).extras:
        pytest.skip("a tracker of your own need not say where it looks")
    search, boxes = reference(name).extras["search"], reference(name).box
    np.testing.assert_allclose(search.center[0], box_of(scene()[1]).center, atol=0.01)
    np.testing.assert_allclose(search.center[1:], boxes.center[:-1], atol=0.01)
    assert (search.size > boxes.size).all() and np.isfinite(reference(name).extras["score_map"]).all()


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
    if learns_online(name):
        assert targets.states.frame_number.tolist() == [1, 2]


@pytest.mark.full
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
        assert np.array_equal(other.score, reference(name).score) == (not learns_online(name))


def blank_frames(shape: tuple[int, ...]) -> np.ndarray:
    """Five frames that show nothing: black, white, gray, black and gray with a sensor's noise of +-2."""
    noise = np.random.default_rng(0).integers(-2, 3, (2, *shape))
    plain = [np.full(shape, level) for level in (0, 255, 128)]
    return np.clip([*plain, noise[0], 128 + noise[1]], 0, 255).astype(np.uint8)


@every_tracker
def test_a_blank_frame_moves_nothing_and_the_target_is_found_again(name):
    images, xywh = scene()
    frames = frames_of(images)
    state = compiled(name).init(params(name), jax.random.key(0), at(frames, 0), box_of(xywh))
    state, before = compiled(name).track(params(name), state, at(frames, 1))
    known = state
    blank = frames_of(blank_frames(images.shape[1:]))
    for index in range(len(blank.image)):
        state, estimate = compiled(name).track(params(name), state, at(blank, index))
        assert estimate.verdict == base.LOST
        jax.tree.map(np.testing.assert_array_equal, estimate.box, before.box)
        if name != OWN:
            assert estimate.confidence == 0
    if learns_online(name):
        jax.tree.map(np.testing.assert_array_equal, state.memory, known.memory)
    elif name != OWN:
        jax.tree.map(np.testing.assert_array_equal, learned_model(state), learned_model(known))
    _, again = compiled(name).track(params(name), state, at(frames, 2))
    assert again.verdict != base.LOST
    parts = [small(name), *(getattr(small(name), part, None) for part in ("rpn", "host"))]
    if hasattr(known, "lost_frames") and any(getattr(part, "lost", None) for part in parts):
        # It looks farther after a loss, where random weights may prefer another place: all else is as before.
        lost = known._replace(lost_frames=state.lost_frames)
        expected = compiled(name).track(params(name), lost, at(frames, 2))[1]
        jax.tree.map(np.testing.assert_array_equal, again, expected)
        return
    boxes = to_xywh(again.box), to_xywh(at(reference(name).box, 1))
    assert iou(*boxes) > 0.5


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
        changed = registered(name).make(with_float(name, factor))
        return at(follow(changed, params(name), jax.random.key(0), frames, box), 0)

    # the peaks of SiamFC's responses move if the window is gone, and hardly before
    other = 0.0 if name.removesuffix(NARROW) in ("siamfc", "thor_siamfc", "memtrack") else 0.8
    compiled_batch = jax.jit(jax.vmap(with_value))
    batched = compiled_batch(jnp.array([1.0, other]))
    assert_same_boxes(at(batched.box, 0), at(reference(name).box, 0))
    assert not all(np.allclose(part[1], part[0], rtol=1e-5) for part in batched.box)
    swapped = compiled_batch(jnp.array([other, 1.0]))
    assert_same_boxes(at(swapped.box, 0), at(batched.box, 1))


# of the first three the others have every part
OTHERS = ["atom_filterbank", *(name + NARROW for name in ("atom_multiscale", "dimp18"))]
WITH_GRADIENTS = [pytest.param(name, marks=pytest.mark.full) if name in OTHERS else name for name in ROWS]


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_of_a_clip_loss_are_finite(name):
    """Through init, crop, features, localization, refinement and one update, to every group of parameters.

    Of the backbone the last block of the last tap is asked: below it lies the plain network.
    """
    images, xywh = scene()
    frames, box = frames_of(images[:2]), box_of(xywh)
    config = small(name)
    if learns_online(name):
        config = replace(config, online=replace(config.online, train_skipping=1))
    maker, last_block = registered(name).make(config), LAST_BLOCK.get(name)
    learned, fixed = {}, {}
    for path, leaf in flatten_dict(params(name)).items():
        asked = path[0] != "backbone" or last_block is None or last_block in path
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
