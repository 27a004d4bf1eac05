"""The part of the Studio that refines pictures: at once for the CLI, in threads for the API. No torch.

Every refinement is a row. One whose process ended is found by the next Studio that paints for a server (`settle`): what
it had accepted is made good, what it was painting is dropped, and it is shown as interrupted. It does not go on by
itself, since a reviewer may be an endpoint, and a picture goes there only when a person asks.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, cast

from danqing.review.base import MAX_BRIEF_CHARS, checked_brief, find_reviewer
from danqing.spec.errors import ConflictError, DanqingError, NotFoundError
from danqing.spec.project import Project
from danqing.spec.record import Job, Record
from danqing.spec.refine import Refinement, RefineOptions
from danqing.spec.request import Request
from danqing.store.base import Store
from danqing.store.ids import new_id
from danqing.store.owners import Owner
from danqing.store.refinements import RefinementQuery
from danqing.studio.exporting import Export, safe_name
from danqing.studio.pairs import Shelf, zip_pairs
from danqing.studio.refiner import (
    REFINING,
    SILENT,
    Refiner,
    TakenOverError,
    Watch,
    Workshop,
    keep_version,
    live_record,
    one_picture,
)
from danqing.studio.reviewing import Reviewing

AT_ONCE: Final = 8
_LOOK_S: Final = 1.0
_ALL: Final = 100_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefineOrder:
    """What is to be refined, and for what.

    Args:
        start: What to paint first, or the id of a Record.
        options: Rounds, reviewer, and when the judge accepts.
        brief: What the picture is to show; that of the project, or else the prompt, if unset.
        project: Accepted versions join it.
        continues: The refinement that this one goes on with.
    """

    start: Request | str
    options: RefineOptions = field(default_factory=RefineOptions)
    brief: str | None = None
    project: str | None = None
    continues: str | None = None


class Refining(Reviewing):
    """Refinements: at once, or in a thread for the API."""

    _owner: Owner

    @abstractmethod
    def live_project(self, project_id: str) -> Project:
        """A project that is not deleted."""

    @abstractmethod
    def version_record(self, project_id: str, record_id: str) -> Record:
        """A Record that is in the project."""

    @abstractmethod
    def cancel(self, job_id: str) -> Job:
        """Stop a job."""

    @abstractmethod
    def delete_record(self, record_id: str) -> Record:
        """Hide a Record."""

    def refine(
        self,
        start: Request | str,
        options: RefineOptions | None = None,
        *,
        brief: str | None = None,
        watch: Watch = SILENT,
    ) -> Refinement:
        """Refine a picture; returns when nothing improves, the rounds are used up or it was stopped.

        Args:
            start: What to paint first, or the id of a Record.
            options: Rounds, reviewer, and when the judge accepts.
            brief: What the picture is to show; the prompt if unset.
            watch: Who hears of it and may stop it.

        Raises:
            DanqingError: The first picture cannot be painted or reviewed. Later failures reject their round.
        """
        running = self._begin(RefineOrder(start, options or RefineOptions(), brief), watch)
        try:
            return running.refiner.run(start)
        except TakenOverError as error:
            raise ConflictError(str(error), next_step="look at its versions in the gallery") from error

    def start_refinement(self, order: RefineOrder) -> Refinement:
        """As `refine`, in a thread; ask `refinement` how it goes.

        Raises:
            ConflictError: Eight run already, or the project is deleted.
            NotFoundError: There is no such Record, or it is no version of the project.
            InvalidRequestError: There is no brief, or no such reviewer.
        """
        return self._refinements.start(order)

    def refinement(self, refinement_id: str) -> Refinement:
        """A refinement as it stands. NotFoundError."""
        return self._store.refinements.get(refinement_id)

    def refinements(self, query: RefinementQuery | None = None) -> list[Refinement]:
        """Newest first. NotFoundError if the project it names is not there."""
        query = query or RefinementQuery()
        if query.project is not None:
            self._store.projects.project(query.project)
        return self._store.refinements.newest(query)

    def cancel_refinement(self, refinement_id: str) -> Refinement:
        """Stop it within one step; accepted versions stay. NotFoundError; ConflictError if it has ended."""
        there = self.refinement(refinement_id)
        if there.state != "running":
            raise ConflictError(
                "the refinement has ended", value=there.state, next_step="look at its versions in the gallery"
            )
        told = self._store.refinements.change(refinement_id, stopping=True)
        self._refinements.stop(refinement_id)
        if told.job is not None:
            with suppress(ConflictError, NotFoundError):  # painted in the meantime
                self.cancel(told.job)
        return self.refinement(refinement_id)

    def continue_refinement(self, refinement_id: str) -> Refinement:
        """A new refinement from the best version of one that has ended, with the rounds that were left, or as many.

        Raises:
            ConflictError: It runs still, or another one goes on with it already.
            NotFoundError: There is no such refinement, or its pictures are gone.
        """
        return self._refinements.go_on(self.refinement(refinement_id))

    @cached_property
    def _refinements(self) -> Refinements:
        return Refinements(self)

    def export_pairs(self, project_id: str) -> Export:
        """The accepted pairs of a project's refinements as a training set. NotFoundError."""
        project = self._store.projects.project(project_id)
        found = self.refinements(RefinementQuery(project=project_id, limit=_ALL))
        root = f"{safe_name(project.name) or 'project'}-pairs"
        return Export(f"{root}.zip", zip_pairs(found[::-1], root, cast("Shelf", self)))

    def _begin(self, order: RefineOrder, watch: Watch) -> _Running:
        """A durable refinement that has not begun."""
        found = find_reviewer(order.options.reviewer)
        begun = Refinement(
            id=new_id(),
            brief=self._brief_of(order),
            reviewer=found.key,
            options=order.options.model_copy(update={"reviewer": found.key}),
            project=order.project,
            record=order.start if isinstance(order.start, str) else None,
            request=None if isinstance(order.start, str) else order.start,
            continues=order.continues,
        )
        return _Running(self, self._store.refinements.add(begun, self._owner.id), watch)

    def _brief_of(self, order: RefineOrder) -> str:
        words = order.brief
        if order.project is not None:
            project = self.live_project(order.project)
            if isinstance(order.start, str):
                self.version_record(order.project, order.start)
            words = words or project.brief.words.strip()[:MAX_BRIEF_CHARS] or None
        if words is None:
            words = self._words_of(f"record:{order.start}") if isinstance(order.start, str) else order.start.prompt
        return checked_brief(words)

    def _settle_refinements(self, store: Store) -> None:
        """Bring refinements to rest whose process has gone, before anybody paints the jobs that it left."""
        waiting = store.jobs(states=("queued",), user=REFINING, limit=500)
        leases = store.leases([job.id for job in waiting]) if waiting else {}
        for job_id in (key for key, lease in leases.items() if lease.owner_id is None):
            with suppress(ConflictError):  # another server was faster
                store.move_job(job_id, "cancelled")
        for orphan, owner_id in store.refinements.orphans():
            self._settle(store, orphan, owner_id)

    def _settle(self, store: Store, orphan: Refinement, owner_id: str) -> None:
        kept = [one.after for one in orphan.rounds if one.accepted and one.after is not None]
        waits = orphan.first is None  # its first picture is a painting like any other: it is painted all the same
        if orphan.job is not None and not waits:
            for record_id in store.record_ids(orphan.job).values():
                with suppress(ConflictError, NotFoundError):
                    _ = record_id in kept or self.delete_record(record_id)
        for record_id in kept:
            with suppress(NotFoundError):
                keep_version(cast("Workshop", self), record_id, orphan.project)
        ended = orphan.model_copy(
            update={
                "state": "interrupted",
                "end": "interrupted",
                "note": "the process that ran it ended",
                "step": None,
                "job": orphan.job if waits else None,
            }
        )
        with suppress(ConflictError):  # another server was faster
            store.refinements.save(ended, owner_id)


