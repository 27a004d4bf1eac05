"""Routes of training runs: what can be trained, estimate, submit, look, watch, pause, go on, undo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from danqing.server.bodies import read_json_object
from danqing.server.deps import Id, StudioDep
from danqing.server.jobs import HEARTBEAT_S, RECONNECT_MS
from danqing.spec.training import METHODS, TRAINING_MODELS, AnyTraining, parse_training
from danqing.spec.training_run import RUN_FINAL_STATES, Estimate, RunState, TrainingRun
from danqing.studio.training import Told
from danqing.studio.training_checks import check_door
from danqing.studio.training_methods import TrainingMethod

router = APIRouter(prefix="/training", tags=["training"])
BODIES = TRAINING_MODELS
_EXAMPLES: dict[str, dict[str, Any]] = {
    "lora": {"dataset": "my pictures", "network": {"kind": "lora", "rank": 16}},
    "dreambooth": {"dataset": "my cat", "prior_pictures": 50},
    "embedding": {"dataset": "my pictures", "vectors": 4, "initial_words": "painting"},
    "slider": {"target": "apple", "positive": "huge apple", "negative": "tiny apple"},
    "ddpm": {"subject": "fruit", "size_px": 32},
}
_TRAINING_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in TRAINING_MODELS],
                "discriminator": {
                    "propertyName": "method",
                    "mapping": {
                        name: f"#/components/schemas/{model.__name__}"
                        for name, model in zip(METHODS, TRAINING_MODELS, strict=True)
                    },
                },
            },
            "examples": {
                name: {"summary": f"Train: {name}", "value": {"method": name, "name": f"my {name}", **more}}
                for name, more in _EXAMPLES.items()
            },
        }
    },
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}}
            for media in ("image/png", "image/jpeg", "image/webp")
        },
    }
}


class MethodList(BaseModel):
    """What can be trained."""

    methods: list[TrainingMethod]


class RunList(BaseModel):
    """Runs, newest first, and where the next page begins."""

    runs: list[TrainingRun]
    next: str | None = Field(default=None, description="pass as `before` for the next page; null at the end")
    waiting: list[str] = Field(description="ids of all queued runs, the next one first")


@router.get("/methods")
def methods(studio: StudioDep) -> MethodList:
    """What can be trained: every field with its default, limits and a plain sentence."""
    return MethodList(methods=list(studio.training_methods()))


@router.post("/estimate", openapi_extra={"requestBody": _TRAINING_BODY})
async def estimate(request: HttpRequest, studio: StudioDep) -> Estimate:
    """What a run would cost, and why it cannot begin; nothing is kept. Takes as long as opening the model."""
    asked = await _asked(request)
    return await run_in_threadpool(studio.estimate_training, asked)


@router.post("/runs", status_code=202, openapi_extra={"requestBody": _TRAINING_BODY})
async def submit(request: HttpRequest, response: Response, studio: StudioDep) -> TrainingRun:
    """Estimate a run and queue it; it is durable when this answers. Refused with reasons where it cannot begin."""
    asked = await _asked(request)
    run = await run_in_threadpool(studio.submit_training, asked)
    response.headers["Location"] = f"/api/v1/training/runs/{run.id}"
    return run


@router.get("/runs")
def runs(
    studio: StudioDep,
    state: Annotated[list[RunState] | None, Query(description="only these states")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="`next` of a page")] = None,
    include_deleted: Annotated[bool, Query()] = False,
) -> RunList:
    """Runs, newest first, a page at a time."""
    found = studio.training_runs(
        states=tuple(state) if state else None, limit=limit + 1, before=before, include_deleted=include_deleted
    )
    shown = found[:limit]
    more = shown[-1].id if len(found) > limit else None
    return RunList(runs=shown, next=more, waiting=studio.trainings_waiting())


@router.get("/runs/{run_id}")
def run(run_id: Id, studio: StudioDep) -> TrainingRun:
    """A run as it stands."""
    return studio.training_run(run_id)


@router.post("/runs/{run_id}/pause")
def pause(run_id: Id, studio: StudioDep) -> TrainingRun:
    """Have it write a checkpoint and rest; `asked` says so until it has."""
    return studio.pause_training(run_id)


@router.post("/runs/{run_id}/resume")
def resume(run_id: Id, studio: StudioDep) -> TrainingRun:
    """Let a paused, failed or cancelled run go on from its checkpoint; it joins the end of the queue."""
    return studio.resume_training(run_id)


@router.post("/runs/{run_id}/cancel")
def cancel(run_id: Id, studio: StudioDep) -> TrainingRun:
    """Stop it. Its folder stays for the undo window: until then it can be resumed."""
    return studio.cancel_training(run_id)


@router.delete("/runs/{run_id}")
def delete(run_id: Id, studio: StudioDep) -> TrainingRun:
    """Put a run that does not run in the bin; what it made stays where it was published."""
    return studio.delete_training(run_id)


@router.post("/runs/{run_id}/restore")
def restore(run_id: Id, studio: StudioDep) -> TrainingRun:
    """Take a run out of the bin."""
    return studio.restore_training(run_id)


@router.post("/runs/{run_id}/publish")
def publish(run_id: Id, studio: StudioDep) -> TrainingRun:
    """Copy what it made to the models' folder again; nothing that is there is overwritten."""
    return studio.publish_training(run_id)


