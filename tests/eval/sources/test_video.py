"""Reading and writing videos: what browsers can play, and every way a file can be wrong."""

import os
import sys

import cv2
import numpy as np
import pytest

from eval.sources import video
from eval.sources.synthetic import ClipConfig, clip
from eval.sources.video import VideoError, VideoWriter, draw_boxes, open_source, to_rgb
from tests.helpers.disk import small_disk
from trackers.base import FOUND, LOST

CONFIG = ClipConfig(height=64, width=96, num_frames=12, target_size=(14.0, 20.0))
FRAMES = [frame.image for frame in clip(CONFIG, 0)]


def write(path, frames=FRAMES, fps=25.0):
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = write(tmp_path / f"clip{suffix}", fps=30.0)
    source = open_source(path)
    assert source.fps == pytest.approx(30.0) and source.count == len(FRAMES)
    frames = list(source.frames)
    assert len(frames) == len(FRAMES)
    for frame, expected in zip(frames, FRAMES):
        assert frame.shape == expected.shape and frame.dtype == np.uint8
        # A swap of red and blue would cost far more than the compression does.
        assert np.abs(frame.astype(int) - expected).mean() < 10
        assert np.abs(frame.astype(int).mean((0, 1)) - expected.mean((0, 1))).max() < 5
    assert os.listdir(tmp_path) == [path.name]


def test_an_animated_picture_is_written(tmp_path):
    frames = [*FRAMES, FRAMES[-1]]  # the encoder shows equal frames as one, twice as long
    path = write(tmp_path / "clip.webp", frames, fps=20.0)
    read, animation = cv2.imreadanimation(str(path))
    assert read and list(animation.durations) == [50] * (len(FRAMES) - 1) + [100]
    for frame, expected in zip(animation.frames, FRAMES, strict=True):
        assert np.abs(frame[..., 2::-1].astype(int) - expected).mean() < 10
    assert os.listdir(tmp_path) == [path.name]


def test_the_written_file_is_for_everyone_the_umask_allows(tmp_path):
    path = write(tmp_path / "clip.webm", FRAMES[:2])
    (tmp_path / "other").write_text("")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("shape", [(63, 95), (1, 1), (37, 20)])
def test_odd_sizes_are_written(tmp_path, shape):
    frames = [np.full((*shape, 3), 40 * k, np.uint8) for k in range(4)]
    read = list(open_source(write(tmp_path / "odd.webm", frames)).frames)
    assert len(read) == 4
    assert all(frame.shape[:2] == (max(shape[0] // 2 * 2, 16), max(shape[1] // 2 * 2, 16)) for frame in read)


def test_a_size_that_changes_is_fitted_into_the_first(tmp_path):
    wide = np.full((40, 160, 3), 200, np.uint8)
    read = list(open_source(write(tmp_path / "mixed.webm", [FRAMES[0], wide, FRAMES[2]])).frames)
    assert [frame.shape for frame in read] == [(64, 96, 3)] * 3
    assert read[1][:22].mean() > 150 and read[1][28:].mean() < 40


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(VideoError, match=r"\.webm or \.mp4 or \.webp"):
        VideoWriter(tmp_path / "clip.avi")


def test_an_error_leaves_nothing_half_written(tmp_path):
    old = write(tmp_path / "clip.webm", FRAMES[:3]).read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "clip.webm") as writer:
        writer.write(FRAMES[0])
        raise RuntimeError
    assert os.listdir(tmp_path) == ["clip.webm"]
    assert (tmp_path / "clip.webm").read_bytes() == old
    with VideoWriter(tmp_path / "empty.webm"):
        assert (tmp_path / "empty.webm").exists() is False
    assert os.listdir(tmp_path) == ["clip.webm"]


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".webp"])
def test_a_full_disk(tmp_path, suffix):
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (160, 240, 3), np.uint8) for _ in range(20))
    with small_disk(tmp_path / "disk", kib=24) as disk:
        with pytest.raises(VideoError, match="the disk is full") as raised:
            write(disk / f"clip{suffix}", noise)
        assert "\n" not in str(raised.value)
        assert os.listdir(disk) == []


def test_a_missing_source():
    with pytest.raises(VideoError, match=r"nowhere\.mp4: no such file"):
        open_source("nowhere.mp4")


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"broken\.mp4: not a video"):
        open_source(path)


