"""The pool interface: what the studio asks of workers, and what it hears from them."""

from __future__ import annotations

import hashlib
import io
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from danqing.spec.errors import DanqingError, MissingWeightsError, WorkerError
from danqing.spec.events import PreviewEvent, ProgressEvent
from danqing.spec.record import Timings, Versions
from danqing.store.blobs import BlobStore
from danqing.store.thumbnails import THUMBNAIL_TYPE, make_thumbnail
from danqing.workers.fake_upscaling import upscale_fake
from danqing.workers.protocol import PictureMessage, PictureWork, RunCommand, TaskCommand, TaskMessage, UpscaleCommand

WorkerState = Literal["stopped", "starting", "ready", "waiting"]


@dataclass(frozen=True)
class WorkerStatus:
    """One worker as the doctor and the server's status page show it."""

    device: str
    state: WorkerState
    pid: int | None = None
    inflight: int = 0
    restarts: int = 0
    versions: Versions | None = None
    last_error: str = ""


class PoolListener(Protocol):
    """What the pool tells its owner, one call at a time, from the pool's own thread."""

    def job_started(self, job_id: str) -> None:
        """Its first pictures went to a worker."""
        ...

    def job_progress(self, event: ProgressEvent | PreviewEvent) -> None:
        """How far one picture is, or how it looks."""
        ...

    def picture_painted(self, message: PictureMessage) -> None:
        """One picture lies in the blob store."""
        ...

    def job_finished(self, job_id: str) -> None:
        """Every picture of the RunCommand was painted; the pool has forgotten the job."""
        ...

    def job_failed(self, job_id: str, error: DanqingError) -> None:
        """It ended with an error; the pool has forgotten the job."""
        ...

    def job_cancelled(self, job_id: str) -> None:
        """It stopped because it was told to; the pool has forgotten the job."""
        ...

    def job_lost(self, job_id: str, error: WorkerError) -> None:
        """Its worker died; the pool has forgotten the job."""
        ...

    def queue_moved(self, positions: dict[str, int]) -> None:
        """Jobs ahead of each job that still waits."""
        ...


