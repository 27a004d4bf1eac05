"""What a client reaches: `/share/{token}/api`, without an account and without the studio's password, and nothing else.

An application of its own, mounted as a whole, so that no path below `/share` ever comes to another route of the studio.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter, Depends, FastAPI, Header, Query
from fastapi import Request as HttpRequest
from pydantic import Field, TypeAdapter
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from danqing.server import problems
from danqing.server.bodies import read_json_object, validated
from danqing.server.deps import Id, StudioDep
from danqing.server.limits import Buckets, Pages, Seats, ShareLimits
from danqing.server.projects import json_body
from danqing.server.reviews import REVIEW, REVIEW_BODY
from danqing.spec.base import Data
from danqing.spec.errors import DanqingError, NotFoundError
from danqing.spec.share import ProjectEvent, SharedReview, SharePage
from danqing.store.projects_base import OpenShare
from danqing.studio.locks import PASS_LASTS
from danqing.studio.sharing import shared_review

if TYPE_CHECKING:
    from danqing.studio.service import Studio

SHARE_PATH = "/share"
COOKIE = "danqing_share"
HEARTBEAT_S = 15
RECONNECT_MS = 2000
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture, without metadata",
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in _SUFFIXES},
    },
    304: {"description": "The copy with this ETag is still good"},
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "shown, hidden, review, suggestion, changed, closed; the stream ends after `closed`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
router = APIRouter(prefix="/{token}/api", tags=["share"])


class UnlockBody(Data):
    """The password of a share."""

    password: str = Field(max_length=200, repr=False)


_UNLOCK: TypeAdapter[UnlockBody] = TypeAdapter(UnlockBody)
BODIES = (UnlockBody,)


class Doorkeeper:
    """The limits of one server process."""

    def __init__(self, limits: ShareLimits) -> None:
        self.reads = Buckets(limits.reads)
        self.writes = Buckets(limits.writes)
        self.unlocks = Buckets(limits.unlocks)
        self.streams = Seats(limits.streams)
        self.pages = Pages()


def create_share_app(studio: Studio, limits: ShareLimits | None = None) -> FastAPI:
    """The application below `/share`. Pages for clients are added to it (`app.state.share_app`)."""
    app = FastAPI(title="Danqing: shares", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.studio = studio
    app.state.doorkeeper = Doorkeeper(limits or ShareLimits())
    problems.install(app)
    app.include_router(router)
    return app


def _doorkeeper(request: HttpRequest) -> Doorkeeper:
    return cast("Doorkeeper", request.app.state.doorkeeper)


DoorDep = Annotated[Doorkeeper, Depends(_doorkeeper)]


def _opened(token: str, studio: StudioDep) -> OpenShare:
    return studio.open_share(token)


OpenedDep = Annotated[OpenShare, Depends(_opened)]


def _reading(request: HttpRequest, opened: OpenedDep, studio: StudioDep, door: DoorDep) -> OpenShare:
    """A share that was opened, also by its password."""
    door.reads.take(opened.share.id)
    studio.check_pass(opened, request.cookies.get(COOKIE))
    return opened


ReadingDep = Annotated[OpenShare, Depends(_reading)]


@router.get("/state", response_model=SharePage)
def state(token: str, request: HttpRequest, opened: OpenedDep, studio: StudioDep) -> Response:
    """All that the share shows; next to nothing while it is locked."""
    door = _doorkeeper(request)
    door.reads.take(opened.share.id)
    try:
        studio.check_pass(opened, request.cookies.get(COOKIE))
    except DanqingError:
        text = studio.share_page(opened, token, locked=True).model_dump_json()
    else:
        key = (opened.share, token, studio.share_mark())
        text = door.pages.get(key, lambda: studio.share_page(opened, token).model_dump_json())
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.post("/unlock", openapi_extra=json_body("UnlockBody", password="spring-2027"))  # noqa: S106
async def unlock(
    token: str, request: HttpRequest, response: Response, opened: OpenedDep, studio: StudioDep
) -> SharePage:
    """Give the password; the answer sets a cookie for this share alone."""
    _doorkeeper(request).unlocks.take(opened.share.id)
    body = validated(_UNLOCK, await read_json_object(request))
    shown = await run_in_threadpool(studio.unlock_share, opened, body.password)
    response.set_cookie(
        COOKIE,
        shown,
        max_age=int(PASS_LASTS.total_seconds()),
        path=f"{SHARE_PATH}/{token}",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    response.headers["Cache-Control"] = "no-store"
    return await run_in_threadpool(studio.share_page, opened, token)


@router.get("/versions/{version_id}/picture", response_class=Response, responses=_PICTURE)
def picture(
    version_id: Id,
    opened: ReadingDep,
    studio: StudioDep,
    download: Annotated[bool, Query(description="ask the browser to save it")] = False,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A picture that the share shows, with no word of how it was made."""
    record = studio.shared_record(opened, version_id)
    headers = _headers(f"{record.picture}-plain")
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    record, data = studio.shared_picture(opened, version_id)
    name = f"{record.id}.{_SUFFIXES.get(record.media_type, 'png')}"
    headers["Content-Disposition"] = f'{"attachment" if download else "inline"}; filename="{name}"'
    return Response(data, media_type=record.media_type, headers=headers)


