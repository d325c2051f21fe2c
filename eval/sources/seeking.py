"""Any frame of a video at once: the numbers, times and key frames of a file, and a decoder that jumps between them."""

import itertools
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.sources.sequences import SequenceError, list_images, read_image
from eval.sources.video import DEFAULT_FPS, Clock, Decoding, VideoError, open_container, stamp_of, to_image

MOST_BYTES = 64 << 20  # of images that are kept, the last ones asked for and those before them; one may be larger
CHECKED = 12  # frames that are decoded to see whether packets are frames


class Index(NamedTuple):
    """The frames of a video file in the order in which they are shown."""

    stamps: list[int] | None  # time stamps, which identify a frame; None: only its number does, from the first on
    keys: list[int]  # numbers of the key frames, ascending, the first one 0
    times: list[float]  # seconds from the first
    fps: float
    numbers: dict[int, int] | None  # of the stamps


class Seekable:
    """Random access to the frames that `eval.sources.video.open_source` gives of a file or a folder of images.

    A file is read through once, without decoding: what is there is known, damage is met when its frame is asked for,
    and so is that another file has taken its place.
    Safe to call from several threads, one after the other; `again` gives a second one for another thread. VideoError
    where there is nothing to read.
    """

    def __init__(self, path: Path | str, known: "Seekable | None" = None):
        self.path = Path(path)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._decoder: _Decoder | None = None
        self._damaged: set[int] = set()
        if known is not None:
            self.files, self._index, self._opened = known.files, known._index, known._opened
            self.fps, self.times, self.size = known.fps, known.times, known.size
            return
        self._opened = _version(self.path)
        if self.path.is_dir():
            try:
                self.files, self._index = list_images(self.path), None
            except SequenceError as error:
                raise VideoError(str(error)) from error
        elif self.path.is_file():
            self.files, self._index = [], index_of(self.path)
        else:
            raise VideoError(f"{path}: no such file; give a video or a folder of images")
        self.fps = self._index.fps if self._index else DEFAULT_FPS
        self.times = self._index.times if self._index else [at / self.fps for at in range(len(self.files))]
        height, width = self.image(0).shape[:2]
        self.size = width, height

    def __len__(self) -> int:
        return len(self.times)

    def again(self) -> "Seekable":
        """The same video with a decoder of its own; nothing is read through again."""
        return Seekable(self.path, self)

    def image(self, number: int) -> np.ndarray:
        """`[H, W, 3]` uint8 RGB, not to be written to; VideoError where it is damaged, IndexError beyond the video."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        with self._lock:
            if number not in self._kept:
                self._read(number)
            self._kept.move_to_end(number)
            return self._kept[number]

    def version(self, number: int) -> str:
        """Of the file that frame `number` is in: another one where the file was replaced or written to."""
        return _version(self.files[number]) if self.files else self._opened

    def images(self, first: int, step: int = 1) -> Iterator[np.ndarray]:
        """Frames first, first + step ... to the end, or back to frame 0 where `step` is -1."""
        stop = len(self) if step > 0 else -1
        for number in range(first, stop, step):
            yield self.image(number)

    def close(self) -> None:
        with self._lock:
            self._stop()
            self._kept.clear()

    def _read(self, number: int) -> None:
        if self.files:
            try:
                self._keep(number, read_image(self.files[number], upright=True))
            except SequenceError as error:
                raise VideoError(f"{error} (frame {number} of {len(self)})") from error
            return
        if number not in self._damaged:
            at = bisect_right(self._index.keys, number) - 1
            for key in dict.fromkeys((self._index.keys[at], self._index.keys[max(at - 2, 0)], 0)):
                self._decode(key, number)
                if number in self._kept:
                    return
                self._stop()  # what was sought may have been passed over: transport streams are, by some frames
        self._damaged.add(number)
        raise VideoError(f"{self.path}: frame {number} cannot be decoded; the file is damaged there or cut short")

    def _decode(self, key: int, number: int) -> None:
        """Keeps frame `number`, where it can be decoded by way of a key frame."""
        try:
            if self._decoder is None or not key <= self._decoder.next <= number:
                self._stop()
                if _version(self.path) != self._opened:
                    raise VideoError(f"{self.path}: was changed or moved away since it was opened; start anew")
                self._decoder = _Decoder(self.path, self._index, key)
            for reached, image in self._decoder.until(number, self._room()):
                self._keep(reached, image)
        except BaseException:
            self._stop()
            raise

    def _room(self) -> int:
        """How many images may be kept."""
        largest = max((image.nbytes for image in self._kept.values()), default=0)
        return max(MOST_BYTES // largest, 1) if largest else 1

    def _keep(self, number: int, image: np.ndarray) -> None:
        self._kept[number] = image
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)

    def _stop(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()


class _Decoder:
    """Decodes on from a key frame."""

    def __init__(self, path: Path, index: Index, key: int):
        from av.video.reformatter import VideoReformatter

        self._container, stream = open_container(f"file:{path}", str(path))
        self._numbers = index.numbers
        self._counted = itertools.count()
        if key > 0:
            self._container.seek(index.stamps[key], stream=stream, backward=True)
        self._frames = iter(Decoding(self._container, stream))
        self._reformatter = VideoReformatter()
        self.next = key  # number of the frame that comes next, at the least

    def until(self, number: int, room: int) -> Iterator[tuple[int, np.ndarray]]:
        """(number, image) of the frames up to `number`, the last `room` of them; fewer where they are damaged."""
        for frame in self._frames:
            reached = self._numbers.get(stamp_of(frame), -1) if self._numbers else next(self._counted)
            if reached < self.next:
                continue  # before the key frame, where the container could not be sought more exactly
            self.next = reached + 1
            if reached > number - room:
                yield reached, to_image(frame, self._reformatter)
            if reached >= number:
                return

    def close(self) -> None:
        self._frames.close()
        self._container.close()


def _version(path: Path) -> str:
    """Time and size of a file; "" where there is none."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_mtime_ns}-{state.st_size}"


