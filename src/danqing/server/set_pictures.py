"""Routes of the pictures of a training set: the grid, files, masks, changes to one or many."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi import Request as HttpRequest
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from danqing.server.bodies import read_json_object, read_multipart_file, validated
from danqing.server.deps import StudioDep
from danqing.server.examples import FILE_BODY
from danqing.server.projects import json_body
from danqing.server.set_bodies import (
    FilesBody,
    Only,
    PictureChangeBody,
    PicturePage,
    PictureRow,
    picture_page,
    picture_row,
)
from danqing.server.training_sets import Name
from danqing.sets.folder import CONDITIONING, MASKS, PICTURES
from danqing.spec.training_edit import EditReport
from danqing.store.blobs import MEDIA_TYPES
from danqing.store.thumbnails import THUMBNAIL_TYPE

router = APIRouter(tags=["training sets"])
File = Annotated[str, Path(min_length=1, max_length=255, description="name of a picture in the set")]
Upload = Annotated[tuple[bytes, str], Depends(read_multipart_file)]
_CHANGES: TypeAdapter[PictureChangeBody] = TypeAdapter(PictureChangeBody)
_FILES: TypeAdapter[FilesBody] = TypeAdapter(FilesBody)
_KEPT = "private, max-age=31536000, immutable"
_FRESH = "private, no-cache"
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in (*MEDIA_TYPES.values(),)},
    }
}
Version = Annotated[str, Query(max_length=64, description="with it the answer may be kept for ever")]


@router.get("/training/sets/{name}/pictures")
def pictures(
    name: Name,
    studio: StudioDep,
    only: Annotated[Only | None, Query(description="a complaint, or a kind of picture")] = None,
    search: Annotated[str, Query(max_length=500, description="in captions and names")] = "",
    after: Annotated[str | None, Query(max_length=255, description="`next` of a page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> PicturePage:
    """Pictures by name, a page at a time, with what the trainer will read for each."""
    return picture_page(studio.training_sets.get(name), only, search, after, limit)


@router.patch(
    "/training/sets/{name}/pictures",
    openapi_extra=json_body("PictureChangeBody", changes={"crop_way": "subject", "aspect": 1.0}, files=["cat.png"]),
)
async def change(name: Name, request: HttpRequest, studio: StudioDep) -> EditReport:
    """Caption, crop, repeats, class picture or not; of some pictures or of all."""
    body = validated(_CHANGES, await read_json_object(request))
    return await run_in_threadpool(lambda: studio.training_sets.change_pictures(name, body.changes, body.files))


@router.post("/training/sets/{name}/pictures/remove", openapi_extra=json_body("FilesBody", files=["cat.png"]))
async def remove(name: Name, request: HttpRequest, studio: StudioDep) -> EditReport:
    """Take pictures out of a set; an undo brings them back."""
    body = validated(_FILES, await read_json_object(request))
    return await run_in_threadpool(lambda: studio.training_sets.remove_pictures(name, body.files))


@router.get("/training/sets/{name}/pictures/{file}")
def read(name: Name, file: File, studio: StudioDep) -> PictureRow:
    """One picture of a set."""
    return picture_row(studio.training_sets.get(name), studio.training_sets.picture(name, file))


@router.get("/training/sets/{name}/pictures/{file}/thumbnail", response_class=Response, responses=_PICTURE)
def thumbnail(name: Name, file: File, studio: StudioDep, v: Version = "") -> Response:
    """A small copy, cut to the crop."""
    content = studio.training_sets.thumbnail(name, file)
    return Response(content, media_type=THUMBNAIL_TYPE, headers={"Cache-Control": _KEPT if v else _FRESH})


@router.get("/training/sets/{name}/pictures/{file}/image", response_class=Response, responses=_PICTURE)
def image(name: Name, file: File, studio: StudioDep, v: Version = "") -> Response:
    """The picture as it lies in the set."""
    return _file(studio, (name, file, PICTURES), v)


@router.get("/training/sets/{name}/pictures/{file}/mask", response_class=Response, responses=_PICTURE)
def mask(name: Name, file: File, studio: StudioDep, v: Version = "") -> Response:
    """Its mask: white where it counts."""
    return _file(studio, (name, file, MASKS), v)


@router.put("/training/sets/{name}/pictures/{file}/mask", openapi_extra={"requestBody": FILE_BODY})
def set_mask(name: Name, file: File, studio: StudioDep, upload: Upload) -> PictureRow:
    """Give it a mask: white where the picture counts, or by its alpha channel."""
    changed = studio.training_sets.set_mask(name, file, upload[0])
    return picture_row(studio.training_sets.get(name), changed)


@router.delete("/training/sets/{name}/pictures/{file}/mask")
def remove_mask(name: Name, file: File, studio: StudioDep) -> PictureRow:
    """Take its mask away."""
    changed = studio.training_sets.set_mask(name, file, None)
    return picture_row(studio.training_sets.get(name), changed)


@router.get("/training/sets/{name}/pictures/{file}/conditioning", response_class=Response, responses=_PICTURE)
def conditioning(name: Name, file: File, studio: StudioDep, v: Version = "") -> Response:
    """Its control map, or the picture before it."""
    return _file(studio, (name, file, CONDITIONING), v)


@router.put("/training/sets/{name}/pictures/{file}/conditioning", openapi_extra={"requestBody": FILE_BODY})
def set_conditioning(name: Name, file: File, studio: StudioDep, upload: Upload) -> PictureRow:
    """Give it a control map, or the picture before it."""
    changed = studio.training_sets.set_conditioning(name, file, upload[0])
    return picture_row(studio.training_sets.get(name), changed)


@router.delete("/training/sets/{name}/pictures/{file}/conditioning")
def remove_conditioning(name: Name, file: File, studio: StudioDep) -> PictureRow:
    """Take its control map away."""
    changed = studio.training_sets.set_conditioning(name, file, None)
    return picture_row(studio.training_sets.get(name), changed)


def _file(studio: StudioDep, which: tuple[str, str, str], v: str) -> Response:
    path = studio.training_sets.picture_file(*which)
    media_type = {**MEDIA_TYPES, ".jpeg": "image/jpeg"}.get(path.suffix.lower(), "image/png")
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": _KEPT if v else _FRESH})
