"""The application service that the CLI, the API and the pages share. Thread-safe; loads no torch."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from danqing.prompt.styles import Style
from danqing.spec.errors import ConflictError, DanqingError
from danqing.spec.events import Event
from danqing.spec.model import ControlNetInfo, IpAdapterInfo, ModelInfo
from danqing.spec.plan import Plan
from danqing.spec.record import Job, JobState
from danqing.spec.request import Request
from danqing.store.base import Store
from danqing.store.blobs import BlobStore
from danqing.store.ids import new_id
from danqing.store.owners import Owner, utc_now
from danqing.store.projects_base import ProjectsStore, Tie
from danqing.store.trainings import TrainingStore
from danqing.studio.consulting import Consulting
from danqing.studio.doctor import examine
from danqing.studio.events import Channel
from danqing.studio.exploring import Exploring
from danqing.studio.exporting import Exporting
from danqing.studio.feed import Feed
from danqing.studio.gallery import Gallery, page
from danqing.studio.intake import resolve
from danqing.studio.keeper import Chore, Keeper
from danqing.studio.library import library_for, styles_of
from danqing.studio.model_files import ModelFiles
from danqing.studio.opening import local_pool, make_folder, open_store
from danqing.studio.projects import Projects
from danqing.studio.refining import Refining
from danqing.studio.reproduction import check_reproducible, request_of_plan
from danqing.studio.reviews import Reviews
from danqing.studio.runner import JobRunner
from danqing.studio.seeing import Seeing
from danqing.studio.set_shelf import SetShelf
from danqing.studio.settings import Settings
from danqing.studio.sharing import Sharing
from danqing.studio.sight import Sight
from danqing.studio.sweeping import forget_drafts, sweep
from danqing.studio.trainer_process import TrainerOptions
from danqing.studio.training import Training
from danqing.studio.training_queue import TrainingQueue
from danqing.studio.upscaling import Upscaling
from danqing.studio.watching import Watching, afollow, follow
from danqing.workers.pool import WorkerPool, WorkerStatus

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog

Planner = Callable[..., tuple[Plan, ...]]
_NOTICE_S = 1.0  # a job cancelled by another process stops within this time
_PURGE_S = 3600.0
_LOOK_S = 30.0


class Studio(
    Gallery,
    Projects,
    Sharing,
    Reviews,
    Exporting,
    Seeing,
    Upscaling,
    ModelFiles,
    Refining,
    Consulting,
    Exploring,
    Training,
    SetShelf,
):
    """Submit, watch, gallery, projects, models. Use as a context manager, or call `start` and `close`.

    Args:
        settings: Checked settings.
        pool: The workers; a local process for each device if unset.
        store: Jobs and Records; a database by `settings` if unset.
        catalog: The models; those below `settings.models_path` if unset.
        planner: `danqing.planning.plan` if unset.
        trainer: How trainers are run; this package's own if unset.
    """

    def __init__(
        self,
        settings: Settings,
        pool: WorkerPool | None = None,
        *,
        store: Store | None = None,
        catalog: Catalog | None = None,
        planner: Planner | None = None,
        trainer: TrainerOptions | None = None,
    ) -> None:
        self.settings = settings
        self.blobs = BlobStore(settings.data_dir)
        self.pool = pool or local_pool(settings)
        self._given_store = store
        self._catalog = catalog
        self._planner = planner
        self.trainer = trainer or TrainerOptions()
        self._trainer_queue: TrainingQueue | None = None
        self._owner = Owner.of_this_process()
        self._open: tuple[Store, JobRunner, Keeper, Sight, Feed] | None = None

    # --- life -------------------------------------------------------------------------------------------------------
    def start(self, *, eager: bool = False) -> None:
        """Open the store, migrate it, requeue what dead processes left, start the pool.

        Args:
            eager: For a server: start the workers at once, and paint the jobs that nobody holds.

        Raises:
            DanqingError: The data folder or the database cannot be used.
        """
        if self._open is not None:
            raise ConflictError("the studio is open already", next_step="close it first")
        make_folder(self.settings.data_dir)
        store = self._given_store or open_store(self.settings)
        store.beat(self._owner)
        store.reap(lease_s=self.settings.lease_s)
        runner = JobRunner(store, self.blobs, self.pool, self._owner)
        chores = [
            Chore("notice", _NOTICE_S, runner.notice),
            Chore("heartbeat", self.settings.lease_s / 5, lambda: store.beat(self._owner.beating())),
            Chore("orphans", self.settings.lease_s / 3, lambda: self._collect(store, runner, adopt=eager)),
        ]
        if eager:
            chores += [Chore("purge", _PURGE_S, self.purge), Chore("purge runs", _PURGE_S, self.purge_trainings)]
        sight = Sight(store, self.blobs, self.pool, self._limits)
        if eager:
            chores.append(Chore("look", _LOOK_S, sight.keep_up, apart=True))
        keeper = Keeper(chores)
        self._open = (store, runner, keeper, sight, Feed(store.projects))
        self._trainer_queue = self._make_queue(store.trainings, self._owner.id)
        self.pool.start(runner, self.settings.data_dir, eager=eager)
        keeper.start()
        if eager:
            self.purge()
            sweep(store, self.blobs)
            self._collect(store, runner, adopt=True)
            self.purge_trainings()
            self._training_queue.work()

    def close(self) -> None:
        """Stop the workers; unfinished jobs wait, free, for the next Studio. Closing twice is no error."""
        if self._open is None:
            return
        if self._trainer_queue is not None:
            self._trainer_queue.close()  # first: a trainer writes its checkpoint, and its row is kept
            self._trainer_queue = None
        store, runner, keeper, _, feed = self._open
        self._open = None
        feed.close()
        keeper.stop()
        self.pool.close()  # which also ends a chore that waits for a worker
        keeper.close()
        with suppress(DanqingError):  # a database that has gone must not keep the process from ending
            store.leave(self._owner.id)
        runner.hub.close()
        store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- jobs -------------------------------------------------------------------------------------------------------
    def submit(self, request: Request, *, user: str = "local", priority: int = 0, tie: Tie | None = None) -> Job:
        """Plan a Request and queue it. The job is durable when this returns.

        Args:
            request: What is to be painted.
            user: Whose it is.
            priority: Higher ones come first.
            tie: The project that its Records join, and the suggestion that it carries out.

        Raises:
            InvalidRequestError: The Request cannot be planned.
            NotFoundError: A picture, Record, model or project it names is not there.
            MissingWeightsError: It needs weights that are not installed.
        """
        return self._queue(request, self._planned(request), user=user, priority=priority, tie=tie)

    def reproduce(self, plan: Plan, *, user: str = "local") -> Job:
        """Queue exactly this Plan.

        Raises:
            MissingWeightsError: Its model is not here, or not the same one.
            NotFoundError: A picture it starts from is not here.
        """
        check_reproducible(plan, self.catalog, self.blobs)
        return self._queue(request_of_plan(plan), (plan,), user=user, priority=0)

    def retry(self, job_id: str) -> Job:
        """A new job of the same Plans, tied to what the first one was.

        Raises:
            ConflictError: The job has not failed and was not cancelled.
        """
        job = self.job(job_id)
        if job.state not in ("failed", "cancelled"):
            raise ConflictError(
                f"job {job_id} is {job.state}", value=job.state, allowed="failed or cancelled", next_step="submit anew"
            )
        tie = self._projects.tie(job_id)
        return self._queue(job.request, job.plans, user=job.user, priority=job.priority, tie=tie)

    def job(self, job_id: str) -> Job:
        """The job as it stands. NotFoundError if there is none."""
        return self._with_progress(self._store.job(job_id))

    def jobs(
        self, *, states: Collection[JobState] | None = None, limit: int = 50, user: str | None = None
    ) -> list[Job]:
        """Newest first."""
        return [self._with_progress(job) for job in self._store.jobs(states=states, limit=page(limit), user=user)]

    def cancel(self, job_id: str) -> Job:
        """Stop a job within one step; finished pictures stay. ConflictError if it has ended."""
        return self._runner.cancel(job_id)

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Block until the job has ended (or the time is up) and give it as it stands."""
        for _ in self.watch(job_id, timeout_s=timeout_s):
            pass
        return self.job(job_id)

    def watch(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[tuple[int, Event]]:
        """The numbered events of a job: first the current state, then what comes, up to a final StateEvent.

        A slow watcher misses previews and progress, never a Record or the end. A job that nobody runs is taken.

        Args:
            job_id: NotFoundError, at once, if there is no such job.
            after: The last number this watcher has seen; it misses nothing by reconnecting.
            timeout_s: Stop quietly after this time.
        """
        return follow(self._channel(job_id), Watching(after, timeout_s, self._poll))

    def awatch(
        self, job_id: str, *, after: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[tuple[int, Event]]:
        """As `watch`, for `async for`; blocks neither the loop nor a thread."""
        return afollow(self._channel(job_id), Watching(after, timeout_s, self._poll))

    # --- facts ------------------------------------------------------------------------------------------------------
    @property
    def catalog(self) -> Catalog:
        """The models of `settings.models_path`, and the built-in ones."""
        if self._catalog is None:
            from danqing.models.catalog import Catalog

            self._catalog = Catalog(self.settings.models_path)
        return self._catalog

    def models(self) -> list[ModelInfo]:
        """Every model that can be named in a Request."""
        return self.catalog.list()

    def controlnets(self) -> list[ControlNetInfo]:
        """Every ControlNet that can be named in a Request."""
        return self.catalog.controlnets()

    def image_adapters(self) -> list[IpAdapterInfo]:
        """Every usable image adapter (IP-Adapter), the built-in one first."""
        return list(self.catalog.image_adapters())

    def styles(self) -> list[Style]:
        """The styles of styles.csv, from the data folder and then the models' root."""
        return list(styles_of(self.settings).values())

    def workers(self) -> list[WorkerStatus]:
        """The workers as they stand."""
        return self.pool.status()

    def doctor(self) -> dict[str, Any]:
        """Versions, folders, models, database, device: what is here, what is missing and how to get it."""
        return examine(self)

    # --- inside -----------------------------------------------------------------------------------------------------
    @property
    def _store(self) -> Store:
        return self._parts()[0]

    @property
    def _runner(self) -> JobRunner:
        return self._parts()[1]

    @property
    def _sight(self) -> Sight:
        return self._parts()[3]

    @property
    def _trainings(self) -> TrainingStore:
        return self._store.trainings

    @property
    def _training_queue(self) -> TrainingQueue:
        if self._trainer_queue is None:
            raise ConflictError("the studio is closed", next_step="start it, or use it in a `with` block")
        return self._trainer_queue

    @property
    def _projects(self) -> ProjectsStore:
        return self._store.projects

    @property
    def _feed(self) -> Feed:
        return self._parts()[4]

    def _parts(self) -> tuple[Store, JobRunner, Keeper, Sight, Feed]:
        if self._open is None:
            raise ConflictError("the studio is closed", next_step="start it, or use it in a `with` block")
        return self._open

    def _planned(self, request: Request) -> tuple[Plan, ...]:
        resolved = resolve(request, self._store, self.blobs)
        return self._plan(
            resolved.request,
            self.catalog,
            image_size=resolved.image_size,
            mask_size=resolved.mask_size,
            rng_seed=secrets.randbits(32),
        )

    def _plan(self, request: Request, catalog: Catalog, **facts: Any) -> tuple[Plan, ...]:
        if self._planner is None:
            from danqing.planning import plan

            self._planner = plan
        return self._planner(request, catalog, library=library_for(request, self.settings), **facts)

    def _queue(
        self, request: Request, plans: tuple[Plan, ...], *, user: str, priority: int, tie: Tie | None = None
    ) -> Job:
        job = Job(
            id=new_id(),
            state="queued",
            request=request,
            plans=plans,
            user=user,
            priority=priority,
            created_at=utc_now(),
        )
        self._runner.submit(job, tie)
        return job

    def _with_progress(self, job: Job) -> Job:
        progress = None if job.is_final else self._runner.progress(job.id)
        return job if progress is None else job.model_copy(update={"progress": max(progress, job.progress)})

    def _channel(self, job_id: str) -> Channel:
        job = self._store.job(job_id)
        channel = self._runner.channel(job)
        if not job.is_final:
            self._runner.refresh(job_id)
        return channel

    def _poll(self, channel: Channel) -> None:
        if self._open is not None and not self._runner.holds(channel.job_id):
            self._runner.refresh(channel.job_id)

    def _collect(self, store: Store, runner: JobRunner, *, adopt: bool) -> None:
        """Free the jobs of dead processes and, in a server, take those that nobody holds."""
        store.reap(lease_s=self.settings.lease_s)
        if adopt:
            self._settle_refinements(store)  # what they were painting is dropped, not taken up
        if adopt and store.free_jobs():
            forget_drafts(store)  # nobody waits for them any more
            for job_id in store.free_jobs():
                runner.adopt(job_id)