def index_of(path: Path) -> Index:
    """The index of a video file, by its packets; by its frames, which takes longer, where packets do not tell.

    VideoError where there is no frame.
    """
    found = _by_packets(path) or _by_frames(path)
    if not found.times:
        raise VideoError(f"{path}: no frame can be decoded, the file is damaged or cut short")
    return found


def _by_packets(path: Path) -> Index | None:
    """None unless every packet has a time stamp of its own and the first ones are those of the first frames."""
    import av

    container, stream = open_container(f"file:{path}", str(path))
    clock = Clock(stream)
    try:
        shown = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
        packets = [(packet.pts, packet.is_keyframe) for packet in shown]
    except av.FFmpegError:
        return None  # what can be decoded before is found by decoding
    finally:
        container.close()
    keys = {stamp for stamp, is_key in packets if is_key}
    stamps = [stamp for stamp, _ in packets]
    if None in stamps or len(set(stamps)) < len(stamps):
        return None
    stamps.sort()
    decoded = [stamp_of(frame) for frame in _first_frames(path, CHECKED)]
    if not stamps or stamps[0] not in keys or decoded != stamps[: len(decoded)]:
        return None
    for stamp in stamps:
        clock.add(stamp)
    return _index(stamps, [number for number, stamp in enumerate(stamps) if stamp in keys], clock)


def _by_frames(path: Path) -> Index:
    """Frames without time stamps of their own, and a file that starts between key frames, can only be decoded on."""
    container, stream = open_container(f"file:{path}", str(path))
    clock = Clock(stream)
    container.close()
    stamps, keys = [], [0]
    for number, frame in enumerate(_first_frames(path, None)):
        stamps.append(stamp_of(frame))
        if frame.key_frame and number:
            keys.append(number)
    for stamp in stamps:
        clock.add(stamp)
    ascending = None not in stamps and all(one < other for one, other in itertools.pairwise(stamps))
    return _index(stamps, keys, clock) if ascending else Index(None, [0], clock.times, clock.fps, None)


def _index(stamps: list[int], keys: list[int], clock: Clock) -> Index:
    return Index(stamps, keys, clock.times, clock.fps, {stamp: number for number, stamp in enumerate(stamps)})


def _first_frames(path: Path, count: int | None):
    container, stream = open_container(f"file:{path}", str(path))
    try:
        yield from itertools.islice(Decoding(container, stream), count)
    finally:
        container.close()
