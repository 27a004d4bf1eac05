"""What the store does for projects, shares and reviews. Every write is durable, and noted as an event, when it returns.

`sql_projects.py` keeps it in a database, `fake_projects.py` in memory; one test suite holds both to this page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from danqing.spec.errors import ConflictError, InvalidRequestError
from danqing.spec.project import Project, ProjectItem
from danqing.spec.record import Record
from danqing.spec.review import Review, Suggestion, SuggestionState
from danqing.spec.share import MAX_SHARED, ProjectEvent, Share

ProjectState = Literal["active", "archived", "deleted"]
MAX_ITEMS = 5000
MAX_SHARE_REVIEWS = 20_000
"""Reviews that one link may leave: far beyond what people write, far below what would fill a disk."""
LONGEST_LINE = 200
"""How many ancestors are looked through for one that is in the project."""


@dataclass(frozen=True)
class ProjectQuery:
    """Which projects; newest first.

    Args:
        search: Every word of it occurs in the name or the brief.
        before: Only projects older than this id.
    """

    search: str = ""
    state: ProjectState = "active"
    limit: int = 50
    before: str | None = None


@dataclass(frozen=True)
class ReviewQuery:
    """Which reviews; newest first.

    Args:
        state: Only reviews with a suggestion in this state.
        before: Only reviews older than this id.
    """

    project: str | None = None
    share: str | None = None
    record: str | None = None
    state: SuggestionState | None = None
    limit: int = 100
    before: str | None = None


@dataclass(frozen=True)
class Counts:
    """How much a project holds."""

    versions: int = 0
    reviews: int = 0
    open_suggestions: int = 0
    shares: int = 0
    newest: str | None = None


@dataclass(frozen=True)
class Tie:
    """What a job belongs to: its Records join the project when they come.

    Args:
        project: Id of the project.
        suggestion: The suggestion that the job carries out.
        show: Whether the results appear on the share that the suggestion came by.
    """

    project: str
    suggestion: str | None = None
    show: bool = True


@dataclass(frozen=True)
class Secrets:
    """Hashes only: of the token (sha256 hex) and of the password (see `studio.secrets`)."""

    token_hash: str
    password_hash: str | None = None


@dataclass(frozen=True)
class OpenShare:
    """A share whose link works."""

    share: Share
    secrets: Secrets


@dataclass(frozen=True)
class Sent:
    """How a review was sent.

    Args:
        key: Made by the client, once for each review.
        fingerprint: Of the contents: the same key with other contents is refused.
    """

    key: str
    fingerprint: str


class ProjectStore(ABC):
    """Projects and their items."""

    @abstractmethod
    def add_project(self, project: Project) -> None:
        """A new one."""

    @abstractmethod
    def project(self, project_id: str) -> Project:
        """NotFoundError if there is none; deleted ones are given inside their undo window."""

    @abstractmethod
    def projects(self, query: ProjectQuery) -> list[Project]:
        """Newest first."""

    @abstractmethod
    def change_project(self, project_id: str, changes: Mapping[str, Any]) -> Project:
        """Set some of `name`, `brief`, `current`, `archived_at`, `deleted_at`; `updated_at` follows. NotFoundError."""

    @abstractmethod
    def purge_projects(self, deleted_before: datetime) -> list[str]:
        """Remove projects deleted before a time, with their shares and reviews; Records stay. Gives their ids."""

    @abstractmethod
    def counts(self, project_ids: Collection[str]) -> dict[str, Counts]:
        """How much each holds."""

    @abstractmethod
    def put_items(self, project_id: str, record_ids: Sequence[str]) -> list[ProjectItem]:
        """Let Records join, all or none; those that are there stay as they are, removed ones come back as they were.

        NotFoundError for the project or a Record; ConflictError beyond `MAX_ITEMS`.
        """

    @abstractmethod
    def items(self, project_id: str) -> list[ProjectItem]:
        """Those that are in it and whose Record is not deleted, oldest Record first."""

    @abstractmethod
    def item_records(self, project_id: str) -> list[Record]:
        """Their Records, in the same order."""

    @abstractmethod
    def change_item(self, project_id: str, record_id: str, changes: Mapping[str, Any]) -> ProjectItem:
        """Set some of `labels`, `note`, `starred`, `removed_at`. NotFoundError if it is not in the project."""

    @abstractmethod
    def tie(self, job_id: str) -> Tie | None:
        """What a job belongs to."""

    @abstractmethod
    def events(self, after: int, *, project_id: str | None = None, limit: int = 500) -> list[ProjectEvent]:
        """Events with a greater number, in order."""

    @abstractmethod
    def last_event(self) -> int:
        """The greatest number so far, 0 if nothing happened yet."""


class ShareStore(ABC):
    """Shares and what they show."""

    @abstractmethod
    def add_share(self, share: Share, secrets: Secrets) -> Share:
        """A new one, with `share.records` on it. NotFoundError for the project or a Record that is not in it."""

    @abstractmethod
    def share(self, share_id: str) -> Share:
        """NotFoundError."""

    @abstractmethod
    def shares(self, project_id: str) -> list[Share]:
        """Newest first."""

    @abstractmethod
    def open_share(self, token_hash: str, moment: datetime) -> OpenShare | None:
        """The share behind a token; None if unknown, expired, revoked, or its project is archived or deleted."""

    @abstractmethod
    def change_share(self, share_id: str, changes: Mapping[str, Any]) -> Share:
        """Set some of `name, follow, shown, language, expires_at, revoked_at` and the two hashes. NotFoundError."""

    @abstractmethod
    def show(self, share_id: str, record_ids: Sequence[str]) -> Share:
        """Show Records of the project, all or none. NotFoundError; ConflictError beyond `MAX_SHARED`."""

    @abstractmethod
    def hide(self, share_id: str, record_id: str) -> Share:
        """Show it no longer; no error if it was not shown."""

    @abstractmethod
    def shown_records(self, share_id: str) -> list[tuple[Record, datetime]]:
        """What it shows and since when, first shown first; deleted Records are left out."""

    @abstractmethod
    def take_guess(self, share_id: str, moment: datetime, *, limit: int, window_s: float) -> float:
        """Count a try at the password before it is checked. 0 if it may be made, else the seconds to wait."""

    @abstractmethod
    def forget_guesses(self, share_id: str) -> None:
        """The password was right."""


class ReviewStore(ABC):
    """Reviews and their suggestions."""

    @abstractmethod
    def add_review(self, review: Review, sent: Sent) -> tuple[Review, bool]:
        """Keep a review with its ids set; if its key came before by the same way, that one and False.

        ConflictError if that one had other contents, or a share has `MAX_SHARE_REVIEWS`.
        """

    @abstractmethod
    def review(self, review_id: str) -> Review:
        """NotFoundError."""

    @abstractmethod
    def reviews(self, query: ReviewQuery) -> list[Review]:
        """Newest first."""

    @abstractmethod
    def suggestion(self, suggestion_id: str) -> tuple[Review, Suggestion]:
        """A suggestion and the review it stands in. NotFoundError."""

    @abstractmethod
    def set_suggestion(self, suggestion_id: str, state: SuggestionState) -> Suggestion:
        """Dismiss it or open it again; its job, if any, is let go of. NotFoundError."""


class ProjectsStore(ProjectStore, ShareStore, ReviewStore):
    """All three; `Store.projects`. Jobs and Records join them in `Store.add_job` and `Store.add_record`."""


def applied_already(suggestion_id: str) -> ConflictError:
    """The error for a suggestion that a job carries out, or has carried out, already."""
    return ConflictError(
        "this suggestion is applied already",
        field="state",
        value=suggestion_id,
        allowed="an open one, or one whose job failed or was cancelled",
        next_step="look at its results, or open it again to paint it once more",
    )


def key_taken(key: str) -> ConflictError:
    """The error for a key that was used for something else."""
    return ConflictError(
        "a review with this key but other contents is here already",
        field="key",
        value=key,
        allowed="a new key for each new review; the same key only to send the same review again",
        next_step="make a new key",
    )


def too_many(what: str, limit: int) -> ConflictError:
    """The error for a place that is full."""
    return ConflictError(f"that would be too many {what}", allowed=f"up to {limit:,}", next_step=f"use fewer {what}")


def check_room(there: int, more: int) -> None:
    """ConflictError if a share would show more than `MAX_SHARED`."""
    if there + more > MAX_SHARED:
        raise too_many("versions on one link", MAX_SHARED)


def check_keys(changes: Mapping[str, Any], known: Collection[str]) -> None:
    """InvalidRequestError for a change of something that cannot be changed."""
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise InvalidRequestError(
            f"{unknown[0]} cannot be changed",
            field=unknown[0],
            allowed=", ".join(sorted(known)),
            next_step="leave it out",
        )
