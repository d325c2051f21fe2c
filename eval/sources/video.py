"""Videos in and out: the only file that opens a capture, a writer or a window of OpenCV.

Frames are `[H, W, 3]` uint8 RGB everywhere outside; OpenCV's BGR does not leave this file.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from eval.sources.sequences import SequenceError, list_images, read_image
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN

# What browsers play and OpenCV's own FFmpeg can write. VP8 is about six times faster to write than VP9.
CODECS = {".webm": "VP80", ".mp4": "vp09"}
ANIMATION, ANIMATION_QUALITY = ".webp", 80  # a picture that moves wherever a picture is shown, in a README for one
OUTPUTS = (*CODECS, ANIMATION)
DEFAULT_FPS = 25.0
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
    fps: float  # DEFAULT_FPS where the source does not say
    count: int | None  # number of frames as the file states it; None for a camera


def silence_opencv() -> None:
    """Stop OpenCV and FFmpeg from printing to stderr: for programs, whose messages name file and frame."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)


def open_source(source: str | Path | int) -> Source:
    """A video file, a folder of images in the order of their numbers, or a camera (a number).

    Frames may differ in size. VideoError at once if there is nothing to read, and while iterating, after the last
    readable frame, if the file is damaged or ends before the number of frames it states.
    """
    if isinstance(source, int) or (str(source).isdigit() and not Path(source).exists()):
        return _open_camera(int(source))
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file; give a video, a folder of images or a camera's number")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise VideoError(f"{path}: not a video OpenCV can read, or cut short ({path.stat().st_size} bytes)")
    stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(stated) if 0 < stated < 1e9 else None
    return Source(str(path), _read_video(path, capture, count), _fps(capture), count)


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


def _open_folder(path: Path) -> Source:
    try:
        files = list_images(path)
    except SequenceError as error:
        raise VideoError(str(error)) from error

    def frames():
        for index, file in enumerate(files):
            try:
                image = read_image(file)
            except SequenceError as error:
                raise VideoError(f"{error} (frame {index} of {len(files)})") from error
            yield image

    return Source(str(path), frames(), DEFAULT_FPS, len(files))


def _open_camera(index: int) -> Source:
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise VideoError(f"camera {index}: cannot be opened; check that it is connected and not in use")
    return Source(f"camera {index}", _read_frames(capture), _fps(capture), None)


def _read_frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    try:
        while True:
            read, image = capture.read()
            if not read:
                return
            yield np.ascontiguousarray(to_rgb(image)[..., ::-1])
    finally:
        capture.release()


def _read_video(path: Path, capture: cv2.VideoCapture, count: int | None) -> Iterator[np.ndarray]:
    read = 0
    for frame in _read_frames(capture):
        yield frame
        read += 1
    # Stated counts are estimates in some containers, hence the slack.
    if read == 0 or (count is not None and count - read > max(2, 0.01 * count)):
        raise VideoError(
            f"{path}: frame {read} cannot be decoded, the file is damaged or cut short"
            f" ({read} of {count if count is not None else 'an unknown number of'} frames were read)"
        )


