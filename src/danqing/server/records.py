"""Routes of records: search, picture, thumbnail, infotext, delete and restore."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from pydantic import Field
from starlette.responses import FileResponse, PlainTextResponse, Response

from danqing.server.answers import RecordList
from danqing.server.deps import Id, StudioDep
from danqing.spec.base import Data
from danqing.spec.record import Record

router = APIRouter(tags=["records"])
_IMMUTABLE = "private, max-age=31536000, immutable"
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))
_PICTURE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in _SUFFIXES},
    },
    304: {"description": "The copy with this ETag is still good"},
}


class RecordQuery(Data):
    """Which Records, and which page of them."""

    search: str = Field(default="", max_length=500, description="words in the prompt, or what the picture shows")
    by: Literal["words", "look"] = Field(
        default="words", description="`look` compares `search` with the pictures themselves; best first, in one page"
    )
    kind: str | None = Field(default=None, max_length=32)
    model: str | None = Field(default=None, max_length=256)
    limit: int = Field(default=50, ge=1, le=500)
    before: str | None = Field(default=None, pattern=r"^[0-9A-Za-z_-]{1,64}$", description="`next` of a page")
    include_deleted: bool = False


@router.get("/records")
def list_records(studio: StudioDep, query: Annotated[RecordQuery, Query()]) -> RecordList:
    """Records, newest first, a page at a time; or by look, best first."""
    more: dict[str, Any] = query.model_dump(exclude={"by"}) | {"limit": query.limit + 1}
    if query.by == "look":
        more |= {"limit": query.limit}
        return RecordList(records=[found.record for found in studio.search(more.pop("search"), **more)])
    found = studio.records(**more)
    page = found[: query.limit]
    return RecordList(records=page, next=page[-1].id if len(found) > query.limit else None)


@router.get("/records/{record_id}")
def read_record(record_id: Id, studio: StudioDep) -> Record:
    """One Record with its Plan."""
    return studio.record(record_id)


@router.delete("/records/{record_id}")
def delete_record(record_id: Id, studio: StudioDep) -> Record:
    """Put a Record in the bin; it can be restored inside the undo window."""
    return studio.delete_record(record_id)


@router.post("/records/{record_id}/restore")
def restore_record(record_id: Id, studio: StudioDep) -> Record:
    """Take a Record out of the bin."""
    return studio.restore_record(record_id)


@router.get("/records/{record_id}/picture", response_class=Response, responses=_PICTURE_ANSWERS)
def picture(
    record_id: Id,
    studio: StudioDep,
    download: Annotated[bool, Query(description="ask the browser to save it")] = False,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The picture as it was painted, metadata included."""
    record = studio.record(record_id)
    headers = _cache_headers(record.picture)
    if _matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    name = f"danqing-{record.id}.{_SUFFIXES.get(record.media_type, 'png')}"
    headers["Content-Disposition"] = f'{"attachment" if download else "inline"}; filename="{name}"'
    return FileResponse(studio.picture_path(record.picture), media_type=record.media_type, headers=headers)


@router.get("/records/{record_id}/thumbnail", response_class=Response, responses=_PICTURE_ANSWERS)
def thumbnail(record_id: Id, studio: StudioDep, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A small copy of the picture."""
    record = studio.record(record_id)
    headers = _cache_headers(record.thumbnail or f"{record.picture}-small")
    if _matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    content = studio.thumbnail_bytes(record_id)
    media_type = next((media for magic, media in _MAGIC if content.startswith(magic)), "application/octet-stream")
    return Response(content, media_type=media_type, headers=headers)


@router.get("/records/{record_id}/infotext", response_class=PlainTextResponse)
def infotext(record_id: Id, studio: StudioDep) -> str:
    """The infotext, in the form A1111 writes it."""
    return studio.record(record_id).infotext


def _cache_headers(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"', "Cache-Control": _IMMUTABLE}


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
