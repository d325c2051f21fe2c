"""Reading videos as phones, cameras and browsers write them, and every way a file can be wrong."""

import sys
import threading
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from eval.sources import video
from eval.sources.synthetic import ClipConfig, clip
from eval.sources.video import VideoError, draw_boxes, open_source, to_rgb
from eval.sources.video_writer import VideoWriter
from tests.helpers import containers
from trackers.base import FOUND, LOST

CONFIG = ClipConfig(height=64, width=96, num_frames=12, target_size=(14.0, 20.0))
FRAMES = [frame.image for frame in clip(CONFIG, 0)]


UNEVEN = [0, 33, 67, 100, 133, 167, 233, 300, 367, 433, 500, 567]  # milliseconds


def write(path, frames=FRAMES, times=None):
    with VideoWriter(path, 25.0) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, times[index] / 1000 if times else None)
    return path


def numbered(count):
    """Frames that tell their number by their brightness."""
    return [np.full((48, 64, 3), 8 * number, np.uint8) for number in range(count)]


def numbers(source):
    return [round(float(frame.mean()) / 8) for frame in source.frames]


def test_times_are_those_of_the_frames_whatever_the_file_states(tmp_path):
    source = open_source(write(tmp_path / "even.mp4"))
    assert (source.fps, source.count, len(list(source.frames))) == (25, 12, 12)
    np.testing.assert_allclose(source.times, np.arange(12) / 25)
    recorded = write(tmp_path / "recorded.webm", times=[1000 * t / 30 for t in range(12)])
    containers.without(recorded, containers.DURATION, containers.DEFAULT_DURATION)  # as browsers record
    source = open_source(recorded)
    assert source.fps == pytest.approx(30, abs=1) and source.count is None and len(list(source.frames)) == 12
    np.testing.assert_allclose(source.times, np.arange(12) / 30, atol=0.001)


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_a_variable_rate_is_no_damage(tmp_path, suffix):
    path = write(tmp_path / f"variable{suffix}", times=UNEVEN)
    if suffix == ".webm":
        containers.without(path, containers.DEFAULT_DURATION)
    source = open_source(path)
    assert len(list(source.frames)) == 12
    np.testing.assert_allclose(source.times, np.array(UNEVEN) / 1000, atol=0.001)


def test_a_trimmed_video_starts_with_the_first_frame_shown(tmp_path):
    path = containers.trimmed(write(tmp_path / "trimmed.mp4", numbered(30)), first=9 / 25, seconds=12 / 25)
    source = open_source(path)
    assert numbers(source) == list(range(9, 21)) and source.count == 12
    np.testing.assert_allclose(source.times, np.arange(12) / 25)


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_a_video_is_turned_as_its_header_says(tmp_path, matrix):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16] = 250  # up and left
    (frame,) = open_source(containers.turned(write(tmp_path / "turned.mp4", [image]), matrix)).frames
    a, b, c, d = matrix
    corner = np.array([a + c, b + d]) * -1  # where the corner -1, -1 is shown
    assert frame.shape[:2] == ((48, 64) if a else (64, 48)) and frame.flags.c_contiguous
    y, x = (0 if side < 0 else -1 for side in corner[::-1])
    assert frame[y, x].min() > 200 and frame[-1 - y, -1 - x].max() < 50


@pytest.mark.parametrize(
    ("matrix", "full"), [("untagged", 0), ("ITU601", 0), ("ITU709", 0), ("ITU709", 1), ("ITU601", 1)]
)
def test_colors_are_those_of_the_tags(tmp_path, matrix, full):
    colors = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [128, 128, 128]], np.uint8)
    image = np.repeat(np.repeat(colors[None], 16, 0), 16, 1)
    path = tmp_path / "tagged.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.height, stream.width, stream.pix_fmt = 16, 64, "yuv444p"
        frame = av.VideoFrame.from_ndarray(image)
        target = {"dst_colorspace": matrix.replace("untagged", "ITU601"), "dst_color_range": "JPEG" if full else "MPEG"}
        frame = frame.reformat(format="yuv444p", **target)
        context = stream.codec_context
        context.colorspace = {"untagged": 2, "ITU601": 6, "ITU709": 1}[matrix]
        context.color_range = frame.color_range
        frame.colorspace = context.colorspace
        container.mux([*stream.encode(frame), *stream.encode()])
    (read,) = open_source(path).frames
    np.testing.assert_allclose(read.astype(int), image, atol=4)


