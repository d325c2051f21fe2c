"""Where a tracker looks, and how a box goes into a crop and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from trackers.parts import box_refinement, search_region
from trackers.parts.box_refinement import RefinementConfig


def test_scale_is_that_of_the_search_area():
    # a 40 x 90 target has area 60^2; five times its side on 288 pixels
    assert float(search_region.scale(jnp.array([40.0, 90.0]), 5.0, 288)) == pytest.approx(300 / 288)


def test_a_fifth_of_the_target_stays_in_the_frame():
    extent, size = jnp.array([100, 200]), jnp.array([20.0, 40.0])
    kept = search_region.keep_in_frame(jnp.array([-50.0, 500.0]), size, extent)
    np.testing.assert_allclose(kept, [-6.0, 212.0])
    np.testing.assert_allclose(search_region.keep_in_frame(jnp.array([50.0, 60.0]), size, extent), [50.0, 60.0])


@pytest.mark.parametrize(
    "size, factor, expected",
    [
        ([20.0, 40.0], 1.1, [22.0, 44.0]),
        ([20.0, 40.0], 0.1, [10.0, 20.0]),  # not below 10 pixels
        ([4.0, 8.0], 0.5, [4.0, 8.0]),  # already smaller: kept, not forced up
        ([80.0, 40.0], 2.0, [100.0, 50.0]),  # not beyond the frame
        ([150.0, 40.0], 1.5, [150.0, 40.0]),  # already larger: kept, not forced down
        ([20.0, 40.0], [1.5, 0.75], [30.0, 30.0]),  # the shape as well
        ([20.0, 40.0], [0.5, 0.125], [20.0, 10.0]),  # of the new shape neither below 10 pixels
        ([80.0, 40.0], [4.0, 1.0], [100.0, 12.5]),  # nor beyond the frame
    ],
)
def test_rescale(size, factor, expected):
    actual = search_region.rescale(jnp.array(size), jnp.array(factor), jnp.array([100, 200]), 10.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_redetection_walks_outwards_and_comes_back():
    rings = 2
    offsets = np.array([search_region.redetection_offset(jnp.int32(n), rings) for n in range(2 * 24 + 3)])
    np.testing.assert_array_equal(offsets[1::2], 0)  # every second look is where the target was lost
    np.testing.assert_array_equal(offsets[0], 0)
    walk = offsets[2:50:2]
    assert len(np.unique(walk, axis=0)) == 24  # two rings of a grid without its center
    distance = np.abs(walk).max(1)
    assert (np.diff(distance) >= 0).all() and distance.max() == 1.0  # half a crop per ring
    np.testing.assert_array_equal(offsets[50], offsets[2])  # again and again
    assert not np.any([search_region.redetection_offset(jnp.int32(n), 0) for n in range(5)])


@pytest.mark.parametrize("pixel_centers, drift", [(False, 0.0), (True, 0.5)])
def test_into_the_crop_and_back(pixel_centers, drift):
    """The networks' convention returns where it started; the references' gains half a crop pixel."""
    box = Box(jnp.array([50.0, 70.0]), jnp.array([20.0, 30.0]))
    center, scale = jnp.array([48.0, 75.0]), jnp.float32(0.5)
    inside = box_refinement.to_crop(box, center, scale, 288, pixel_centers=pixel_centers)
    back = box_refinement.to_image(inside, center, scale, 288)
    np.testing.assert_allclose(back.center - box.center, drift * 0.5, atol=1e-5)
    np.testing.assert_allclose(back.size, box.size, rtol=1e-6)


def test_proposals_keep_the_box_and_stay_within_their_jitter():
    config, box = RefinementConfig(), jnp.array([100.0, 120.0, 40.0, 90.0])
    boxes = box_refinement.proposals(jax.random.key(0), box, config)
    assert boxes.shape == (10, 4)
    np.testing.assert_array_equal(boxes[0], box)
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    assert float(jnp.abs(centers - centers[:1]).max()) <= 0.5 * 0.1 * 60 + 1e-3
    assert float(boxes[:, 2:].min()) >= 40 / 3


def test_ascent_climbs_and_reports_the_iou_before_its_last_step():
    target = jnp.array([100.0, 100.0, 50.0, 50.0])
    boxes = target[None] + jnp.array([[3.0, -2.0, 4.0, 1.0], [-4.0, 4.0, -3.0, 2.0]])

    def predict_iou(boxes):
        return 1 - jnp.sum((boxes - target[None]) ** 2, -1) / 1e3

    moved, iou, (history, ious) = box_refinement.ascend(predict_iou, boxes, RefinementConfig(steps=4))
    assert history.shape == (4, 2, 4)
    np.testing.assert_array_equal(history[0], boxes)
    np.testing.assert_allclose(iou, predict_iou(history[-1]), rtol=1e-6)
    assert (jnp.diff(ious, axis=0) > 0).all() and (predict_iou(moved) > iou).all()


def test_average_of_the_best_admissible_boxes():
    config = RefinementConfig(top_k=2)
    boxes = jnp.array([[0.0, 0, 10, 10], [2, 2, 12, 12], [50, 50, 10, 10], [0, 0, 100, 1]])
    iou = jnp.array([0.7, 0.9, 0.1, 0.99])  # the best is far too flat
    best, admissible = box_refinement.average_best(boxes, iou, jnp.zeros(4), config)
    assert bool(admissible)
    np.testing.assert_allclose(best, [1, 1, 11, 11])
    best, admissible = box_refinement.average_best(boxes[3:], iou[3:], jnp.arange(4.0), config)
    assert not bool(admissible)
    np.testing.assert_array_equal(best, jnp.arange(4.0))
