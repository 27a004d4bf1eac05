"""Who paints next: pure policy, no processes. Fair between users, by priority, then first come, first served.

The pool asks for batches; a job goes to one worker at a time, with one RunCommand in flight there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from danqing.workers.protocol import PictureWork, RunCommand


@dataclass
class Entry:
    """A job that the pool holds."""

    command: RunCommand
    solo: bool = False
    waiting: list[PictureWork] = field(default_factory=list[PictureWork])
    inflight: set[int] = field(default_factory=set[int])
    worker: int | None = None
    started: bool = False
    announced: bool = False
    cancelling: bool = False

    @property
    def order(self) -> tuple[int, str]:
        """Higher priority first, then the older job (ids sort by time)."""
        return (-self.command.priority, self.command.job_id)


class WorkQueue:
    """The jobs of a pool.

    Args:
        max_inflight: Pictures that one worker paints at once. A user with nothing there yet may go a quarter beyond,
            so that a full worker does not lock a newcomer out.
    """

    def __init__(self, max_inflight: int) -> None:
        self.max_inflight = max_inflight
        self._extra = max(1, max_inflight // 4)
        self._entries: dict[str, Entry] = {}

    def add(self, command: RunCommand, *, solo: bool) -> None:
        """Queue a job; it replaces an entry of the same id that has ended or waits."""
        self._entries[command.job_id] = Entry(command, solo=solo, waiting=list(command.pictures))

    def get(self, job_id: str) -> Entry | None:
        """The entry of a job."""
        return self._entries.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a job."""
        self._entries.pop(job_id, None)

    def clear(self) -> None:
        """Forget every job."""
        self._entries.clear()

    @property
    def has_waiting(self) -> bool:
        """Whether any picture waits for a worker."""
        return any(entry.waiting for entry in self._entries.values())

    def on_worker(self, worker: int) -> list[str]:
        """The jobs that have pictures on a worker."""
        return [job_id for job_id, entry in self._entries.items() if entry.worker == worker]

    def unassigned(self) -> list[str]:
        """The jobs that no worker has begun."""
        return [job_id for job_id, entry in self._entries.items() if entry.worker is None]

    def inflight(self, worker: int) -> int:
        """Pictures that a worker paints now; may be asked from any thread."""
        return sum(len(entry.inflight) for entry in list(self._entries.values()) if entry.worker == worker)

    def positions(self) -> dict[str, int]:
        """For each job that has not begun, how many such jobs are ahead of it."""
        waiting = sorted((e for e in self._entries.values() if not e.started), key=lambda entry: entry.order)
        return {entry.command.job_id: place for place, entry in enumerate(waiting)}

    def chunk_ended(self, job_id: str) -> bool:
        """A RunCommand was answered in full; True if the whole job has."""
        entry = self._entries[job_id]
        entry.inflight.clear()
        entry.worker = None
        return not entry.waiting

    def share(self, workers: int) -> int:
        """How many of the jobs that wait are the part of one of several workers."""
        waiting = sum(1 for entry in self._entries.values() if entry.worker is None and entry.waiting)
        return -(-waiting // max(1, workers))

    def next_commands(self, worker: int, most_jobs: int | None = None) -> list[RunCommand]:
        """What to send to a worker now, of at most so many jobs; the pictures count as in flight from here on."""
        here = [entry for entry in self._entries.values() if entry.worker == worker]
        if any(entry.solo for entry in here):
            return []
        load = sum(len(entry.inflight) for entry in here)
        by_user = Counter[str]()
        for entry in here:
            by_user[entry.command.user] += len(entry.inflight)
        chosen: dict[str, list[PictureWork]] = {}
        while True:
            full = most_jobs is not None and len(chosen) >= most_jobs
            entry = self._next_entry(chosen, by_user, only_chosen=full)
            if entry is None:
                break
            user, job_id = entry.command.user, entry.command.job_id
            if entry.solo:
                if load == 0:  # else it waits until the worker is empty, and nobody overtakes it
                    chosen[job_id] = entry.waiting[: self.max_inflight]
                break
            limit = self.max_inflight + (self._extra if by_user[user] == 0 else 0)
            if load >= limit:
                break
            taken = chosen.setdefault(job_id, [])
            taken.append(entry.waiting[len(taken)])
            by_user[user] += 1
            load += 1
        return [self._dispatch(job_id, worker, pictures) for job_id, pictures in chosen.items()]

    def _next_entry(
        self, chosen: dict[str, list[PictureWork]], by_user: Counter[str], *, only_chosen: bool
    ) -> Entry | None:
        ready = [
            entry
            for entry in self._entries.values()
            if entry.worker is None
            and len(chosen.get(entry.command.job_id, ())) < len(entry.waiting)
            and (entry.command.job_id in chosen or not only_chosen)
        ]
        return min(
            ready,
            key=lambda entry: (-entry.command.priority, by_user[entry.command.user], entry.command.job_id),
            default=None,
        )

    def _dispatch(self, job_id: str, worker: int, pictures: list[PictureWork]) -> RunCommand:
        entry = self._entries[job_id]
        entry.worker = worker
        entry.started = True
        entry.waiting = entry.waiting[len(pictures) :]
        entry.inflight = {picture.index for picture in pictures}
        return entry.command.model_copy(update={"pictures": tuple(pictures)})
