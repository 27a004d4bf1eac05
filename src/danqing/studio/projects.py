"""The part of the Studio that keeps projects: briefs, versions, labels, comparisons."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError
from danqing.spec.project import Brief, Comparison, Project, ProjectItem, ProjectSummary, VersionTree
from danqing.spec.record import Record
from danqing.spec.share import ProjectEvent
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.store.projects_base import ProjectQuery, ReviewQuery
from danqing.studio.differences import compare
from danqing.studio.project_parts import ProjectParts
from danqing.studio.version_tree import Tree

_MANY_REVIEWS = 100_000
_MANY_PROJECTS = 1000
_NEITHER = "record:<id> of a picture in the gallery or sha256:<hash> of an upload"


@dataclass(frozen=True)
class ItemNotes:
    """What is written on a version; None leaves it as it is."""

    labels: tuple[str, ...] | None = None
    note: str | None = None
    starred: bool | None = None


class Projects(ProjectParts):
    """Projects and their versions."""

    @abstractmethod
    def picture_path(self, sha256: str) -> Any:
        """The file of a picture."""

    # --- projects ---------------------------------------------------------------------------------------------------
    def create_project(self, name: str, brief: Brief | None = None, *, user: str = "local") -> Project:
        """A new project. NotFoundError if a picture that the brief refers to is not here."""
        brief = brief or Brief()
        self._check_brief(brief)
        moment = utc_now()
        project = Project(
            id=new_id(), name=checked_name(name), brief=brief, user=user, created_at=moment, updated_at=moment
        )
        self._projects.add_project(project)
        return project

    def project(self, project_id: str) -> Project:
        """One project, also a deleted one inside its undo window. NotFoundError."""
        return self._projects.project(project_id)

    def projects(self, query: ProjectQuery | None = None) -> list[ProjectSummary]:
        """Newest first."""
        return self._summaries(self._projects.projects(query or ProjectQuery()))

    def project_summary(self, project_id: str) -> ProjectSummary:
        """One project and how much it holds. NotFoundError."""
        return self._summaries([self.project(project_id)])[0]

    def change_project(self, project_id: str, *, name: str | None = None, brief: Brief | None = None) -> Project:
        """Another name or brief. NotFoundError; ConflictError if it is deleted."""
        self.live_project(project_id)
        changes: dict[str, Any] = {}
        if name is not None:
            changes["name"] = checked_name(name)
        if brief is not None:
            self._check_brief(brief)
            changes["brief"] = brief
        return self._projects.change_project(project_id, changes) if changes else self.project(project_id)

    def archive_project(self, project_id: str, *, archived: bool = True) -> Project:
        """Put it out of the way, with its links closed, or back. ConflictError if nothing would change."""
        project = self.live_project(project_id)
        _check_change(project.archived_at is not None, wanted=archived, what="archived")
        return self._projects.change_project(project_id, {"archived_at": utc_now() if archived else None})

    def delete_project(self, project_id: str) -> Project:
        """Put it in the bin; `restore_project` brings it back within the undo window. Its pictures stay."""
        _check_change(self.project(project_id).deleted_at is not None, wanted=True, what="deleted")
        return self._projects.change_project(project_id, {"deleted_at": utc_now()})

    def restore_project(self, project_id: str) -> Project:
        """Take it out of the bin. ConflictError if it is not deleted."""
        _check_change(self.project(project_id).deleted_at is not None, wanted=False, what="deleted")
        return self._projects.change_project(project_id, {"deleted_at": None})

    def live_project(self, project_id: str) -> Project:
        """A project that can be worked on. NotFoundError; ConflictError if it is deleted."""
        project = self.project(project_id)
        if project.deleted_at is not None:
            raise ConflictError("this project is deleted", value=project_id, next_step="restore it first")
        return project

    def project_called(self, said: str) -> Project:
        """A project that can be worked on, by its id or its name (case does not count).

        Raises:
            NotFoundError: None is called so.
            ConflictError: Several are, or the one with this id is deleted.
        """
        name = " ".join(said.split()).casefold()
        with suppress(NotFoundError):
            return self.live_project(said)
        every = self._projects.projects(ProjectQuery(search=said, limit=_MANY_PROJECTS))
        found = [project for project in every if project.name.casefold() == name]
        if not found:
            raise NotFoundError(
                "there is no such project",
                field="project",
                value=said,
                allowed="the name or the id of a project",
                next_step="list the projects to see which exist, or make it first",
            )
        if len(found) > 1:
            raise ConflictError(
                f"{len(found)} projects are called so",
                field="project",
                value=said,
                allowed=", ".join(project.id for project in found),
                next_step="give the id of one of them",
            )
        return found[0]

    # --- versions ---------------------------------------------------------------------------------------------------
    def add_to_project(self, project_id: str, record_ids: Sequence[str]) -> list[ProjectItem]:
        """Let Records join; those that are there already stay as they are. NotFoundError: then none has joined."""
        self.live_project(project_id)
        return self._projects.put_items(project_id, record_ids)

    def remove_from_project(self, project_id: str, record_id: str) -> ProjectItem:
        """Take a version out of its project and shares. Adding it again brings labels and note back."""
        project = self.live_project(project_id)
        item = self._projects.change_item(project_id, record_id, {"removed_at": utc_now()})
        if project.current == record_id:
            self._projects.change_project(project_id, {"current": None})
        return item

    def annotate(self, project_id: str, record_id: str, notes: ItemNotes) -> ProjectItem:
        """Labels, note and star of a version. NotFoundError."""
        self.live_project(project_id)
        given = {"labels": notes.labels, "note": notes.note, "starred": notes.starred}
        changes = {key: value for key, value in given.items() if value is not None}
        if "labels" in changes:
            changes["labels"] = tuple(dict.fromkeys(label.strip() for label in notes.labels or ()))
        return self._projects.change_item(project_id, record_id, changes)

    def set_current(self, project_id: str, record_id: str | None) -> Project:
        """Make a version the one that counts. NotFoundError if it is not in the project."""
        self.live_project(project_id)
        if record_id is not None:
            self.version_record(project_id, record_id)
        return self._projects.change_project(project_id, {"current": record_id})

    def version_tree(self, project_id: str) -> VersionTree:
        """Every version with its parent and in what their Requests differ."""
        project = self.project(project_id)
        records = {record.id: record for record in self._projects.item_records(project_id)}
        items = {item.record: item for item in self._projects.items(project_id)}
        reviews = self._projects.reviews(ReviewQuery(project=project_id, limit=_MANY_REVIEWS))
        current = project.current if project.current in records else None
        versions = Tree(records, items, reviews, current, self._ancestor_of).versions()
        roots = tuple(version.record for version in versions if version.parent is None)
        return VersionTree(project=project_id, current=current, roots=roots, versions=tuple(versions))

    def compare(self, project_id: str, a: str, b: str) -> Comparison:
        """Two versions measured against each other. NotFoundError if one is not in the project."""
        first, second = self.version_record(project_id, a), self.version_record(project_id, b)
        return compare((first, self.picture_bytes(first.picture)), (second, self.picture_bytes(second.picture)))

    def version_record(self, project_id: str, record_id: str) -> Record:
        """A Record that is in the project. NotFoundError."""
        if record_id not in {item.record for item in self._projects.items(project_id)}:
            raise NotFoundError(
                "this picture is no version of the project",
                field="record",
                value=record_id,
                next_step="add it to the project first, or look at the project's tree",
            )
        return self.record(record_id)

    def project_events(self, project_id: str, *, after: int = 0) -> AsyncGenerator[ProjectEvent]:
        """What happens in a project behind a number (-1: from now on), for `async for`. NotFoundError, at once."""
        self.project(project_id)
        return self._feed.follow(project_id, after)

    # --- inside -----------------------------------------------------------------------------------------------------
    def _summaries(self, projects: Sequence[Project]) -> list[ProjectSummary]:
        counts = self._projects.counts([project.id for project in projects])
        return [
            ProjectSummary(
                project=project,
                versions=counts[project.id].versions,
                reviews=counts[project.id].reviews,
                open_suggestions=counts[project.id].open_suggestions,
                shares=counts[project.id].shares,
                cover=project.current or counts[project.id].newest,
            )
            for project in projects
        ]

    def _ancestor_of(self, record: Record) -> Record | None:
        try:
            return None if record.parent is None else self.record(record.parent)
        except NotFoundError:
            return None

    def _check_brief(self, brief: Brief) -> None:
        for place, reference in enumerate(brief.references):
            kind, _, name = reference.partition(":")
            try:
                _ = self.record(name) if kind == "record" else self.picture_path(name)
            except NotFoundError as error:
                raise NotFoundError(
                    error.message, field=f"brief.references.{place}", value=reference, allowed=_NEITHER
                ) from error


def checked_name(name: str) -> str:
    """A name without blanks around it. InvalidRequestError if nothing is left, or too much."""
    plain = " ".join(name.split())
    if not 0 < len(plain) <= 120:
        raise InvalidRequestError(
            "a project needs a name" if not plain else "the name is too long",
            field="name",
            value=name,
            allowed="1 to 120 characters",
            next_step="give it a name that you will know it by",
        )
    return plain


def _check_change(now: bool, *, wanted: bool, what: str) -> None:
    if now == wanted:
        raise ConflictError(
            f"this project is {'' if now else 'not '}{what}{' already' if now else ''}",
            next_step="reload the list of projects",
        )
