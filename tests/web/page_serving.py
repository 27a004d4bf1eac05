"""A server on a free port of this machine, for as long as a test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from page_studio import until

HOST = "127.0.0.1"
_last = 0  # the port before: at one address the browser finds in its memory what it has loaded for other files' tests


def _port() -> socket.socket:
    """A listening socket, on the port of the server before where that is free.

    It says that it speaks TCP, or asyncio would let small answers wait for an acknowledgement (40 ms each).
    """
    global _last  # noqa: PLW0603
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, _last))
    except OSError:
        listening.bind((HOST, 0))
    listening.listen()
    _last = listening.getsockname()[1]
    return listening


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address at which the application answers; it is gone after the block."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    with _port() as port:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
        thread.start()
        until(lambda: server.started, "the server did not start")
        try:
            yield f"http://{HOST}:{port.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
