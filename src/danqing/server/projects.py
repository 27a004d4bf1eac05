"""Routes of projects: briefs, versions, comparison, export, events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field, TypeAdapter
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from danqing.server.bodies import read_json_object, validated
from danqing.server.deps import Id, StudioDep
from danqing.spec.base import Data
from danqing.spec.project import (
    MAX_LABELS,
    Brief,
    Comparison,
    Label,
    Project,
    ProjectItem,
    ProjectName,
    ProjectSummary,
    RecordId,
    VersionTree,
)
from danqing.spec.share import ProjectEvent, ShareLanguage
from danqing.store.projects_base import ProjectQuery, ProjectState
from danqing.studio.projects import ItemNotes

router = APIRouter(tags=["projects"])
HEARTBEAT_S = 15
RECONNECT_MS = 2000
_RECORD = "01J00000000000000000000000"
_BRIEF = {
    "words": "a poster for a tea house in spring",
    "size": {"width_px": 1024, "height_px": 1536},
    "palette": ["#c8372d", "#faf8f3"],
    "do": ["leave room for the date"],
    "dont": ["no people"],
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "ProjectEvents, one JSON object each; the event's name is its kind, its id its number.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Pictures, Plans, brief, reviews and a contact sheet",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class ProjectBody(Data):
    """A new project."""

    name: ProjectName
    brief: Brief = Brief()


class ProjectChanges(Data):
    """What is to be changed of a project; what is left out stays."""

    name: ProjectName | None = None
    brief: Brief | None = Field(default=None, description="replaces the whole brief")


class RecordsBody(Data):
    """Some Records."""

    records: tuple[RecordId, ...] = Field(min_length=1, max_length=500)


class ItemBody(Data):
    """What is to be changed of a version; what is left out stays."""

    labels: tuple[Label, ...] | None = Field(default=None, max_length=MAX_LABELS)
    note: str | None = Field(default=None, max_length=4000)
    starred: bool | None = None


class CurrentBody(Data):
    """Which version counts."""

    record: RecordId | None


class ProjectList(BaseModel):
    """Projects, newest first, and where the next page begins."""

    projects: list[ProjectSummary]
    next: str | None = None


class ItemList(BaseModel):
    """Versions as they stand in their project."""

    items: list[ProjectItem]


class ProjectPage(Data):
    """Which projects, and which page of them."""

    search: str = Field(default="", max_length=500, description="words in the name or the brief")
    state: ProjectState = "active"
    limit: int = Field(default=50, ge=1, le=500)
    before: str | None = Field(default=None, pattern=r"^[0-9A-Za-z_-]{1,64}$", description="`next` of a page")


BODIES = (ProjectBody, ProjectChanges, RecordsBody, ItemBody, CurrentBody)
_PROJECT: TypeAdapter[ProjectBody] = TypeAdapter(ProjectBody)
_CHANGES: TypeAdapter[ProjectChanges] = TypeAdapter(ProjectChanges)
RECORDS: TypeAdapter[RecordsBody] = TypeAdapter(RecordsBody)
_ITEM: TypeAdapter[ItemBody] = TypeAdapter(ItemBody)
_CURRENT: TypeAdapter[CurrentBody] = TypeAdapter(CurrentBody)


def json_body(model: str, **example: Any) -> dict[str, Any]:
    """How a body that is read by hand is described, with one example."""
    content = {
        "schema": {"$ref": f"#/components/schemas/{model}"},
        "examples": {"example": {"summary": "For example", "value": example}},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def attached(name: str) -> dict[str, str]:
    """Headers that make a browser save an answer under this name, in any language."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
    return {"Content-Disposition": named, "Cache-Control": "no-store"}


RECORDS_BODY = json_body("RecordsBody", records=[_RECORD])


@router.post("/projects", status_code=201, openapi_extra=json_body("ProjectBody", name="Tea house", brief=_BRIEF))
async def create(request: HttpRequest, response: Response, studio: StudioDep) -> Project:
    """A new project."""
    body = validated(_PROJECT, await read_json_object(request))
    project = await run_in_threadpool(studio.create_project, body.name, body.brief)
    response.headers["Location"] = f"/api/v1/projects/{project.id}"
    return project


@router.get("/projects")
def list_projects(studio: StudioDep, query: Annotated[ProjectPage, Query()]) -> ProjectList:
    """Projects, newest first, a page at a time."""
    found = studio.projects(ProjectQuery(query.search, query.state, query.limit + 1, query.before))
    page = found[: query.limit]
    return ProjectList(projects=page, next=page[-1].project.id if len(found) > query.limit else None)


@router.get("/projects/{project_id}")
def read_project(project_id: Id, studio: StudioDep) -> ProjectSummary:
    """One project and how much it holds."""
    return studio.project_summary(project_id)


