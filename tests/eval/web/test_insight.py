"""What a tracker saw, as it is kept and told: runs of which every slot and weight is known."""

import base64
import json
import time

import cv2
import numpy as np
import pytest

import trackers
from eval.web.insight import OVERHEAD, Insights, thumbnail
from trackers.base import FOUND, LOST, UNCERTAIN
from trackers.images import xywh_to_box

SLOTS, INITIAL = 6, 2
BOX = [20, 10, 8, 6]


def image(frame: int) -> np.ndarray:
    """Of one color, which tells the frame."""
    return np.full((40, 60, 3), (10 * frame % 250, 100, 200), np.uint8)


def extras(weights=None, slot: int = -1, **more) -> dict:
    """Of a tracker with a memory, if weights are given."""
    found = {
        "search": trackers.box(4, -6, 40, 40),
        "map": trackers.box(2, -8, 44, 44),
        "score_map": np.arange(9, dtype=np.float32).reshape(3, 3) / 8,
        **more,
    }
    if weights is not None:
        found |= {"memory_weights": np.float32(weights), "memory_slot": np.int32(slot)}
    return found


def add(insights: Insights, frame: int, found: dict, target: int = 1, verdict: int = FOUND):
    insights.add(target, frame, image(frame), np.array(BOX, float), found, 0.75, 0.5, verdict)


def color(entry: dict) -> np.ndarray:
    """Of the middle of an entry's thumbnail."""
    kind, data = entry["thumbnail"].split(",")
    assert kind == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.shape == (48, 48, 3)
    return decoded[24, 24].astype(int)


def frames_of(insights: Insights, frame: int, target: int = 1) -> list[tuple[int, float]]:
    found = insights.of(target, frame)["memory"]
    for entry in found:
        assert np.abs(color(entry) - image(entry["frame"])[0, 0]).max() < 8
    return [(entry["frame"], entry["weight"]) for entry in found]


def test_what_is_told_of_a_frame():
    proposals = {
        "proposals": xywh_to_box(np.array([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 1, 1]])),
        "proposal_ious": np.float32([0.5, 0.25, np.nan]),
    }
    insights = Insights()
    insights.add_start(1, 3, image(3), BOX)
    add(insights, 4, extras([0.5, 0.5, 0, 0, 0, 0], **proposals), verdict=UNCERTAIN)
    found = insights.of(1, 4)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["search"] == [4, -6, 40, 40] and found["map"] == [2, -8, 44, 44] and found["box"] == BOX
    assert found["score_map"] == [[0, 0.125, 0.25], [0.375, 0.5, 0.625], [0.75, 0.875, 1]]
    assert found["proposals"] == [[1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.25]]  # and not the one that is not finite
    assert (found["score"], found["confidence"], found["verdict"]) == (0.75, 0.5, "uncertain")


def test_where_a_run_starts_its_frame_is_all_that_is_known():
    insights = Insights()
    insights.add_start(1, 3, image(3), BOX)
    found = insights.of(1, 3)
    json.dumps(found, allow_nan=False)
    assert frames_of(insights, 3) == [(3, 1)]
    assert found["search"] is found["score_map"] is found["score"] is None and found["proposals"] == []
    assert found["box"] == BOX and (found["confidence"], found["verdict"]) == (1, "found")
    assert insights.of(1, 4) is None and insights.of(2, 3) is None


def test_a_tracker_that_says_nothing_has_a_box_alone():
    insights = Insights()
    insights.add_start(1, 0, image(0), BOX)
    add(insights, 1, {})
    found = insights.of(1, 1)
    assert found["box"] == BOX and found["search"] is None and found["memory"] == found["proposals"] == []
    add(insights, 2, extras())  # a Siamese tracker has no memory
    assert insights.of(1, 2)["memory"] == [] and insights.of(1, 2)["score_map"]
    add(insights, 3, extras(score_map=np.float32([[np.nan, 1], [np.inf, 1e9]])))
    assert insights.of(1, 3)["score_map"] == [[0, 1], [0, 0]]


@pytest.mark.parametrize("step", [1, -1])
def test_the_memory_is_that_of_the_slots_written_since_the_start(step):
    insights, start = Insights(), 10
    insights.add_start(1, start, image(start), BOX)
    for at, (weights, slot) in enumerate(
        [
            ([0.4, 0.4, 0.2, 0, 0, 0], 2),
            ([0.4, 0.4, 0.2, 0, 0, 0], -1),  # lost: nothing is written
            ([0.3, 0.3, 0.1, 0.3, 0, 0], 3),
            ([0.25, 0.25, 0.25, 0.25, 0, 0], 2),  # once more into the same slot
            ([0, 0.25, 0.25, 0.5, 0, 0], -1),
        ],
        1,
    ):
        add(insights, start + step * at, extras(weights, slot), verdict=LOST if slot < 0 else FOUND)
    first, third, fourth = start + step, start + 3 * step, start + 4 * step
    known = [frames_of(insights, start + step * at) for at in range(1, 6)]
    assert [[frame for frame, _ in one] for one in known] == [
        [start, first],
        [start, first],
        [start, first, third],
        [start, third, fourth],
        [start, third, fourth],
    ]
    np.testing.assert_allclose([weight for _, weight in known[0]], [0.8, 0.2], atol=1e-3)  # both copies together
    np.testing.assert_allclose([weight for _, weight in known[2]], [0.6, 0.1, 0.3], atol=1e-3)
    np.testing.assert_allclose([weight for _, weight in known[4]], [0.25, 0.5, 0.25], atol=1e-3)


