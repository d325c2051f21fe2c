"""Host side of a frame: images on canvases of a few sizes, and reading ahead of the tracker."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from ops.boxes import Box
from trackers.base import Frame

Item = TypeVar("Item")

CANVAS_SIDES = (256, 512, 768, 1024, 1280, 1536, 2048, 3072, 4096)


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """The smallest canvas (height, width) that holds an image of this size.

    Each side is one of CANVAS_SIDES (beyond them a multiple of 1024), so a data set of many image sizes needs
    few compilations; nothing but the copy to the device grows with the canvas.
    """
    return _side(height), _side(width)


def _side(length: int) -> int:
    return next((side for side in CANVAS_SIDES if side >= length), -(-length // 1024) * 1024)


def to_canvas(image: np.ndarray, canvas: tuple[int, int] | None = None) -> Frame:
    """`[H, W, 3]` uint8 RGB -> Frame of numpy arrays in the upper left corner of a black canvas.

    `canvas` (height, width) defaults to `canvas_size`; ValueError if the image does not fit or is not uint8
    RGB.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a frame must be [H, W, 3] uint8 RGB, not {list(image.shape)} {image.dtype}")
    height, width = image.shape[:2]
    canvas = canvas or canvas_size(height, width)
    if height > canvas[0] or width > canvas[1]:
        raise ValueError(f"a {height}x{width} image does not fit a canvas of {canvas[0]}x{canvas[1]}")
    padded = np.zeros((*canvas, 3), np.uint8)
    padded[:height, :width] = image
    return Frame(padded, np.array([height, width], np.int32))


def read_ahead(items: Iterable[Item], depth: int = 8) -> Iterator[Item]:
    """The same items in the same order, made by another thread up to `depth` ahead of the consumer.

    An exception of `items` is raised where its item would have come. Closing the iterator ends the thread.
    """
    ready: queue.Queue = queue.Queue(depth)
    closed = threading.Event()

    def put(message) -> bool:
        while not closed.is_set():
            try:
                ready.put(message, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce():
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    threading.Thread(target=produce, daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        closed.set()


def newest(items: Iterable[Item]) -> Iterator[Item]:
    """For a live camera: each time the latest item, made by another thread; those that come meanwhile are dropped.

    So a consumer that is slower than the camera lags by one item, however long it runs. The last item and an exception
    of `items` always come. Closing the iterator ends the thread, at the next item.
    """
    latest: list[Item] = []
    ended: list[BaseException | None] = []
    changed = threading.Condition()
    closed = threading.Event()

    def produce():
        error = None
        try:
            for item in items:
                if closed.is_set():
                    return
                with changed:
                    latest[:] = [item]
                    changed.notify()
        except BaseException as raised:
            error = raised
        with changed:
            ended.append(error)
            changed.notify()

    threading.Thread(target=produce, daemon=True).start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: latest or ended)
                if not latest:
                    break
                item = latest.pop()
            yield item
        if ended[0] is not None:
            raise ended[0]
    finally:
        closed.set()


def xywh_to_box(xywh: np.ndarray) -> Box:
    """`[..., 4]` x, y, w, h (0-based, host) -> Box of float32 numpy arrays, to be put on the device."""
    xywh = np.asarray(xywh, np.float64)
    size = xywh[..., :1:-1]
    return Box((xywh[..., 1::-1] + (size - 1) / 2).astype(np.float32), size.astype(np.float32))


def box_to_xywh(box: Box) -> np.ndarray:
    """Box on the host -> `[..., 4]` float64 x, y, w, h (0-based)."""
    center, size = np.asarray(box.center, np.float64), np.asarray(box.size, np.float64)
    return np.concatenate([(center - (size - 1) / 2)[..., ::-1], size[..., ::-1]], -1)
