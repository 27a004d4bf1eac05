"""The route that shows a drag while it is being drawn."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from danqing.server.bodies import PICTURE_FIELDS, read_json_object, upload_inline, validated
from danqing.server.deps import StudioDep
from danqing.studio.dragging import DragPreviewRequest, preview_drag

router = APIRouter(tags=["pictures"])
_PREVIEW: TypeAdapter[DragPreviewRequest] = TypeAdapter(DragPreviewRequest)
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/DragPreviewRequest"},
            "examples": {
                "record": {
                    "summary": "A point of a Record, 20 pixels to the right",
                    "value": {
                        "image": "record:01J00000000000000000000000",
                        "points": [{"from_x_px": 40, "from_y_px": 22, "to_x_px": 60, "to_y_px": 22}],
                    },
                }
            },
        }
    },
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pulled picture; places that were stretched or emptied are not painted anew yet",
        "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "Danqing-Repaired": {"description": "share of it that is then painted anew", "schema": {"type": "number"}}
        },
    }
}


@router.post("/drag/preview", openapi_extra={"requestBody": _BODY}, response_class=Response, responses=_PICTURE)
async def preview(request: HttpRequest, studio: StudioDep) -> Response:
    """What a drag will roughly look like, within milliseconds: no model is asked. `image`, `mask` may be data: URIs."""
    data = await read_json_object(request)
    for name in PICTURE_FIELDS:
        await upload_inline(data, name, studio)
    shown = await run_in_threadpool(preview_drag, studio, validated(_PREVIEW, data))
    headers = {"Danqing-Repaired": f"{shown.repaired:.4f}", "Cache-Control": "no-store"}
    return Response(shown.content, media_type="image/webp", headers=headers)
