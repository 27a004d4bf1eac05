"""Routes of shares, reviews and suggestions, for the designer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from danqing.server.bodies import read_json_object, validated
from danqing.server.deps import Id, StudioDep
from danqing.server.projects import RECORDS, RECORDS_BODY, json_body
from danqing.spec.base import Data
from danqing.spec.record import Job
from danqing.spec.request import Request
from danqing.spec.review import Review, ReviewBody, Suggestion, SuggestionState
from danqing.spec.share import NewShare, Share, ShareChanges, ShareOrder
from danqing.store.projects_base import ReviewQuery

router = APIRouter(tags=["reviews"])
_ID = r"^[0-9A-Za-z_-]{1,64}$"
_RECORD = "01J00000000000000000000000"
_MAX_CHANGES = 64


class ShareList(BaseModel):
    """Shares, newest first."""

    shares: list[Share]


class ReviewList(BaseModel):
    """Reviews, newest first, and where the next page begins."""

    reviews: list[Review]
    next: str | None = None


class ReviewPage(Data):
    """Which reviews, and which page of them."""

    share: str | None = Field(default=None, pattern=_ID)
    record: str | None = Field(default=None, pattern=_ID)
    state: SuggestionState | None = Field(default=None, description="only reviews with such a suggestion")
    limit: int = Field(default=100, ge=1, le=1000)
    before: str | None = Field(default=None, pattern=_ID, description="`next` of a page")


class StateBody(Data):
    """What becomes of a suggestion without painting it."""

    state: Literal["open", "dismissed"]


class DraftBody(Data):
    """What is to be other than proposed."""

    changes: dict[str, Any] = Field(
        default_factory=dict[str, Any], max_length=_MAX_CHANGES, description="fields of the Request, over the draft"
    )


class ApplyBody(DraftBody):
    """What is to be other than proposed, and whether the client sees the outcome."""

    show: bool = Field(default=True, description="on the share that the suggestion came by")


class DraftAnswer(BaseModel):
    """The edit that a suggestion would be."""

    request: Request


BODIES = (ShareOrder, ShareChanges, ReviewBody, StateBody, DraftBody, ApplyBody)
_ORDER: TypeAdapter[ShareOrder] = TypeAdapter(ShareOrder)
_SHARE_CHANGES: TypeAdapter[ShareChanges] = TypeAdapter(ShareChanges)
REVIEW: TypeAdapter[ReviewBody] = TypeAdapter(ReviewBody)
_STATE: TypeAdapter[StateBody] = TypeAdapter(StateBody)
_DRAFT: TypeAdapter[DraftBody] = TypeAdapter(DraftBody)
_APPLY: TypeAdapter[ApplyBody] = TypeAdapter(ApplyBody)
REVIEW_BODY = json_body(
    "ReviewBody",
    key="3f2a9c5e-7b7c-4a53-9d53-0a4c51a1c7aa",
    record=_RECORD,
    reviewer="Mei",
    starred=True,
    suggestions=[
        {"box": {"left_px": 10, "top_px": 10, "right_px": 60, "bottom_px": 60}, "prompt": "换成青苹果"},
        {"lasso": [[10, 10], [60, 12], [30, 70]], "prompt": "a smaller leaf", "strength": 0.5},
    ],
)


# --- shares -------------------------------------------------------------------------------------------------------
@router.post(
    "/projects/{project_id}/shares",
    status_code=201,
    openapi_extra=json_body("ShareOrder", name="First drafts", records=[_RECORD], follow=True, language="zh-Hant"),
)
async def create_share(project_id: Id, request: HttpRequest, studio: StudioDep) -> NewShare:
    """A new link for the client. Its token is in this answer and nowhere else."""
    body = validated(_ORDER, await read_json_object(request))
    return await run_in_threadpool(studio.create_share, project_id, body)


@router.get("/projects/{project_id}/shares")
def list_shares(project_id: Id, studio: StudioDep) -> ShareList:
    """The shares of a project, newest first."""
    return ShareList(shares=studio.shares(project_id))


@router.get("/shares/{share_id}")
def read_share(share_id: Id, studio: StudioDep) -> Share:
    """One share, without its token."""
    return studio.share(share_id)


@router.patch("/shares/{share_id}", openapi_extra=json_body("ShareChanges", follow=False, expires_at=None))
async def change_share(share_id: Id, request: HttpRequest, studio: StudioDep) -> Share:
    """Title, expiry, password, what is shown."""
    body = validated(_SHARE_CHANGES, await read_json_object(request))
    return await run_in_threadpool(studio.change_share, share_id, body)


@router.post("/shares/{share_id}/records", openapi_extra=RECORDS_BODY)
async def show(share_id: Id, request: HttpRequest, studio: StudioDep) -> Share:
    """Show more versions."""
    body = validated(RECORDS, await read_json_object(request))
    return await run_in_threadpool(studio.show_on_share, share_id, body.records)


@router.delete("/shares/{share_id}/records/{record_id}")
def hide(share_id: Id, record_id: Id, studio: StudioDep) -> Share:
    """Show a version no longer."""
    return studio.hide_from_share(share_id, record_id)


@router.post("/shares/{share_id}/revoke")
def revoke(share_id: Id, studio: StudioDep) -> Share:
    """Close the link for good, at once."""
    return studio.revoke_share(share_id)


@router.post("/shares/{share_id}/token")
def renew(share_id: Id, studio: StudioDep) -> NewShare:
    """A new link for the same share; the old one is dead."""
    return studio.renew_share(share_id)


# --- reviews ------------------------------------------------------------------------------------------------------
@router.get("/projects/{project_id}/reviews")
def list_reviews(project_id: Id, studio: StudioDep, query: Annotated[ReviewPage, Query()]) -> ReviewList:
    """What was said, newest first, a page at a time."""
    found = studio.reviews(
        ReviewQuery(project_id, query.share, query.record, query.state, query.limit + 1, query.before)
    )
    page = found[: query.limit]
    return ReviewList(reviews=page, next=page[-1].id if len(found) > query.limit else None)


@router.post(
    "/projects/{project_id}/reviews",
    status_code=201,
    openapi_extra=REVIEW_BODY,
    responses={200: {"model": Review, "description": "This review was sent before"}},
)
async def add_review(project_id: Id, request: HttpRequest, response: Response, studio: StudioDep) -> Review:
    """A review by the designer. Sending it again with the same key changes nothing."""
    body = validated(REVIEW, await read_json_object(request))
    review, fresh = await run_in_threadpool(studio.add_review, project_id, body)
    response.status_code = 201 if fresh else 200
    return review


@router.get("/reviews/{review_id}")
def read_review(review_id: Id, studio: StudioDep) -> Review:
    """One review."""
    return studio.review(review_id)


# --- suggestions --------------------------------------------------------------------------------------------------
@router.patch("/suggestions/{suggestion_id}", openapi_extra=json_body("StateBody", state="dismissed"))
async def set_state(suggestion_id: Id, request: HttpRequest, studio: StudioDep) -> Suggestion:
    """Dismiss a suggestion, or open it again."""
    body = validated(_STATE, await read_json_object(request))
    return await run_in_threadpool(studio.set_suggestion, suggestion_id, body.state)


@router.post("/suggestions/{suggestion_id}/draft", openapi_extra=json_body("DraftBody", changes={"strength": 0.8}))
async def draft(suggestion_id: Id, request: HttpRequest, studio: StudioDep) -> DraftAnswer:
    """The edit that a suggestion would be; nothing is painted."""
    body = validated(_DRAFT, await read_json_object(request))
    return DraftAnswer(request=await run_in_threadpool(studio.draft, suggestion_id, body.changes))


@router.post(
    "/suggestions/{suggestion_id}/apply",
    status_code=202,
    openapi_extra=json_body("ApplyBody", changes={"count": 2}, show=True),
)
async def apply(suggestion_id: Id, request: HttpRequest, response: Response, studio: StudioDep) -> Job:
    """Paint a suggestion; the results have its picture as parent and join its project, and its share with `show`."""
    body = validated(_APPLY, await read_json_object(request))
    job = await run_in_threadpool(lambda: studio.apply_suggestion(suggestion_id, body.changes, show=body.show))
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job
