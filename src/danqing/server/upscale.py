"""Routes that make pictures larger, and the way to fetch any stored picture by its hash."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from danqing.server.bodies import read_json_object, upload_inline, validated
from danqing.server.deps import StudioDep
from danqing.spec.upscale import UpscaleRequest

router = APIRouter(tags=["pictures"])
_UPSCALE: TypeAdapter[UpscaleRequest] = TypeAdapter(UpscaleRequest)
_HASH = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="sha256 of a stored picture")]
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/UpscaleRequest"},
            "examples": {
                "record": {
                    "summary": "A Record, four times larger",
                    "value": {"image": "record:01J00000000000000000000000", "scale": 4},
                }
            },
        }
    },
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for _, media in _MAGIC},
    }
}


class UpscaleAnswer(BaseModel):
    """The larger picture: `ref` names it in a Request, `/pictures/<sha256>` gives the file."""

    ref: str
    sha256: str
    width_px: int
    height_px: int
    media_type: str
    upscaler: str
    notes: list[str]
    seconds: float = Field(description="in the worker")


@router.post("/upscale", openapi_extra={"requestBody": _BODY})
async def upscale(request: HttpRequest, studio: StudioDep) -> UpscaleAnswer:
    """Make a picture larger; answers when that is done. `image` may be a data: URI."""
    data = await read_json_object(request)
    await upload_inline(data, "image", studio)
    done = await run_in_threadpool(studio.upscale, validated(_UPSCALE, data))
    picture = done.picture
    return UpscaleAnswer(
        ref=f"sha256:{picture.sha256}",
        sha256=picture.sha256,
        width_px=picture.width_px,
        height_px=picture.height_px,
        media_type=picture.media_type,
        upscaler=done.plan.upscaler,
        notes=list(done.plan.notes),
        seconds=done.seconds,
    )


@router.get("/pictures/{sha256}", response_class=Response, responses=_PICTURE)
def stored_picture(sha256: _HASH, studio: StudioDep) -> Response:
    """A stored picture: an upload, or one that was made larger."""
    path = studio.picture_path(sha256)
    with path.open("rb") as file:
        head = file.read(8)
    media_type = next((media for magic, media in _MAGIC if head.startswith(magic)), "application/octet-stream")
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type=media_type, headers=headers)
