"""A video from one of its frames back to the first; what is held in memory at once is bounded."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.sources.video import Clock, Decoding, Source, VideoError, open_container, open_folder, stamp_of, to_image

MOST_BYTES = 256 << 20  # of images that are held at once; one image may be larger


class _Index(NamedTuple):
    """What one pass forward tells of frames 0 to `last`."""

    places: dict[int, int] | None  # time stamp -> number of the frame; None where they do not identify it
    stamps: list[int]
    keys: list[int]  # numbers of the key frames, ascending
    largest: int  # bytes of an image
    fault: str


def open_backwards(path: Path | str, last: int) -> Source:
    """The frames `last`, `last - 1` ... 0 of a video file or a folder of images, those that `open_source` gives.

    A file is decoded forward once, to find its key frames and times, and then from key frame to key frame, the last
    first. No more than MOST_BYTES of images are held: where key frames are farther apart, the frames between them are
    decoded several times. VideoError as of `open_source`, where there is no frame `last`, and after frame 0 where
    something before `last` is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return open_folder(path, last)
    if not path.is_file():
        raise VideoError(f"{path}: no such file; give a video or a folder of images")
    container, stream = open_container(f"file:{path}", str(path))
    clock = Clock(stream)
    return Source(str(path), _frames(container, stream, str(path), last, clock), clock.fps, last + 1, clock.times)


def _frames(container, stream, name: str, last: int, clock: Clock) -> Iterator[np.ndarray]:
    index = _look_through(container, stream, name, last, clock)
    most, stop = max(MOST_BYTES // index.largest, 1), last + 1
    while stop > 0:
        within = [key for key in index.keys if stop - most <= key < stop]
        key = within[0] if within else max((key for key in index.keys if key < stop), default=0)
        start = max(key, stop - most)
        images = _decode(name, index, key, start, stop)
        while images:
            yield images.pop()
        stop = start
    if index.fault:
        raise VideoError(f"{name}: {index.fault} ({last + 1} frames were read)")


def _look_through(container, stream, name: str, last: int, clock: Clock) -> _Index:
    stamps, keys, largest = [], [], 1
    decoding = Decoding(container, stream)
    try:
        for number, frame in enumerate(decoding):
            clock.add(stamp_of(frame))
            stamps.append(stamp_of(frame))
            if frame.key_frame:
                keys.append(number)
            largest = max(largest, 3 * frame.width * frame.height)
            if number == last:
                break
    finally:
        container.close()
    if len(stamps) <= last:
        raise VideoError(f"{name}: has no frame {last}; choose an earlier one ({decoding.fault or 'it ends before'})")
    ascending = None not in stamps and all(one < other for one, other in itertools.pairwise(stamps))
    places = {stamp: number for number, stamp in enumerate(stamps)} if ascending else None
    return _Index(places, stamps, keys, largest, decoding.fault)


def _decode(name: str, index: _Index, key: int, start: int, stop: int) -> list[np.ndarray]:
    """The images of frames `start` to `stop - 1`, by way of the key frame `key`; from the first frame if that fails."""
    if key > 0 and index.places is not None:
        images = _collect(name, index, start, stop, key)
        if len(images) == stop - start:
            return [images[number] for number in range(start, stop)]
    images = _collect(name, index, start, stop, None)
    if len(images) < stop - start:
        raise VideoError(f"{name}: cannot be read again; is it being written?")
    return [images[number] for number in range(start, stop)]


def _collect(name: str, index: _Index, start: int, stop: int, key: int | None) -> dict[int, np.ndarray]:
    """Number -> image of the frames from `start` to `stop - 1` that decoding from `key` (None: the first) gives."""
    import av
    from av.video.reformatter import VideoReformatter

    container, stream = open_container(f"file:{name}", name)
    images, reformatter = {}, VideoReformatter()
    try:
        if key is not None:
            container.seek(index.stamps[key], stream=stream, backward=True)
        for count, frame in enumerate(Decoding(container, stream)):
            number = count if key is None else index.places.get(stamp_of(frame))
            if number is not None and start <= number < stop:
                images[number] = to_image(frame, reformatter)
            if len(images) == stop - start or (number is not None and number >= stop):
                break
    except av.FFmpegError:
        return {}  # it cannot be sought in
    finally:
        container.close()
    return images
