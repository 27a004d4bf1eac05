"""`danqing serve`: the studio in the browser, and its HTTP API."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
import webbrowser
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Annotated

import typer
import uvicorn

from danqing.cli.options import WorkerOptions, takes
from danqing.cli.session import make_studio, terminal_of
from danqing.server.app import create_app
from danqing.spec.errors import ConflictError, InvalidRequestError
from danqing.studio.settings import Settings, check_bind, is_loopback, load_settings
from danqing.web import mount

app = typer.Typer(add_completion=False)
_START_TIMEOUT_S = 60.0
_GOODBYE_S = 3


@dataclass(frozen=True, kw_only=True)
class ServeOptions(WorkerOptions):
    """What `danqing serve` takes."""

    host: Annotated[str | None, typer.Option("--host", help="127.0.0.1 if unset; others need a password.")] = None
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="7860 if unset; 0 takes any.")] = None
    password: Annotated[
        str | None, typer.Option("--password", help="Better by DANQING_PASSWORD, which no process list shows.")
    ] = None
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the browser.")] = False


@app.command()
@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Open the studio in the browser, with its HTTP API beside it."""
    settings = load_settings(
        data_dir=options.data,
        models_dir=options.models,
        device=options.device,
        precision=options.precision,
        memory_gib=options.memory,
        vram_gib=options.vram,
        host=options.host,
        port=options.port,
        password=options.password,
    )
    check_bind(settings)
    terminal = terminal_of(options)
    listener = listen(settings)
    studio = make_studio(settings)
    with listener, closing(studio):
        studio.start(eager=True)
        application = mount(create_app(studio, settings), studio, settings)
        address = address_of(settings, listener)
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_level=logging.WARNING,
                timeout_graceful_shutdown=_GOODBYE_S,
                server_header=False,
            )
        )
        announce = threading.Thread(
            target=_when_ready,
            args=(server, lambda: _announce(address, options, terminal.quiet)),
            daemon=True,
        )
        announce.start()
        with suppress(KeyboardInterrupt):  # Ctrl-C is how a server is stopped; uvicorn has let everyone go by then
            server.run(sockets=[listener])


def listen(settings: Settings) -> socket.socket:
    """A socket at the settings' address.

    Raises:
        ConflictError: The port is taken.
        InvalidRequestError: This machine has no such address, or may not use the port.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _bad_address(settings, str(error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                "another program already listens at this address",
                field="--port",
                value=settings.port,
                next_step=f"if it is Danqing, open http://{_shown_host(settings)}:{settings.port}; "
                f"else choose another port, for example --port {min(65535, settings.port + 1)}",
            ) from error
        raise _bad_address(settings, error.strerror or str(error)) from error
    return listener


def _bad_address(settings: Settings, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"cannot listen at this address: {reason}",
        field="--host",
        value=f"{settings.host}:{settings.port}",
        allowed="an address of this machine and a port from 1024 up",
        next_step="leave --host out, or choose another --port",
    )


def _shown_host(settings: Settings) -> str:
    host = settings.host if is_loopback(settings.host) else socket.gethostname()
    return f"[{host}]" if ":" in host else host


def address_of(settings: Settings, listener: socket.socket) -> str:
    """The address a person opens."""
    return f"http://{_shown_host(settings)}:{listener.getsockname()[1]}"


def _when_ready(server: uvicorn.Server, action: object) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not server.started and time.monotonic() < deadline_s:
        time.sleep(0.05)
    if server.started and callable(action):
        action()


def _announce(address: str, options: ServeOptions, quiet: bool) -> None:
    terminal = terminal_of(options)
    if options.json or not quiet:
        terminal.result(
            {"url": address, "api": f"{address}/api/v1"},
            f"Danqing is open at {address}\nAPI at {address}/api/v1/openapi.json · stop with Ctrl-C",
        )
    if not options.no_browser:
        webbrowser.open(address)