@router.get("/versions/{version_id}/thumbnail", response_class=Response, responses=_PICTURE)
def thumbnail(
    version_id: Id, opened: ReadingDep, studio: StudioDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """A small copy of it."""
    headers = _headers(f"{studio.shared_record(opened, version_id).picture}-small")
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    data = studio.shared_thumbnail(opened, version_id)
    media_type = "image/webp" if data.startswith(b"RIFF") else "image/png" if data[1:4] == b"PNG" else "image/jpeg"
    return Response(data, media_type=media_type, headers=headers)


@router.post(
    "/reviews",
    status_code=201,
    openapi_extra=REVIEW_BODY,
    responses={200: {"model": SharedReview, "description": "This review was sent before"}},
)
async def send_review(
    request: HttpRequest, response: Response, opened: ReadingDep, studio: StudioDep, door: DoorDep
) -> SharedReview:
    """Say something of a version. Sending it again with the same key changes nothing."""
    door.writes.take(opened.share.id)
    body = validated(REVIEW, await read_json_object(request))
    review, fresh = await run_in_threadpool(studio.send_review, opened, body)
    response.status_code = 201 if fresh else 200
    return shared_review(review, set(opened.share.records))


@router.get("/events", response_class=EventSourceResponse, responses=_EVENTS)
async def events(
    token: str,
    request: HttpRequest,
    opened: ReadingDep,
    studio: StudioDep,
    after: Annotated[int, Query(ge=-1, description="`last_event` of the state, or of the last one seen")] = -1,
    last_event_id: Annotated[int | None, Header(ge=0, description="the same, as browsers send it")] = None,
) -> Response:
    """What happens on the share, live; resumes where `Last-Event-ID` says."""
    seen = after if last_event_id is None else max(after, last_event_id)
    watching = _Watching(studio, token, opened, request.cookies.get(COOKIE))
    streams = _doorkeeper(request).streams
    streams.check(opened.share.id)
    return EventSourceResponse(watching.sent(seen, streams), ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


class _Watching:
    """One client's event stream."""

    def __init__(self, studio: Studio, token: str, opened: OpenShare, shown_pass: str | None) -> None:
        self.studio = studio
        self.token = token
        self.opened = opened
        self.shown_pass = shown_pass

    async def sent(self, after: int, streams: Seats) -> AsyncIterator[ServerSentEvent]:
        """The client's events, until the share closes."""
        number = max(after, 0)
        following = self.studio.share_events(self.opened, after=after)
        with streams.seat(self.opened.share.id):
            async with contextlib.aclosing(following) as stream:
                while (event := await self._next(stream)) is not None:
                    number = event.number
                    if event.kind in ("share", "project") and not await run_in_threadpool(self._is_open):
                        break
                    if event.share == self.opened.share.id:
                        yield _sent(number, "changed" if event.kind == "share" else event.kind, _told(event))
        yield _sent(number, "closed", {})

    async def _next(self, stream: AsyncGenerator[ProjectEvent]) -> ProjectEvent | None:
        """The next event; None when the share expires or the studio closes first."""
        expires_at = self.opened.share.expires_at
        left_s = None if expires_at is None else max(0.0, (expires_at - datetime.now(UTC)).total_seconds())
        coming = asyncio.ensure_future(_or_none(stream))
        try:
            done, _ = await asyncio.wait({coming}, timeout=left_s)
            return coming.result() if done else None
        finally:
            if not coming.done():  # the stream can be closed only when nobody waits for it
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    def _is_open(self) -> bool:
        """Whether link and pass still open it; brings its expiry up to date."""
        try:
            opened = self.studio.open_share(self.token)
            self.studio.check_pass(opened, self.shown_pass)
        except NotFoundError:
            return False
        except DanqingError:  # another password: the client reads the state and is asked for it
            return False
        self.opened = opened
        return True


async def _or_none(stream: AsyncGenerator[ProjectEvent]) -> ProjectEvent | None:
    return await anext(stream, None)


def _told(event: ProjectEvent) -> dict[str, str | None]:
    if event.kind == "share":
        return {}
    if event.kind in ("shown", "hidden"):
        return {"version": event.record}
    if event.kind == "suggestion":
        return {"suggestion": event.suggestion, "review": event.review}
    return {"review": event.review, "version": event.record}


def _sent(number: int, kind: str, data: dict[str, str | None]) -> ServerSentEvent:
    return ServerSentEvent(id=str(number), event=kind, data=json.dumps(data), retry=RECONNECT_MS)


def _headers(tag: str) -> dict[str, str]:
    # Asked again each time, so that a revoked link shows nothing from a cache in between.
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
