"""Serving an ASGI application from the main thread."""

import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

GRACE = 2  # seconds that requests have to finish


def serve(app: Starlette, listening: socket.socket, on_end: Callable[[], None]) -> None:
    """Until Ctrl-C or SIGTERM, which is raised again; `on_end` is called before connections are waited for."""

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            on_end()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # 50 lines a request that is broken off
            await super().shutdown(sockets)

    Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE)).run(sockets=[listening])