def _fps(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 1 <= fps <= 1000 else DEFAULT_FPS


class VideoWriter:
    """Writes a video that browsers play: .webm (VP8), .mp4 (VP9, slow to write), or .webp for a short one.

    A .webp is an animated picture; its frames are held in memory until it is closed.

    The file appears under its name when it is closed, complete; until then it is a hidden file beside it,
    removed when writing fails or the `with` block ends by an exception. The first frame sets the size; a
    frame of another size is scaled to fit, on black. VideoError for another suffix and on a full disk.
    """

    def __init__(self, path: str | Path, fps: float = DEFAULT_FPS):
        self.path, self.fps, self.count = Path(path), fps, 0
        self._writer: cv2.VideoWriter | _AnimationWriter | None = None
        self._size: tuple[int, int] | None = None
        if self.path.suffix.lower() not in OUTPUTS:
            raise VideoError(f"{path}: videos are written as {' or '.join(OUTPUTS)}; rename the output")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(self.path.suffix.lower(), f".{self.path.stem}.", self.path.parent)
        except OSError as error:
            raise VideoError(f"{self.path}: {error.strerror or error}; choose another output") from error
        os.close(handle)
        self._temporary = Path(name)

    def write(self, image: np.ndarray) -> None:
        """Appends one `[H, W, 3]` uint8 RGB frame."""
        if self._writer is None:
            self._open(image.shape[0], image.shape[1])
        if self._writer.write(np.ascontiguousarray(_fit(image, self._size)[..., ::-1])) is False:
            self._fail()
        self.count += 1

    def close(self) -> None:
        """Completes the file and gives it its name; nothing appears if no frame was written."""
        if self._writer is None:
            self.discard()
            return
        try:
            self._writer.release()
            self._writer = None
            if not _last_frame_is_there(self._temporary, self.count, self.fps):
                self._fail()
            # mkstemp's files are private to the user; a result has the mode of any other new file.
            mask = os.umask(0)
            os.umask(mask)
            self._temporary.chmod(0o666 & ~mask)
            self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stops and removes what was written."""
        if isinstance(self._writer, cv2.VideoWriter):
            self._writer.release()
        self._writer = None
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, height: int, width: int) -> None:
        # As OpenCV writes them, VP8 and VP9 need even sides, and VP8 is unreadable where they are tiny.
        self._size = max(height // 2 * 2, 16), max(width // 2 * 2, 16)
        if self._temporary.suffix == ANIMATION:
            self._writer = _AnimationWriter(self._temporary, self.fps)
            return
        codec = cv2.VideoWriter_fourcc(*CODECS[self._temporary.suffix])
        with _no_stderr():
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self.fps, self._size[::-1])
        if not self._writer.isOpened():
            self.discard()
            raise VideoError(f"{self.path}: OpenCV has no encoder for it here; try {' or '.join(CODECS)}")

    def _fail(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        self.discard()
        reason = "the disk is full" if free < 1 << 20 else "the encoder failed"
        raise VideoError(f"{self.path}: {reason} (frame {self.count}), nothing was kept; write elsewhere")


class _AnimationWriter:
    """An animated WebP by the methods of `cv2.VideoWriter`; the file is written by `release`."""

    def __init__(self, path: Path, fps: float):
        self._path, self._animation = path, cv2.Animation()
        self._frames, self._duration = [], _milliseconds(fps)

    def write(self, image: np.ndarray) -> None:
        self._frames.append(image)

    def release(self) -> None:
        self._animation.frames = self._frames
        self._animation.durations = [self._duration] * len(self._frames)
        options = [cv2.IMWRITE_WEBP_QUALITY, ANIMATION_QUALITY]
        cv2.imwriteanimation(str(self._path), self._animation, options)


def _milliseconds(fps: float) -> int:
    """That an animated picture shows each frame for."""
    return round(1000 / fps)


def _last_frame_is_there(path: Path, count: int, fps: float) -> bool:
    """Whether a video just written is whole: OpenCV does not report that its last blocks found no space."""
    if path.suffix == ANIMATION:
        read, animation = cv2.imreadanimation(str(path))
        return read and sum(animation.durations) == count * _milliseconds(fps)  # equal frames became one, longer
    capture = cv2.VideoCapture(str(path))
    stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
    read = capture.read()[0]
    capture.release()
    return read and abs(stated - count) <= 1


@contextlib.contextmanager
def _no_stderr():
    """Hides what C code prints: OpenCV remarks that a WebM needs no codec tag each time it opens one."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image scaled to lie within `size` (height, width), the rest black; an odd last row is cut."""
    height, width = image.shape[:2]
    if 0 <= height - size[0] <= 1 and 0 <= width - size[1] <= 1:
        return image[: size[0], : size[1]]
    ratio = min(size[0] / height, size[1] / width)
    rows, columns = (int(np.clip(round(side * ratio), 1, most)) for side, most in zip((height, width), size))
    fitted = np.zeros((*size, 3), np.uint8)
    fitted[:rows, :columns] = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return fitted


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    *,
    verdicts: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
) -> np.ndarray:
    """A copy of `[H, W, 3]` uint8 RGB with `[N, 4]` x, y, w, h drawn on it, but for rows that are not finite.

    The color tells the verdict (VERDICT_COLORS; white without), a lost target's box is drawn thin.
    """
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(image.shape[:2]) / 200))
    for index, (x, y, w, h) in enumerate(np.asarray(boxes, float).reshape(-1, 4)):
        if not np.isfinite([x, y, w, h]).all():
            continue
        verdict = None if verdicts is None else int(verdicts[index])
        color = VERDICT_COLORS.get(verdict, (255, 255, 255))
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
