"""Routes of comparisons: the axes there are, beginning one, looking at it, its sheet."""

from __future__ import annotations

import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from danqing.server.bodies import read_json_object, upload_pictures, validated
from danqing.server.deps import Id, StudioDep
from danqing.spec.explore import Exploration, ExploreRequest
from danqing.spec.registry.axes import AXES
from danqing.studio.sheet import SheetLook

router = APIRouter(tags=["explore"])
_EXPLORE: TypeAdapter[ExploreRequest] = TypeAdapter(ExploreRequest)
_MEDIA = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
_WEBP_MAX_PX = 16_383
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/ExploreRequest"},
            "examples": {
                "guidance": {
                    "summary": "Guidance against subject",
                    "value": {
                        "request": {"kind": "txt2img", "prompt": "red apple, 3d", "seed": 7},
                        "x": {"axis": "CFG Scale", "values": "1-5 (+2)"},
                        "y": {"axis": "Prompt S/R", "values": "red apple, penguin"},
                    },
                }
            },
        }
    },
}
_SHEET: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The sheet",
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in _MEDIA.values()},
    }
}


class AxisAnswer(BaseModel):
    """Something that can be tried out."""

    key: str
    name: str
    values: str = Field(description="how values are read: integer, number, text, size, order, replace, network")
    example: str
    hint: str


class AxisList(BaseModel):
    """Every axis."""

    axes: list[AxisAnswer]


class PlaceAnswer(BaseModel):
    """One picture of a comparison that is there."""

    x: int
    y: int
    z: int
    record: str


class ExplorationAnswer(BaseModel):
    """A comparison and what is painted of it."""

    exploration: Exploration
    pictures: list[PlaceAnswer]
    waiting: int = Field(description="jobs that have not ended")


class ExplorationList(BaseModel):
    """Comparisons, newest first."""

    explorations: list[Exploration]


@router.get("/axes")
def axes() -> AxisList:
    """What can be compared."""
    return AxisList(
        axes=[AxisAnswer(key=a.key, name=a.name, values=a.values, example=a.example, hint=a.hint) for a in AXES]
    )


@router.post("/explore", status_code=202, openapi_extra={"requestBody": _BODY})
async def explore(request: HttpRequest, response: Response, studio: StudioDep) -> Exploration:
    """Begin a comparison: a job for each place. Nothing is queued if any of them cannot be painted."""
    data = await read_json_object(request)
    if isinstance(data.get("request"), dict):
        data["request"].setdefault("kind", "txt2img")
        await upload_pictures(data["request"], studio)
    found = await run_in_threadpool(studio.explore, validated(_EXPLORE, data))
    response.headers["Location"] = f"/api/v1/explore/{found.id}"
    return found


@router.get("/explore")
def explorations(studio: StudioDep, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> ExplorationList:
    """Comparisons, newest first."""
    return ExplorationList(explorations=studio.explorations(limit))


@router.get("/explore/{exploration_id}")
def exploration(exploration_id: Id, studio: StudioDep) -> ExplorationAnswer:
    """A comparison and what is painted of it."""
    found = studio.exploration(exploration_id)
    records = studio.exploration_records(exploration_id)
    places = [PlaceAnswer(x=x, y=y, z=z, record=record.id) for (x, y, z), record in sorted(records.items())]
    waiting = sum(not studio.job(cell.job).is_final for cell in found.cells)
    return ExplorationAnswer(exploration=found, pictures=places, waiting=waiting)


@router.post("/explore/{exploration_id}/cancel")
def cancel(exploration_id: Id, studio: StudioDep) -> ExplorationAnswer:
    """Stop what is not painted yet; finished pictures stay."""
    studio.cancel_exploration(exploration_id)
    return exploration(exploration_id, studio)


@router.get("/explore/{exploration_id}/sheet", response_class=Response, responses=_SHEET)
def sheet(
    exploration_id: Id,
    studio: StudioDep,
    format: Annotated[Literal["png", "webp", "jpeg"], Query()] = "png",  # noqa: A002 - as elsewhere in the API
    legend: Annotated[bool, Query(description="values beside rows and columns")] = True,
    gap_px: Annotated[int, Query(ge=0, le=256)] = 12,
) -> Response:
    """What is painted so far as one labelled picture."""
    drawn = studio.exploration_sheet(exploration_id, SheetLook(gap_px, legend))
    if format == "webp":
        drawn.thumbnail((_WEBP_MAX_PX, _WEBP_MAX_PX))
    out = io.BytesIO()
    drawn.save(out, format.upper(), quality=92)
    return Response(out.getvalue(), media_type=_MEDIA[format], headers={"Cache-Control": "no-store"})
