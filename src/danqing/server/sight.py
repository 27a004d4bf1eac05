"""Routes that look at pictures: interrogate, search by look, score."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from danqing.server.answers import FoundList, ScoreAnswer
from danqing.server.bodies import LookBody, ScoreBody, SearchBody, picture_of, read_json_object, validated
from danqing.server.deps import StudioDep
from danqing.server.examples import LOOK_BODY, SCORE_BODY, SEARCH_BODY
from danqing.spec.sight import Found, Interrogation
from danqing.studio.sight import Interrogating

router = APIRouter(tags=["sight"])
_LOOK: TypeAdapter[LookBody] = TypeAdapter(LookBody)
_SCORE: TypeAdapter[ScoreBody] = TypeAdapter(ScoreBody)
_SEARCH: TypeAdapter[SearchBody] = TypeAdapter(SearchBody)


@router.post("/interrogate", openapi_extra={"requestBody": LOOK_BODY})
async def interrogate(request: HttpRequest, studio: StudioDep) -> Interrogation:
    """Tags, measured colours and a caption that can be used as a prompt, in three languages."""
    body = validated(_LOOK, await read_json_object(request))
    asked = Interrogating(body.interrogator, body.threshold, body.character_threshold)
    return await run_in_threadpool(
        lambda: studio.interrogate(picture_of(body.image, "image"), tags=body.tags, asked=asked)
    )


@router.post("/score", openapi_extra={"requestBody": SCORE_BODY})
async def score(request: HttpRequest, studio: StudioDep) -> ScoreAnswer:
    """How well a prompt fits a picture, from 0 to 1."""
    body = validated(_SCORE, await read_json_object(request))
    found = await run_in_threadpool(lambda: studio.score(picture_of(body.image, "image"), body.prompt))
    return ScoreAnswer(score=found)


@router.post("/records/search", openapi_extra={"requestBody": SEARCH_BODY})
async def search(request: HttpRequest, studio: StudioDep) -> FoundList:
    """Records that look like the words or like the picture, best first."""
    body = validated(_SEARCH, await read_json_object(request))
    return FoundList(found=await run_in_threadpool(lambda: _search(body, studio)))


def _search(body: SearchBody, studio: StudioDep) -> list[Found]:
    like = None if body.like is None else picture_of(body.like, "like")
    return studio.search(body.search, like=like, limit=body.limit, kind=body.kind, model=body.model)
