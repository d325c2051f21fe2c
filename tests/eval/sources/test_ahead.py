"""Canvases, reading ahead, and compiling once per canvas."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trackers
from eval.running.compilation import CompiledPerCanvas
from eval.sources.ahead import newest, read_ahead
from ops.boxes import Box, from_xywh, to_xywh
from trackers.base import Frame
from trackers.images import canvas_size, xywh_to_box


@settings(deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000))
def test_canvas_holds_the_image_and_its_sizes_are_few(height, width):
    canvas = canvas_size(height, width)
    assert canvas[0] >= height and canvas[1] >= width
    assert all(side % 256 == 0 for side in canvas)
    assert canvas_size(*canvas) == canvas


def test_small_videos_share_one_canvas():
    assert {canvas_size(*size) for size in ((288, 352), (360, 480), (480, 360), (512, 257))} == {(512, 512)}


def test_image_lies_in_the_upper_left_corner(rng):
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    frame = trackers.frame(image)
    np.testing.assert_array_equal(frame.image[:5, :7], image)
    assert frame.image.dtype == np.uint8 and frame.image.sum() == image.sum()
    assert frame.extent.tolist() == [5, 7] and frame.extent.dtype == np.int32
    assert trackers.frame(image, (5, 8)).image.shape == (5, 8, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"not \[4, 4\] uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"not \[4, 4, 4\] uint8"),
        (np.zeros((4, 4, 3), np.float32), r"float32"),
    ],
)
def test_what_is_no_rgb_frame_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        trackers.frame(image)
    with pytest.raises(ValueError, match="does not fit a canvas of 4x3"):
        trackers.frame(np.zeros((4, 4, 3), np.uint8), (4, 3))


def test_host_boxes_agree_with_the_device_boxes(rng):
    xywh = rng.uniform(1, 50, (6, 4)).astype(np.float32)
    host = xywh_to_box(xywh)
    device = from_xywh(jnp.asarray(xywh))
    np.testing.assert_allclose(host.center, device.center, rtol=1e-6)
    np.testing.assert_array_equal(host.size, device.size)
    assert host.center.dtype == np.float32
    np.testing.assert_allclose(trackers.xywh(host), to_xywh(device), rtol=1e-5)
    np.testing.assert_allclose(trackers.xywh(Box(host.center[0], host.size[0])), xywh[0], rtol=1e-5)


def test_newest_drops_what_came_meanwhile_and_never_the_last():
    taken, made = threading.Event(), threading.Event()

    def items():
        yield 0
        taken.wait(10)
        yield from range(1, 6)
        made.set()

    reader = newest(items())
    assert next(reader) == 0
    taken.set()
    assert made.wait(10)
    assert list(reader) == [5]


def test_newest_ends_empty_raises_in_place_and_stops_its_thread():
    assert list(newest([])) == []

    def items():
        yield 1
        raise OSError("unplugged")

    reader, seen = newest(items()), []
    with pytest.raises(OSError, match="unplugged"):
        seen.extend(reader)
    assert seen == [1]
    before = threading.active_count()
    made = []
    reader = newest(made.append(index) or index for index in iter(int, 1) if not time.sleep(0.001))
    next(reader)
    reader.close()
    _wait_for(lambda: threading.active_count() <= before)
    assert made


def test_read_ahead_keeps_order_and_runs_ahead():
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    reader = read_ahead(items(), depth=3)
    assert next(reader) == 0
    _wait_for(lambda: len(made) >= 4)
    assert len(made) <= 5  # one handed over, three queued, one in hand
    assert list(reader) == list(range(1, 10))


def test_read_ahead_raises_in_place():
    def items():
        yield 1
        raise KeyError("frame 2")

    reader = read_ahead(items())
    assert next(reader) == 1
    with pytest.raises(KeyError, match="frame 2"):
        next(reader)


def test_closing_the_reader_ends_its_thread():
    before = threading.active_count()
    reader = read_ahead(iter(range(1000)), depth=2)
    next(reader)
    reader.close()
    _wait_for(lambda: threading.active_count() <= before)


def _wait_for(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen in five seconds")


def test_one_compilation_per_canvas():
    traces = []

    def mean(frame: Frame):
        traces.append(frame.image.shape)
        return frame.image.astype(jnp.float32).mean()

    compiled = CompiledPerCanvas(mean)
    for side in (4, 4, 6, 4, 6):
        frame = Frame(np.full((side, side, 3), side, np.uint8), np.array([side, side], np.int32))
        assert compiled.prepare(frame)(jax.device_put(frame)) == side
    assert traces == [(4, 4, 3), (6, 6, 3)]
    assert compiled.compile_seconds > 0


def test_threads_wait_for_one_compilation():
    traces = []

    def total(frame: Frame):
        traces.append(1)
        return frame.image.sum()

    compiled = CompiledPerCanvas(total)
    frame = Frame(np.ones((4, 4, 3), np.uint8), np.array([4, 4], np.int32))
    workers = [threading.Thread(target=compiled.prepare, args=(frame,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(traces) == 1