@router.patch("/projects/{project_id}", openapi_extra=json_body("ProjectChanges", name="Tea house, summer"))
async def change(project_id: Id, request: HttpRequest, studio: StudioDep) -> Project:
    """Another name or brief."""
    body = validated(_CHANGES, await read_json_object(request))
    return await run_in_threadpool(lambda: studio.change_project(project_id, name=body.name, brief=body.brief))


@router.post("/projects/{project_id}/archive")
def archive(project_id: Id, studio: StudioDep) -> Project:
    """Put a project out of the way: everything stays, its links are closed meanwhile."""
    return studio.archive_project(project_id)


@router.post("/projects/{project_id}/unarchive")
def unarchive(project_id: Id, studio: StudioDep) -> Project:
    """Take a project up again."""
    return studio.archive_project(project_id, archived=False)


@router.delete("/projects/{project_id}")
def delete(project_id: Id, studio: StudioDep) -> Project:
    """Put a project in the bin; it can be restored inside the undo window. Its pictures stay in the gallery."""
    return studio.delete_project(project_id)


@router.post("/projects/{project_id}/restore")
def restore(project_id: Id, studio: StudioDep) -> Project:
    """Take a project out of the bin."""
    return studio.restore_project(project_id)


@router.get("/projects/{project_id}/tree")
def tree(project_id: Id, studio: StudioDep) -> VersionTree:
    """Its versions, each with its parent and in what their Requests differ."""
    return studio.version_tree(project_id)


@router.post("/projects/{project_id}/records", openapi_extra=RECORDS_BODY)
async def add_records(project_id: Id, request: HttpRequest, studio: StudioDep) -> ItemList:
    """Let Records join; those that are there already stay as they are."""
    body = validated(RECORDS, await read_json_object(request))
    return ItemList(items=await run_in_threadpool(studio.add_to_project, project_id, body.records))


@router.patch("/projects/{project_id}/records/{record_id}", openapi_extra=json_body("ItemBody", labels=["hero"]))
async def change_record(project_id: Id, record_id: Id, request: HttpRequest, studio: StudioDep) -> ProjectItem:
    """Labels, note and star of a version."""
    body = validated(_ITEM, await read_json_object(request))
    notes = ItemNotes(body.labels, body.note, body.starred)
    return await run_in_threadpool(studio.annotate, project_id, record_id, notes)


@router.delete("/projects/{project_id}/records/{record_id}")
def remove_record(project_id: Id, record_id: Id, studio: StudioDep) -> ProjectItem:
    """Take a version out of the project; the picture stays in the gallery."""
    return studio.remove_from_project(project_id, record_id)


@router.post("/projects/{project_id}/current", openapi_extra=json_body("CurrentBody", record=_RECORD))
async def set_current(project_id: Id, request: HttpRequest, studio: StudioDep) -> Project:
    """Make a version the one that counts: this is how an older one is restored."""
    body = validated(_CURRENT, await read_json_object(request))
    return await run_in_threadpool(studio.set_current, project_id, body.record)


@router.get("/projects/{project_id}/compare")
def compare(
    project_id: Id,
    studio: StudioDep,
    a: Annotated[RecordId, Query(description="a version")],
    b: Annotated[RecordId, Query(description="another one")],
) -> Comparison:
    """Two versions: sizes, how far their pictures differ and where, and the fields in which their Requests differ."""
    return studio.compare(project_id, a, b)


@router.get("/projects/{project_id}/export", response_class=Response, responses=_ZIP)
def export(
    project_id: Id,
    studio: StudioDep,
    language: Annotated[ShareLanguage, Query(description="of the contact sheet")] = "en",
) -> Response:
    """Everything in one ZIP."""
    packed = studio.export_project(project_id, language)
    return StreamingResponse(packed.chunks, media_type="application/zip", headers=attached(packed.name))


@router.get("/projects/{project_id}/events", response_class=EventSourceResponse, responses=_EVENTS)
async def events(
    project_id: Id,
    studio: StudioDep,
    after: Annotated[int, Query(ge=-1, description="number of the last event seen; -1 for none before now")] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, description="the same, as browsers send it")] = None,
) -> Response:
    """What happens in a project, live; resumes where `Last-Event-ID` says."""
    seen = after if last_event_id is None else max(after, last_event_id)
    stream = await run_in_threadpool(lambda: studio.project_events(project_id, after=seen))
    return EventSourceResponse(_server_sent(stream), ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


async def _server_sent(stream: AsyncIterator[ProjectEvent]) -> AsyncIterator[ServerSentEvent]:
    async for event in stream:
        yield ServerSentEvent(id=str(event.number), event=event.kind, data=event.model_dump_json(), retry=RECONNECT_MS)
