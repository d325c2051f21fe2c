"""Videos in, and what is drawn on them: the only file that opens a video, a camera or a window.

Frames are `[H, W, 3]` uint8 RGB everywhere outside; OpenCV's BGR does not leave this file.

Video files and addresses are read by FFmpeg's libraries (PyAV): what a player would show, frame by frame, turned as the
file says, at the times that it says. Colors become RGB by the matrix and the range that the video is tagged with, as
BT.601 of limited range where it has no tags; high dynamic range is not mapped to a screen's. Cameras, images in folders
and windows are OpenCV's.
"""

import colorsys
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from eval.sources.sequences import SequenceError, list_images, read_image
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN

if TYPE_CHECKING:  # importing PyAV takes a tenth of a second, which commands that read no video file need not spend
    import av

DEFAULT_FPS = 25.0
TIMEOUT = 20.0  # seconds that an address may be silent
VERDICT_COLORS = {
    FOUND: (60, 220, 90),
    UNCERTAIN: (250, 210, 40),
    HARD_NEGATIVE: (255, 130, 20),
    LOST: (235, 50, 50),
}
VERDICT_NAMES = {FOUND: "found", UNCERTAIN: "uncertain", HARD_NEGATIVE: "distractor", LOST: "lost"}


class VideoError(ValueError):
    """A video cannot be read or written; the message is one line with the file and the fix."""


class Source(NamedTuple):
    """A video being read; only the current frame is in memory."""

    name: str
    frames: Iterator[np.ndarray]  # [H, W, 3] uint8 RGB; raises VideoError; close() releases the source
    fps: float  # as the source states it, DEFAULT_FPS where it does not: where `times` is empty, frames are 1/fps apart
    count: int | None  # number of frames by what the source states, to show progress; None where it does not
    times: Sequence[float] = ()  # of each frame read so far, seconds from the first; empty where the source has none


