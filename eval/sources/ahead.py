"""Reading ahead of a tracker, and keeping up with a camera: items made by another thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


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
