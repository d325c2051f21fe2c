"""Writing videos that browsers can play, whole or not at all."""

import os

import av
import cv2
import numpy as np
import pytest

from eval.sources.synthetic import ClipConfig, clip
from eval.sources.video import VideoError, open_source
from eval.sources.video_writer import VideoWriter
from tests.helpers.disk import small_disk

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


def test_files_are_what_browsers_play(tmp_path):
    for name, codec in (("clip.mp4", "h264"), ("clip.webm", "vp9")):
        with av.open(str(write(tmp_path / name, FRAMES[:3]))) as container:
            context = container.streams.video[0].codec_context
            assert (context.name, context.pix_fmt) == (codec, "yuv420p")
            assert (context.colorspace, context.color_range) == (6, 1)  # BT.601 of limited range
            assert len(container.streams) == 1 and container.duration == pytest.approx(0.12e6, abs=1e3)


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".webp"])
def test_flat_colors_keep_their_value(tmp_path, suffix):
    colors = [[250, 20, 20], [20, 250, 20], [20, 20, 250], [128, 128, 128], [255, 255, 255], [0, 0, 0]]
    images = [np.full((720, 64, 3), color, np.uint8) for color in colors]
    path = write(tmp_path / f"flat{suffix}", images)
    if suffix == ".webp":
        frames = [frame[..., 2::-1] for frame in cv2.imreadanimation(str(path))[1].frames]
    else:
        frames = list(open_source(path).frames)
    np.testing.assert_allclose([frame[300, 30] for frame in frames], colors, atol=4)


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".webp"])
def test_frames_are_shown_at_their_times(tmp_path, suffix):
    times = [5, 5.04, 5.1, 5.2, 5.2001, 6]  # seconds; the video starts with its first frame, and no two are at once
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path) as writer:
        for frame, seconds in zip(FRAMES, times):
            writer.write(frame, seconds)
    if suffix == ".webp":
        durations = list(cv2.imreadanimation(str(path))[1].durations)[:-1]
        np.testing.assert_allclose(np.cumsum([0, *durations]) / 1000, np.array(times) - 5, atol=0.0011)
        return
    source = open_source(path)
    assert len(list(source.frames)) == 6
    np.testing.assert_allclose(source.times, np.array(times) - 5, atol=0.0011)
