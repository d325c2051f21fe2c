"""Refinement of a box on an overlap that is known: that of the box with a target."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops import boxes
from ops.boxes import Box
from ops.crop import Crop
from tests.helpers import narrow
from tests.helpers.narrow import narrow_models, plain_convolution
from trackers.base import FOUND, LOST
from trackers.nets import iou_net
from trackers.parts import box_refinement
from trackers.parts.box_refinement import RefinementConfig
from trackers.parts.online import Location
from trackers.parts.search_region import RegionConfig

CONFIG = RefinementConfig()
TARGET = jnp.array([40.0, 50.0, 60.0, 30.0])  # x, y, w, h in a crop


class State(NamedTuple):
    """What refinement needs of a tracker's."""

    key: jax.Array
    box: Box
    modulation: Any


def overlap(candidates):
    """A smooth stand-in for the network with its maximum, 1, at the target."""
    distance = (candidates - TARGET[None]) / jnp.tile(TARGET[2:], 2)[None]
    return 1 / (1 + jnp.sum(distance**2, -1))


def test_proposals_are_the_box_itself_and_others_within_the_jitter():
    found = np.asarray(box_refinement.proposals(jax.random.key(0), TARGET, replace(CONFIG, random_boxes=500)))
    np.testing.assert_array_equal(found[0], TARGET)
    side = np.sqrt(60 * 30)
    centers = found[:, :2] + found[:, 2:] / 2
    moved = np.abs(centers[1:] - centers[0]).max()
    assert 0.9 * 0.05 * side < moved <= 0.05 * side  # position_jitter 0.1, to either side
    assert found[:, 2:].min() >= 10  # a third of the shorter side
    assert 0.9 * 0.25 * side < (found[1:, 2] - 60).max() <= 0.25 * side


def test_ascent_finds_the_target_and_says_what_it_saw_before_the_last_step():
    start = TARGET[None] + jnp.array([[6.0, -4.0, 5.0, 3.0], [-5.0, 5.0, -8.0, 4.0]])
    config = replace(CONFIG, steps=40, step_length=15.0)
    last, iou, (history, predicted) = jax.jit(partial(box_refinement.ascend, overlap, config=config))(start)
    np.testing.assert_allclose(last, jnp.stack([TARGET] * 2), atol=0.05)
    np.testing.assert_array_equal(history[0], start)
    np.testing.assert_allclose(iou, overlap(history[-1]), rtol=1e-6)
    assert (np.diff(predicted, axis=0) >= -1e-6).all()
    decayed = replace(config, step_decay=0.0)  # one step, then none
    np.testing.assert_allclose(box_refinement.ascend(overlap, start, decayed)[0], history[1], rtol=1e-6)


def test_the_best_admissible_boxes_are_averaged():
    found = jnp.array([[0, 0, 10, 10], [2, 2, 12, 12], [4, 4, 14, 14], [90, 90, 10, 10], [0, 0, 70, 10]], jnp.float32)
    iou = jnp.array([0.5, 0.7, 0.6, 0.1, 0.9])  # the last is too wide
    fallback = jnp.full(4, 7.0)
    best, admissible = box_refinement.average_best(found, iou, fallback, CONFIG)
    np.testing.assert_allclose(best, found[:3].mean(0), rtol=1e-6)
    assert admissible
    best, admissible = box_refinement.average_best(found[-1:], iou[-1:], fallback, CONFIG)
    np.testing.assert_array_equal(best, fallback)
    assert not admissible


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_neither_hide_nor_spoil_a_box(bad):
    good = np.array([[0, 0, 10, 10], [2, 2, 12, 12], [4, 4, 14, 14]], np.float32)
    fallback, average = jnp.full(4, 7.0), jax.jit(partial(box_refinement.average_best, config=CONFIG))
    for position in range(4):  # a sound box whose IoU nobody knows
        found = np.insert(good, position, [50, 50, 10, 10], 0)
        best, admissible = average(found, np.insert([0.5, 0.7, 0.6], position, bad).astype(np.float32), fallback)
        np.testing.assert_allclose(best, good.mean(0), rtol=1e-6)
        assert admissible
    for column in range(4):  # boxes that are not there, one of them with the highest IoU of all
        found = good.copy()
        found[:2, column] = bad
        best, admissible = average(found, jnp.array([0.9, 0.5, 0.6]), fallback)
        np.testing.assert_allclose(best, good[2], rtol=1e-6)
        assert admissible
    nothing, admissible = average(np.full((3, 4), bad, np.float32), jnp.ones(3), fallback)
    np.testing.assert_array_equal(nothing, fallback)
    assert not admissible


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.5, -2.0)])
def test_the_crop_and_back(shift):
    box, center = Box(jnp.array([60.0, 80.0]), jnp.array([30.0, 50.0])), jnp.array([60.0, 80.0]) + jnp.array(shift)
    inside = box_refinement.to_crop(box, center, 2.0, 288, pixel_centers=False)
    back = box_refinement.to_image(inside, center, 2.0, 288)
    np.testing.assert_allclose([*back.center, *back.size], [*box.center, *box.size], rtol=1e-6)
    peers = box_refinement.to_crop(box, center, 2.0, 288, pixel_centers=True)
    np.testing.assert_allclose(peers - inside, [0.5, 0.5, 0, 0], atol=1e-5)
    corners = boxes.xywh_to_corners(inside)
    np.testing.assert_allclose(corners[2:] - corners[:2], inside[2:], rtol=1e-6)