@router.get("/runs/{run_id}/pictures/{name:path}", response_class=Response, responses=_PICTURE)
def picture(run_id: Id, name: str, studio: StudioDep) -> Response:
    """A sample, by the `file` of its event."""
    path = studio.training_picture(run_id, name)
    media = {".png": "image/png", ".webp": "image/webp"}.get(path.suffix.lower(), "image/jpeg")
    return FileResponse(path, media_type=media, headers={"Cache-Control": "private, max-age=3600"})


@router.get(
    "/runs/{run_id}/files/{name:path}",
    response_class=Response,
    responses={200: {"description": "The file", "content": {"application/octet-stream": {}}}},
)
def product_file(run_id: Id, name: str, studio: StudioDep) -> Response:
    """A file that a run made, by its name in the last event; nothing but a picture is shown by a browser."""
    path = studio.training_file(run_id, name)
    media = {".png": "image/png", ".md": "text/markdown; charset=utf-8"}.get(path.suffix.lower())
    if media is None:
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)
    return FileResponse(path, media_type=media, headers={"Cache-Control": "private, no-cache"})


@router.get(
    "/runs/{run_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events of `danqing.spec.training_run`, one JSON object each; their ids count up. An event "
            "`run` without an id is the run itself, sent whenever it changed. Ends with the final one.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The run has ended and every event was already sent: stop reconnecting"},
    },
)
async def events(
    run_id: Id,
    studio: StudioDep,
    after: Annotated[int, Query(ge=0, le=2**53, description="number of the last event already seen")] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**53, description="the same, as browsers send it")] = None,
) -> Response:
    """Watch a run by server-sent events; goes on where `Last-Event-ID` says."""
    now = await run_in_threadpool(studio.training_run, run_id)
    seen = max(after, last_event_id or 0)
    stream = studio.awatch_training(run_id, after=seen)
    if now.state in RUN_FINAL_STATES and seen > 0:
        # A browser reconnects when a stream ends; only 204 tells it that there is nothing more to come.
        rest = [told async for told in stream]
        if all(isinstance(one, TrainingRun) for _, one in rest):
            return Response(status_code=204)
        stream = _replay(rest)
    return EventSourceResponse(_server_sent(stream), ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


async def _replay(rest: list[Told]) -> AsyncIterator[Told]:
    for told in rest:
        yield told


async def _server_sent(stream: AsyncIterator[Told]) -> AsyncIterator[ServerSentEvent]:
    async for number, one in stream:
        if isinstance(one, TrainingRun):
            yield ServerSentEvent(event="run", data=one.model_dump_json(), retry=RECONNECT_MS)
        else:
            yield ServerSentEvent(id=str(number), event=one.type, data=one.model_dump_json(), retry=RECONNECT_MS)


async def _asked(request: HttpRequest) -> AnyTraining:
    asked = parse_training(await read_json_object(request))
    check_door(asked)
    return asked