def test_a_truncated_video_gives_its_frames_and_names_the_first_missing_one(tmp_path):
    whole = write(tmp_path / "whole.webm", FRAMES).read_bytes()
    path = tmp_path / "cut.webm"
    path.write_bytes(whole[: len(whole) // 2])
    read = []
    with pytest.raises(VideoError) as raised:
        for frame in open_source(path).frames:
            read.append(frame)
    assert 0 < len(read) < len(FRAMES)
    message = str(raised.value)
    assert "cut.webm" in message and f"frame {len(read)} " in message and "\n" not in message


def test_a_truncated_mp4_has_no_index_and_is_refused(tmp_path):
    path = write(tmp_path / "cut.mp4", FRAMES)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        list(open_source(path).frames)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((8, 12, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    assert source.count == 3
    assert [int(frame[0, 0, 0]) for frame in source.frames] == [1, 2, 10]


def test_a_folder_of_mixed_images(tmp_path):
    color = np.zeros((8, 12, 3), np.uint8)
    color[..., 2] = 200  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "1.png"), color)
    cv2.imwrite(str(tmp_path / "2.png"), np.full((8, 12), 70, np.uint8))
    cv2.imwrite(str(tmp_path / "3.png"), np.concatenate([color, np.full((8, 12, 1), 9, np.uint8)], -1))
    frames = list(open_source(tmp_path).frames)
    assert [frame.shape for frame in frames] == [(8, 12, 3)] * 3
    assert [frame[0, 0].tolist() for frame in frames] == [[200, 0, 0], [70, 70, 70], [200, 0, 0]]


def test_a_corrupt_image_in_a_folder(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), FRAMES[0])
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    frames = open_source(tmp_path).frames
    assert next(frames).shape == FRAMES[0].shape
    with pytest.raises(VideoError, match=r"2\.png.*frame 1 of 2"):
        next(frames)


def test_an_empty_folder_and_a_missing_camera(tmp_path):
    with pytest.raises(VideoError, match="no images"):
        open_source(tmp_path)
    with pytest.raises(VideoError, match="camera 97"):
        open_source("97")


@pytest.mark.parametrize("image", [np.zeros((4, 6, 3), dtype) for dtype in (float, np.int32, bool)])
def test_pixels_that_are_not_uint8(image):
    with pytest.raises(VideoError, match="uint8"):
        to_rgb(image)


@pytest.mark.parametrize("shape", [(4,), (4, 6, 2), (4, 6, 5), (2, 4, 6, 3), (0, 6, 3)])
def test_shapes_that_are_no_image(shape):
    with pytest.raises(VideoError, match=r"\[H, W"):
        to_rgb(np.zeros(shape, np.uint8))


def test_gray_and_four_channels_become_rgb(rng):
    image = rng.integers(0, 256, (4, 6, 4), np.uint8)
    np.testing.assert_array_equal(to_rgb(image), image[..., :3])
    for gray in (image[..., 0], image[..., :1]):
        np.testing.assert_array_equal(to_rgb(gray), np.stack([image[..., 0]] * 3, -1))


def test_drawn_boxes_touch_the_pixels_of_their_edges_only():
    image = np.zeros((60, 80, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[10, 20, 30, 25], [np.nan] * 4]))
    assert image.max() == 0
    rows, columns = (np.flatnonzero(drawn.any((axis, 2))) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (20, 44, 10, 39)
    assert drawn[23:42, 13:37].max() == 0
    boxes = [[10, 20, 30, 25], [50, 20, 9, 9]]
    colored = draw_boxes(image, boxes, verdicts=[FOUND, LOST], labels=["1 0.93", ""])
    assert tuple(colored[30, 10]) == video.VERDICT_COLORS[FOUND]
    assert tuple(colored[24, 50]) == video.VERDICT_COLORS[LOST]
    assert colored[:19].any()
    far = draw_boxes(image, [[-50, -50, 1e9, 1e9]], verdicts=[FOUND], labels=["x" * 99])
    assert far.shape == image.shape


def test_a_window_needs_a_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a display")
    with pytest.raises(VideoError, match="display"):
        video.show(FRAMES[0])
    with pytest.raises(VideoError, match="display"):
        video.select_boxes(FRAMES[0])