@dataclass
class _Running:
    """A refinement of this process: who runs it, and how it is stopped."""

    studio: Refining
    begun: Refinement
    watch: Watch
    stop: threading.Event = field(default_factory=threading.Event)
    looked_at_s: float = 0.0

    def __post_init__(self) -> None:
        self.refiner = Refiner(cast("Workshop", self.studio), self.begun, Watch(self._report, self._stopped))

    def run(self, start: Request | str) -> None:
        """To its end, in a thread of its own."""
        try:
            self.refiner.run(start)
        except TakenOverError as error:
            _log.info("refinement %s is left: %s", self.begun.id, error)
        except DanqingError as error:  # the state says so
            _log.info("refinement %s failed: %s", self.begun.id, error)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            _log.exception("refinement %s broke", self.begun.id)
            with suppress(TakenOverError, DanqingError):
                self.refiner.fail(error)

    def _report(self, state: Refinement) -> None:
        self.studio._store.refinements.save(state, self.studio._owner.id)
        self.watch.report(state)

    def _stopped(self) -> bool:
        """Asked here, by who watches, or by another process: of that the row tells."""
        if not (self.stop.is_set() or self.watch.stopped()):
            now = time.monotonic()
            if now - self.looked_at_s < _LOOK_S:
                return False
            self.looked_at_s = now
            if not self.studio.refinement(self.begun.id).stopping:
                return False
            self.stop.set()
        return True


