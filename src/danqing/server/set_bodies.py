"""Bodies and answers of the routes of training sets, and how their uploads are read."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from danqing.server.errors import MediaTypeError
from danqing.sets.captions import trainer_caption
from danqing.spec.base import Data
from danqing.spec.errors import InvalidRequestError
from danqing.spec.project import RecordId
from danqing.spec.registry.style_projects import StyleProject
from danqing.spec.sight import Language
from danqing.spec.training_edit import (
    AutoCaptions,
    CaptionEdit,
    PictureChanges,
    SetChanges,
    SetSummary,
    SetWork,
    TagCount,
)
from danqing.spec.training_set import SetKind, SetName, TrainingPicture, TrainingSet

MAX_NAMED = 20_000
MAX_UPLOADED = 500
SETS_PATH = "/api/v1/training/sets"
Files = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=255)], ...], Field(max_length=MAX_NAMED)]


class SetBody(Data):
    """A new training set."""

    name: SetName
    kind: SetKind | None = Field(default=None, description="the recipe's if unset, else `plain`")
    recipe: str | None = Field(default=None, max_length=80, description="a ready-made style project")
    changes: SetChanges = Field(default=SetChanges(), description="on top of the recipe")


class SetChangeBody(SetChanges):
    """What is to be changed of a set; what is left out stays."""

    name: SetName | None = Field(default=None, description="another name")


class CaptionEditBody(Data):
    """A change to many captions."""

    edit: CaptionEdit
    files: Files | None = Field(default=None, description="of these pictures; of all if unset")


class AutoCaptionBody(Data):
    """How pictures are put into words."""

    captions: AutoCaptions = AutoCaptions()
    files: Files | None = Field(default=None, description="these pictures; all if unset")


class PictureChangeBody(Data):
    """A change to pictures."""

    changes: PictureChanges
    files: Files | None = Field(default=None, description="these pictures; all if unset")


class FilesBody(Data):
    """Some pictures of a set."""

    files: Files


class CheckBody(Data):
    """How a set is checked."""

    size_px: int = Field(default=512, ge=32, le=4096, description="pictures of a smaller area count as small")


class FromRecordsBody(Data):
    """Pictures of the gallery that are to join a set."""

    records: tuple[RecordId, ...] = Field(default=(), max_length=2000)
    project: RecordId | None = Field(default=None, description="every version of this project")
    regularisation: bool = False


class SetList(BaseModel):
    """Every set, the latest changed first."""

    sets: list[SetSummary]
    removed: list[str] = Field(description="names that can be restored")


class SetAnswer(BaseModel):
    """A set without its pictures."""

    summary: SetSummary
    kind: SetKind
    trigger: str
    class_words: str
    caption_template: str
    mirror: bool
    licence_note: str
    recipe: str | None
    works: list[SetWork] = Field(description="checks and captions that run or ran, the newest first")


class PictureRow(BaseModel):
    """A picture of a set as the grid shows it."""

    picture: TrainingPicture
    reads: str = Field(description="what the trainer reads for it: template, trigger and class filled in")
    thumbnail: str = Field(description="address of a small copy, cut to the crop")
    image: str
    mask: str | None
    conditioning: str | None


class PicturePage(BaseModel):
    """Pictures by name, a page at a time."""

    pictures: list[PictureRow]
    total: int = Field(description="how many there are of those asked for")
    next: str | None = Field(default=None, description="pass as `after` for the next page; null at the end")


class TagList(BaseModel):
    """Tags of a set, most frequent first."""

    tags: list[TagCount]


class BucketAnswer(BaseModel):
    """A size and what is trained at it."""

    width_px: int
    height_px: int
    pictures: int
    shown: int = Field(description="with repeats")
    lost: float = Field(description="mean share of the pictures' area that is cut off")
    worst: float
    enlarged: int = Field(description="pictures smaller than the bucket")
    alone: str | None = Field(description="the picture that has this size to itself; null where there are several")


class BucketList(BaseModel):
    """Into which sizes a set falls."""

    size_px: int = Field(description="side of the square of their area")
    step_px: int = Field(description="what sides are multiples of")
    buckets: list[BucketAnswer]


class RecommendedAnswer(BaseModel):
    """A first run on a family of models."""

    base: str
    method: str
    size_px: int
    steps: int
    batch: int
    rank: int
    alpha: float
    learning_rate: float
    max_timestep: int


class WorkAnswer(BaseModel):
    """A picture that suits a set."""

    title: dict[Language, str]
    year: str


class RecipeAnswer(BaseModel):
    """A ready-made style project."""

    key: str
    name: str
    names: dict[Language, str]
    looks: dict[Language, str]
    trigger: str
    class_words: str
    caption_template: str
    least: int
    most: int
    collect: dict[Language, str]
    works: list[WorkAnswer]
    free: bool = Field(description="whether the painter's works are in the public domain")
    rights: dict[Language, str]
    licence_note: str
    prompts: list[str]
    recommended: list[RecommendedAnswer]


class RecipeList(BaseModel):
    """Every ready-made style project."""

    recipes: list[RecipeAnswer]


BODIES = (
    SetBody,
    SetChangeBody,
    CaptionEditBody,
    AutoCaptionBody,
    PictureChangeBody,
    FilesBody,
    CheckBody,
    FromRecordsBody,
)


def recipe_answer(project: StyleProject) -> RecipeAnswer:
    """A style project as the API shows it."""
    return RecipeAnswer(
        key=project.key,
        name=project.name,
        names=dict(project.names),
        looks=dict(project.looks),
        trigger=project.trigger,
        class_words=project.class_words,
        caption_template=project.caption_template,
        least=project.count[0],
        most=project.count[1],
        collect=dict(project.collect),
        works=[WorkAnswer(title=dict(work.title), year=work.year) for work in project.works],
        free=project.free,
        rights=dict(project.rights),
        licence_note=project.licence_note,
        prompts=list(project.prompts),
        recommended=[RecommendedAnswer(**vars(one)) for one in project.recommended],
    )


def picture_row(training_set: TrainingSet, picture: TrainingPicture) -> PictureRow:
    """A picture with its addresses; they change when the picture, its crop or its mask does."""
    place = f"{SETS_PATH}/{quote(training_set.name, safe='')}/pictures/{quote(picture.file, safe='')}"
    crop = None if picture.crop is None else picture.crop.as_tuple()
    told = f"{picture.sha256}{crop}{picture.mask}{picture.conditioning}"
    version = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:12]
    return PictureRow(
        picture=picture,
        reads=trainer_caption(training_set, picture),
        thumbnail=f"{place}/thumbnail?v={version}",
        image=f"{place}/image?v={version}",
        mask=None if picture.mask is None else f"{place}/mask?v={version}",
        conditioning=None if picture.conditioning is None else f"{place}/conditioning?v={version}",
    )


def picture_page(
    training_set: TrainingSet, only: str | None, search: str, after: str | None, limit: int
) -> PicturePage:
    """One page of the pictures that are asked for."""
    words = search.casefold()
    found = [
        one
        for one in training_set.pictures
        if _is_asked(one, only) and (not words or words in one.caption.casefold() or words in one.file.casefold())
    ]
    # by place in the order, not by name: the picture that a page ended with may be gone
    start = 0 if after is None else sum((one.file.lower(), one.file) <= (after.lower(), after) for one in found)
    page = found[start : start + limit]
    more = start + limit < len(found)
    rows = [picture_row(training_set, one) for one in page]
    return PicturePage(pictures=rows, total=len(found), next=page[-1].file if more else None)


Only = Literal[
    "blurred",
    "small",
    "duplicate",
    "no_caption",
    "unreadable",
    "complaint",
    "regularisation",
    "subject",
    "masked",
    "mapped",
    "unmapped",
]


def _is_asked(picture: TrainingPicture, only: str | None) -> bool:
    told = {
        None: True,
        "complaint": bool(picture.complaints),
        "regularisation": picture.regularisation,
        "subject": not picture.regularisation,
        "masked": picture.mask is not None,
        "mapped": picture.conditioning is not None,
        "unmapped": picture.conditioning is None,
        "no_caption": not picture.caption,
    }
    return told.get(only, only in picture.complaints)


async def read_files(request: HttpRequest) -> list[tuple[str, UploadFile]]:
    """The files of a form, in the field `files` (several) or `file`; the guard has counted the bytes.

    Raises:
        MediaTypeError: The body is no multipart form.
        InvalidRequestError: The form has no file.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise MediaTypeError(
            "this address takes files in a multipart form",
            field="Content-Type",
            value=request.headers.get("content-type"),
            allowed="multipart/form-data with files in the field `files`",
            next_step="for example: curl -F files=@one.png -F files=@one.txt …",
        )
    form = await request.form(max_files=MAX_UPLOADED, max_fields=16)
    found = [one for name in ("files", "file") for one in form.getlist(name) if isinstance(one, UploadFile)]
    if not found:
        await form.close()
        raise InvalidRequestError(
            "the form has no file",
            field="files",
            allowed="a ZIP, or pictures with .txt captions",
            next_step="send them in the form field `files`",
        )
    return [(one.filename or "picture", one) for one in found]
