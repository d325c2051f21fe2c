"""The stateful wrapper: what it returns, what it refuses, and that it compiles once per canvas."""

import jax
import numpy as np
import pytest

from eval.online import OnlineTracker, check_box, follow, load_online
from tests.helpers import bright_spot, trivial_tracker
from tests.helpers.bright_spot import frame_with_spot
from trackers.base import FOUND, LOST


@pytest.fixture
def online():
    return OnlineTracker(bright_spot.make(), bright_spot.PARAMS)


def test_it_follows_loses_and_finds_again(online):
    online.init(frame_with_spot(40, 60, 10, 12), (10, 12, 5, 5))
    assert (online.box, online.verdict) == ((10, 12, 5, 5), FOUND)
    ok, box = online.update(frame_with_spot(40, 60, 14, 20))
    assert ok and box == pytest.approx((14, 20, 5, 5))
    assert (online.confidence, online.verdict) == (pytest.approx(0.9), FOUND)
    ok, box = online.update(np.zeros((40, 60, 3), np.uint8))
    assert not ok and box == pytest.approx((14, 20, 5, 5))
    assert (online.confidence, online.verdict) == (0.0, LOST)
    ok, box = online.update(frame_with_spot(40, 60, 30, 5))
    assert ok and box == pytest.approx((30, 5, 5, 5))


def test_it_can_be_initialized_again_at_any_time(online):
    online.init(frame_with_spot(40, 60, 10, 12), (10, 12, 5, 5))
    online.update(frame_with_spot(40, 60, 11, 12))
    online.init(frame_with_spot(40, 60, 20, 20), (20, 20, 9, 7))
    assert online.update(frame_with_spot(40, 60, 22, 20))[1] == pytest.approx((20, 19, 9, 7))


def test_update_needs_init(online):
    with pytest.raises(RuntimeError, match="update before init"):
        online.update(frame_with_spot(40, 60, 10, 12))


def test_warm_up_compiles_everything(online):
    online.warm_up(40, 60)
    spent = online.compile_seconds
    assert spent > 0
    online.init(frame_with_spot(40, 60, 10, 12), (10, 12, 5, 5))
    online.update(frame_with_spot(40, 60, 11, 12))
    online.update(frame_with_spot(90, 70, 11, 12))
    assert online.compile_seconds == spent
    online.update(frame_with_spot(300, 70, 11, 200))
    assert online.compile_seconds > spent


def test_frames_may_change_size(online):
    online.init(frame_with_spot(40, 60, 10, 12), (10, 12, 5, 5))
    for height, width, x, y in [(40, 60, 50, 30), (30, 300, 290, 20), (270, 20, 10, 260), (40, 60, 1, 2)]:
        ok, box = online.update(frame_with_spot(height, width, x, y))
        assert ok and box == pytest.approx((x, y, 5, 5))


def test_one_canvas_for_all_sizes_up_to_max_size():
    online = OnlineTracker(bright_spot.make(), bright_spot.PARAMS, max_size=(300, 300))
    online.init(frame_with_spot(40, 60, 10, 12), (10, 12, 5, 5))
    online.update(frame_with_spot(40, 60, 10, 12))
    spent = online.compile_seconds
    assert online.update(frame_with_spot(300, 280, 200, 290))[1] == pytest.approx((200, 290, 5, 5))
    assert online.compile_seconds == spent
    assert online.update(frame_with_spot(600, 20, 10, 590))[1] == pytest.approx((10, 590, 5, 5))
    assert online.compile_seconds > spent


def test_gray_and_four_channel_images_are_converted(online):
    image = frame_with_spot(40, 60, 10, 12)
    online.init(image[..., 0], (10, 12, 5, 5))
    for converted in (image[..., 0], image[..., :1], np.concatenate([image, image[..., :1]], -1)):
        assert online.update(converted)[1] == pytest.approx((10, 12, 5, 5))


@pytest.mark.parametrize("image", [np.zeros((4, 6, 3)), np.zeros((4, 6, 2), np.uint8), np.zeros(9, np.uint8)])
def test_images_it_refuses_change_nothing(online, image):
    with pytest.raises(ValueError):
        online.init(image, (1, 1, 5, 5))
    online.init(frame_with_spot(40, 60, 10, 12), (10, 12, 5, 5))
    with pytest.raises(ValueError):
        online.update(image)
    assert online.update(frame_with_spot(40, 60, 11, 12))[0]


