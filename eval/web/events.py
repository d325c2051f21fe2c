"""What happens, told to every page that listens."""

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

BEHIND = 32 << 20  # characters that may wait for a page; one that is later loads everything anew
SILENCE = 15.0  # seconds after which a comment shows that the line is alive


class _Waiting:
    """What a page has not taken yet, None at the end; it may never read, hence the limit. For the loop's thread."""

    def __init__(self) -> None:
        self._texts: deque[str | None] = deque()
        self._size = 0
        self._some = asyncio.Event()

    def put(self, text: str | None) -> None:
        if self._texts and self._texts[-1] is None:
            return
        if text is None or self._size + len(text) > BEHIND:
            self._texts.clear()
            text = None
        self._size += len(text or "")
        self._texts.append(text)
        self._some.set()

    async def get(self) -> str | None:
        await self._some.wait()
        text = self._texts.popleft()
        self._size -= len(text or "")
        if not self._texts:
            self._some.clear()
        return text


class Hub:
    """Events from any thread to the pages that listen, each as one JSON object."""

    def __init__(self) -> None:
        self._listeners: dict[_Waiting, asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    def tell(self, kind: str, **content: Any) -> None:
        with self._lock:
            listeners = list(self._listeners.items())
        if listeners:
            text = json.dumps({"kind": kind, **content}, allow_nan=False)
            for waiting, loop in listeners:
                with contextlib.suppress(RuntimeError):  # its loop has ended
                    loop.call_soon_threadsafe(waiting.put, text)

    def close(self) -> None:
        """Ends every `listen`."""
        with self._lock:
            for waiting, loop in self._listeners.items():
                loop.call_soon_threadsafe(waiting.put, None)

    async def listen(self) -> AsyncIterator[str]:
        """Lines of server-sent events, until `close`, or until this page is too far behind: it then connects anew."""
        waiting = _Waiting()
        with self._lock:
            self._listeners[waiting] = asyncio.get_running_loop()
        try:
            yield ": listening\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(waiting.get(), SILENCE)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if text is None:
                    return
                yield f"data: {text}\n\n"
        finally:
            with self._lock:
                self._listeners.pop(waiting, None)
