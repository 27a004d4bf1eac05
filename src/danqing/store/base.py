"""What the store does. `sql.py` keeps it in a database, `fake.py` in memory; one test suite holds both to this page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from danqing.spec.errors import ConflictError, NotFoundError
from danqing.spec.record import Job, JobState, Record
from danqing.store.owners import Owner
from danqing.store.projects_base import ProjectsStore, Tie

if TYPE_CHECKING:
    from danqing.store.explorations import ExplorationStore
    from danqing.store.refinements import RefinementStore
    from danqing.store.trainings import TrainingStore

MAX_ATTEMPTS = 3
MOVES: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset({"running", "failed", "cancelled"}),
    "running": frozenset({"queued", "done", "failed", "cancelled"}),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


@dataclass(frozen=True)
class RecordQuery:
    """Which Records: all conditions hold together; newest first.

    Args:
        search: Every word of it occurs in the prompt, model, sampler or seed.
        before: Only Records older than this id (keyset paging).
    """

    search: str = ""
    kind: str | None = None
    model: str | None = None
    limit: int = 50
    before: str | None = None
    include_deleted: bool = False


@dataclass(frozen=True)
class Upload:
    """A picture somebody brought, checked and stored."""

    sha256: str
    width_px: int
    height_px: int
    media_type: str
    name: str = ""


@dataclass(frozen=True)
class Lease:
    """The state of a job and the Studio that holds it."""

    state: JobState
    owner_id: str | None


class Store(ABC):
    """Durable jobs and Records. Thread-safe; several processes may share one.

    Attributes:
        projects: Projects, shares and reviews.
        explorations: Comparisons that were begun.
        refinements: Refinements, also those that run.
        trainings: Training runs.
    """

    projects: ProjectsStore
    explorations: ExplorationStore
    refinements: RefinementStore
    trainings: TrainingStore

    # --- owners -----------------------------------------------------------------------------------------------------
    @abstractmethod
    def beat(self, owner: Owner) -> None:
        """Say that this owner lives; the first call makes it known."""

    @abstractmethod
    def leave(self, owner_id: str) -> None:
        """Forget an owner; its unfinished jobs go back to the queue, free, and the attempt does not count."""

    @abstractmethod
    def reap(self, *, lease_s: float) -> list[Job]:
        """Free the unfinished jobs of dead owners: back to the queue, or failed after `MAX_ATTEMPTS`. Gives them."""

    # --- jobs -------------------------------------------------------------------------------------------------------
    @abstractmethod
    def add_job(self, job: Job, owner_id: str | None, tie: Tie | None = None) -> None:
        """Durable when this returns; `tie` binds it to a project and, in the same moment, claims its suggestion.

        NotFoundError for the project or suggestion; ConflictError if another job carries the suggestion out.
        """

    @abstractmethod
    def job(self, job_id: str) -> Job:
        """NotFoundError if there is none."""

    @abstractmethod
    def jobs(
        self, *, states: Collection[JobState] | None = None, limit: int = 50, user: str | None = None
    ) -> list[Job]:
        """Newest first."""

    @abstractmethod
    def move_job(
        self, job_id: str, state: JobState, *, owner_id: str | None = None, error: dict[str, Any] | None = None
    ) -> Job:
        """Change the state. NotFoundError; ConflictError if `MOVES` forbids it, or `owner_id` is not the holder.

        To `running` counts an attempt; to a final state frees the job.
        """

    @abstractmethod
    def claim(self, job_id: str, owner_id: str) -> bool:
        """Take a free queued job; False if it is not free."""

    @abstractmethod
    def free_jobs(self, limit: int = 50) -> list[str]:
        """Queued jobs that nobody holds, in the order in which they should run."""

    @abstractmethod
    def leases(self, job_ids: Collection[str]) -> dict[str, Lease]:
        """State and holder of each job that exists."""

    @abstractmethod
    def forget_user(self, user: str, *, ended_before: datetime) -> int:
        """Clear up behind a user whose pictures are not kept; gives how many Records were marked as deleted.

        Jobs that nobody holds are cancelled. Of the jobs that ended before a time, the Records are marked as deleted,
        and those without Records (any more) are removed.
        """

    # --- records ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def add_record(self, record: Record, owner_id: str) -> Record:
        """Add a picture of a running job held by `owner_id`; the one already there for (job, index) wins and is given.

        In the same moment it joins the project that its job is tied to, and the shares that show it.

        ConflictError if the job is not running or held by somebody else.
        """

    @abstractmethod
    def record(self, record_id: str) -> Record:
        """NotFoundError if there is none."""

    @abstractmethod
    def records(self, query: RecordQuery) -> list[Record]:
        """Newest first."""

    @abstractmethod
    def record_ids(self, job_id: str) -> dict[int, str]:
        """The finished pictures of a job, by index."""

    @abstractmethod
    def delete_record(self, record_id: str, deleted_at: datetime | None) -> Record:
        """Mark as deleted, or restore with None. NotFoundError; ConflictError if nothing would change."""

    @abstractmethod
    def purge(self, deleted_before: datetime) -> list[str]:
        """Remove Records deleted before a time; gives the blobs that nothing refers to any more."""

    # --- embeddings -------------------------------------------------------------------------------------------------
    @abstractmethod
    def add_embeddings(self, model: str, vectors: Mapping[str, bytes]) -> None:
        """Keep how a mini-CLIP sees pictures, by their hash; those that are there already stay as they are."""

    @abstractmethod
    def embeddings(self, model: str, query: RecordQuery) -> list[tuple[str, bytes]]:
        """Record id and vector of each Record that the query finds and this mini-CLIP has seen (`limit` counts)."""

    @abstractmethod
    def unseen(self, model: str, limit: int) -> list[str]:
        """Pictures of Records, the newest first, that this mini-CLIP has not seen; deleted Records are left out."""

    @abstractmethod
    def seeing_models(self) -> list[str]:
        """The mini-CLIPs that have seen anything."""

    # --- uploads ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def add_upload(self, upload: Upload) -> None:
        """Remember an upload; the same bytes again change nothing but that they count as new."""

    @abstractmethod
    def upload(self, sha256: str) -> Upload | None:
        """The upload with these bytes, if it was one."""

    @abstractmethod
    def sweep_uploads(self, before: datetime) -> list[str]:
        """Forget the uploads from before a time that no Record and no job names; gives their hashes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""


