"""A share: some versions of a project behind a link that nobody can guess."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from danqing.spec.base import Data
from danqing.spec.geometry import BoxPx
from danqing.spec.project import HexColour, ProjectName, RecordId, Rule
from danqing.spec.review import Language, PointPx, SuggestionState

MAX_SHARED = 500
ShareLanguage = Literal["en", "zh-Hans", "zh-Hant"]
ShareState = Literal["open", "expired", "revoked", "closed"]


class Shown(Data):
    """What the client may see besides the pictures. Nothing by default."""

    prompts: bool = Field(default=False, description="the words a picture was painted from")
    brief: bool = Field(default=False, description="the brief's words, palette, do and don't")
    labels: bool = Field(default=False, description="the designer's labels of versions")


class Share(Data):
    """A link for the client. Its token is told once, when it is made; only the token's hash is kept."""

    id: str
    project: str
    name: ProjectName = Field(description="the title the client reads")
    records: tuple[str, ...] = Field(default=(), description="what it shows, in the order in which they were added")
    follow: bool = Field(default=False, description="new versions of what it shows appear by themselves")
    shown: Shown = Shown()
    language: ShareLanguage = "en"
    has_password: bool = False
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def state_at(self, moment: datetime) -> ShareState:
        """Whether it opens at this time (that its project is archived or deleted, the store knows)."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= moment else "open"


class ShareOrder(Data):
    """What a new share is to be."""

    name: ProjectName = Field(description="the title the client reads")
    records: tuple[RecordId, ...] | None = Field(
        default=None, max_length=MAX_SHARED, description="the current version, or all if none is current, if unset"
    )
    follow: bool = False
    shown: Shown = Shown()
    language: ShareLanguage = "en"
    expires_at: AwareDatetime | None = Field(default=None, description="with its time zone; never if unset")
    password: str | None = Field(default=None, min_length=4, max_length=200, repr=False)


class ShareChanges(Data):
    """What is to be changed of a share; what is left out stays."""

    name: ProjectName | None = None
    follow: bool | None = None
    shown: Shown | None = None
    language: ShareLanguage | None = None
    expires_at: AwareDatetime | None = Field(default=None, description="null: never")
    password: str | None = Field(default=None, min_length=4, max_length=200, repr=False, description="null: none")


class NewShare(Data):
    """A share with its token, which is told this once."""

    share: Share
    token: str = Field(repr=False)
    path: str = Field(repr=False, description="of the client's page; the studio's origin goes before it")


class SharedVersion(Data):
    """A version as the client sees it."""

    id: str
    parent: str | None = Field(default=None, description="if that one is shown too")
    number: int = Field(ge=1, description="in the order in which they were shown")
    width_px: int
    height_px: int
    added_at: datetime
    picture: str = Field(description="path of the picture")
    thumbnail: str
    prompt: str | None = None
    labels: tuple[str, ...] = ()


class SharedSuggestion(Data):
    """A suggestion as the client sees it."""

    id: str
    box: BoxPx | None = None
    lasso: tuple[PointPx, ...] | None = None
    prompt: str
    reason: str = ""
    strength: float
    state: SuggestionState
    results: tuple[str, ...] = Field(default=(), description="versions on this share that came of it")


class SharedReview(Data):
    """A review that came by this share, as the client sees it."""

    id: str
    version: str
    reviewer: str
    picked: bool
    starred: bool
    approved: bool
    note: str
    language: Language | None = None
    created_at: datetime
    suggestions: tuple[SharedSuggestion, ...] = ()


class SharedBrief(Data):
    """The brief, where the designer shows it: no pictures, for those may be anything."""

    words: str = ""
    palette: tuple[HexColour, ...] = ()
    do: tuple[Rule, ...] = ()
    dont: tuple[Rule, ...] = ()


class SharePage(Data):
    """All that a share shows."""

    title: str
    language: ShareLanguage
    locked: bool = Field(description="a password is asked for; nothing else is told")
    expires_at: datetime | None = None
    last_event: int = Field(default=0, description="`after` for the events that follow on this")
    versions: tuple[SharedVersion, ...] = ()
    reviews: tuple[SharedReview, ...] = Field(default=(), description="oldest first")
    brief: SharedBrief | None = None


EventKind = Literal["review", "suggestion", "shown", "hidden", "version", "removed", "project", "share", "refinement"]


class ProjectEvent(Data):
    """Something happened in a project. Numbers grow, also from process to process.

    `review`: a review came; `suggestion`: one was applied, dismissed or opened again; `version`/`removed`: a Record
    joined or left the project; `shown`/`hidden`: a Record appeared on, or left, a share; `share`: a share was made or
    changed; `project`: name, brief or current version changed; `refinement`: one was begun, went on or ended.
    """

    number: int
    kind: EventKind
    project: str
    share: str | None = None
    record: str | None = None
    review: str | None = None
    suggestion: str | None = None
    at: datetime
