"""The part of the Studio that trains: submit, watch, pause, go on, publish. The trainer is a process of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from danqing.spec.errors import CancelledError, ConflictError, DanqingError, NotFoundError
from danqing.spec.model import ModelInfo
from danqing.spec.training import AnyTraining
from danqing.spec.training_run import RUN_FINAL_STATES, Estimate, RunEvent, RunState, SampleEvent, TrainingRun
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.store.trainings import TrainingQuery, TrainingStore
from danqing.studio.gallery import page
from danqing.studio.settings import Settings
from danqing.studio.trainer_process import Places, TrainerOptions, estimate_of
from danqing.studio.training_checks import check_training, free_bytes_at, refuse, sheet_prompts
from danqing.studio.training_events import REQUEST_FILE, SAMPLES, EventTail, add_event, last_end
from danqing.studio.training_keeper import Keep, RunKeeper
from danqing.studio.training_methods import TrainingMethod, training_methods
from danqing.studio.training_products import ProductKind, product_folder, product_kind, publish
from danqing.studio.training_queue import TrainingQueue
from danqing.studio.training_sheet import MAX_PROMPTS, SheetPainting

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog

Told = tuple[int, RunEvent | TrainingRun]
"""A numbered event, or the run as it stands under the number of the last event."""
_WATCH_S: Final = 0.25
_SHEET_FILE: Final = "compare.png"
_COMPARED: Final[frozenset[ProductKind]] = frozenset({"lora", "embedding", "hypernetwork"})
_ESTIMATING: Final = threading.Lock()
"""Each estimate opens a model of its own: one after the other, or they would fill the memory."""
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp")


class Training(SheetPainting):
    """Training runs of a Studio: durable, one at a time on each device, in the order of submission."""

    settings: Settings
    catalog: Catalog
    trainer: TrainerOptions

    @property
    @abstractmethod
    def _trainings(self) -> TrainingStore:
        """The open studio's training runs."""

    @property
    @abstractmethod
    def _training_queue(self) -> TrainingQueue:
        """Who takes them."""

    @abstractmethod
    def models(self) -> list[ModelInfo]:
        """Every model that can be named in a Request."""

    # --- asked ------------------------------------------------------------------------------------------------------
    def training_methods(self) -> tuple[TrainingMethod, ...]:
        """What can be trained, with defaults, limits and words."""
        return training_methods()

    def estimate_training(self, request: AnyTraining) -> Estimate:
        """What a run would cost, and why it cannot begin; nothing is kept.

        Raises:
            NotFoundError: There is no such set or model.
            InvalidRequestError: The Request makes no sense.
        """
        self._check_training(request)
        root = self.training_dir
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="estimate-", dir=root) as name:
            return self._estimate_in(request, Path(name))

    def submit_training(self, request: AnyTraining) -> TrainingRun:
        """Estimate a run, then queue it; it is durable when this returns.

        Raises:
            NotFoundError: There is no such set or model.
            InvalidRequestError: The Request makes no sense, or the trainer says why it cannot begin.
            DanqingError: The folder cannot be made.
        """
        self._check_training(request)
        run_id = new_id()
        folder = self.training_dir / "runs" / run_id
        try:
            folder.mkdir(parents=True)
            estimate = self._estimate_in(request, folder)
            refuse(estimate)
            run = TrainingRun(
                id=run_id,
                state="queued",
                request=request,
                folder=folder.relative_to(self.settings.data_dir).as_posix(),
                steps=estimate.steps,
                eta_s=estimate.seconds,
                estimate=estimate,
                created_at=utc_now(),
            )
            self._trainings.add(run)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise DanqingError(
                    f"the run's folder cannot be made: {error.strerror or error}",
                    value=str(folder),
                    next_step="make room on the disk, or check that the data folder can be written",
                ) from error
            raise
        self._training_queue.stir()
        return run

    def training_run(self, run_id: str) -> TrainingRun:
        """A run as it stands. NotFoundError."""
        return self._trainings.get(run_id)

    def training_runs(
        self,
        *,
        states: Collection[RunState] | None = None,
        limit: int = 50,
        before: str | None = None,
        include_deleted: bool = False,
    ) -> list[TrainingRun]:
        """Newest first; the next page begins `before` the last id."""
        return self._trainings.list(TrainingQuery(states, page(limit), before, include_deleted))

    def trainings_waiting(self) -> list[str]:
        """The ids of all queued runs, the next one first."""
        return self._trainings.waiting()

    def pause_training(self, run_id: str) -> TrainingRun:
        """Have it write a checkpoint and rest. NotFoundError; ConflictError if it does not run and does not wait."""
        return self._trainings.ask(run_id, "pause")

    def cancel_training(self, run_id: str) -> TrainingRun:
        """Stop it; its folder stays for the undo window, so that it can be resumed. NotFoundError; ConflictError."""
        return self._trainings.ask(run_id, "cancel")

    def resume_training(self, run_id: str) -> TrainingRun:
        """Let a paused, failed or cancelled run go on from its checkpoint. NotFoundError; ConflictError."""
        if not self.training_folder(run_id).is_dir():
            raise NotFoundError("the run's folder is gone", value=run_id, next_step="begin it anew")
        run = self._trainings.resume(run_id)
        self._training_queue.stir()
        return run

    def delete_training(self, run_id: str) -> TrainingRun:
        """Hide a run; `restore_training` brings it back within the undo window. NotFoundError; ConflictError."""
        return self._trainings.delete(run_id, utc_now())

    def restore_training(self, run_id: str) -> TrainingRun:
        """Bring a deleted run back. NotFoundError; ConflictError if it is not deleted."""
        return self._trainings.delete(run_id, None)

    def publish_training(self, run_id: str) -> TrainingRun:
        """Copy what a run made to its folder again, for example after it was deleted there.

        Raises:
            NotFoundError: There is no such run, or it made nothing that can be used.
            ConflictError: It has not ended well, its kind of model goes nowhere, or it says why nothing is published.
        """
        run = self.training_run(run_id)
        if run.state != "done":
            raise ConflictError(
                "only what was learnt to the end is published",
                value=run.state,
                allowed="done",
                next_step="wait for it, or resume it",
            )
        if product_kind(run.request) is None:
            raise ConflictError("this kind of model stays in the run's folder", value=run.request.method)
        if run.unpublished:
            raise ConflictError(
                f"nothing was published, because {run.unpublished}",
                value=run.id,
                next_step="read the run's card; then begin a new run with other settings or more to learn from",
            )
        made = self.publish_product(run)
        return self._trainings.published(run_id, made.product, made.published)

    def purge_trainings(self) -> int:
        """Remove for good what was cancelled or deleted before the undo window; gives the number of runs."""
        gone = self._trainings.forget(utc_now() - timedelta(seconds=self.settings.undo_window_s))
        for run in gone:
            shutil.rmtree(self.settings.data_dir / run.folder, ignore_errors=True)
        return len(gone)

    # --- watched ----------------------------------------------------------------------------------------------------
    def watch_training(
        self, run_id: str, *, after: int = 0, timeout_s: float | None = None, rests: Collection[RunState] = ()
    ) -> Iterator[Told]:
        """The numbered events of a run, and the run whenever it changed, until it has ended. It is taken if it waits.

        Args:
            run_id: NotFoundError, at once, if there is no such run.
            after: The number of the last event that was seen.
            timeout_s: Stop quietly after this time.
            rests: Further states to stop at, for example `paused`.
        """
        self.training_run(run_id)
        self._training_queue.work()
        return self._training_told(_Look(self, run_id, after, frozenset(rests)), timeout_s)

    def _training_told(self, look: _Look, timeout_s: float | None) -> Iterator[Told]:
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            yield from look.take()
            if look.over or time.monotonic() >= deadline:
                return
            time.sleep(min(_WATCH_S, max(0.0, deadline - time.monotonic())))

    async def awatch_training(self, run_id: str, *, after: int = 0) -> AsyncIterator[Told]:
        """As `watch_training`, for `async for`; takes no run."""
        look = _Look(self, run_id, after, frozenset())
        while True:
            for told in await asyncio.to_thread(look.take):
                yield told
            if look.over:
                return
            await asyncio.sleep(_WATCH_S)

    def training_picture(self, run_id: str, name: str) -> Path:
        """A sample of a run, by the `file` of its event.

        Raises:
            NotFoundError: There is no such run or picture.
        """
        folder = self.training_folder(run_id) / SAMPLES
        path = folder / name.removeprefix(f"{SAMPLES}/")
        inside = folder.resolve() in path.resolve().parents
        if not inside or path.suffix.lower() not in _PICTURES or not path.is_file():
            raise NotFoundError("the run has no such picture", field="name", value=name, next_step="see its events")
        return path

    def training_file(self, run_id: str, name: str) -> Path:
        """A file that a run made, by its name in the last event.

        Raises:
            NotFoundError: There is no such run, or it made no such file.
        """
        folder = self.training_folder(run_id)
        end = last_end(folder)
        path = folder / name
        made = end is not None and name in end.files and folder.resolve() in path.resolve().parents
        if not made or not path.is_file():
            raise NotFoundError("the run has made no such file", field="name", value=name, next_step="see its events")
        return path

    # --- places -----------------------------------------------------------------------------------------------------
    @property
    def training_dir(self) -> Path:
        """Where sets and runs are kept."""
        return self.settings.data_dir / "training"

    @property
    def training_sets_dir(self) -> Path:
        """Where training sets lie."""
        return self.training_dir / "sets"

    def training_folder(self, run_id: str) -> Path:
        """A run's folder. NotFoundError."""
        return self.settings.data_dir / self.training_run(run_id).folder

    # --- what follows on a run --------------------------------------------------------------------------------------
    def publish_product(self, run: TrainingRun) -> TrainingRun:
        """See `Finisher.publish_product`."""
        folder, kind = self.settings.data_dir / run.folder, product_kind(run.request)
        if kind is None:
            return run
        end = last_end(folder)
        if end is not None and end.unpublished:
            return run.model_copy(update={"unpublished": end.unpublished})
        made = publish(folder, end.files if end else (), product_folder(kind, self.settings.models_path))
        files = tuple(str(path) for path in made.files)
        return run.model_copy(update={"product": self._product_name(made.weights[0], kind), "published": files})

    def compare_product(self, run: TrainingRun, stopped: Callable[[], bool]) -> None:
        """See `Finisher.compare_product`."""
        folder = self.settings.data_dir / run.folder
        there = (event for _, event in EventTail(folder).take() if isinstance(event, SampleEvent))
        if run.product is None or product_kind(run.request) not in _COMPARED:
            return
        if any(event.what == "compare" for event in there):
            return
        prompts = sheet_prompts(run.request, self.training_sets_dir, run.product)[:MAX_PROMPTS]
        try:
            sheet = self.paint_strengths(run.request, run.product, prompts, stopped)
        except CancelledError:
            return
        place = folder / SAMPLES / _SHEET_FILE
        place.parent.mkdir(exist_ok=True)
        part = place.with_name(f".{place.name}")
        sheet.save(part, "PNG")
        part.replace(place)
        add_event(folder, SampleEvent(step=run.step, file=f"{SAMPLES}/{_SHEET_FILE}", what="compare"))

    def _product_name(self, path: Path, kind: ProductKind) -> str | None:
        """What the catalogue calls a file that has just come; None if it cannot use it."""
        if kind == "checkpoint":
            found = [(info.name, info.path) for info in self.models()]
        elif kind == "controlnet":
            found = [(info.name, info.path) for info in self.catalog.controlnets()]
        else:
            found = [(info.name, info.path) for info in self.catalog.networks.list(kind)]
        return next((name for name, place in found if Path(place).resolve() == path.resolve()), None)

    # --- inside -----------------------------------------------------------------------------------------------------
    def _check_training(self, request: AnyTraining) -> None:
        check_training(request, self.training_sets_dir, self.catalog, free_bytes=free_bytes_at(self.settings.data_dir))

    def _estimate_in(self, request: AnyTraining, folder: Path) -> Estimate:
        _write_request(folder, request)
        with _ESTIMATING:
            return estimate_of(self.trainer, folder, self._training_places(self.settings.devices[0]))

    def _training_places(self, device: str) -> Places:
        return Places(self.training_sets_dir, self.settings.models_path, device)

    def _make_queue(self, store: TrainingStore, owner_id: str) -> TrainingQueue:
        def keeper(run: TrainingRun) -> RunKeeper:
            folder = self.settings.data_dir / run.folder
            places = self._training_places(run.device)
            return RunKeeper(run, Keep(store, owner_id, folder, places, self.trainer, self, queue.stir))

        queue = TrainingQueue(store, owner_id, self.settings.devices, keeper, self.trainer.stop_grace_s)
        return queue


class _Look:
    """What one watcher has seen of a run."""

    def __init__(self, studio: Training, run_id: str, after: int, rests: frozenset[RunState]) -> None:
        self._studio = studio
        self._run_id = run_id
        self._after = after
        self._ends = RUN_FINAL_STATES | rests
        self._tail = EventTail(studio.training_folder(run_id), after)
        self._last: TrainingRun | None = None
        self.over = False

    def take(self) -> list[Told]:
        """What is new: the run, then the events; after the end the run last."""
        run = self._studio.training_run(self._run_id)  # first, so that no event is missed before the end
        told: list[Told] = list(self._tail.take())
        if run != self._last:
            number = max(self._after, self._tail.number)
            told.append((number, run))
        self._last, self.over = run, run.state in self._ends
        return told


def _write_request(folder: Path, request: AnyTraining) -> None:
    part = folder / f".{REQUEST_FILE}"
    part.write_text(json.dumps(request.model_dump(mode="json"), ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(folder / REQUEST_FILE)