BAD_BOXES = {
    "is empty": [(1, 1, 0, 5), (1, 1, 5, 0), (1, 1, -3, 5)],
    "outside": [(60, 1, 5, 5), (1, 40, 5, 5), (-5, 1, 5, 5), (1, -9, 5, 5)],
    "finite": [(np.nan, 1, 5, 5), (1, 1, np.inf, 5)],
    "four numbers": [(1, 1, 5), (1, 1, 5, 5, 5), "1,1,5,5", None, [[1, 1, 5, 5]]],
}


@pytest.mark.parametrize(("reason", "box"), [(why, box) for why, boxes in BAD_BOXES.items() for box in boxes])
def test_boxes_it_refuses_in_one_line(online, reason, box):
    with pytest.raises(ValueError, match=reason) as raised:
        online.init(frame_with_spot(40, 60, 10, 12), box)
    assert "\n" not in str(raised.value)
    assert online.box is None


def test_a_box_partly_outside_is_accepted():
    np.testing.assert_array_equal(check_box((-4, -4, 5, 5), 40, 60), [-4, -4, 5, 5])
    np.testing.assert_array_equal(check_box((59.5, 39.5, 50, 50), 40, 60), [59.5, 39.5, 50, 50])


def test_the_loop_makes_no_implicit_transfer(online):
    online.warm_up(40, 60)
    with jax.transfer_guard("disallow"):
        for x in (10, 20):
            online.init(frame_with_spot(40, 60, x, 12), (x, 12, 5, 5))
            for step in range(3):
                online.update(frame_with_spot(40, 60, x + step, 12))
    assert online.box == pytest.approx((22, 12, 5, 5))


def test_the_first_image_may_be_of_another_canvas_than_the_warm_up(online):
    online.warm_up(40, 60)
    online.init(frame_with_spot(270, 60, 10, 12), (10, 12, 5, 5))
    assert online.update(frame_with_spot(40, 60, 12, 12))[1] == pytest.approx((12, 12, 5, 5))


def test_a_loop_with_a_callback_follows_until_the_images_or_the_callback_end(online):
    places = [(10, 12), (14, 20), (18, 22), (22, 24)]
    images = [frame_with_spot(40, 60, *place) for place in places]
    seen = []
    follow(online, iter(images), (10, 12, 5, 5), lambda image, ok, box: seen.append((image, ok, box)))
    assert len(seen) == 3 and all(image is given for (image, _, _), given in zip(seen, images[1:], strict=True))
    assert [ok for _, ok, _ in seen] == [True] * 3
    assert [box[:2] for _, _, box in seen] == [pytest.approx(place) for place in places[1:]]
    seen.clear()
    follow(online, images, (10, 12, 5, 5), lambda image, ok, box: seen.append(box) or len(seen) == 2)
    assert len(seen) == 2
    with pytest.raises(ValueError, match="no image came"):
        follow(online, [], (10, 12, 5, 5), lambda *_: None)


def test_the_callback_may_change_the_target(online):
    def on_frame(image, ok, box):
        if box[0] == pytest.approx(14):
            online.init(image, (14, 20, 9, 7))

    follow(online, [frame_with_spot(40, 60, x, 20) for x in (10, 14, 18)], (10, 20, 5, 5), on_frame)
    assert online.box == pytest.approx((16, 19, 9, 7))  # the spot of 5 x 5 in the middle


def test_a_key_makes_a_start_independent_of_those_before():
    def boxes(before):
        online = OnlineTracker(trivial_tracker.make(trivial_tracker.Config(jitter=3.0)), trivial_tracker.params())
        image = frame_with_spot(40, 60, 10, 12)
        for _ in range(before):
            online.init(image, (10, 12, 5, 5))
        online.init(image, (10, 12, 5, 5), key=jax.random.key(7))
        return online.update(image)[1]

    assert boxes(0) == boxes(2) != pytest.approx((10, 12, 5, 5))


def test_a_tracker_by_name():
    assert isinstance(load_online("dimp_tiny", None, ["region.search_area_scale=4.5"]), OnlineTracker)
    with pytest.raises(ValueError, match="no field 'search'"):
        load_online("dimp_tiny", None, ["search=4.5"])
    with pytest.raises(ValueError, match="nobody"):
        load_online("nobody", None, [])