class Refinements:
    """The refinements that this process runs in threads.

    Args:
        studio: Whose they are.
    """

    def __init__(self, studio: Refining) -> None:
        self._studio = studio
        self._lock = threading.Lock()
        self._live: dict[str, tuple[_Running, threading.Thread]] = {}

    def start(self, order: RefineOrder) -> Refinement:
        """See `Refining.start_refinement`."""
        with self._lock:
            return self._start(order)

    def go_on(self, old: Refinement) -> Refinement:
        """See `Refining.continue_refinement`."""
        with self._lock:
            there = self._studio.refinement(old.id)
            if there.state == "running" or there.continued_by is not None:
                raise ConflictError(
                    "the refinement still runs" if there.state == "running" else "another one goes on with it",
                    value=there.continued_by or there.id,
                    next_step="wait for it, or cancel it",
                )
            options = there.options.model_copy(update={"rounds": there.left or there.options.rounds})
            order = RefineOrder(self._start_of(there), options, there.brief, self._project_of(there), there.id)
            begun = self._start(order)
            self._studio._store.refinements.change(there.id, continued_by=begun.id)
            return begun

    def stop(self, refinement_id: str) -> None:
        """Tell one of this process to stop; any other is told by its row."""
        with self._lock:
            if refinement_id in self._live:
                self._live[refinement_id][0].stop.set()

    def _start(self, order: RefineOrder) -> Refinement:
        self._live = {key: one for key, one in self._live.items() if one[1].is_alive()}
        if len(self._live) >= AT_ONCE:
            raise ConflictError(
                "too many pictures are being refined",
                value=AT_ONCE,
                allowed=f"{AT_ONCE} at once",
                next_step="wait for one to end, or cancel it",
            )
        if isinstance(order.start, str):
            live_record(self._studio._store.record(order.start))
        else:
            one_picture(order.start)
        running = self._studio._begin(order, SILENT)
        thread = threading.Thread(
            target=running.run, args=(order.start,), name=f"refine-{running.begun.id}", daemon=True
        )
        self._live[running.begun.id] = (running, thread)
        thread.start()
        return running.begun

    def _start_of(self, old: Refinement) -> Request | str:
        """The best version, or what there is of the first picture."""
        known = old.best or old.first or old.record
        if known is None and old.job is not None:
            known = next(iter(self._studio._store.record_ids(old.job).values()), None)
        start = known or old.request
        if start is None:
            raise NotFoundError("there is nothing to go on from", value=old.id, next_step="refine a picture anew")
        return start

    def _project_of(self, old: Refinement) -> str | None:
        """Its project, if the start is a version of it still."""
        if old.project is None:
            return None
        try:
            self._studio.live_project(old.project)
            start = self._start_of(old)
            if isinstance(start, str):
                self._studio.version_record(old.project, start)
        except (NotFoundError, ConflictError):
            return None
        return old.project
