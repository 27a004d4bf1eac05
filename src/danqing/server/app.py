"""The FastAPI application: the native API under /api/v1, guarded; pages are mounted beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from danqing import __version__
from danqing.server import (
    annotate,
    catalogue,
    choices,
    drag,
    explore,
    guard,
    jobs,
    model_files,
    problems,
    projects,
    records,
    reviewing,
    reviews,
    set_bodies,
    set_pictures,
    share,
    sight,
    training,
    training_sets,
    uploads,
    upscale,
)
from danqing.server.bodies import PICTURE_FIELDS, ExplainBody, LookBody, ReproduceBody, ScoreBody, SearchBody
from danqing.spec.explore import ExploreRequest
from danqing.spec.upscale import UpscaleRequest
from danqing.studio.annotating import AnnotateRequest
from danqing.studio.dragging import DragPreviewRequest
from danqing.studio.settings import Settings, check_bind

if TYPE_CHECKING:
    from danqing.studio.service import Studio

API_PATH = "/api/v1"
_BODIES = (
    ReproduceBody,
    ExplainBody,
    LookBody,
    ScoreBody,
    SearchBody,
    UpscaleRequest,
    AnnotateRequest,
    ExploreRequest,
    DragPreviewRequest,
    *projects.BODIES,
    *reviews.BODIES,
    *reviewing.BODIES,
    *set_bodies.BODIES,
    *training.BODIES,
)
_REF = "#/components/schemas/{model}"
_DATA_URI = {
    "type": "string",
    "pattern": "^data:image/[a-z]+;base64,[A-Za-z0-9+/]+=*$",
    "description": "or the picture itself, as a data: URI",
}


def create_app(studio: Studio, settings: Settings) -> FastAPI:
    """The application that serves this studio; the caller starts and closes the studio.

    Args:
        studio: The service that paints and remembers.
        settings: Address, password and limits.

    Raises:
        InvalidRequestError: The address can be reached by other machines and there is no password.
    """
    check_bind(settings)
    app = FastAPI(title="Danqing", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.studio = studio
    app.state.settings = settings
    problems.install(app)
    guard.install(app, guard.GuardRules(settings.host, settings.password, settings.upload_max_bytes))
    app.mount(API_PATH, create_api(studio))
    app.state.share_app = share.create_share_app(studio)
    app.mount(share.SHARE_PATH, app.state.share_app)
    return app


def create_api(studio: Studio) -> FastAPI:
    """The native API alone; mounted as a whole, so that its 404 and 405 are problems too."""
    api = FastAPI(
        title="Danqing",
        version=__version__,
        summary="Brief, draft, review, revise: the native API of the painting studio.",
        openapi_url="/openapi.json",
        docs_url=None,  # FastAPI's pages load scripts from a CDN
        redoc_url=None,
        separate_input_output_schemas=False,
        responses=problems.RESPONSES,
    )
    api.state.studio = studio
    problems.install(api)
    for module in (jobs, sight, records, uploads, upscale, annotate, catalogue, choices, model_files, drag, explore):
        api.include_router(module.router)
    for module in (projects, reviews, reviewing, training_sets, set_pictures, training):
        api.include_router(module.router)
    api.openapi = lambda: _openapi(api)
    return api


def _openapi(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        schema = get_openapi(
            title=api.title,
            version=api.version,
            summary=api.summary,
            routes=api.routes,
            servers=[{"url": API_PATH}],
            separate_input_output_schemas=False,
        )
        components: dict[str, Any] = schema["components"]["schemas"]
        for model in (*_BODIES, problems.Problem):
            own = model.model_json_schema(ref_template=_REF)
            components.update(own.pop("$defs", {}))
            components[model.__name__] = own
        _allow_data_uris(components)
        _drop_fastapi_errors(schema)
        api.openapi_schema = schema
    return api.openapi_schema


def _allow_data_uris(components: dict[str, Any]) -> None:
    kinds = ("Img2Img", "Inpaint", "Outpaint", "Drag", "Retouch", "Words")
    for name in (f"{kind}Request" for kind in kinds):
        properties: dict[str, Any] = components[name]["properties"]
        for field in PICTURE_FIELDS:
            if field in properties:
                title = properties[field].pop("title", field)
                properties[field] = {"title": title, "anyOf": [properties[field], _DATA_URI]}


def _drop_fastapi_errors(schema: dict[str, Any]) -> None:
    """Remove FastAPI's own form of a 422, which is never sent."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