def test_the_last_run_through_a_frame_counts_and_leaves_the_others_whole():
    insights = Insights()
    insights.add_start(1, 0, image(0), BOX)
    for frame, slot in ((1, 2), (2, 3), (3, 4), (4, 5)):
        add(insights, frame, extras([0.1] * (slot + 1) + [0] * (5 - slot), slot))
    insights.add_start(1, 5, image(5), BOX)  # back from another key frame
    for frame, slot in ((4, 2), (3, 3)):
        add(insights, frame, extras([0.1] * (slot + 1) + [0] * (5 - slot), slot))
    assert [frame for frame, _ in frames_of(insights, 3)] == [5, 4, 3]
    assert [frame for frame, _ in frames_of(insights, 4)] == [5, 4]
    assert [frame for frame, _ in frames_of(insights, 2)] == [0, 1, 2]
    insights.add_start(1, 2, image(2), BOX)
    add(insights, 3, extras([0.5, 0.5, 0, 0, 0, 0]))
    assert [frame for frame, _ in frames_of(insights, 3)] == [2]
    assert [frame for frame, _ in frames_of(insights, 4)] == [5, 4]


def test_targets_are_kept_apart():
    insights = Insights()
    for target, start in ((1, 0), (2, 1)):
        insights.add_start(target, start, image(start), BOX)
    for frame in (2, 3, 4):
        for target in (1, 2):
            add(insights, frame, extras([0.5, 0.5, 0.1, 0, 0, 0], 2), target)
    assert [frame for frame, _ in frames_of(insights, 4, 1)] == [0, 4]
    assert [frame for frame, _ in frames_of(insights, 4, 2)] == [1, 4]


def test_what_is_given_may_change_afterwards():
    """The host's arrays are parts of all targets', and may be written again."""
    given = extras([0.5, 0.5, 0, 0, 0, 0])
    insights = Insights()
    insights.add_start(1, 0, image(0), BOX)
    add(insights, 1, given)
    given["score_map"][:] = 9
    given["memory_weights"][:] = 9
    assert insights.of(1, 1)["score_map"][0] == [0, 0.125, 0.25] and frames_of(insights, 1) == [(0, 1.0)]


def test_the_oldest_are_dropped_when_there_are_too_many():
    insights = Insights(limit=40 * OVERHEAD)
    insights.add_start(1, 0, image(0), BOX)
    for frame in range(1, 200):
        add(insights, frame, extras([0.1] * SLOTS, frame % SLOTS))
    kept = [frame for frame in range(200) if insights.of(1, frame)]
    assert kept == list(range(kept[0], 200)) and 10 < len(kept) < 40
    assert [frame for frame, _ in frames_of(insights, kept[0])] == list(range(kept[0] - SLOTS + 1, kept[0] + 1))
    for frame in range(199, -1, -1):  # the same frames again take the place of what is there
        add(insights, frame, extras([0.1] * SLOTS, frame % SLOTS))
    kept = [frame for frame in range(200) if insights.of(1, frame)]
    assert kept == list(range(len(kept))) and 10 < len(kept) < 40
    assert insights._bytes == sum(one.size for one in insights._known.values())


def test_frames_without_a_start_are_an_error():
    with pytest.raises(KeyError):
        add(Insights(), 1, extras([1.0]))


BOXES = [[100, 60, 30, 20], [-40, -40, 30, 30], [0, 0, 640, 480], [639, 479, 1, 1], [9, 9, 0, 0]]


@pytest.mark.parametrize("box", BOXES)
def test_a_thumbnail_shows_the_middle_whatever_the_box(box):
    picture = np.zeros((480, 640, 3), np.uint8)
    x, y = (min(max(round(low + side / 2), 0), last) for low, side, last in zip(box[:2], box[2:], (639, 479)))
    near = 1 + max(box[2], box[3]) // 4
    picture[max(y - near, 0) : y + near + 1, max(x - near, 0) : x + near + 1] = (250, 30, 90)
    decoded = cv2.imdecode(np.frombuffer(thumbnail(picture, box), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.shape == (48, 48, 3)
    assert np.abs(decoded[24, 24].astype(int) - (250, 30, 90)).max() < 25


def test_a_thumbnail_shows_twice_the_target():
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[80:120, 100:140] = 255
    decoded = cv2.imdecode(np.frombuffer(thumbnail(picture, [100, 80, 40, 40]), np.uint8), cv2.IMREAD_GRAYSCALE)
    bright = np.argwhere(decoded > 128)
    np.testing.assert_allclose([*bright.min(0), *bright.max(0)], [12, 12, 35, 35], atol=1)


def test_it_costs_well_under_a_millisecond_a_frame():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (1080, 1920, 3), np.uint8)
    found = extras([1 / 250] * 250, 7, score_map=rng.normal(size=(19, 19)).astype(np.float32))
    found |= {"proposals": xywh_to_box(rng.uniform(1, 9, (10, 4))), "proposal_ious": np.ones(10, np.float32)}
    insights = Insights()
    insights.add_start(1, 0, picture, [700, 300, 400, 380])
    seconds = []
    for frame in range(1, 40):
        begun = time.thread_time()  # whatever else the machine does
        insights.add(1, frame, picture, np.array([700, 300, 400, 380.0]), found, 0.5, 0.5, FOUND)
        seconds.append(time.thread_time() - begun)
    assert np.median(seconds) < 1e-3
