"""The part of the Studio that compares: one Request in many forms."""

from __future__ import annotations

import secrets
from abc import abstractmethod

from PIL import Image

from danqing.planning.explore import CellPlan, cells_of, lines_of
from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError
from danqing.spec.explore import Cell, Exploration, ExploreRequest
from danqing.spec.plan import Plan
from danqing.spec.project import Project
from danqing.spec.record import Job, Record
from danqing.store.base import Store
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.store.projects_base import Tie
from danqing.studio.painting_parts import Painting
from danqing.studio.sheet import Place, SheetLook, draw_sheet

_MAX_SEED = 2**32 - 1


class Exploring(Painting):
    """Comparisons: every place is a job of its own, so its picture is a Record like any other."""

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The open studio's store."""

    @abstractmethod
    def live_project(self, project_id: str) -> Project:
        """A project that can be worked on."""

    def explore(self, asked: ExploreRequest, *, user: str = "local") -> Exploration:
        """Plan every picture of a comparison, then queue them all.

        Raises:
            InvalidRequestError: An axis, a value or the Request makes no sense; nothing is queued.
            NotFoundError: A model, style or picture that a value names is not there, or no such project.
            ConflictError: The project is deleted.
        """
        tie = None if asked.project is None else Tie(self.live_project(asked.project).id)
        lines = lines_of(asked)
        cells = cells_of(asked, lines, secrets.randbelow(_MAX_SEED))
        planned = [(cell, self._plans_of(cell)) for cell in cells]
        queued = [(cell, self._queue(cell.request, plans, user=user, priority=0, tie=tie)) for cell, plans in planned]
        found = Exploration(
            id=new_id(),
            asked=asked,
            names=tuple(line.info.name for line in lines),
            columns=lines[0].labels,
            rows=lines[1].labels if len(lines) > 1 else (),
            sheets=lines[2].labels if len(lines) > 2 else (),
            cells=tuple(_cell(cell, job) for cell, job in queued),
            created_at=utc_now(),
        )
        self._store.explorations.add(found)
        return found

    def exploration(self, exploration_id: str) -> Exploration:
        """A comparison that was begun. NotFoundError."""
        return self._store.explorations.get(exploration_id)

    def explorations(self, limit: int = 50) -> list[Exploration]:
        """Newest first."""
        return self._store.explorations.newest(min(max(limit, 0), 500))

    def cancel_exploration(self, exploration_id: str) -> int:
        """Stop what is not painted yet; gives how many jobs were stopped. NotFoundError."""
        stopped = 0
        for cell in self.exploration(exploration_id).cells:
            try:
                self.cancel(cell.job)
            except (ConflictError, NotFoundError):
                continue  # painted already
            stopped += 1
        return stopped

    def exploration_records(self, exploration_id: str) -> dict[Place, Record]:
        """The finished pictures by place (x, y, z); deleted ones are left out. NotFoundError."""
        found: dict[Place, Record] = {}
        for cell in self.exploration(exploration_id).cells:
            for record_id in self._store.record_ids(cell.job).values():
                record = self.record(record_id)
                if record.deleted_at is None:
                    found[cell.x, cell.y, cell.z] = record
        return found

    def exploration_sheet(self, exploration_id: str, look: SheetLook | None = None) -> Image.Image:
        """What is painted so far as one labelled picture. NotFoundError."""
        pictures: dict[Place, Image.Image] = {}
        for place, record in self.exploration_records(exploration_id).items():
            pictures[place] = self.opened(record)
        return draw_sheet(self.exploration(exploration_id), pictures, look)

    def _plans_of(self, cell: CellPlan) -> tuple[Plan, ...]:
        try:
            return self._planned(cell.request)
        except (InvalidRequestError, NotFoundError) as error:
            what = ", ".join(cell.labels)
            raise type(error)(
                f"{error.message} (at {what})",
                field=error.field,
                value=error.value,
                allowed=error.allowed,
                next_step=error.next_step,
            ) from error


def _cell(cell: CellPlan, job: Job) -> Cell:
    x, y, z = cell.place
    return Cell(x=x, y=y, z=z, labels=cell.labels, job=job.id)
