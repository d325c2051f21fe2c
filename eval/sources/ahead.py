"""Reading ahead of a tracker, and keeping up with a camera: items made by another thread."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

AHEAD_BYTES = 2**26  # eight images of 1080 lines without their Frames; of 4K one

Item = TypeVar("Item")


def read_ahead(items: Iterable[Item], depth: int = 8, most_bytes: int = AHEAD_BYTES) -> Iterator[Item]:
    """The same items in the same order, made by another thread up to `depth` ahead of the consumer.

    What is made and not taken yet stays below `most_bytes` (of numpy arrays, also in tuples), or is one item; an item
    is expected to be as large as the one before. An exception of `items` is raised where its item would have come.
    Closing the iterator ends the thread.
    """
    ready: deque[tuple[Item | None, BaseException | None, int]] = deque()
    changed = threading.Condition()
    closed = False

    def held() -> int:
        return sum(size for _, _, size in ready)

    def has_room(size: int) -> bool:
        return closed or not ready or (len(ready) < depth and held() + size <= most_bytes)

    def put(item: Item | None, error: BaseException | None = None) -> bool:
        """Whether to go on; returns when there is room for another item of that size."""
        size = _bytes_of(item)
        with changed:
            changed.wait_for(lambda: has_room(size))
            ready.append((item, error, size))
            changed.notify_all()
            changed.wait_for(lambda: has_room(size))
            return not closed

    def produce() -> None:
        try:
            for item in items:
                if not put(item):
                    return
                del item  # the next one is made without it
            put(None, StopIteration())
        except BaseException as error:
            put(None, error)

    threading.Thread(target=produce, daemon=True).start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready)
                item, error, _ = ready.popleft()
                changed.notify_all()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
            del item
    finally:
        with changed:
            closed = True
            changed.notify_all()


def _bytes_of(item: Any) -> int:
    """Of the numpy arrays in nested tuples; those that share their memory count once each."""
    if isinstance(item, tuple):
        return sum(map(_bytes_of, item))
    return item.nbytes if isinstance(item, np.ndarray) else 0


def newest(items: Iterable[Item]) -> Iterator[Item]:
    """For a live camera: always the latest item, made by another thread; items that come in between are dropped.

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
