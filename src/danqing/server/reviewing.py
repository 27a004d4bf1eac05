"""Routes of reviews by models and of refinements."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from danqing.review.base import BUILTIN, MAX_BRIEF_CHARS
from danqing.review.findings import Findings
from danqing.server.bodies import picture_of, read_json_object, validated
from danqing.server.deps import Id, StudioDep
from danqing.spec.base import Data
from danqing.spec.errors import InvalidRequestError
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.refine import Refinement, RefineOptions

router = APIRouter(tags=["review"])
_BRIEF = Field(
    default=None, max_length=MAX_BRIEF_CHARS, description="what the picture is to show; a Record's own words if unset"
)


class ReviewBody(Data):
    """A picture to be reviewed by a model."""

    image: str = Field(description="`record:<id>`, `sha256:<hex>`, or the picture itself as a data: URI")
    brief: str | None = _BRIEF
    reviewer: str = Field(default=BUILTIN, max_length=64, description="`builtin`, `openai` (the endpoint) or `qwen`")


class RefineBody(Data):
    """A picture to be refined: a Record, or a Request whose picture is painted first. Exactly one of both."""

    record: str | None = Field(default=None, pattern=r"^[0-9A-Za-z_-]{1,64}$", description="id of a Record")
    request: Txt2ImgRequest | None = Field(default=None, description="what to paint first; one picture")
    brief: str | None = _BRIEF
    options: RefineOptions = RefineOptions()


BODIES = (ReviewBody, RefineBody)
_REVIEW: TypeAdapter[ReviewBody] = TypeAdapter(ReviewBody)
_REFINE: TypeAdapter[RefineBody] = TypeAdapter(RefineBody)


def _body(model: str, example: dict[str, Any], summary: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    examples = {"first": {"summary": summary, "value": example}}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


_RECORD = "01J00000000000000000000000"
REVIEW_BODY = _body(
    "ReviewBody", {"image": f"record:{_RECORD}", "brief": "a red apple, 3d"}, "A Record, by the built-in reviewer"
)
REFINE_BODY = _body("RefineBody", {"record": _RECORD, "options": {"rounds": 4}}, "Refine a Record in up to four rounds")


@router.post("/review", openapi_extra={"requestBody": REVIEW_BODY})
async def review(request: HttpRequest, studio: StudioDep) -> Findings:
    """What a model would change in a picture; nothing is kept. `openai` sends the picture to the endpoint you set."""
    body = validated(_REVIEW, await read_json_object(request))
    return await run_in_threadpool(
        lambda: studio.review_by_model(picture_of(body.image, "image"), body.brief, reviewer=body.reviewer)
    )


@router.post("/refinements", status_code=202, openapi_extra={"requestBody": REFINE_BODY})
async def start_refinement(request: HttpRequest, response: Response, studio: StudioDep) -> Refinement:
    """Begin to refine; ask `/refinements/<id>` how it goes. Accepted rounds become Records, others leave nothing."""
    body = validated(_REFINE, await read_json_object(request))
    start = body.record if body.request is None else body.request
    if start is None or (body.record is not None and body.request is not None):
        raise InvalidRequestError(
            "give exactly one of record and request",
            field="record",
            allowed="record or request",
            next_step="leave one of them in the body",
        )
    begun = await run_in_threadpool(lambda: studio.start_refinement(start, body.options, brief=body.brief))
    response.headers["Location"] = f"/api/v1/refinements/{begun.id}"
    return begun


@router.get("/refinements/{refinement_id}")
def refinement(refinement_id: Id, studio: StudioDep) -> Refinement:
    """A refinement as it stands: rounds, verdicts, the best version. Forgotten when the server ends."""
    return studio.refinement(refinement_id)


@router.post("/refinements/{refinement_id}/cancel")
def cancel_refinement(refinement_id: Id, studio: StudioDep) -> Refinement:
    """Stop it within one step; accepted versions stay."""
    return studio.cancel_refinement(refinement_id)
