"""Runs commands on an engine: one Session for each picture, finished pictures saved beside the painting."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
import transformers
from PIL import Image

from danqing import __version__
from danqing.engine import Engine, EngineOptions, Finished, Previewed, Progressed, SessionEvent
from danqing.engine.executors import executor_name, explain_executor, open_executor
from danqing.models import precision as precisions
from danqing.models import residency
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader, pick_device
from danqing.models.memory import Limits
from danqing.pipelines import expected_calls, paint
from danqing.spec.errors import CancelledError, DanqingError, WorkerError
from danqing.spec.events import PreviewEvent, ProgressEvent
from danqing.spec.plan import Plan
from danqing.spec.record import Timings, Versions
from danqing.store.blobs import BlobStore
from danqing.workers import protocol
from danqing.workers.saving import BlobPictures, Saved, save
from danqing.workers.sight import Sight, failed
from danqing.workers.upscaling import Upscaling

IDLE_S = 3600.0
PREVIEW_MIN_INTERVAL_S = 0.1
SMALL_PREVIEW_PX = 64
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PainterOptions:
    """Where and how to paint.

    Attributes:
        data_dir: Blobs are read and written below it.
        models_dir: Models in A1111's layout.
        device: `auto`, `cpu`, `cuda:0`, …
        precision: For Plans that leave it open.
        preview_every: Steps between previews; 0 for none.
        decoded_every: Steps between previews decoded by the VAE; 0 for none.
        compiled: Compile the denoiser.
        executor: What computes, as for `open_executor`.
        limits: What a person allows of main memory and of a GPU's.
    """

    data_dir: Path
    models_dir: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    preview_every: int = 1
    decoded_every: int = 0
    compiled: bool = False
    executor: str = "auto"
    limits: Limits | None = None


@dataclass
class _Running:
    """A job in this worker."""

    command: protocol.RunCommand
    fractions: dict[int, float]
    started_at: float | None = None
    base_fraction: float = 0.0
    last_preview_at: dict[int, float] = field(default_factory=dict[int, float])
    open: set[int] = field(default_factory=set[int])
    saving: list[Future[Saved]] = field(default_factory=list["Future[Saved]"])

    @property
    def fraction(self) -> float:
        return sum(self.fractions.values()) / max(len(self.fractions), 1)


class Painter:
    """Paints what the commands say.

    Args:
        options: Where and how.
        send: Takes each message to the front.

    Raises:
        UnsupportedError: The device or precision is not to be had.
    """

    def __init__(self, options: PainterOptions, send: Callable[[protocol.Message], None]) -> None:
        transformers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.disable_progress_bar()
        self.options = options
        self._send = send
        self._send_lock = threading.Lock()
        self.device = pick_device(options.device)
        self.precision = precisions.choose(self.device, options.precision)
        self.blobs = BlobStore(options.data_dir)
        self._loader = Loader(
            Catalog(options.models_dir), self.device, fast_cpu=not options.compiled, limits=options.limits
        )
        executor = open_executor(self._loader, options.executor, compiled=options.compiled)
        previews = {"preview_every": options.preview_every, "decoded_every": options.decoded_every}
        self.engine = Engine(executor, EngineOptions(**previews, preview_interval_s=PREVIEW_MIN_INTERVAL_S))
        self.jobs: dict[str, _Running] = {}
        self._saver = ThreadPoolExecutor(max_workers=_savers(), thread_name_prefix="save")
        self.sight = Sight(options.data_dir, options.models_dir, self.device)
        self._looker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look")
        self._upscaling = Upscaling(self.engine, self.blobs, self._saver, self.send)

    def send(self, message: protocol.Message) -> None:
        """Tell the front, one message at a time: questions are answered in a thread of their own."""
        with self._send_lock:
            self._send(message)

    def versions(self) -> Versions:
        """What paints here."""
        return Versions(
            danqing=__version__,
            torch=torch.__version__,
            diffusers=importlib.metadata.version("diffusers"),
            device=_device_name(self.device),
            precision=self.precision.name,
            executor=executor_name(self.device.type, self.options.executor, compiled=self.options.compiled),
        )

    def choices(self) -> tuple[str, ...]:
        """Which precision and how much memory it uses, and why."""
        memory = self._loader.memory
        places = residency.explain(self.device.type, memory.free(), self.precision.denoiser.itemsize, memory.host())
        loaded = (f"{name}: {one.kind}: {one.reason}" for name, one in self._loader.residencies.items())
        computed = explain_executor(self.device.type, self.options.executor, compiled=self.options.compiled)
        formats = precisions.explain(self.device, self.options.precision, self._loader.budget_bytes)
        return (*computed, *formats, *memory.explain(), *places, *loaded)

    def memory_bytes(self) -> int:
        """Memory of the device."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).total_memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def run(self, commands: queue.SimpleQueue[protocol.Command | None]) -> None:
        """Work until a shutdown command or the end of the commands (None)."""
        while True:
            if not self._take_commands(commands):
                return
            self.engine.tick()
            self._finish_jobs()

    def _take_commands(self, commands: queue.SimpleQueue[protocol.Command | None]) -> bool:
        """Handle every command that waits; sleep for one only when there is nothing to do. False means stop."""
        idle = len(self.engine) == 0
        while True:
            try:
                # While pictures are being saved, look again soon so that the end of the job is reported at once.
                wait_s = (0.01 if self.jobs else IDLE_S) if idle else 0.0
                command = commands.get(timeout=wait_s) if idle else commands.get_nowait()
            except queue.Empty:
                return True
            if command is None or isinstance(command, protocol.ShutdownCommand):
                return False
            if isinstance(command, protocol.CancelCommand):
                self._cancel(command.job_id)
            elif isinstance(command, protocol.SightCommand):
                self._ask(command)
            elif isinstance(command, protocol.UpscaleCommand):
                self._upscaling.start(command)
            else:
                self._start(command)
            idle = False

    def _ask(self, command: protocol.TaskCommand) -> None:
        """Answer a question beside the painting; only the loading of what answers it, once, stops that."""
        try:
            self.sight.prepare(command)
        except DanqingError as error:
            self.send(failed(command, error))
            return
        self._looker.submit(lambda: self.send(self.sight.answer(command)))

    def _start(self, command: protocol.RunCommand) -> None:
        if command.job_id in self.jobs:
            logger.warning("job %s is running already", command.job_id)
            return
        job = _Running(command, {work.index: 0.0 for work in command.pictures})
        self.jobs[command.job_id] = job
        job.open = {work.index for work in command.pictures}
        for work in command.pictures:
            if command.job_id not in self.jobs:
                return
            plan = self._resolved(work.plan)
            self.engine.submit(
                _key(command.job_id, work.index),
                paint(plan, BlobPictures(self.blobs)),
                self._sink(job, work.index, work.plan),
                user=command.user,
                priority=command.priority,
                expected_calls=expected_calls(plan),
            )

    def _resolved(self, plan: Plan) -> Plan:
        """The Plan with the worker's precision where it leaves it open."""
        if plan.precision != "auto" or self.options.precision == "auto":
            return plan
        return plan.model_copy(update={"precision": self.options.precision})

    def _cancel(self, job_id: str) -> None:
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        self._stop_sessions(job)
        self.send(protocol.JobCancelledMessage(job_id=job_id))

    def _stop_sessions(self, job: _Running) -> None:
        for index in job.fractions:
            self.engine.cancel(_key(job.command.job_id, index))

    def _sink(self, job: _Running, index: int, plan: Plan) -> Callable[[SessionEvent], None]:
        def sink(event: SessionEvent) -> None:
            if isinstance(event, Progressed):
                self._progress(job, index, event)
            elif isinstance(event, Previewed):
                self._preview(job, index, event)
            else:
                self._finished(job, index, plan, event)

        return sink

    def _progress(self, job: _Running, index: int, event: Progressed) -> None:
        job.fractions[index] = event.fraction
        now, fraction = time.monotonic(), job.fraction
        eta_s = None
        if job.started_at is None and event.stage == "denoise":
            job.started_at, job.base_fraction = now, fraction
        elif job.started_at is not None and fraction > job.base_fraction:
            eta_s = (now - job.started_at) / (fraction - job.base_fraction) * (1.0 - fraction)
        self.send(
            ProgressEvent(
                job_id=job.command.job_id,
                index=index,
                pass_index=event.pass_index,
                step=event.step,
                steps=event.steps,
                fraction=min(fraction, 1.0),
                eta_s=eta_s,
                stage=event.stage,
            )
        )

    def _preview(self, job: _Running, index: int, event: Previewed) -> None:
        now = time.monotonic()
        if now - job.last_preview_at.get(index, 0.0) < PREVIEW_MIN_INTERVAL_S:
            return
        job.last_preview_at[index] = now
        image = Image.fromarray(event.image)
        small = max(image.size) <= SMALL_PREVIEW_PX
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
        self.send(
            PreviewEvent(
                job_id=job.command.job_id,
                index=index,
                step=event.step,
                media_type="image/png" if small else "image/jpeg",
                data_base64=base64.b64encode(buffer.getvalue()).decode(),
            )
        )

    def _finished(self, job: _Running, index: int, plan: Plan, event: Finished) -> None:
        job.open.discard(index)
        if isinstance(event.error, CancelledError):
            return
        if event.error is not None:
            self._fail(job, event.error)
            return
        timings = Timings(total_s=event.total_s, by_call_s=event.by_call_s)
        versions = self.versions().model_copy(update={"precision": self._precision_of(plan)})
        job.saving.append(
            self._saver.submit(
                save, self.blobs, Saved(job.command.job_id, index, plan, event.result, timings, versions)
            )
        )

    def _precision_of(self, plan: Plan) -> str:
        wanted = plan.precision if plan.precision != "auto" else self.options.precision
        place = self._loader.residencies.get(plan.base.model.name)
        # Too little memory makes it float8, whatever was asked for.
        return "float8" if place and place.kind == "layerwise" else precisions.choose(self.device, wanted).name

    def _fail(self, job: _Running, error: DanqingError) -> None:
        if self.jobs.pop(job.command.job_id, None) is None:
            return
        if error.__cause__ is not None:
            logger.error("job %s failed", job.command.job_id, exc_info=error.__cause__)
        self._stop_sessions(job)
        self.send(protocol.JobFailedMessage(job_id=job.command.job_id, error=error.as_dict()))

    def _finish_jobs(self) -> None:
        for job in list(self.jobs.values()):
            # Several are saved at a time; the front hears of them in the order in which they were painted.
            while job.saving and job.saving[0].done():
                self._report_saved(job, job.saving.pop(0))
            if not job.open and not job.saving and self.jobs.pop(job.command.job_id, None) is not None:
                self.send(protocol.JobDoneMessage(job_id=job.command.job_id))

    def _report_saved(self, job: _Running, future: Future[Saved]) -> None:
        try:
            self.send(future.result().message())
        except DanqingError as error:
            self._fail(job, error)
        except OSError as error:
            self._fail(
                job,
                WorkerError(f"the picture could not be written: {error}", next_step="free space in the data folder"),
            )
        except Exception as error:  # noqa: BLE001  a bug in saving one picture must not take the other jobs down
            wrapped = WorkerError(f"{type(error).__name__}: {error}", next_step="see the worker's log")
            wrapped.__cause__ = error
            self._fail(job, wrapped)


def _savers() -> int:
    """Pictures that are encoded and written at once: one core of four, since a GPU paints faster than one can."""
    return min(4, max(1, (os.cpu_count() or 1) // 4))


def _key(job_id: str, index: int) -> str:
    return f"{job_id}/{index}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} ({torch.get_num_threads()} threads)"
