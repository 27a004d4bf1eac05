"""Projects, shares and reviews in memory; the same behaviour, nothing durable."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from danqing.spec.project import Project, ProjectItem
from danqing.spec.record import Job, Record
from danqing.spec.share import EventKind, ProjectEvent
from danqing.store.base import no_such
from danqing.store.fake_shares import FakeReviews, FakeShares
from danqing.store.owners import utc_now
from danqing.store.project_rows import search_text
from danqing.store.projects_base import (
    LONGEST_LINE,
    MAX_ITEMS,
    Counts,
    ProjectQuery,
    Tie,
    applied_already,
    check_keys,
    too_many,
)


class FakeProjects(FakeShares, FakeReviews):
    """Dictionaries behind the lock of the `FakeStore` whose jobs and Records they look at."""

    def __init__(self, lock: threading.RLock, jobs: Mapping[str, Job], records: Mapping[str, Record]) -> None:
        self._lock = lock
        self._jobs = jobs
        self._records = records
        self._projects: dict[str, Project] = {}
        self._items: dict[tuple[str, str], ProjectItem] = {}
        self._ties: dict[str, Tie] = {}
        self._events: list[ProjectEvent] = []
        self._begin_shares()
        self._begin_reviews()

    # --- beside jobs and Records ------------------------------------------------------------------------------------
    def tie_job(self, job_id: str, tie: Tie) -> None:
        """See `Store.add_job`."""
        self.project(tie.project)
        if tie.suggestion is not None:
            _, suggestion = self.suggestion(tie.suggestion)
            before = None if suggestion.job is None else self._jobs.get(suggestion.job)
            if suggestion.state == "applied" and before is not None and before.state not in ("failed", "cancelled"):
                raise applied_already(tie.suggestion)
            self._change_suggestion(tie.suggestion, state="applied", job=job_id)
        self._ties[job_id] = tie

    def join_record(self, record: Record) -> None:
        """See `Store.add_record`."""
        tie = self._ties.get(record.job_id)
        if tie is None or tie.project not in self._projects:
            return
        self.put_items(tie.project, [record.id])
        if tie.suggestion is None:
            return
        review, suggestion = self.suggestion(tie.suggestion)
        if tie.show and review.share is not None:
            self.show(review.share, [record.id])
        self._change_suggestion(suggestion.id)

    def forget_record(self, record_id: str) -> None:
        """A Record was purged."""
        for key in [key for key in self._items if key[1] == record_id]:
            del self._items[key]
        self._forget_shown(record_id)

    def briefs(self) -> str:
        """Every brief as text: the pictures it names are in use."""
        return "".join(project.brief.model_dump_json() for project in self._projects.values())

    # --- projects ---------------------------------------------------------------------------------------------------
    def add_project(self, project: Project) -> None:
        """See `ProjectStore.add_project`."""
        with self._lock:
            self._projects[project.id] = project

    def project(self, project_id: str) -> Project:
        """See `ProjectStore.project`."""
        with self._lock:
            if project_id not in self._projects:
                raise no_such("project", project_id)
            return self._projects[project_id]

    def projects(self, query: ProjectQuery) -> list[Project]:
        """See `ProjectStore.projects`."""
        words = query.search.casefold().split()
        with self._lock:
            found = [
                project
                for _, project in sorted(self._projects.items(), reverse=True)
                if _state(project) == query.state
                and (query.before is None or project.id < query.before)
                and all(word in search_text(project.name, project.brief) for word in words)
            ]
        return found[: query.limit]

    def change_project(self, project_id: str, changes: Mapping[str, Any]) -> Project:
        """See `ProjectStore.change_project`."""
        check_keys(changes, ("name", "brief", "current", "archived_at", "deleted_at"))
        with self._lock:
            project = self.project(project_id).model_copy(update={**changes, "updated_at": utc_now()})
            self._projects[project_id] = project
            self.note("project", project_id)
            return project

    def purge_projects(self, deleted_before: datetime) -> list[str]:
        """See `ProjectStore.purge_projects`."""
        with self._lock:
            gone = [
                project.id
                for project in self._projects.values()
                if project.deleted_at is not None and project.deleted_at < deleted_before
            ]
            for project_id in gone:
                del self._projects[project_id]
            for key in [key for key in self._items if key[0] in gone]:
                del self._items[key]
            self._events = [event for event in self._events if event.project not in gone]
            self._forget_shares(gone)
            self._forget_reviews(gone)
            return gone

    def counts(self, project_ids: Collection[str]) -> dict[str, Counts]:
        """See `ProjectStore.counts`."""
        with self._lock:
            return {project_id: self._count(project_id) for project_id in project_ids}

    def _count(self, project_id: str) -> Counts:
        items = self.items(project_id)
        reviews = [review for review in self._reviews.values() if review.project == project_id]
        states = [suggestion.state for review in reviews for suggestion in review.suggestions]
        shares = [share.state_at(utc_now()) for share in self.shares(project_id)]
        newest = max((item.record for item in items), default=None)
        return Counts(len(items), len(reviews), states.count("open"), shares.count("open"), newest)

    # --- items ------------------------------------------------------------------------------------------------------
    def put_items(self, project_id: str, record_ids: Sequence[str]) -> list[ProjectItem]:
        """See `ProjectStore.put_items`."""
        with self._lock:
            self.project(project_id)
            for record_id in record_ids:
                if record_id not in self._records or self._records[record_id].deleted_at is not None:
                    raise no_such("record", record_id)
            wanted = list(dict.fromkeys(record_ids))
            fresh = [record_id for record_id in wanted if self._item(project_id, record_id) is None]
            there = sum(key[0] == project_id and item.removed_at is None for key, item in self._items.items())
            if fresh and there + len(fresh) > MAX_ITEMS:
                raise too_many("versions in one project", MAX_ITEMS)
            for record_id in fresh:
                old = self._items.get((project_id, record_id))
                fresh_item = old or ProjectItem(project=project_id, record=record_id, added_at=utc_now())
                self._items[project_id, record_id] = fresh_item.model_copy(update={"removed_at": None})
                self.note("version", project_id, record=record_id)
                self._follow(project_id, record_id, self._parent_in(project_id, record_id))
            return [self._items[project_id, record_id] for record_id in wanted]

    def items(self, project_id: str) -> list[ProjectItem]:
        """See `ProjectStore.items`."""
        with self._lock:
            found = [self._item(project_id, record_id) for key, record_id in sorted(self._items) if key == project_id]
            return [item for item in found if item is not None and self._records[item.record].deleted_at is None]

    def item_records(self, project_id: str) -> list[Record]:
        """See `ProjectStore.item_records`."""
        with self._lock:
            return [self._records[item.record] for item in self.items(project_id)]

    def change_item(self, project_id: str, record_id: str, changes: Mapping[str, Any]) -> ProjectItem:
        """See `ProjectStore.change_item`."""
        check_keys(changes, ("labels", "note", "starred", "removed_at"))
        with self._lock:
            item = self._item(project_id, record_id)
            if item is None:
                raise no_such("version of this project", record_id)
            item = self._items[project_id, record_id] = item.model_copy(update=dict(changes))
            if item.removed_at is not None:
                for share in self.shares(project_id):
                    self.hide(share.id, record_id)
            self.note("project" if item.removed_at is None else "removed", project_id, record=record_id)
            return item

    def tie(self, job_id: str) -> Tie | None:
        """See `ProjectStore.tie`."""
        with self._lock:
            return self._ties.get(job_id)

    def _item(self, project_id: str, record_id: str) -> ProjectItem | None:
        item = self._items.get((project_id, record_id))
        return None if item is None or item.removed_at is not None else item

    def _parent_in(self, project_id: str, record_id: str) -> str | None:
        record = self._records.get(record_id)
        for _ in range(LONGEST_LINE):
            if record is None or record.parent is None:
                return None
            if self._item(project_id, record.parent) is not None:
                return record.parent
            record = self._records.get(record.parent)
        return None

    # --- events -----------------------------------------------------------------------------------------------------
    def note(self, kind: EventKind, project_id: str, **about: str | None) -> None:
        """Add an event."""
        with self._lock:
            self._events.append(
                ProjectEvent(number=self.last_event() + 1, kind=kind, project=project_id, at=utc_now(), **about)
            )

    def events(self, after: int, *, project_id: str | None = None, limit: int = 500) -> list[ProjectEvent]:
        """See `ProjectStore.events`."""
        with self._lock:
            newer = [event for event in self._events if event.number > after]
            return [event for event in newer if project_id in (None, event.project)][:limit]

    def last_event(self) -> int:
        """See `ProjectStore.last_event`."""
        with self._lock:
            return self._events[-1].number if self._events else 0


def _state(project: Project) -> str:
    if project.deleted_at is not None:
        return "deleted"
    return "active" if project.archived_at is None else "archived"
