"""Routes that take a file: uploads and the reading of a picture's own metadata."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from danqing.server.answers import ReadPictureAnswer, UploadAnswer
from danqing.server.bodies import read_multipart_file
from danqing.server.deps import StudioDep
from danqing.server.examples import FILE_BODY

router = APIRouter(tags=["pictures"])
File = Annotated[tuple[bytes, str], Depends(read_multipart_file)]


@router.post("/uploads", status_code=201, openapi_extra={"requestBody": FILE_BODY})
def upload(studio: StudioDep, file: File) -> UploadAnswer:
    """Store a PNG, JPEG or WebP picture, to be named in a Request."""
    stored = studio.upload(file[0], name=file[1])
    return UploadAnswer(
        ref=f"sha256:{stored.sha256}",
        sha256=stored.sha256,
        width_px=stored.width_px,
        height_px=stored.height_px,
        media_type=stored.media_type,
    )


@router.post("/read-picture", openapi_extra={"requestBody": FILE_BODY})
def read_picture(studio: StudioDep, file: File) -> ReadPictureAnswer:
    """The Request that a picture (of Danqing or A1111) was painted from."""
    return ReadPictureAnswer(request=studio.request_of_picture(file[0]))
