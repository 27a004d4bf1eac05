"""Routes of the page that look at pictures: describe, search by look; control maps; enlarging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from danqing.models.interrogators.files import is_ready
from danqing.spec.base import Data, PictureRef
from danqing.spec.errors import DanqingError, MissingWeightsError, UnsupportedError
from danqing.spec.model import ModelInfo
from danqing.spec.record import Record
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.spec.registry.interrogators import BUILTIN, INTERROGATORS
from danqing.spec.sight import Interrogation
from danqing.spec.upscale import UpscaleRequest
from danqing.studio.annotating import AnnotateRequest, annotate
from danqing.studio.dragging import DragPreviewRequest, preview_drag
from danqing.studio.sight import Interrogating
from danqing.web.answers import PREFIX, from_page, language_of, refused, summary
from danqing.web.controls import offers
from danqing.web.errors import explain
from danqing.web.i18n import say

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_FOUND = 40
_TAGS = 10


class LookBody(Data):
    """The picture to look at, and who is to look."""

    image: PictureRef
    interrogator: str = Field(default=BUILTIN, max_length=64)


def looking_router(studio: Studio) -> APIRouter:
    """Describe a picture, search by look, enlarge."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.post("/interrogate", dependencies=[Depends(from_page)])
    def interrogate(body: LookBody, request: Request) -> JSONResponse:
        try:
            return JSONResponse({"words": _words(_interrogated(studio, body))})
        except DanqingError as error:
            return _blind(error, request) if body.interrogator == BUILTIN else refused(error, request)

    @router.get("/interrogators")
    def interrogators() -> JSONResponse:
        models = studio.settings.models_path
        ready = [{"key": info.key, "name": info.name} for info in INTERROGATORS if is_ready(info, models)]
        return JSONResponse({"interrogators": ready})

    @router.get("/looks", dependencies=[Depends(from_page)])
    def looks(request: Request, search: str = "") -> JSONResponse:
        try:
            found = studio.search(search[:200], limit=_FOUND)
        except DanqingError as error:
            return _blind(error, request)
        records: list[Record] = [item.record for item in found]
        return JSONResponse({"records": [summary(record) for record in records], "more": False})

    @router.post("/upscale", dependencies=[Depends(from_page)])
    def upscale(body: LookBody, request: Request) -> JSONResponse:
        try:
            done = studio.upscale(UpscaleRequest(image=body.image))
        except DanqingError as error:
            return refused(error, request)
        picture = done.picture
        facts = {"ref": f"sha256:{picture.sha256}", "width_px": picture.width_px, "height_px": picture.height_px}
        return JSONResponse({**facts, "upscaler": done.plan.upscaler})

    return router


def drag_router(studio: Studio) -> APIRouter:
    """What a drag will roughly look like."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.post("/drag", dependencies=[Depends(from_page)])
    def drag(body: DragPreviewRequest, request: Request) -> Response:
        try:
            shown = preview_drag(studio, body)
        except DanqingError as error:  # one may yet go on pulling: it is no failure of the page
            return JSONResponse(explain(error, language_of(request)))
        return Response(shown.content, media_type="image/webp", headers={"Cache-Control": "no-store"})

    return router


def controls_router(studio: Studio) -> APIRouter:
    """What control cards offer, and their maps."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.get("/controls")
    def controls(request: Request, model: str = "") -> JSONResponse:
        try:
            return JSONResponse(offers(studio, named_model(studio, model)))
        except DanqingError as error:
            return refused(error, request)

    @router.post("/annotate", dependencies=[Depends(from_page)])
    def make_map(body: AnnotateRequest, request: Request) -> JSONResponse:
        try:
            made = annotate(studio, body)
        except DanqingError as error:
            return _unmapped(error, request)
        return JSONResponse({"ref": f"sha256:{made.picture.sha256}"})

    return router


def named_model(studio: Studio, name: str) -> ModelInfo:
    """The model of this name; the built-in one, or the first, or bare defaults where it is not there."""
    models = studio.models()
    named = [info for info in models if info.name == name] or [info for info in models if info.name == BUILTIN_MODEL]
    return (named or models)[0] if models else ModelInfo(name=name, family="", path="", sha256="0" * 64)


def _interrogated(studio: Studio, body: LookBody) -> Interrogation:
    """What was seen; a tagger gives as many tags as it has, for its tags are the prompt."""
    if body.interrogator == BUILTIN:
        return studio.interrogate(body.image, tags=_TAGS)
    return studio.interrogate(body.image, asked=Interrogating(body.interrogator))


def _words(seen: Interrogation) -> dict[str, Any]:
    return {
        language: {"caption": wording.caption, "tags": [tag.text for tag in wording.tags]}
        for language, wording in seen.words.items()
    }


def _blind(error: DanqingError, request: Request) -> JSONResponse:
    """Without mini-CLIP nothing can be seen; that is said in words of its own."""
    return _said(error, request, "e.sight") if isinstance(error, MissingWeightsError) else refused(error, request)


def _unmapped(error: DanqingError, request: Request) -> JSONResponse:
    """Why there is no map: the picture does not lend itself to it, or a network is missing."""
    if isinstance(error, UnsupportedError):
        return _said(error, request, "e.map")
    return refused(error, request)


def _said(error: DanqingError, request: Request, key: str) -> JSONResponse:
    language = language_of(request)
    return JSONResponse(
        {**explain(error, language), "field": None, "text": say(language, key)}, status_code=error.http_status
    )
