"""Routes by which the Paint page names projects and training sets: which there are, a picture into one or a new one."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse

from danqing.spec.errors import DanqingError
from danqing.spec.project import Project
from danqing.store.projects_base import ProjectQuery, Tie
from danqing.studio.set_shelf import plain_words
from danqing.web.answers import PREFIX, from_page, refused

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_MOST = 200
_NAME_CHARS = 60
_SET_NAME_CHARS = 40
_UNNAMEABLE = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
_Name = Annotated[str | None, Query(max_length=80, description="of a set; a new one, named after the brief, if unset")]
_Id = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


def add_joining(app: FastAPI, studio: Studio) -> None:
    """Register `/web/joining` on the application."""
    router = APIRouter(prefix=f"{PREFIX}/joining", include_in_schema=False)

    @router.get("")
    def projects() -> JSONResponse:
        found = studio.projects(ProjectQuery(limit=_MOST))
        projects = [_told(summary.project) for summary in found]
        return JSONResponse({"projects": projects, "sets": studio.training_sets.names()})

    @router.get("/{project_id}")
    def project(project_id: _Id, request: Request) -> JSONResponse:
        try:
            found = studio.project(project_id)
        except DanqingError as error:
            return refused(error, request)
        return JSONResponse({**_told(found), "words": found.brief.words})

    @router.post("/set/{record_id}", dependencies=[Depends(from_page)])
    def add_to_set(record_id: _Id, request: Request, name: _Name = None) -> JSONResponse:
        try:
            wanted = name or _new_set(studio, studio.record(record_id).plan.base.text.prompt)
            report = studio.records_to_set(wanted, [record_id])
        except DanqingError as error:
            return refused(error, request)
        return JSONResponse({"name": wanted, "added": bool(report.added)})

    @router.post("/new/{record_id}", dependencies=[Depends(from_page)])
    def begin(record_id: _Id, request: Request) -> JSONResponse:
        try:
            words = " ".join(studio.record(record_id).plan.base.text.prompt.split())[:_NAME_CHARS].strip()
            made = studio.create_project(words or record_id)
            studio.add_to_project(made.id, [record_id])
        except DanqingError as error:
            return refused(error, request)
        return JSONResponse(_told(made))

    @router.post("/{project_id}/{record_id}", dependencies=[Depends(from_page)])
    def add(project_id: _Id, record_id: _Id, request: Request) -> JSONResponse:
        try:
            studio.add_to_project(project_id, [record_id])
            return JSONResponse(_told(studio.project(project_id)))
        except DanqingError as error:
            return refused(error, request)

    app.include_router(router)


def tie_of(stage: dict[str, Any] | None) -> Tie | None:
    """What ties the page's pictures to the project they join; None where there is none."""
    project = str((stage or {}).get("project") or "")
    return Tie(project=project) if project else None


def _new_set(studio: Studio, prompt: str) -> str:
    """An empty set named after a brief; a name that is taken gets a number."""
    words = " ".join(_UNNAMEABLE.sub(" ", plain_words(prompt)).split())[:_SET_NAME_CHARS].strip(" .") or "1"
    taken = {name.casefold() for name in studio.training_sets.names()}
    name = next(one for n in itertools.count(1) if (one := words if n == 1 else f"{words} {n}").casefold() not in taken)
    return studio.training_sets.create(name).name


def _told(project: Project) -> dict[str, str]:
    return {"id": project.id, "name": project.name}