def silence_opencv() -> None:
    """Stop OpenCV from printing to stderr: for programs, whose messages name file and frame."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def open_source(source: str | Path | int) -> Source:
    """A video file, a folder of images in the order of their numbers, a camera (a number) or an address (rtsp://...).

    Images are turned upright as their EXIF orientation says. Frames may differ in size. VideoError at once if there is
    nothing to read, and while iterating, after the last readable frame, if a file is damaged or cut short.
    """
    if isinstance(source, int) or (str(source).isdecimal() and not Path(source).exists()):
        return _open_camera(int(source))
    if is_address(source):
        return _open_video(str(source), _without_password(str(source)))
    path = Path(source)
    if path.is_dir():
        return open_folder(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file; give a video, a folder of images, a camera's number or an address")
    return _open_video(f"file:{path}", str(path))  # FFmpeg takes what stands before a colon for a protocol


def is_address(source: str | Path | int) -> bool:
    """Whether `open_source` takes it for an address, such as rtsp://host/stream."""
    return "://" in str(source)


def to_rgb(image: np.ndarray, name: str = "image") -> np.ndarray:
    """`[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]` uint8 -> `[H, W, 3]`: gray repeated, alpha dropped.

    VideoError, starting with `name`, for any other shape or dtype, and for an empty image.
    """
    image = np.asarray(image)
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if channels not in (1, 3, 4) or image.size == 0:
        raise VideoError(f"{name}: must be [H, W], [H, W, 3] or [H, W, 4], not {list(image.shape)}")
    if image.dtype != np.uint8:
        raise VideoError(f"{name}: pixels must be uint8 in 0..255, not {image.dtype}; convert them first")
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[..., :3]


def open_folder(path: Path, last: int | None = None) -> Source:
    """The images of a folder; from the one of number `last` back to the first where that is given."""
    try:
        files = list_images(path)
    except SequenceError as error:
        raise VideoError(str(error)) from error
    order = range(len(files)) if last is None else range(last, -1, -1)
    if len(order) > len(files):
        raise VideoError(f"{path}: has no frame {last}; choose an earlier one")

    def frames():
        for index in order:
            try:
                image = read_image(files[index], upright=True)
            except SequenceError as error:
                raise VideoError(f"{error} (frame {index} of {len(files)})") from error
            yield image

    return Source(str(path), frames(), DEFAULT_FPS, len(order))


def _open_camera(index: int) -> Source:
    with _silent_opencv():
        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise VideoError(f"camera {index}: cannot be opened; check that it is connected and not in use")
    times: list[float] = []
    stated = capture.get(cv2.CAP_PROP_FPS)
    fps = stated if 1 <= stated <= 1000 else DEFAULT_FPS
    return Source(f"camera {index}", _read_camera(capture, times), fps, None, times)


def _read_camera(capture: cv2.VideoCapture, times: list[float]) -> Iterator[np.ndarray]:
    start = None
    try:
        while True:
            read, image = capture.read()
            if not read:
                return
            now = time.perf_counter()
            start = now if start is None else start
            times.append(now - start)
            yield np.ascontiguousarray(to_rgb(image)[..., ::-1])
    finally:
        capture.release()


@contextmanager
def _silent_opencv():
    """OpenCV tells on stderr, in ten lines, which ways to open a camera have failed."""
    level = cv2.utils.logging.getLogLevel()
    silence_opencv()
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _open_video(address: str, name: str) -> Source:
    """`address` as FFmpeg takes it, `name` as messages and results may show it."""
    container, stream = open_container(address, name)
    clock = Clock(stream)
    seconds = _stated_seconds(container)
    count = None if seconds is None else max(round(seconds * clock.fps), 1)
    return Source(name, _read_video(container, stream, name, clock), clock.fps, count, clock.times)


def open_container(address: str, name: str) -> "tuple[av.container.InputContainer, av.VideoStream]":
    """What FFmpeg finds at an address, and the video in it, to be decoded; VideoError where there is none."""
    import av

    local = address.startswith("file:")
    options = {"rtsp_transport": "tcp"} if address.startswith("rtsp:") else {}  # over UDP, packets get lost
    try:
        container = av.open(address, options=options, timeout=None if local else TIMEOUT)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        size = f"; {Path(address.removeprefix('file:')).stat().st_size} bytes" if local else ""
        raise VideoError(f"{name}: not a video that FFmpeg can read, or cut short ({reason}{size})") from error
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        raise VideoError(f"{name}: has no video that can be decoded; convert it, to H.264 in .mp4 for one")
    container.flags |= av.container.Flags.discard_corrupt.value  # what is left of a packet would be half an image
    stream.thread_type = "AUTO"
    return container, stream


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _stated_seconds(container: "av.container.InputContainer") -> float | None:
    """How long the file says it is; None where it does not. Of formats without time stamps FFmpeg guesses it."""
    import av

    guessed = container.format.flags & av.format.Flags.no_timestamps.value
    return None if guessed or not container.duration else container.duration / av.time_base


class Clock:
    """The times of a video's frames, seconds from the first."""

    def __init__(self, stream: "av.VideoStream"):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.fps = rate if 0 < rate <= 1000 else DEFAULT_FPS
        self.times: list[float] = []
        self._base, self._origin = stream.time_base, None

    def add(self, stamp: int | None) -> None:
        """Takes the next frame's time stamp; without one, and where it goes back, the frame follows at 1/fps."""
        follows = self.times[-1] + 1 / self.fps if self.times else 0.0
        at = follows if stamp is None else float(stamp * self._base)
        self._origin = at - follows if self._origin is None else self._origin
        later = not self.times or at - self._origin > self.times[-1]
        self.times.append(at - self._origin if later else follows)


def stamp_of(frame: "av.VideoFrame") -> int | None:
    return frame.dts if frame.pts is None else frame.pts


def to_image(frame: "av.VideoFrame", reformatter: "av.video.reformatter.VideoReformatter") -> np.ndarray:
    """`[H, W, 3]` uint8 RGB, turned as the frame says."""
    image = reformatter.reformat(frame, format="rgb24").to_ndarray()
    return _turned(image, frame.side_data.get("DISPLAYMATRIX"))


def _read_video(
    container: "av.container.InputContainer", stream: "av.VideoStream", name: str, clock: Clock
) -> Iterator[np.ndarray]:
    """The frames, while the clock takes the time of each; VideoError at the end where something was missing."""
    from av.video.reformatter import VideoReformatter

    decoding, reformatter = Decoding(container, stream), VideoReformatter()
    try:
        for frame in decoding:
            clock.add(stamp_of(frame))
            yield to_image(frame, reformatter)
        fault = decoding.fault or _cut_short(decoding, clock.fps, clock.times)
    finally:
        container.close()
    if fault:
        raise VideoError(f"{name}: {fault} ({len(clock.times)} frames were read)")


class Decoding:
    """Iterates over the frames of a video stream; then says what was wrong.

    What cannot be decoded is left out, as players do. Before the first frame that is no fault: a file that was cut
    without decoding, and a stream that is live, start between two key frames.
    """

    def __init__(self, container: "av.container.InputContainer", stream: "av.VideoStream"):
        self.stated = _stated_seconds(container)
        self.reached = 0.0  # seconds from the start to where the packets of all streams, sound too, have come
        self.fault = ""  # the first one
        self._container, self._stream = container, stream
        self._start = (container.start_time or 0) / 1e6

    def __iter__(self) -> Iterator["av.VideoFrame"]:
        import av

        begun, local = False, self._container.name.startswith("file:")
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except av.FFmpegError as error:
                if begun and local and not self.fault:  # what a network loses is no fault of the video
                    self.fault = f"damaged at {self._seconds(packet):.2f} s ({error.strerror or error})"
                continue
            begun = begun or bool(frames)
            yield from frames

    def _packets(self) -> Iterator["av.Packet | None"]:
        """Of the video stream, and None, which makes the decoder give what it still holds."""
        import av

        try:
            for packet in self._container.demux():
                self.reached = max(self.reached, self._seconds(packet))
                if packet.stream_index == self._stream.index and packet.size:
                    yield packet
        except av.FFmpegError as error:
            self.fault = f"cannot be read on from {self.reached:.2f} s ({error.strerror or error})"
        yield None

    def _seconds(self, packet: "av.Packet | None") -> float:
        if packet is None or packet.pts is None:
            return self.reached
        return float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._start


def _cut_short(decoding: Decoding, fps: float, times: list[float]) -> str:
    """What is wrong with a video whose packets end long before its stated duration; "" where they do not.

    The last frame may have no duration and the stated one may be rounded: hence the slack, of frames that may have any
    distance.
    """
    if not times:
        return "no frame can be decoded, the file is damaged or cut short"
    longest = max(np.diff(times).max(initial=0), 1 / fps)
    slack = max(2.5 * longest, 0.01 * (decoding.stated or 0))
    if decoding.stated is None or decoding.stated - decoding.reached <= slack:
        return ""
    return (
        f"frame {len(times)} is missing, the file is cut short:"
        f" it ends at {decoding.reached:.2f} of {decoding.stated:.2f} s"
    )


def _turned(image: np.ndarray, matrix: "av.sidedata.sidedata.SideData | None") -> np.ndarray:
    """The image as the display matrix of its video shows it, by quarter turns and mirrored."""
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5]  # a pixel x, y is shown at a x + c y, b x + d y
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def target_color(number: int) -> tuple[int, int, int]:
    """RGB of the target of a number from 0: bright, and unlike those of its neighbors."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb((0.36 + 0.618034 * number) % 1, 0.75, 1.0))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    *,
    verdicts: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """A copy of `[H, W, 3]` uint8 RGB with `[N, 4]` x, y, w, h drawn on it, but for rows that are not finite.

    Without `colors`, the color tells the verdict (VERDICT_COLORS; white without); a lost target's box is drawn thin.
    """
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(image.shape[:2]) / 200))
    for index, (x, y, w, h) in enumerate(np.asarray(boxes, float).reshape(-1, 4)):
        if not np.isfinite([x, y, w, h]).all():
            continue
        verdict = None if verdicts is None else int(verdicts[index])
        color = VERDICT_COLORS.get(verdict, (255, 255, 255)) if colors is None else colors[index]
        corners = np.clip([x, y, x + w - 1, y + h - 1], -30000, 30000).round().astype(int).tolist()
        width = 1 if verdict in (None, LOST) else thickness
        cv2.rectangle(drawn, corners[:2], corners[2:], color, width)
        if labels is not None and labels[index]:
            _label(drawn, labels[index], corners[0], corners[1] - 4, color)
    return drawn


def _label(image: np.ndarray, text: str, x: int, y: int, color: tuple[int, int, int]) -> None:
    """Text on a dark plate, moved inside the image."""
    scale = max(min(image.shape[:2]) / 600, 0.38)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(np.clip(x, 0, max(image.shape[1] - width, 0)))
    y = int(np.clip(y, height + 1, max(image.shape[0] - base, height + 1)))
    image[max(y - height - 1, 0) : y + base, x : x + width] //= 3
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)


def show(image: np.ndarray, title: str = "jaxtrack") -> bool:
    """Shows the image in a window; True if q or Escape was pressed there. VideoError without a display."""
    _need_display()
    cv2.imshow(title, np.ascontiguousarray(image[..., ::-1]))
    return cv2.waitKey(1) & 0xFF in (ord("q"), 27)


def select_boxes(image: np.ndarray, title: str = "draw a box, Enter: next, Escape: done") -> np.ndarray:
    """`[N, 4]` x, y, w, h drawn with the mouse; VideoError without a display or without a box."""
    _need_display()
    drawn = cv2.selectROIs(title, np.ascontiguousarray(image[..., ::-1]), True, False)
    boxes = np.array(drawn, float).reshape(-1, 4)
    cv2.destroyWindow(title)
    if not len(boxes):
        raise VideoError("no box was drawn; draw one, or give it with --box x,y,w,h")
    return boxes


def _need_display() -> None:
    # Qt ends the whole process where it finds no display, so this must be known before.
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not display:
        raise VideoError("there is no display for a window; leave --show out, or write a video with --out")
