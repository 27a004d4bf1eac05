"""A server on a free port of this machine, for as long as a test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from page_studio import until


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address at which the application answers; it is gone after the block."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as port:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
        thread.start()
        until(lambda: server.started, "the server did not start")
        try:
            yield f"http://127.0.0.1:{port.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
