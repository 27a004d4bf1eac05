"""What the page's JavaScript asks for directly: pictures, history, events of a job, uploads, its own files.

Every answer is small JSON or a stored blob. Whatever changes something needs the header `X-Danqing: page`, which a
foreign site cannot send without the browser asking first.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from danqing.spec.errors import BadFileError, DanqingError
from danqing.spec.events import StateEvent
from danqing.spec.geometry import Margins
from danqing.spec.record import Record
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule
from danqing.studio.refiner import REFINING
from danqing.web.answers import PREFIX, from_page, language_of, refused, summary
from danqing.web.choosing import networks_router
from danqing.web.drafts import DRAFTS
from danqing.web.errors import explain
from danqing.web.exploring import add_exploring
from danqing.web.fields import label
from danqing.web.i18n import LANGUAGES, words
from danqing.web.joining import add_joining
from danqing.web.kept import add_files
from danqing.web.looking import controls_router, drag_router, looking_router
from danqing.web.share.page import add_share_page

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_PAGE = 40
_FILE_NAME = r"^[0-9A-Za-z_-]{0,80}$"


def add_routes(app: FastAPI, studio: Studio, upload_max_bytes: int) -> None:
    """Register everything under `/web` on the application, and the client's page where links can be shared."""
    if (share_app := getattr(app.state, "share_app", None)) is not None:
        add_share_page(share_app)
    add_files(app)
    app.include_router(_words_router())
    app.include_router(_history_router(studio))
    app.include_router(_pictures_router(studio))
    app.include_router(_jobs_router(studio))
    app.include_router(_uploads_router(studio, upload_max_bytes))
    app.include_router(looking_router(studio))
    app.include_router(controls_router(studio))
    app.include_router(drag_router(studio))
    app.include_router(networks_router(studio))
    add_joining(app, studio)
    add_exploring(app, studio)


def _words_router() -> APIRouter:
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.get("/i18n/{language}.json")
    def strings(language: str) -> JSONResponse:
        if language not in LANGUAGES:
            raise HTTPException(status_code=404)
        return JSONResponse(dict(words(language)), headers={"Cache-Control": "no-cache"})

    return router


def _details(record: Record) -> dict[str, Any]:
    base = record.plan.base
    return {
        **summary(record),
        "negative": base.text.negative_prompt,
        "sampler": label(find_sampler, base.sampling.sampler),
        "schedule": label(find_schedule, base.sampling.schedule),
        "steps": base.sampling.steps,
        "cfg": base.guidance_scale,
        "strength": base.strength,
        "model": base.model.name,
        "passes": len(record.plan.passes),
        "kind": record.plan.kind,
        "seconds": round(record.timings.total_s, 1),
        "created_at": record.created_at.isoformat(),
        "infotext": record.infotext,
        "notes": list(record.plan.notes),
        "parent": record.parent,
        "before": _before(record),
        "media_type": record.media_type,
    }


def _before(record: Record) -> dict[str, Any] | None:
    """What to compare a picture with: the one it was painted over, else the one it revises; None without either.

    Returns:
        `ref`, `resize` (how it was brought to size) and `margins` (left, top, right, bottom; px of the old picture).
    """
    plan = record.plan
    if plan.init is not None:
        around = plan.outpaint.margins if plan.outpaint else Margins()
        margins = [around.left_px, around.top_px, around.right_px, around.bottom_px]
        return {"ref": f"sha256:{plan.init.image}", "resize": plan.init.resize_mode, "margins": margins}
    parent = record.parent or plan.parent
    return {"ref": f"record:{parent}", "resize": "fill", "margins": [0, 0, 0, 0]} if parent else None


def _history_router(studio: Studio) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/records", include_in_schema=False)

    @router.get("")
    def records(search: str = "", before: str | None = None) -> JSONResponse:
        found = studio.records(search=search[:200], limit=_PAGE, before=before)
        return JSONResponse({"records": [summary(r) for r in found], "more": len(found) == _PAGE})

    @router.get("/{record_id}")
    def record(record_id: str, request: Request) -> JSONResponse:
        try:
            return JSONResponse(_details(studio.record(record_id)))
        except DanqingError as error:
            return refused(error, request)

    @router.delete("/{record_id}", dependencies=[Depends(from_page)])
    def delete(record_id: str, request: Request) -> JSONResponse:
        try:
            return JSONResponse(summary(studio.delete_record(record_id)))
        except DanqingError as error:
            return refused(error, request)

    @router.post("/{record_id}/restore", dependencies=[Depends(from_page)])
    def restore(record_id: str, request: Request) -> JSONResponse:
        try:
            return JSONResponse(summary(studio.restore_record(record_id)))
        except DanqingError as error:
            return refused(error, request)

    return router


