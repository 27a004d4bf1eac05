"""ASGI middleware in front of every route: headers, host, origin, password, size of bodies."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from danqing.server.errors import AuthenticationError, BodyTooLargeError, ForeignOriginError, HostError
from danqing.server.problems import problem_response
from danqing.spec.errors import DanqingError
from danqing.studio.settings import is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SETS = re.compile(r"^/api/v1/training/sets/[^/]+/(?:files|pictures/[^/]+/(?:mask|conditioning))$")
SET_UPLOAD_FACTOR = 16
"""A ZIP of training pictures, or many at once, may be so many times larger than one picture."""
_PICTURES_IN_JSON = frozenset(
    f"/api/v1/{name}" for name in ("jobs", "reproduce", "interrogate", "score", "records/search", "upscale", "annotate")
)
OPEN_PATHS = frozenset({"/api/v1/health"})
SHARE_PREFIX = "/share/"
"""Below it is one application that opens nothing without a token (`server.share`): neither the studio's password nor
its own name is asked for, so that a link also works through a tunnel that the studio itself cannot be reached by."""
SHARE_MAX_BYTES = 256 * 1024
JSON_MAX_BYTES = 1024 * 1024
MULTIPART_OVERHEAD_BYTES = 64 * 1024
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Responses of the API are data: were one opened as a page, it may load and run nothing.
_API_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'; sandbox"
_SHARE_HEADERS = {
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address is the key
    "X-Robots-Tag": "noindex, nofollow",
}
_SHARE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Gradio's pages carry inline scripts and compile templates; nothing may come from, or go to, another machine.
_PAGE_CSP = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)


@dataclass(frozen=True)
class GuardRules:
    """What the guard holds to.

    Attributes:
        host: The address the server listens on.
        password: Needed for every request but health, if set.
        upload_max_bytes: Largest uploaded file.
    """

    host: str
    password: str | None
    upload_max_bytes: int

    def body_limit(self, path: str) -> int:
        """The most bytes a body to this path may have."""
        if path in {"/api/v1/uploads", "/api/v1/read-picture"}:
            return self.upload_max_bytes + MULTIPART_OVERHEAD_BYTES
        if _SETS.match(path):
            pictures = SET_UPLOAD_FACTOR if path.endswith("/files") else 1
            return self.upload_max_bytes * pictures + MULTIPART_OVERHEAD_BYTES
        if path in _PICTURES_IN_JSON:  # two pictures as base64 (4/3) and the words
            return self.upload_max_bytes * 8 // 3 + JSON_MAX_BYTES
        if path.startswith("/api/"):
            return JSON_MAX_BYTES
        if path.startswith(SHARE_PREFIX):
            return SHARE_MAX_BYTES
        return self.upload_max_bytes * 4  # the page sends several pictures at once


def _headers(scope: Scope) -> Headers:
    return Headers(scope=scope)


async def _refuse(error: DanqingError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    await problem_response(error)(scope, receive, send)


def _headers_for(path: str) -> dict[str, str]:
    """The headers of an answer, unless it brings its own."""
    if path.startswith("/api/"):
        return {**_SECURITY_HEADERS, "Content-Security-Policy": _API_CSP}
    if path.startswith(SHARE_PREFIX):
        is_data = path.removeprefix(SHARE_PREFIX).partition("/")[2].startswith("api/")
        policy = _API_CSP if is_data else _SHARE_CSP
        return {**_SECURITY_HEADERS, **_SHARE_HEADERS, "Content-Security-Policy": policy}
    return {**_SECURITY_HEADERS, "Content-Security-Policy": _PAGE_CSP}


class SecurityHeaders:
    """Adds the headers that keep a browser from guessing, framing and leaking."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with the headers added to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _headers_for(scope["path"]).items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)


class Guard:
    """Checks host, origin and password, in this order, and counts the bytes of the body."""

    def __init__(self, app: ASGIApp, rules: GuardRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with a problem, or run the application behind a counting `receive`."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        error = self._objection(scope)
        if error is not None:
            await _refuse(error, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        await self.app(scope, self._counting(receive, self.rules.body_limit(scope["path"])), send)

    def _objection(self, scope: Scope) -> DanqingError | None:
        headers = _headers(scope)
        shared = scope["type"] == "http" and scope["path"].startswith(SHARE_PREFIX)
        error = None if shared else self._check_host(headers.get("host", ""))
        error = error or _check_origin(scope, headers)
        if error is None and self.rules.password and not shared and scope["path"] not in OPEN_PATHS:
            error = _check_password(headers.get("authorization", ""), self.rules.password)
        if error is None and scope["type"] == "http":
            error = _check_length(headers.get("content-length"), self.rules.body_limit(scope["path"]))
        return error

    def _check_host(self, host: str) -> DanqingError | None:
        if not is_loopback(self.rules.host):
            return None
        name = _host_name(host)
        if is_loopback(name) or name == self.rules.host:
            return None
        return HostError(
            "this server answers only to this machine's own names",
            field="Host",
            value=host,
            allowed="127.0.0.1, localhost, [::1]",
            next_step="open the studio by the address that `danqing serve` printed",
        )

    @staticmethod
    def _counting(receive: Receive, limit_bytes: int) -> Receive:
        seen_bytes = 0

        async def counted() -> Message:
            nonlocal seen_bytes
            message = await receive()
            if message["type"] == "http.request":
                seen_bytes += len(message.get("body", b""))
                if seen_bytes > limit_bytes:
                    # an HTTPException is the one error that FastAPI's form reader passes on unchanged
                    raise HTTPException(413) from _too_large(seen_bytes, limit_bytes)
            return message

        return counted


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].strip("[]").lower()
    return host.partition(":")[0].lower()


def _check_origin(scope: Scope, headers: Headers) -> DanqingError | None:
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
        return None
    origin = headers.get("origin")
    if origin is None and headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
        return None
    if origin is not None and origin.partition("://")[2].lower() == headers.get("host", "").lower():
        return None
    return ForeignOriginError(
        "a page of another site may not change anything here",
        field="Origin",
        value=origin,
        allowed="requests from the studio's own pages, or without an Origin header",
        next_step="send the request from a program, or from the studio's own page",
    )


def _check_password(authorization: str, password: str) -> DanqingError | None:
    scheme, _, credentials = authorization.partition(" ")
    given: str | None = None
    if scheme.lower() == "bearer":
        # headers arrive as Latin-1; a password in other letters is sent as UTF-8
        given = credentials.strip().encode("latin-1", "replace").decode("utf-8", "replace")
    elif scheme.lower() == "basic":
        try:
            given = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            given = None
    if given is not None and hmac.compare_digest(_digest(given), _digest(password)):
        return None
    return AuthenticationError(
        "this studio asks for a password" if given is None else "the password is wrong",
        field="Authorization",
        allowed="HTTP Basic with any user name, or `Bearer <password>`",
        next_step="send the password that the server was started with",
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _check_length(length: str | None, limit_bytes: int) -> DanqingError | None:
    if length is None or not length.isdecimal() or int(length) <= limit_bytes:
        return None
    return _too_large(int(length), limit_bytes)


def _too_large(size_bytes: int, limit_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        "the body is too large",
        value=f"{size_bytes} bytes or more",
        allowed=f"at most {limit_bytes} bytes",
        next_step="send a smaller file, or raise DANQING_UPLOAD_MAX_BYTES",
    )


def install(app: FastAPI, rules: GuardRules) -> None:
    """Put the guard in front of every route of the application, mounted ones included."""
    options: dict[str, Any] = {"rules": rules}
    app.add_middleware(Guard, **options)
    app.add_middleware(SecurityHeaders)
