"""The route that makes a control map, so that it can be seen before it is painted with."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool

from danqing.server.bodies import read_json_object, upload_inline, validated
from danqing.server.deps import StudioDep
from danqing.studio.annotating import AnnotateRequest, annotate

router = APIRouter(tags=["pictures"])
_ANNOTATE: TypeAdapter[AnnotateRequest] = TypeAdapter(AnnotateRequest)
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/AnnotateRequest"},
            "examples": {
                "record": {
                    "summary": "The outlines of a Record",
                    "value": {"image": "record:01J00000000000000000000000", "annotator": "canny"},
                }
            },
        }
    },
}


class AnnotateAnswer(BaseModel):
    """The control map: `ref` names it in a Request, `/pictures/<sha256>` gives the file."""

    ref: str
    sha256: str
    width_px: int
    height_px: int
    media_type: str
    annotator: str
    method: str = Field(description="`classical` (a formula) or `learned` (a network)")
    control_class: str = Field(description="`line`, `block`, `detail`, `pose` or `other`")
    params: dict[str, Any] = Field(description="every setting it was made with")


@router.post("/annotate", openapi_extra={"requestBody": _BODY})
async def make_map(request: HttpRequest, studio: StudioDep) -> AnnotateAnswer:
    """Make the control map of a picture (what A1111 calls a preprocessor). `image` may be a data: URI."""
    data = await read_json_object(request)
    await upload_inline(data, "image", studio)
    made = await run_in_threadpool(annotate, studio, validated(_ANNOTATE, data))
    return AnnotateAnswer(
        ref=f"sha256:{made.picture.sha256}",
        sha256=made.picture.sha256,
        width_px=made.picture.width_px,
        height_px=made.picture.height_px,
        media_type=made.picture.media_type,
        annotator=made.annotator.key,
        method=made.annotator.method,
        control_class=made.annotator.control_class,
        params=made.params,
    )