def _pictures_router(studio: Studio) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/records", include_in_schema=False)

    @router.get("/{record_id}/picture")
    def picture(record_id: str, request: Request, download: Annotated[bool, Query()] = False) -> Response:
        try:
            found = studio.record(record_id)
            data = studio.picture_bytes(found.picture)
        except DanqingError as error:
            return refused(error, request)
        named = _attachment(f"danqing-{found.id}" if download else "", found.media_type)
        return Response(data, media_type=found.media_type, headers=_IMMUTABLE | named)

    @router.get("/{record_id}/thumbnail")
    def thumbnail(record_id: str, request: Request) -> Response:
        try:
            data = studio.thumbnail_bytes(record_id)
        except DanqingError as error:
            return refused(error, request)
        return Response(data, media_type=_media_type(data), headers=_IMMUTABLE)

    return router


def _jobs_router(studio: Studio) -> APIRouter:
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.get("/status")
    def status() -> JSONResponse:
        jobs = studio.jobs(states=("queued", "running"), limit=200)
        shown = [
            {"id": job.id, "count": len(job.plans), "size": [job.plans[0].size.width_px, job.plans[0].size.height_px]}
            for job in reversed(jobs)
            if job.plans and job.user not in (DRAFTS, REFINING)
        ]
        return JSONResponse({"waiting": len(jobs), "jobs": shown})

    @router.post("/jobs/{job_id}/cancel", dependencies=[Depends(from_page)])
    def cancel(job_id: str, request: Request) -> JSONResponse:
        try:
            return JSONResponse({"state": studio.cancel(job_id).state})
        except DanqingError as error:
            return refused(error, request)

    @router.get("/jobs/{job_id}/events", response_model=None)
    async def events(
        job_id: str, request: Request, last_event_id: Annotated[str, Header()] = "0"
    ) -> EventSourceResponse | JSONResponse:
        try:
            await run_in_threadpool(studio.job, job_id)
        except DanqingError as error:
            return refused(error, request)
        after = int(last_event_id) if last_event_id.isdigit() else 0
        return EventSourceResponse(_stream(studio, job_id, after, language_of(request)))

    return router


async def _stream(studio: Studio, job_id: str, after: int, language: str) -> AsyncIterator[ServerSentEvent]:
    async for number, event in studio.awatch(job_id, after=after):
        data = event.model_dump(mode="json")
        if isinstance(event, StateEvent) and event.error:
            data["shown"] = explain(DanqingError.from_dict(event.error), language)
        yield ServerSentEvent(data=json.dumps(data, ensure_ascii=False), id=str(number))


def _uploads_router(studio: Studio, upload_max_bytes: int) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/uploads", include_in_schema=False)

    @router.post("", dependencies=[Depends(from_page)])
    async def upload(request: Request) -> JSONResponse:
        try:
            data = await _limited_body(request, upload_max_bytes)
            kept = await run_in_threadpool(studio.upload, data)
        except DanqingError as error:
            return refused(error, request)
        return JSONResponse({"ref": f"sha256:{kept.sha256}", "width_px": kept.width_px, "height_px": kept.height_px})

    @router.get("/{sha256}")
    def uploaded(sha256: str, request: Request, name: Annotated[str, Query(pattern=_FILE_NAME)] = "") -> Response:
        try:
            data = studio.picture_bytes(sha256)
        except DanqingError as error:
            return refused(error, request)
        media_type = _media_type(data)
        return Response(data, media_type=media_type, headers=_IMMUTABLE | _attachment(name, media_type))

    return router


async def _limited_body(request: Request, limit_bytes: int) -> bytes:
    """The body, read no further than the limit."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise BadFileError(
                "the file is too large",
                field="image",
                value=f"more than {limit_bytes} bytes",
                allowed=f"at most {limit_bytes} bytes",
                next_step="make it smaller and choose it again",
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _attachment(name: str, media_type: str) -> dict[str, str]:
    """The header that makes a browser save the picture under this name; none where there is no name."""
    suffix = media_type.rpartition("/")[2].replace("jpeg", "jpg")
    return {"Content-Disposition": f'attachment; filename="{name}.{suffix}"'} if name else {}


def _media_type(data: bytes) -> str:
    """The type of a stored picture by its first bytes; never anything a browser would run."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream"
