"""Routes of jobs: submit, look, watch, cancel, retry, reproduce."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi import Request as HttpRequest
from pydantic import TypeAdapter
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from danqing.server.answers import JobList
from danqing.server.bodies import ReproduceBody, decode_data_uri, read_json_object, read_paint_request, validated
from danqing.server.deps import Id, StudioDep
from danqing.server.examples import PAINT_BODY, REPRODUCE_BODY
from danqing.spec.errors import InvalidRequestError
from danqing.spec.events import Event
from danqing.spec.plan import Plan
from danqing.spec.record import Job, JobState
from danqing.spec.request import Request
from danqing.store.projects_base import Tie

router = APIRouter(tags=["jobs"])
HEARTBEAT_S = 15
RECONNECT_MS = 2000
_REPRODUCE: TypeAdapter[ReproduceBody] = TypeAdapter(ReproduceBody)


@router.post("/jobs", status_code=202, openapi_extra={"requestBody": PAINT_BODY})
def submit(
    response: Response,
    studio: StudioDep,
    request: Annotated[Request, Depends(read_paint_request)],
    project: Annotated[str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="its Records join it")] = None,
) -> Job:
    """Submit a Request; the answer is the durable job, already planned."""
    if project is None:
        job = studio.submit(request)
    else:
        studio.live_project(project)
        job = studio.submit(request, tie=Tie(project))
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.get("/jobs")
def list_jobs(
    studio: StudioDep,
    state: Annotated[list[JobState] | None, Query(description="only these states")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> JobList:
    """Jobs, newest first."""
    return JobList(jobs=studio.jobs(states=tuple(state) if state else None, limit=limit))


@router.get("/jobs/{job_id}")
def read_job(job_id: Id, studio: StudioDep) -> Job:
    """One job."""
    return studio.job(job_id)


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: Id, studio: StudioDep) -> Job:
    """Stop a job within one step."""
    return studio.cancel(job_id)


@router.post("/jobs/{job_id}/retry", status_code=202)
def retry(job_id: Id, studio: StudioDep) -> Job:
    """A new job with the plans of a failed or cancelled one."""
    return studio.retry(job_id)


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events of `danqing.spec.events`, one JSON object each; ids count up. "
            "Ends after the final state.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The job is final and every event was already sent: stop reconnecting"},
    },
)
async def events(
    job_id: Id,
    studio: StudioDep,
    after: Annotated[int, Query(ge=0, description="number of the last event already seen")] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, description="the same, as browsers send it")] = None,
) -> Response:
    """Watch a job by server-sent events; resumes where `Last-Event-ID` says."""
    job = await run_in_threadpool(studio.job, job_id)
    seen = max(after, last_event_id or 0)
    stream = await run_in_threadpool(studio.awatch, job_id, after=seen)
    if not job.is_final or seen == 0:
        return _event_stream(_server_sent(stream))
    # A browser reconnects when a stream ends; only 204 tells it that there is nothing more to come.
    rest = [numbered async for numbered in stream]
    if all(number == seen for number, _ in rest):
        return Response(status_code=204)
    return _event_stream(_server_sent(_replay(rest)))


async def _replay(rest: list[tuple[int, Event]]) -> AsyncIterator[tuple[int, Event]]:
    for numbered in rest:
        yield numbered


async def _server_sent(stream: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[ServerSentEvent]:
    async for number, event in stream:
        yield ServerSentEvent(id=str(number), event=event.type, data=event.model_dump_json(), retry=RECONNECT_MS)


def _event_stream(events_out: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    return EventSourceResponse(events_out, ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


@router.post("/reproduce", status_code=202, openapi_extra={"requestBody": REPRODUCE_BODY})
async def reproduce(request: HttpRequest, studio: StudioDep) -> Job:
    """Paint a Record, a Plan or a painted picture again, exactly."""
    body = validated(_REPRODUCE, await read_json_object(request))
    given = [name for name in ("record", "plan", "picture") if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidRequestError(
            "give exactly one of record, plan and picture",
            field="record",
            value=given,
            allowed="record, plan or picture",
            next_step="leave one of them in the body",
        )
    return await run_in_threadpool(lambda: studio.reproduce(_plan_of(body, studio)))


def _plan_of(body: ReproduceBody, studio: StudioDep) -> Plan:
    if body.plan is not None:
        return body.plan
    if body.record is not None:
        return studio.record(body.record).plan
    return studio.plan_of_picture(decode_data_uri(body.picture or "", "picture"))
