"""Routes of reviews by models and of refinements."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from danqing.review.base import BUILTIN, MAX_BRIEF_CHARS
from danqing.review.findings import Findings
from danqing.server.bodies import picture_of, read_json_object, validated
from danqing.server.deps import Id, StudioDep
from danqing.server.projects import attached, json_body
from danqing.spec.base import Data
from danqing.spec.errors import InvalidRequestError
from danqing.spec.model_review import ModelReview, ModelReviewOrder, ReviewerChoice
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.refine import Refinement, RefineOptions
from danqing.store.refinements import RefinementQuery
from danqing.studio.refining import RefineOrder

router = APIRouter(tags=["review"])
_ID = r"^[0-9A-Za-z_-]{1,64}$"
_BRIEF = Field(
    default=None, max_length=MAX_BRIEF_CHARS, description="what the picture is to show; a Record's own words if unset"
)
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One folder with `pairs.jsonl` and `pictures/`",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class LookOverBody(Data):
    """A picture to be reviewed by a model."""

    image: str = Field(description="`record:<id>`, `sha256:<hex>`, or the picture itself as a data: URI")
    brief: str | None = _BRIEF
    reviewer: str = Field(default=BUILTIN, max_length=64, description="`builtin`, `openai` (the endpoint) or `qwen`")


class RefineBody(Data):
    """A picture to be refined: a Record, or a Request whose picture is painted first. Exactly one of both."""

    record: str | None = Field(default=None, pattern=_ID, description="id of a Record")
    request: Txt2ImgRequest | None = Field(default=None, description="what to paint first; one picture")
    brief: str | None = _BRIEF
    options: RefineOptions = RefineOptions()
    project: str | None = Field(
        default=None,
        pattern=_ID,
        description="accepted versions join it; its brief's words count where `brief` is unset",
    )


class ReviewerList(BaseModel):
    """Every reviewer."""

    reviewers: list[ReviewerChoice]


class ModelReviewList(BaseModel):
    """Reviews that models were asked for, newest first."""

    reviews: list[ModelReview]


class RefinementList(BaseModel):
    """Refinements, newest first, and where the next page begins."""

    refinements: list[Refinement]
    next: str | None = None


class RefinementPage(Data):
    """Which refinements, and which page of them."""

    project: str | None = Field(default=None, pattern=_ID, description="only those whose versions join it")
    limit: int = Field(default=50, ge=1, le=500)
    before: str | None = Field(default=None, pattern=_ID, description="`next` of a page")


BODIES = (LookOverBody, RefineBody, ModelReviewOrder)
_REVIEW: TypeAdapter[LookOverBody] = TypeAdapter(LookOverBody)
_ORDER: TypeAdapter[ModelReviewOrder] = TypeAdapter(ModelReviewOrder)
_REFINE: TypeAdapter[RefineBody] = TypeAdapter(RefineBody)


def _body(model: str, example: dict[str, Any], summary: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    examples = {"first": {"summary": summary, "value": example}}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


_RECORD = "01J00000000000000000000000"
REVIEW_BODY = _body(
    "LookOverBody", {"image": f"record:{_RECORD}", "brief": "a red apple, 3d"}, "A Record, by the built-in reviewer"
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
    order = RefineOrder(start, body.options, body.brief, body.project)
    begun = await run_in_threadpool(studio.start_refinement, order)
    response.headers["Location"] = f"/api/v1/refinements/{begun.id}"
    return begun


@router.get("/refinements")
def list_refinements(studio: StudioDep, query: Annotated[RefinementPage, Query()]) -> RefinementList:
    """Refinements, also those of earlier days, newest first."""
    found = studio.refinements(RefinementQuery(query.project, query.limit + 1, query.before))
    page = found[: query.limit]
    return RefinementList(refinements=page, next=page[-1].id if len(found) > query.limit else None)


@router.get("/refinements/{refinement_id}")
def refinement(refinement_id: Id, studio: StudioDep) -> Refinement:
    """A refinement as it stands: rounds, verdicts, the best version, what it does now, why it stopped."""
    return studio.refinement(refinement_id)


@router.post("/refinements/{refinement_id}/cancel")
def cancel_refinement(refinement_id: Id, studio: StudioDep) -> Refinement:
    """Stop it within one step; accepted versions stay."""
    return studio.cancel_refinement(refinement_id)


@router.post("/refinements/{refinement_id}/continue", status_code=202)
def continue_refinement(refinement_id: Id, response: Response, studio: StudioDep) -> Refinement:
    """A new refinement from the best version of one that has ended, with the rounds that were left, or as many."""
    begun = studio.continue_refinement(refinement_id)
    response.headers["Location"] = f"/api/v1/refinements/{begun.id}"
    return begun


@router.get("/projects/{project_id}/pairs", response_class=Response, responses=_ZIP)
def pairs(project_id: Id, studio: StudioDep) -> Response:
    """The accepted pairs of the project's refinements as a training set: `pairs.jsonl` and pictures, in one ZIP."""
    packed = studio.export_pairs(project_id)
    return StreamingResponse(packed.chunks, media_type="application/zip", headers=attached(packed.name))


# --- reviews of versions ------------------------------------------------------------------------------------------
@router.get("/reviewers")
def reviewers(studio: StudioDep) -> ReviewerList:
    """Who can be asked for a review, and what the others lack."""
    return ReviewerList(reviewers=studio.reviewers())


@router.post(
    "/projects/{project_id}/model-reviews",
    status_code=202,
    openapi_extra=json_body("ModelReviewOrder", record=_RECORD, reviewer="builtin"),
)
async def ask_for_review(project_id: Id, request: HttpRequest, studio: StudioDep) -> ModelReview:
    """Ask a model what it would change in a version. Its answer becomes a review of the project."""
    body = validated(_ORDER, await read_json_object(request))
    return await run_in_threadpool(studio.ask_for_review, project_id, body)


@router.get("/projects/{project_id}/model-reviews")
def model_reviews(project_id: Id, studio: StudioDep) -> ModelReviewList:
    """What models are being asked, and the last askings that ended; forgotten when the server ends."""
    return ModelReviewList(reviews=studio.model_reviews(project_id))


@router.post("/model-reviews/{asked_id}/cancel")
def cancel_model_review(asked_id: Id, studio: StudioDep) -> ModelReview:
    """Stop waiting for an answer; one that still comes is dropped."""
    return studio.cancel_model_review(asked_id)