def check_move(job_id: str, old: JobState, new: JobState) -> None:
    """Refuse what the state machine does not allow.

    Raises:
        ConflictError: The job is final, or the step makes no sense.
    """
    if new in MOVES[old]:
        return
    raise ConflictError(
        f"job {job_id} is {old} and cannot become {new}",
        value=old,
        allowed=", ".join(sorted(MOVES[old])) or "nothing: it has ended",
        next_step="retry it as a new job" if old in ("failed", "cancelled") else "reload the job to see its state",
    )


def no_such(what: str, identifier: str) -> NotFoundError:
    """The error for an id that is not there."""
    return NotFoundError(f"there is no such {what}", value=identifier, next_step=f"list the {what}s to see which exist")


def lease_lost(job_id: str) -> ConflictError:
    """The error for a Studio that comes too late with a job that another one holds by now."""
    return ConflictError(
        f"job {job_id} is no longer held by this process",
        value=job_id,
        next_step="nothing: another process finishes it, or it was cancelled",
    )


def poisoned(job_id: str, attempts: int) -> dict[str, Any]:
    """The error of a job that ended its worker or its process once too often."""
    return {
        "code": "worker",
        "message": f"job {job_id} was started {attempts} times and each time the process that painted it died",
        "value": attempts,
        "allowed": f"{MAX_ATTEMPTS} attempts",
        "next_step": "see the worker's log in the data folder's logs/; try a smaller size or count, then retry the job",
    }


def plan_text(record: Record) -> str:
    """What a search looks into: words, model, sampler, seed; case-folded."""
    plan = record.plan
    base = plan.base
    words = [base.text.prompt, base.text.negative_prompt, base.model.name, base.sampling.sampler, str(plan.seeds.seed)]
    return "\n".join(words).casefold()
