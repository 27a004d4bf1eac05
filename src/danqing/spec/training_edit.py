"""What is done to training sets, and what is told of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from danqing.spec.base import Data
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx
from danqing.spec.sight import Language
from danqing.spec.training_set import MAX_CAPTION_CHARS, Complaint, SetKind, SetName

Layout = Literal["plain", "danqing", "kohya", "control", "pairs"]
"""How what was imported was laid out: pictures with captions, a set of ours, `10_name class` folders, pictures beside
control maps, or the pairs of `danqing refine --export`."""
EditedText = Field(default="", max_length=MAX_CAPTION_CHARS)


class CaptionEdit(Data):
    """One change to the captions of many pictures.

    Attributes:
        action: `set` the whole caption; `add` tags that are not there; `remove` tags; `replace` tags by others;
            `replace_text` letters anywhere.
        text: The caption, the tags (separated by commas) or the letters that are looked for.
        by: What `replace` and `replace_text` put there; may be empty.
        where: Of `add`.
    """

    action: Literal["set", "add", "remove", "replace", "replace_text"]
    text: str = EditedText
    by: str = EditedText
    where: Literal["start", "end"] = "end"

    @model_validator(mode="after")
    def _has_text(self) -> CaptionEdit:
        if self.action != "set" and not self.text.strip(" ,，"):
            raise InvalidRequestError(
                "the edit names no tag",
                field="text",
                value=self.text,
                allowed="tags separated by commas",
                next_step="say which tags, or use `set` to empty the captions",
            )
        return self


class TagCount(Data):
    """A tag and in how many captions it stands."""

    tag: str
    count: int = Field(ge=1)


class Skipped(Data):
    """A file that did not join a set, and why."""

    file: str
    reason: str


class ImportReport(Data):
    """What an import did.

    Attributes:
        layout: How the source was laid out.
        added: Names that the pictures have in the set.
        skipped: Files that look like pictures and did not join.
        captions: How many of the new pictures have one.
        notes: What else a person should know, in plain English.
    """

    set_name: SetName
    layout: Layout
    added: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    captions: int = 0
    masks: int = 0
    conditioning: int = 0
    regularisation: int = 0
    notes: tuple[str, ...] = ()


class SetSummary(Data):
    """A set in a list.

    Attributes:
        error: Why it cannot be read, in words; the counts are 0 then.
        cover: Name of the picture to show for it.
    """

    name: SetName
    kind: SetKind = "plain"
    pictures: int = 0
    captioned: int = 0
    regularisation: int = 0
    masks: int = 0
    complaints: dict[Complaint, int] = Field(default_factory=dict[Complaint, int])
    trigger: str = ""
    recipe: str | None = None
    cover: str | None = None
    bytes: int = Field(default=0, ge=0, description="of the pictures")
    changed_at: datetime
    undo: str | None = Field(default=None, description="what an undo would take back")
    error: str | None = None


class UndoReport(Data):
    """What an undo took back.

    Attributes:
        what: The edit, in words.
        undone: Pictures that are as they were before.
        kept: Pictures that were changed again since then and stay as they are.
    """

    what: str
    undone: int = Field(ge=0)
    kept: int = Field(ge=0)


class AutoCaptions(Data):
    """How captions are made by looking at the pictures.

    Attributes:
        interrogator: Who looks; a key, label or alias of `spec.registry.interrogators`.
        form: A caption in words, tags, or both.
        tags: At most so many; None for the interrogator's own number.
        threshold: Of a tagger: less likely tags are left out.
        keep: Only where there is `empty` a caption; `add` behind the one that is there; or `replace` it.
        leave_out: Tags that are not wanted: what the trigger is to stand for.
    """

    interrogator: str = Field(default="builtin", max_length=64)
    language: Language = "en"
    form: Literal["caption", "tags", "both"] = "caption"
    tags: int | None = Field(default=None, ge=0, le=100)
    threshold: float | None = Field(default=None, ge=0, le=1)
    character_threshold: float | None = Field(default=None, ge=0, le=1)
    keep: Literal["empty", "add", "replace"] = "empty"
    leave_out: str = Field(default="", max_length=MAX_CAPTION_CHARS)


class SetChanges(Data):
    """What is to be changed of a set; None stays as it is."""

    kind: SetKind | None = None
    trigger: str | None = Field(default=None, max_length=80)
    class_words: str | None = Field(default=None, max_length=200)
    caption_template: str | None = Field(default=None, max_length=400)
    mirror: bool | None = None
    licence_note: str | None = Field(default=None, max_length=4_000)


class PictureChanges(Data):
    """What is to be changed of pictures; None stays as it is.

    Attributes:
        crop: The part that is shown; `whole` takes it away again.
        crop_way: A crop of this shape is looked for: `centre`, `subject` or `tight`, and `aspect`.
        aspect: Width ÷ height of that; None keeps the picture's own.
    """

    caption: str | None = Field(default=None, max_length=MAX_CAPTION_CHARS)
    repeats: int | None = Field(default=None, ge=0, le=10_000)
    regularisation: bool | None = None
    crop: BoxPx | None = None
    whole: bool = False
    crop_way: Literal["centre", "subject", "tight"] | None = None
    aspect: float | None = Field(default=None, ge=0.125, le=8)


class EditReport(Data):
    """How many pictures an edit changed."""

    what: str
    changed: int = Field(ge=0)


class SetWork(Data):
    """Something that takes a while: it runs on, whoever watches.

    Attributes:
        state: `cancelled` keeps what was done until then.
        note: What came of it, in words.
        error: Of the error tree, as data.
    """

    id: str
    set_name: str
    kind: Literal["check", "captions"]
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    done: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)
    note: str = ""
    error: dict[str, Any] | None = None