class WorkerPool(ABC):
    """Runs jobs on workers. Thread-safe; `run` and `cancel` return at once."""

    @abstractmethod
    def start(self, listener: PoolListener, data_dir: Path, *, eager: bool = False) -> None:
        """Begin to take jobs; `eager` also starts the workers before the first job."""

    @abstractmethod
    def run(self, command: RunCommand, *, solo: bool = False) -> None:
        """Queue the pictures of one job; `solo` gives it a worker of its own, for a job whose worker died before."""

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Stop a job within one step; a job the pool does not know is no error."""

    @abstractmethod
    def ask(self, command: TaskCommand) -> Future[TaskMessage]:
        """Put a question to a worker, past the queue of jobs; the answer comes in the Future.

        The Future fails with the worker's DanqingError, or with a WorkerError where the worker died.
        """

    @abstractmethod
    def status(self) -> list[WorkerStatus]:
        """The workers, in the order of the devices."""

    @abstractmethod
    def close(self) -> None:
        """Stop every worker and forget every job; returns when no worker is left."""


class FakePool(WorkerPool):
    """Paints small coloured pictures from the seed, in a thread, with no model: for tests of what stands on a pool.

    Args:
        delay_s: Time for each of the `steps` of a picture.
        steps: Progress events a picture.
        error: Every job fails with this instead.
        held: Jobs wait until `release` is called.
        sight: Answers questions (for example `workers.fake_sight.FakeSight(…).answer`); none can be asked without it.
    """

    def __init__(
        self,
        *,
        delay_s: float = 0.0,
        steps: int = 4,
        error: DanqingError | None = None,
        held: bool = False,
        sight: Callable[[TaskCommand], TaskMessage] | None = None,
    ) -> None:
        self.delay_s = delay_s
        self.steps = steps
        self.error = error
        self.sight = sight
        self.ran: list[RunCommand] = []
        self.asked: list[TaskCommand] = []
        self._released = threading.Event()
        if not held:
            self._released.set()
        self._cancelled: set[str] = set()
        self._queue: queue.SimpleQueue[RunCommand | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._blobs: BlobStore | None = None
        self._closing = False

    def start(self, listener: PoolListener, data_dir: Path, *, eager: bool = False) -> None:  # noqa: ARG002
        """See `WorkerPool.start`."""
        self._blobs = BlobStore(data_dir)
        self._thread = threading.Thread(target=self._run, args=(listener, self._blobs), daemon=True)
        self._thread.start()

    def run(self, command: RunCommand, *, solo: bool = False) -> None:  # noqa: ARG002
        """See `WorkerPool.run`."""
        self._cancelled.discard(command.job_id)
        self.ran.append(command)
        self._queue.put(command)

    def cancel(self, job_id: str) -> None:
        """See `WorkerPool.cancel`."""
        self._cancelled.add(job_id)

    def ask(self, command: TaskCommand) -> Future[TaskMessage]:
        """See `WorkerPool.ask`; answers at once."""
        self.asked.append(command)
        future: Future[TaskMessage] = Future()
        if isinstance(command, UpscaleCommand) and self._blobs is not None:
            if self.error is None:
                future.set_result(upscale_fake(command, self._blobs))
            else:
                future.set_exception(self.error)
            return future
        if self.sight is None:
            future.set_exception(MissingWeightsError("the fake workers have no mini-CLIP", next_step="give them one"))
            return future
        try:
            future.set_result(self.sight(command))
        except DanqingError as error:
            future.set_exception(error)
        return future

    def release(self) -> None:
        """Let held jobs run."""
        self._released.set()

    def status(self) -> list[WorkerStatus]:
        """See `WorkerPool.status`."""
        return [WorkerStatus("fake", "ready" if self._thread else "stopped")]

    def close(self) -> None:
        """See `WorkerPool.close`."""
        self._closing = True
        self._released.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self, listener: PoolListener, blobs: BlobStore) -> None:
        while (command := self._queue.get()) is not None:
            self._released.wait()
            if self._closing:
                return
            self._paint_job(command, listener, blobs)

    def _paint_job(self, command: RunCommand, listener: PoolListener, blobs: BlobStore) -> None:
        job_id = command.job_id
        if job_id not in self._cancelled:
            listener.job_started(job_id)
        if self.error is not None:
            listener.job_failed(job_id, self.error)
            return
        for work in command.pictures:
            for step in range(self.steps):
                if job_id in self._cancelled or self._closing:
                    listener.job_cancelled(job_id)
                    return
                time.sleep(self.delay_s)
                fraction = (step + 1) / self.steps
                listener.job_progress(
                    ProgressEvent(job_id=job_id, index=work.index, step=step + 1, steps=self.steps, fraction=fraction)
                )
            listener.picture_painted(paint_fake(job_id, work, blobs))
        listener.job_finished(job_id)


def paint_fake(job_id: str, work: PictureWork, blobs: BlobStore) -> PictureMessage:
    """A picture of one colour that depends on the seed alone, at the size of the Plan (at most 64 px)."""
    plan = work.plan
    size = (min(64, plan.size.width_px), min(64, plan.size.height_px))
    colour = tuple(hashlib.sha256(str(plan.seeds.seed).encode()).digest()[:3])
    image = Image.new("RGB", size, (colour[0], colour[1], colour[2]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return PictureMessage(
        job_id=job_id,
        index=work.index,
        picture=blobs.put(buffer.getvalue()),
        thumbnail=blobs.put(make_thumbnail(image), THUMBNAIL_TYPE),
        media_type="image/png",
        width_px=size[0],
        height_px=size[1],
        infotext=f"{plan.base.text.prompt}\nSteps: {plan.base.sampling.steps}, Seed: {plan.seeds.seed}",
        timings=Timings(total_s=0.01),
        versions=Versions(danqing="fake"),
    )
