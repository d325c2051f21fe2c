"""to_supervision: what supervision itself makes of it."""

import jax
import numpy as np
import pytest

import trackers
from eval.sources.video import Source
from eval.targets import Run, Target, Tracked, follow
from eval.toolkits.supervision import to_supervision
from tests.helpers import bright_spot
from tests.helpers.bright_spot import PARAMS, spots
from trackers.base import FOUND, LOST, UNCERTAIN, many

pytestmark = pytest.mark.full
TRACKER = bright_spot.make(150.0)


@pytest.fixture(autouse=True)
def supervision():
    return pytest.importorskip("supervision", reason="not installed: pip install -e '.[supervision]'")


def test_the_estimate_of_one_target_and_of_several(supervision):
    frames = [trackers.frame(image) for image in spots(2)]
    state = TRACKER.init(PARAMS, jax.random.key(0), frames[0], trackers.box(5, 10, 9, 9))
    _, estimate = TRACKER.track(PARAMS, state, frames[1])
    found = to_supervision(estimate)
    assert isinstance(found, supervision.Detections)
    np.testing.assert_allclose(found.xyxy, [[8, 11, 17, 20]], atol=1e-3)
    assert found.tracker_id.tolist() == [1] and found.class_id.tolist() == [0]
    np.testing.assert_allclose(found.confidence, [0.9])
    several = many(TRACKER, 2)
    boxes = jax.tree.map(lambda a, b: np.stack([a, b]), trackers.box(5, 10, 9, 9), trackers.box(7, 12, 5, 5))
    states = several.init(PARAMS, jax.random.split(jax.random.key(0)), frames[0], boxes)
    _, estimate = several.track(PARAMS, states._replace(active=np.array([False, True])), frames[1])
    found = to_supervision(estimate, ["car", "dog"])
    np.testing.assert_allclose(found.xyxy, [[10, 13, 15, 18]], atol=1e-3)
    assert found.tracker_id.tolist() == [2] and found["class_name"].tolist() == ["dog"]


def test_lost_targets_and_those_not_started_are_left_out():
    boxes = np.array([[1.0, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8]])
    found = to_supervision(
        Tracked(boxes, np.zeros(3), np.array([0.1, 0, 0.5]), np.array([LOST, FOUND, UNCERTAIN]), 0.0), ["a", "b", "c"]
    )
    assert found.tracker_id.tolist() == [3] and found["verdict"].tolist() == ["uncertain"]
    none = to_supervision(Tracked(boxes[:1], np.zeros(1), np.zeros(1), np.array([LOST]), 0.0))
    assert len(none) == 0 and none.xyxy.shape == (0, 4)


@pytest.mark.parametrize("step", [1, -1])
def test_a_run_in_its_annotators_and_zones(supervision, step):
    images = spots(8)
    run = Run(0 if step > 0 else 7, step)
    chosen = [Target("car", {run.first: [5 + 3 * run.first, 10 + run.first, 9, 9]})]
    chosen += [Target("dog", {run.first + 4 * step: [20, 15, 3, 3]})]
    follow(run, TRACKER, PARAMS, Source("drawn", iter(images[::step]), 25.0, 8), chosen)
    found = to_supervision(run)
    assert [len(one) for one in found] == [1, 1, 1, 1, 2, 2, 2, 2][::step]
    zone = supervision.PolygonZone(np.array([[15, 0], [63, 0], [63, 47], [15, 47]]))
    inside = [int(zone.trigger(one).sum()) for one in found]
    assert inside[0] == 0 and inside[-1] >= 1
    trace = supervision.TraceAnnotator()
    for image, one in zip(images, found):
        drawn = supervision.BoxAnnotator().annotate(image.copy(), one)
        drawn = supervision.LabelAnnotator(text_scale=0.3).annotate(drawn, one, labels=list(one["class_name"]))
        drawn = trace.annotate(drawn, one)
        assert (drawn != image).any()
    if hasattr(supervision, "ByteTrack"):  # newer versions leave it to another package
        byte_track = supervision.ByteTrack(minimum_consecutive_frames=1)
        followed = [byte_track.update_with_detections(one) for one in found]
        assert {int(number) for one in followed for number in one.tracker_id}