def test_the_box_is_the_mean_of_the_best_proposals():
    with narrow_models():
        params = {"iou_net": narrow.lively("dimp18")["iou_net"]}
    geometry = RegionConfig(image_size=64)
    region = Crop(jnp.zeros((1, 64, 64, 3)), jnp.array([[60.0, 80.0]]), jnp.array([1.5]))
    taps = {"layer2": jax.random.normal(jax.random.key(1), (1, 8, 8, 8))}
    taps["layer3"] = jax.random.normal(jax.random.key(2), (1, 4, 4, 8))
    box = Box(jnp.array([58.0, 83.0]), jnp.array([20.0, 24.0]))
    with plain_convolution():
        modulation = box_refinement.modulation(params, taps, box, region.center[0], region.scale[0], geometry)
    where = Box(jnp.array([62.0, 85.0]), jnp.full(2, 100.0))

    @jax.jit
    def refined(verdict):
        state = State(jax.random.key(0), box, modulation)
        location = Location(where.center, jnp.ones(()), verdict, jnp.ones(()), jnp.zeros((5, 5)), where, jnp.int32(0))
        return box_refinement.refine(params, state, taps, region, location, geometry, CONFIG)

    with plain_convolution():
        _, found, seen = refined(FOUND)
    proposals, ious = seen["proposals"], np.asarray(seen["proposal_ious"])
    assert len(np.unique(ious)) == len(ious) == len(proposals.center) == 1 + CONFIG.random_boxes
    best = np.argsort(ious)[-CONFIG.top_k :]
    assert (np.abs(np.log(proposals.size[:, 0] / proposals.size[:, 1])) < np.log(CONFIG.max_aspect_ratio)).all()
    np.testing.assert_allclose(found.center, proposals.center[best].mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.size, proposals.size[best].mean(0), rtol=1e-5)
    assert np.abs(np.asarray(proposals.center) - np.asarray(where.center)).max() < 10  # of the image, around the place
    _, rests, _ = refined(LOST)
    jax.tree.map(np.testing.assert_array_equal, rests, box)


INSIDE = jnp.array([[100.0, 90, 70, 60], [110, 95, 50, 80]])
AT_THE_EDGE = jnp.array([[-30.0, -12, 70, 60], [-20, 5, 50, 80]])
WIDE = jnp.array([[20.0, 90, 240, 60], [110, 95, 50, 80]])


@pytest.fixture(scope="module")
def crop_of_a_network():
    """Its parameters, modulation and taps of 32 and 16 cells, of which its windows see 20 and 11."""
    with narrow_models():
        params = {"iou_net": narrow.lively("dimp18")["iou_net"]}
    keys = jax.random.split(jax.random.key(1), 4)
    layer2, layer3 = (jax.random.normal(key, (n, n, 8)) for key, n in zip(keys, (32, 16)))
    return params, tuple(jax.random.normal(key, (8,)) for key in keys[2:]), layer2, layer3


def climb_with_whole_maps(params, modulation, layer2, layer3, boxes, config):
    net, variables = box_refinement._net(params), params["iou_net"]
    features = net.apply(variables, layer2, layer3, method="features")
    predict = partial(net.apply, variables, modulation, features, method="predict")
    boxes, iou, (seen, _) = box_refinement.ascend(predict, boxes, config)
    return (boxes, iou), seen


@pytest.mark.parametrize(
    ("start", "length", "at_first", "to_the_end"),
    [(INSIDE, 1.0, True, True), (AT_THE_EDGE, 1.0, True, True), (WIDE, 1.0, False, False), (INSIDE, 40.0, True, False)],
)
def test_windows_give_what_whole_maps_give(crop_of_a_network, x64, start, length, at_first, to_the_end):
    """In float64: where steps are long, a rounding error grows a thousandfold on the way."""
    config, shapes = replace(CONFIG, step_length=length), ((32, 32), (16, 16))
    crop, start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (crop_of_a_network, start))
    with plain_convolution():
        expected, seen = jax.jit(partial(climb_with_whole_maps, config=config))(*crop, start)
    corners = iou_net.window_corners(start, shapes)
    assert bool(iou_net.covered(start, corners, shapes)) == at_first
    assert bool(iou_net.covered(seen.reshape(-1, 4), corners, shapes)) == to_the_end
    with plain_convolution():
        found = jax.jit(partial(box_refinement.climb, config=config))(*crop, start)
    for ours, whole in zip(found, expected):
        np.testing.assert_allclose(ours, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.full
def test_windows_of_several_targets_and_gradients(crop_of_a_network):
    """One target whose boxes fit beside one whose boxes do not."""
    starts, weights = jnp.stack([INSIDE, WIDE, AT_THE_EDGE]), jnp.linspace(0.5, 1.5, 2)

    def value(climb, params, start):
        boxes, iou = climb(params, *crop_of_a_network[1:], start)
        return jnp.sum(boxes * weights[:, None]) + weights @ iou

    both = []
    for climb in (box_refinement.climb, lambda *given, config: climb_with_whole_maps(*given, config)[0]):
        of_all = jax.vmap(jax.value_and_grad(partial(value, partial(climb, config=CONFIG))), (None, 0))
        both.append(jax.jit(of_all)(crop_of_a_network[0], starts))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), *both)
