"""Videos out, as browsers play them."""

import shutil
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from eval.files import hidden_beside, publish
from eval.sources.video import DEFAULT_FPS, VideoError

if TYPE_CHECKING:
    import av


BT601, LIMITED = 6, 1  # numbers of ITU-T H.273: untagged videos of 720 rows and more are shown as BT.709


class Encoding(NamedTuple):
    """How FFmpeg's libraries write a kind of file."""

    codec: str  # of several encoders of one codec, FFmpeg takes the best that it was built with
    pixels: str
    ticks: int  # of a second: what time stamps are rounded to
    options: dict[str, str]  # of the encoder
    container: dict[str, str]  # of the file


REAL_TIME = {"deadline": "realtime", "cpu-used": "8"}  # as fast as H.264, and a tenth of the size of VP8
ENCODINGS = {
    ".webm": Encoding("vp9", "yuv420p", 1000, REAL_TIME | {"row-mt": "1", "crf": "22", "b": "0"}, {}),
    ".mp4": Encoding("h264", "yuv420p", 90_000, {"preset": "veryfast", "crf": "20"}, {}),
    # A picture that moves wherever a picture is shown, in a README for one
    ".webp": Encoding("libwebp_anim", "bgra", 1000, {"quality": "80"}, {"loop": "0"}),
}


class VideoWriter:
    """Writes a video that browsers play: .webm (VP9), .mp4 (H.264), or an animated picture, .webp, for a short one.

    The file appears under its name when it is closed, complete; until then it is a hidden file beside it,
    removed when writing fails or the `with` block ends by an exception. The first frame sets the size, an odd
    last row or column is cut; a frame of another size is scaled to fit, on black. Colors are written, and
    tagged, as BT.601 of limited range. VideoError for another suffix and on a full disk.
    """

    def __init__(self, path: str | Path, fps: float = DEFAULT_FPS):
        self.path, self.fps, self.count = Path(path), fps, 0
        self._container = self._stream = None
        self._first, self._ticks = 0.0, -1  # time of the first frame in seconds, of the last one from there
        if self.path.suffix.lower() not in ENCODINGS:
            raise VideoError(f"{path}: videos are written as {' or '.join(ENCODINGS)}; rename the output")
        self._encoding = ENCODINGS[self.path.suffix.lower()]
        try:
            self._temporary = hidden_beside(self.path)
        except OSError as error:
            raise VideoError(f"{self.path}: {error.strerror or error}; choose another output") from error

    def write(self, image: np.ndarray, seconds: float | None = None) -> None:
        """Appends one `[H, W, 3]` uint8 RGB frame, shown at `seconds` (later than the one before).

        The video starts with the first frame, whatever its time. None: 1/fps after the one before.
        """
        import av

        if self._container is None:
            self._open(image.shape[0], image.shape[1])
        seconds = self.count / self.fps if seconds is None else seconds
        self._first = seconds if self.count == 0 else self._first
        self._ticks = max(round((seconds - self._first) * self._encoding.ticks), self._ticks + 1)
        fitted = np.ascontiguousarray(_fit(image, (self._stream.height, self._stream.width)))
        frame = av.VideoFrame.from_ndarray(fitted, format="rgb24")
        frame = self._reformatter.reformat(
            frame, format=self._encoding.pixels, dst_colorspace="ITU601", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = self._ticks, Fraction(1, self._encoding.ticks)
        with self._failure_told():
            self._encode(frame)
        self.count += 1

    def close(self) -> None:
        """Completes the file and gives it its name; nothing appears if no frame was written."""
        if self._container is None:
            self.discard()
            return
        try:
            with self._failure_told():
                self._encode(None)
                self._container.close()
            self._container = None
            publish(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stops and removes what was written."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(Exception):  # of a full disk, for one: nothing is kept anyway
                container.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, height: int, width: int) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        kind = self._encoding
        self._reformatter = VideoReformatter()
        try:
            self._container = av.open(f"file:{self._temporary}", "w", container_options=kind.container)
            self._stream = self._container.add_stream(kind.codec, Fraction(self.fps).limit_denominator(1001))
        except (av.FFmpegError, ValueError) as error:
            self.discard()
            others = " or ".join(suffix for suffix in ENCODINGS if suffix != self.path.suffix.lower())
            raise VideoError(f"{self.path}: FFmpeg has no encoder for it here ({error}); try {others}") from error
        # Two by two pixels share a color, so H.264 needs even sides; its blocks have 16 pixels.
        self._stream.height, self._stream.width = max(height // 2 * 2, 16), max(width // 2 * 2, 16)
        self._stream.pix_fmt, self._stream.options = kind.pixels, kind.options
        context = self._stream.codec_context
        context.time_base = Fraction(1, kind.ticks)
        if kind.pixels == "yuv420p":
            context.colorspace, context.color_range = BT601, LIMITED

    def _encode(self, frame: "av.VideoFrame | None") -> None:
        """Writes what the encoder has ready; None: all that it still holds."""
        for packet in self._stream.encode(frame):
            packet.duration = packet.duration or round(self._encoding.ticks / self.fps)  # no other follows the last
            self._container.mux(packet)

    @contextmanager
    def _failure_told(self):
        import av

        try:
            yield
        except av.FFmpegError as error:
            full = shutil.disk_usage(self.path.parent).free < 1 << 20
            self.discard()
            reason = "the disk is full" if full else f"it cannot be written ({error.strerror})"
            message = f"{self.path}: {reason} (frame {self.count}), nothing was kept; write elsewhere"
            raise VideoError(message) from error


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
