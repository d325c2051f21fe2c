"""What happens, told to every page that listens."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

BEHIND = 1000  # events that a page may be late by; a later one loads everything anew
SILENCE = 15.0  # seconds after which a comment shows that the line is alive


class Hub:
    """Events from any thread to the pages that listen, each as one JSON object."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    def tell(self, kind: str, **content: Any) -> None:
        with self._lock:
            listeners = list(self._listeners.items())
        if listeners:
            text = json.dumps({"kind": kind, **content}, allow_nan=False)
            for queue, loop in listeners:
                with contextlib.suppress(RuntimeError):  # its loop has ended
                    loop.call_soon_threadsafe(queue.put_nowait, text)

    def close(self) -> None:
        """Ends every `listen`."""
        with self._lock:
            for queue, loop in self._listeners.items():
                loop.call_soon_threadsafe(queue.put_nowait, None)

    async def listen(self) -> AsyncIterator[str]:
        """Lines of server-sent events, until `close`, or until this page is too far behind: it then connects anew."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        with self._lock:
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield ": listening\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), SILENCE)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if text is None or queue.qsize() > BEHIND:
                    return
                yield f"data: {text}\n\n"
        finally:
            with self._lock:
                self._listeners.pop(queue, None)