def test_a_name_may_have_a_colon(tmp_path, monkeypatch):
    write(tmp_path / "12:30:05.webm", FRAMES[:3])
    monkeypatch.chdir(tmp_path)
    source = open_source("12:30:05.webm")
    assert source.name == "12:30:05.webm" and len(list(source.frames)) == 3


def test_an_address_is_read_and_its_password_is_not_told(tmp_path):
    write(tmp_path / "clip.webm")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), partial(Handler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"localhost:{server.server_port}/clip.webm"
    try:
        source = open_source(f"http://me:secret@{address}")
        assert source.name == f"http://{address}" and len(list(source.frames)) == 12
        with pytest.raises(VideoError, match=r"none\.webm: not a video .*404") as raised:
            open_source(f"http://me:secret@{address.replace('clip', 'none')}")
        assert "secret" not in str(raised.value)
    finally:
        server.shutdown()
        server.server_close()


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
    path.write_bytes(whole[: len(whole) * 6 // 10])
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


def test_a_damaged_packet_is_left_out_and_told_at_the_end(tmp_path):
    path = write(tmp_path / "damaged.mp4", numbered(30))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    broken = packets[15]
    data[broken.pos : broken.pos + broken.size] = b"\xff" * broken.size
    path.write_bytes(data)
    read = []
    with pytest.raises(VideoError, match=r"damaged\.mp4: damaged at \d\.\d\d s .*\(\d\d frames were read\)"):
        for frame in open_source(path).frames:
            read.append(round(float(frame.mean()) / 8))
    assert 15 < len(read) < 30 and read[-1] == 29


def test_a_sound_that_is_longer_than_the_video_is_no_damage(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream, sound = container.add_stream("ffv1", 25), container.add_stream("pcm_s16le", 8000)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(FRAMES[index][:48, :64])
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
        samples.sample_rate, samples.pts = 8000, 0
        container.mux([*stream.encode(), *sound.encode(samples), *sound.encode()])
    assert len(list(open_source(path).frames)) == 5


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


def test_photographs_are_upright(tmp_path):
    image = np.zeros((24, 32, 3), np.uint8)
    image[:8, :8] = 250
    for orientation in range(1, 9):
        containers.photograph(tmp_path / f"{orientation}.jpg", image, orientation)
    frames = list(open_source(tmp_path).frames)
    assert [frame.shape[:2] for frame in frames] == [(24, 32)] * 4 + [(32, 24)] * 4
    # EXIF: 6 is turned clockwise, 8 counterclockwise, 2, 4, 5 and 7 are mirrored.
    corners = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0), (0, -1), (-1, -1), (-1, 0)]
    for frame, corner in zip(frames, corners, strict=True):
        assert frame[corner].min() > 200 and frame.mean() < 50


def test_an_empty_folder_and_a_missing_camera(tmp_path, capfd):
    with pytest.raises(VideoError, match="no images"):
        open_source(tmp_path)
    with pytest.raises(VideoError, match="camera 97"):
        open_source("97")
    assert capfd.readouterr().err == ""  # OpenCV would fill ten lines


def test_a_camera_tells_when_its_frames_came(monkeypatch):
    class Camera:
        left = 3
        get, isOpened, release = staticmethod(lambda _: 0.0), staticmethod(lambda: True), staticmethod(lambda: None)

        def read(self):
            self.left -= 1
            return self.left >= 0, FRAMES[0]

    monkeypatch.setattr(cv2, "VideoCapture", lambda index: Camera())
    monkeypatch.setattr(video, "time", SimpleNamespace(perf_counter=iter([5.0, 5.5, 7.0]).__next__))
    source = open_source(0)
    assert len(list(source.frames)) == 3 and source.times == [0, 0.5, 2] and source.fps == video.DEFAULT_FPS


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
