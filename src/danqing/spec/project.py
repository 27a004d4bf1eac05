"""A project: a brief, and Records as a tree of versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from danqing.spec.base import Data, PictureRef, Sha256
from danqing.spec.geometry import SizePx

MAX_REFERENCES = 32
MAX_COLOURS = 16
MAX_RULES = 50
MAX_LABELS = 16
ProjectName = Annotated[str, Field(min_length=1, max_length=120, pattern=r"\S", description="not blank")]
HexColour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", description="`#rrggbb`")]
Rule = Annotated[str, Field(min_length=1, max_length=500)]
Label = Annotated[str, Field(min_length=1, max_length=40, pattern=r"\S")]
RecordId = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="id of a Record")]


class Brief(Data):
    """What is wanted, before any picture."""

    words: str = Field(default="", max_length=20_000, description="the brief in plain words, in any language")
    references: tuple[PictureRef, ...] = Field(default=(), max_length=MAX_REFERENCES, description="pictures to heed")
    size: SizePx | None = Field(default=None, description="of the deliverable")
    palette: tuple[HexColour, ...] = Field(default=(), max_length=MAX_COLOURS)
    do: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES, description="what must be so")
    dont: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES, description="what must not be so")


class Project(Data):
    """A brief, and which of its versions counts. Its Records, shares and reviews name it."""

    id: str
    name: ProjectName
    brief: Brief = Brief()
    current: str | None = Field(default=None, description="the Record that counts as the present version")
    user: str = "local"
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = Field(default=None, description="set while it is archived: kept, out of the way")
    deleted_at: datetime | None = Field(default=None, description="set inside the undo window of a deletion")


class ProjectSummary(Data):
    """A project and how much it holds."""

    project: Project
    versions: int = Field(ge=0)
    reviews: int = Field(ge=0)
    open_suggestions: int = Field(ge=0)
    shares: int = Field(ge=0, description="links that open")
    cover: str | None = Field(default=None, description="the Record to show as its picture")


class ProjectItem(Data):
    """A Record in a project, and what the designer wrote on it."""

    project: str
    record: str
    labels: tuple[Label, ...] = Field(default=(), max_length=MAX_LABELS)
    note: str = Field(default="", max_length=4000)
    starred: bool = False
    added_at: datetime
    removed_at: datetime | None = Field(default=None, description="taken out; adding it again brings all of this back")


class Change(Data):
    """One field in which two Requests differ."""

    field: str = Field(description="dotted path, for example `sampling.steps`")
    old: Any = Field(default=None, description="null where it was not set")
    new: Any = None


class Version(Data):
    """A Record as a node of its project's tree."""

    record: str
    parent: str | None = Field(description="the nearest ancestor in this project; null at a root")
    children: tuple[str, ...] = ()
    depth: int = Field(ge=0, description="steps from its root")
    current: bool = False
    kind: str
    prompt: str
    seed: int
    model: str
    picture: Sha256
    width_px: int
    height_px: int
    created_at: datetime
    labels: tuple[Label, ...] = ()
    note: str = ""
    starred: bool = False
    changes: tuple[Change, ...] = Field(default=(), description="of its Request against its parent's; none at a root")
    reviews: int = Field(default=0, ge=0)
    open_suggestions: int = Field(default=0, ge=0)
    approved: bool = Field(default=False, description="some review approved it")
    picked: bool = False


class VersionTree(Data):
    """The versions of a project, by depth, then age: a parent comes before its children."""

    project: str
    current: str | None
    roots: tuple[str, ...]
    versions: tuple[Version, ...]


class Side(Data):
    """One of two compared pictures."""

    record: str
    picture: Sha256
    width_px: int
    height_px: int


class Comparison(Data):
    """Two pictures beside each other."""

    a: Side
    b: Side
    same_size: bool = Field(description="if not, `b` was scaled to `a` before it was measured")
    identical: bool = Field(description="equal in every pixel")
    mean_difference: float = Field(ge=0, le=1, description="mean absolute difference of the RGB values, 0 … 1")
    max_difference: float = Field(ge=0, le=1)
    changed_share: float = Field(ge=0, le=1, description="share of pixels that differ by more than 8 of 255")
    changed_box: tuple[int, int, int, int] | None = Field(
        default=None, description="left, top, right, bottom of those pixels, in pixels of `a`"
    )
    changes: tuple[Change, ...] = Field(default=(), description="of the Requests, from `a` to `b`")
