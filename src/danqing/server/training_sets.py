"""Routes of training sets: make, fill, caption, check, take back; style projects."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from fastapi import Request as HttpRequest
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from danqing.server.bodies import read_json_object, validated
from danqing.server.deps import Id, StudioDep
from danqing.server.guard import SET_UPLOAD_FACTOR
from danqing.server.projects import json_body
from danqing.server.set_bodies import (
    SETS_PATH,
    AutoCaptionBody,
    BucketAnswer,
    BucketList,
    CaptionEditBody,
    CheckBody,
    FromRecordsBody,
    RecipeList,
    SetAnswer,
    SetBody,
    SetChangeBody,
    SetList,
    TagList,
    read_files,
    recipe_answer,
)
from danqing.sets.buckets import STEP_PX, step_of
from danqing.sets.importing import ImportOptions
from danqing.sets.sources import ImportLimits
from danqing.spec.errors import BadFileError, NotFoundError
from danqing.spec.registry.style_projects import STYLE_PROJECTS
from danqing.spec.training_edit import EditReport, ImportReport, SetChanges, SetWork, UndoReport
from danqing.studio.service import Studio

router = APIRouter(tags=["training sets"])
Name = Annotated[str, Path(min_length=1, max_length=80, description="name of a set")]
_SET: TypeAdapter[SetBody] = TypeAdapter(SetBody)
_CHANGE: TypeAdapter[SetChangeBody] = TypeAdapter(SetChangeBody)
_EDIT: TypeAdapter[CaptionEditBody] = TypeAdapter(CaptionEditBody)
_AUTO: TypeAdapter[AutoCaptionBody] = TypeAdapter(AutoCaptionBody)
_CHECK: TypeAdapter[CheckBody] = TypeAdapter(CheckBody)
_RECORDS: TypeAdapter[FromRecordsBody] = TypeAdapter(FromRecordsBody)
_FILES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "one ZIP, or pictures (PNG, JPEG, WebP, BMP, GIF, TIFF) and .txt captions",
                        }
                    },
                }
            }
        },
    }
}


@router.get("/training/recipes")
def recipes() -> RecipeList:
    """Ready-made style projects: what to collect, trigger word, captions, first settings, rights."""
    return RecipeList(recipes=[recipe_answer(project) for project in STYLE_PROJECTS])


@router.get("/training/sets")
def list_sets(studio: StudioDep) -> SetList:
    """Every training set, the latest changed first."""
    return SetList(sets=studio.training_sets.summaries(), removed=studio.training_sets.removed())


@router.post(
    "/training/sets", status_code=201, openapi_extra=json_body("SetBody", name="Starry nights", recipe="van-gogh")
)
async def create(request: HttpRequest, response: Response, studio: StudioDep) -> SetAnswer:
    """A new, empty set."""
    body = validated(_SET, await read_json_object(request))
    sets = studio.training_sets
    made = await run_in_threadpool(
        lambda: sets.create(body.name, kind=body.kind, recipe=body.recipe, changes=body.changes)
    )
    response.headers["Location"] = f"{SETS_PATH}/{quote(made.name, safe='')}"
    return await run_in_threadpool(_answer, studio, made.name)


@router.get("/training/sets/{name}")
def read(name: Name, studio: StudioDep) -> SetAnswer:
    """A set without its pictures."""
    return _answer(studio, name)


@router.patch("/training/sets/{name}", openapi_extra=json_body("SetChangeBody", trigger="dqvangogh", mirror=True))
async def change(name: Name, request: HttpRequest, studio: StudioDep) -> SetAnswer:
    """Other words, kind, licence note or name."""
    body = validated(_CHANGE, await read_json_object(request))

    def work() -> SetAnswer:
        studio.training_sets.change(name, SetChanges(**body.model_dump(exclude={"name"})))
        if body.name is not None and body.name != name:
            studio.training_sets.rename(name, body.name)
        return _answer(studio, body.name or name)

    return await run_in_threadpool(work)


@router.delete("/training/sets/{name}", status_code=204, response_class=Response)
def remove(name: Name, studio: StudioDep) -> Response:
    """Put a set aside; it can be restored inside the undo window."""
    studio.training_sets.remove(name)
    return Response(status_code=204)


@router.post("/training/sets/{name}/restore")
def restore(name: Name, studio: StudioDep) -> SetAnswer:
    """Bring the set of this name that was removed last back."""
    studio.training_sets.restore(name)
    return _answer(studio, name)


@router.post("/training/sets/{name}/files", openapi_extra=_FILES_BODY)
async def add_files(
    name: Name,
    request: HttpRequest,
    studio: StudioDep,
    regularisation: Annotated[bool, Query(description="pictures of the class, not of the subject")] = False,
    alpha_masks: Annotated[bool, Query(description="what is see-through does not count")] = False,
    repeats: Annotated[int | None, Query(ge=0, le=10_000, description="what folders say if unset")] = None,
) -> ImportReport:
    """Take a ZIP, or pictures with their captions, in. What cannot be taken is told with its reason."""
    files = await read_files(request)
    options = ImportOptions(alpha_masks, regularisation, repeats, upload_limits(studio))
    try:
        return await run_in_threadpool(_import, studio, name, files, options)
    finally:
        for _, file in files:
            await file.close()


@router.post("/training/sets/{name}/records", openapi_extra=json_body("FromRecordsBody", records=["01J0000000"]))
async def add_records(name: Name, request: HttpRequest, studio: StudioDep) -> ImportReport:
    """Take pictures of the gallery, or every version of a project, in; their prompts become captions."""
    body = validated(_RECORDS, await read_json_object(request))
    options = ImportOptions(regularisation=body.regularisation)
    return await run_in_threadpool(lambda: studio.records_to_set(name, list(body.records), body.project, options))


@router.post(
    "/training/sets/{name}/captions",
    openapi_extra=json_body("CaptionEditBody", edit={"action": "add", "text": "night", "where": "end"}),
)
async def edit_captions(name: Name, request: HttpRequest, studio: StudioDep) -> EditReport:
    """Change many captions at once; one undo takes it back."""
    body = validated(_EDIT, await read_json_object(request))
    return await run_in_threadpool(lambda: studio.training_sets.edit_captions(name, body.edit, body.files))


@router.post(
    "/training/sets/{name}/captions/auto",
    status_code=202,
    openapi_extra=json_body("AutoCaptionBody", captions={"form": "tags", "language": "en"}),
)
async def auto_captions(name: Name, request: HttpRequest, studio: StudioDep) -> SetWork:
    """Begin to put pictures into words; ask /training/set-works/{id} how it goes."""
    body = validated(_AUTO, await read_json_object(request))
    files = None if body.files is None else list(body.files)
    return await run_in_threadpool(lambda: studio.set_works.start_captions(name, body.captions, files))


@router.get("/training/sets/{name}/tags")
def tags(name: Name, studio: StudioDep) -> TagList:
    """Tags of the captions and how often each stands there."""
    return TagList(tags=studio.training_sets.tags(name))


def _own_sizes(studio: Studio, name: str) -> tuple[int, int]:
    """At which size a model paints, and the step that its trainer takes. NotFoundError."""
    models = studio.models()
    found = next((one for one in models if one.name == name), None)
    if found is None:
        allowed = ", ".join(one.name for one in models)
        raise NotFoundError("there is no such model", field="model", value=name, allowed=allowed)
    return found.defaults.size_px, step_of(found.latent_scale, len(found.block_widths))


@router.get("/training/sets/{name}/buckets")
def buckets(
    name: Name,
    studio: StudioDep,
    model: Annotated[str, Query(max_length=300, description="whose own size and step are meant")] = "",
    size_px: Annotated[int | None, Query(ge=32, le=2048, description="unset: the model's, else 512")] = None,
    step_px: Annotated[
        int | None, Query(ge=8, le=256, description="what sides are multiples of; unset: the model's, else 64")
    ] = None,
) -> BucketList:
    """Into which sizes the pictures fall, and how much of them is cut off."""
    own_px, own_step_px = _own_sizes(studio, model) if model else (512, STEP_PX)
    size_px, step_px = size_px or own_px, step_px or own_step_px
    rows = studio.training_sets.buckets(name, size_px, step_px)
    return BucketList(
        size_px=size_px,
        step_px=step_px,
        buckets=[
            BucketAnswer(
                width_px=row.bucket.width_px,
                height_px=row.bucket.height_px,
                **{key: value for key, value in vars(row).items() if key != "bucket"},
            )
            for row in rows
        ],
    )


@router.post("/training/sets/{name}/check", status_code=202, openapi_extra=json_body("CheckBody", size_px=512))
async def check(name: Name, request: HttpRequest, studio: StudioDep) -> SetWork:
    """Begin to look for blur, copies, small and unreadable pictures; ask /training/set-works/{id} how it goes."""
    body = validated(_CHECK, await read_json_object(request))
    return await run_in_threadpool(lambda: studio.set_works.start_check(name, body.size_px))


@router.post("/training/sets/{name}/undo")
def undo(name: Name, studio: StudioDep) -> UndoReport:
    """Take the last edit back."""
    return studio.training_sets.undo(name)


@router.get("/training/set-works/{work_id}")
def work(work_id: Id, studio: StudioDep) -> SetWork:
    """How a check or the captions go."""
    return studio.set_works.get(work_id)


@router.post("/training/set-works/{work_id}/cancel")
def cancel(work_id: Id, studio: StudioDep) -> SetWork:
    """Stop after the picture at hand; captions that are made are kept."""
    return studio.set_works.cancel(work_id)


def upload_limits(studio: Studio) -> ImportLimits:
    """How much an upload may bring, by the studio's settings."""
    most = studio.settings.upload_max_bytes
    return ImportLimits(
        max_file_bytes=most,
        max_total_bytes=most * SET_UPLOAD_FACTOR * 2,
        max_pixels=studio.settings.upload_max_pixels,
    )


def _import(studio: Studio, name: str, files: list[tuple[str, UploadFile]], options: ImportOptions) -> ImportReport:
    zipped = [(title, file) for title, file in files if title.lower().endswith(".zip")]
    if zipped and len(files) > 1:
        raise BadFileError(
            "a ZIP is sent alone",
            field="files",
            value=len(files),
            allowed="one ZIP, or pictures with .txt captions",
            next_step="send the ZIP first, then the others",
        )
    if zipped:
        title, file = zipped[0]
        return studio.training_sets.import_zip(name, file.file, title[:-4], options)
    given: dict[str, bytes] = {}
    for number, (title, file) in enumerate(files):
        key = title if title not in given else f"{number}/{title}"
        given[key] = file.file.read()
    return studio.training_sets.import_files(name, given, options)


def _answer(studio: Studio, name: str) -> SetAnswer:
    found = studio.training_sets.get(name)
    head = found.model_dump(exclude={"pictures", "name"})
    return SetAnswer(summary=studio.training_sets.summary(name), works=studio.set_works.of_set(name), **head)
