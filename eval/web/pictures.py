"""Frames as JPEG images, as a page asks for them; the last ones are kept."""

import threading
from collections import OrderedDict

from eval.sources.pictures import jpeg
from eval.sources.seeking import Seekable

WIDTHS = (480, 960, 1920)  # that a page may ask for
MOST_BYTES = 48 << 20  # of the images that are kept


class Pictures:
    """The frames of a video as JPEG. Safe to call from several threads."""

    def __init__(self, frames: Seekable):
        self._frames = frames
        self._kept: OrderedDict[tuple[int, int | None], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def known(self, number: int, width: int | None = None) -> bytes | None:
        """What `jpeg` gives, if it costs nothing."""
        with self._lock:
            if (number, width) in self._kept:
                self._kept.move_to_end((number, width))
            return self._kept.get((number, width))

    def jpeg(self, number: int, width: int | None = None) -> bytes:
        """Frame `number`, at most `width` pixels wide; VideoError where it is damaged, IndexError beyond the video."""
        data = self.known(number, width)
        if data is None:
            data = jpeg(self._frames.image(number), width)
            with self._lock:
                self._bytes += 0 if (number, width) in self._kept else len(data)
                self._kept[number, width] = data
                while self._bytes > MOST_BYTES and len(self._kept) > 1:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return data

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0
