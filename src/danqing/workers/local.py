"""Local worker processes, one for each device: started, watched, restarted, and ended with us.

All decisions are made in one thread, which reads an inbox; callers, pipes and clocks only put letters into it.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from danqing.spec.errors import DanqingError, WorkerError
from danqing.spec.events import PreviewEvent, ProgressEvent
from danqing.spec.record import Versions
from danqing.workers.asking import Questions
from danqing.workers.pool import PoolListener, WorkerPool, WorkerState, WorkerStatus
from danqing.workers.process import ProcessHooks, WorkerProcess
from danqing.workers.protocol import (
    CancelCommand,
    JobCancelledMessage,
    JobDoneMessage,
    JobFailedMessage,
    Message,
    PictureMessage,
    ReadyMessage,
    RunCommand,
    ShutdownCommand,
    TaskCommand,
    TaskMessage,
)
from danqing.workers.queue import Entry, WorkQueue

_log = logging.getLogger(__name__)
_DOCTOR = "run `danqing doctor`; the whole output is in {log}"


@dataclass(frozen=True)
class LocalPoolOptions:
    """How local workers are run.

    Args:
        devices: One worker each; `auto` lets the worker choose.
        models_dir: Passed on.
        precision: Passed on.
        max_inflight: Pictures that one worker paints at once.
        ready_timeout_s: A worker that is not ready by then is ended.
        backoff_s: Pause before the first restart; doubles up to `backoff_max_s`.
        stop_grace_s: How long a worker may take to leave, before each harder way.
        start_failures: Starts that may fail in a row before the waiting jobs fail.
        command: The program, without the arguments above.
        arguments: Further arguments, passed on as they are.
        environment: Added to the workers' environment.
    """

    devices: tuple[str, ...] = ("auto",)
    models_dir: Path | None = None
    precision: str = "auto"
    max_inflight: int = 16
    ready_timeout_s: float = 180.0
    backoff_s: float = 0.5
    backoff_max_s: float = 60.0
    stop_grace_s: float = 3.0
    start_failures: int = 3
    command: tuple[str, ...] = (sys.executable, "-m", "danqing.workers.main")
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class _Slot:
    """The place of one worker; `generation` tells the letters of a dead process from those of its successor."""

    index: int
    device: str
    state: WorkerState = "stopped"
    process: WorkerProcess | None = None
    generation: int = 0
    deadline: float = 0.0
    failures: int = 0
    restarts: int = 0
    complaint: str = ""
    versions: Versions | None = None
    last_error: str = ""


class LocalPool(WorkerPool):
    """See `WorkerPool`.

    Args:
        options: How the workers are run.
    """

    def __init__(self, options: LocalPoolOptions) -> None:
        self._options = options
        self._queue = WorkQueue(options.max_inflight)
        self._questions = Questions()
        self._slots = [_Slot(index, device) for index, device in enumerate(options.devices)]
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._listener: PoolListener | None = None
        self._data_dir = Path()
        self._eager = False
        self._closing = False
        self._positions: dict[str, int] = {}
        self._stirred = False

    # --- called from any thread -------------------------------------------------------------------------------------
    def start(self, listener: PoolListener, data_dir: Path, *, eager: bool = False) -> None:
        """See `WorkerPool.start`."""
        self._listener, self._data_dir, self._eager, self._closing = listener, data_dir, eager, False
        self._thread = threading.Thread(target=self._loop, name="danqing-pool", daemon=True)
        self._thread.start()
        self._inbox.put(lambda: None)  # look at the workers once, before the first job

    def run(self, command: RunCommand, *, solo: bool = False) -> None:
        """See `WorkerPool.run`."""
        self._inbox.put(lambda: self._queue.add(command, solo=solo))

    def cancel(self, job_id: str) -> None:
        """See `WorkerPool.cancel`."""
        self._inbox.put(lambda: self._cancel(job_id))

    def ask(self, command: TaskCommand) -> Future[TaskMessage]:
        """See `WorkerPool.ask`."""
        future: Future[TaskMessage] = Future()
        if self._closing or self._thread is None:
            future.set_exception(WorkerError("the pool was not started", next_step="start the studio first"))
        else:
            self._inbox.put(lambda: self._questions.add(command, future))
        return future

    def status(self) -> list[WorkerStatus]:
        """See `WorkerPool.status`."""
        return [
            WorkerStatus(
                device=slot.device,
                state=slot.state,
                pid=None if slot.process is None else slot.process.pid,
                inflight=self._queue.inflight(slot.index),
                restarts=slot.restarts,
                versions=slot.versions,
                last_error=slot.last_error,
            )
            for slot in self._slots
        ]

    def close(self) -> None:
        """See `WorkerPool.close`."""
        self._closing = True
        self._inbox.put(lambda: None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None

    # --- the pool's thread ------------------------------------------------------------------------------------------
    def _loop(self) -> None:
        while not self._closing:
            self._stirred = True
            try:
                self._inbox.get(timeout=self._pause_s())()
            except queue.Empty:
                pass
            except Exception:  # noqa: BLE001 - one bad letter must not end the supervision of all workers
                _log.exception("the worker pool met an error of its own; it goes on")
            if not self._closing and self._stirred:
                self._tick()
        self._stop_all()

    def _pause_s(self) -> float:
        due = [slot.deadline for slot in self._slots if slot.state in ("starting", "waiting")]
        return max(0.0, min(due, default=time.monotonic() + 60.0) - time.monotonic())

    def _tick(self) -> None:
        now = time.monotonic()
        wanted = self._eager or self._queue.has_waiting or self._questions.has_waiting
        for slot in self._slots:
            if slot.state == "starting" and slot.process is not None and now >= slot.deadline:
                slot.complaint = f"was not ready after {self._options.ready_timeout_s:g} s"
                slot.deadline = now + 3600.0
                slot.process.kill()
            elif slot.state == "stopped" and wanted:
                self._start_worker(slot)
            elif slot.state == "waiting" and now >= slot.deadline:
                slot.state = "stopped"
                if wanted:
                    self._start_worker(slot)
        ready = [slot for slot in self._slots if slot.state == "ready"]
        ready.sort(key=lambda slot: self._queue.inflight(slot.index))
        for question in self._questions.assign(ready[0].index) if ready else ():
            if ready[0].process is not None:
                ready[0].process.send(question)
        for place, slot in enumerate(ready):
            self._dispatch(slot, self._queue.share(len(ready) - place))
        self._tell_positions()

    def _start_worker(self, slot: _Slot) -> None:
        options = self._options
        command = [*options.command, "--data", str(self._data_dir), "--device", slot.device]
        command += ["--precision", options.precision]
        if options.models_dir is not None:
            command += ["--models", str(options.models_dir)]
        command += options.arguments
        slot.generation += 1
        slot.complaint = ""
        slot.state = "starting"
        slot.deadline = time.monotonic() + options.ready_timeout_s
        try:
            slot.process = WorkerProcess(command, self._log_file(slot), self._hooks(slot), options.environment)
        except OSError as error:
            slot.complaint = f"cannot be started: {error}"
            self._worker_ended(slot, slot.generation, -1)

    def _hooks(self, slot: _Slot) -> ProcessHooks:
        generation, put = slot.generation, self._inbox.put
        return ProcessHooks(
            message=lambda message: put(lambda: self._hear(slot, generation, message)),
            nonsense=lambda line: put(lambda: self._refuse(slot, generation, line)),
            ended=lambda code: put(lambda: self._worker_ended(slot, generation, code)),
        )

    def _dispatch(self, slot: _Slot, most_jobs: int) -> None:
        for command in self._queue.next_commands(slot.index, most_jobs):
            entry = self._queue.get(command.job_id)
            if entry is not None and not entry.announced:
                entry.announced = True
                self._tell.job_started(command.job_id)
            if slot.process is not None:
                slot.process.send(command)

    def _hear(self, slot: _Slot, generation: int, message: Message) -> None:
        if generation != slot.generation:
            return
        if isinstance(message, ReadyMessage):
            slot.state, slot.versions = "ready", message.versions
            return
        if isinstance(message, TaskMessage):
            self._questions.answer(slot.index, message)
            return
        entry = self._queue.get(message.job_id)
        if entry is None or entry.worker != slot.index:
            return
        match message:
            case ProgressEvent() | PreviewEvent():
                self._stirred = False  # by far the most frequent letter, and it frees no worker
                if not entry.cancelling:
                    self._tell.job_progress(message)
            case PictureMessage():
                self._picture(slot, entry, message)
            case JobDoneMessage():
                self._chunk_done(entry)
            case JobFailedMessage():
                self._queue.remove(message.job_id)
                self._tell.job_failed(message.job_id, DanqingError.from_dict(message.error))
            case JobCancelledMessage():
                self._queue.remove(message.job_id)
                self._tell.job_cancelled(message.job_id)

    def _picture(self, slot: _Slot, entry: Entry, message: PictureMessage) -> None:
        if message.index not in entry.inflight:
            return
        entry.inflight.discard(message.index)
        slot.failures = 0
        if not entry.cancelling:
            self._tell.picture_painted(message)

    def _chunk_done(self, entry: Entry) -> None:
        job_id = entry.command.job_id
        if entry.cancelling:
            self._queue.remove(job_id)
            self._tell.job_cancelled(job_id)
        elif entry.inflight:
            missing = sorted(entry.inflight)
            self._queue.remove(job_id)
            self._tell.job_failed(
                job_id, WorkerError("the worker said it was done but pictures are missing", value=missing)
            )
        elif self._queue.chunk_ended(job_id):
            self._queue.remove(job_id)
            self._tell.job_finished(job_id)

    def _cancel(self, job_id: str) -> None:
        entry = self._queue.get(job_id)
        if entry is None or entry.cancelling:
            return
        entry.waiting = []
        if entry.worker is None:
            self._queue.remove(job_id)
            self._tell.job_cancelled(job_id)
            return
        entry.cancelling = True
        process = self._slots[entry.worker].process
        if process is not None:
            process.send(CancelCommand(job_id=job_id))

    def _refuse(self, slot: _Slot, generation: int, line: str) -> None:
        if generation == slot.generation and slot.process is not None:
            slot.complaint = f"said something that is not in the protocol: {line[:200]}"
            slot.process.kill()

    def _worker_ended(self, slot: _Slot, generation: int, code: int) -> None:
        if generation != slot.generation:
            return
        error = self._obituary(slot, code)
        was_ready = slot.state == "ready"
        slot.failures += 1
        slot.restarts += 1
        slot.last_error = error.message
        slot.process, slot.state, slot.versions = None, "waiting", None
        pause_s = min(self._options.backoff_max_s, self._options.backoff_s * 2 ** min(slot.failures - 1, 20))
        slot.deadline = time.monotonic() + pause_s
        _log.warning("%s; next start in %.1f s", error.message, pause_s)
        self._questions.lost(slot.index, error)
        for job_id in self._queue.on_worker(slot.index):
            entry = self._queue.get(job_id)
            self._queue.remove(job_id)
            if entry is not None and entry.cancelling:
                self._tell.job_cancelled(job_id)
            else:
                self._tell.job_lost(job_id, error)
        if not was_ready and all(s.failures >= self._options.start_failures for s in self._slots):
            self._questions.fail_waiting(error)
            for job_id in self._queue.unassigned():
                self._queue.remove(job_id)
                self._tell.job_failed(job_id, error)

    def _obituary(self, slot: _Slot, code: int) -> WorkerError:
        reason = slot.complaint or (f"was ended by signal {-code}" if code < 0 else f"stopped with exit code {code}")
        lines = slot.process.last_lines() if slot.process is not None else ""
        last = "" if code < 0 else lines.rpartition("\n")[2]  # whoever is killed did not choose its last words
        return WorkerError(
            f"the worker on {slot.device} {reason}" + (f"; its last words: {last[:200]}" if last else ""),
            value=lines or None,
            next_step=_DOCTOR.format(log=self._log_file(slot)),
        )

    def _stop_all(self) -> None:
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.send(ShutdownCommand())
            process.hang_up()
        for end in (WorkerProcess.terminate, WorkerProcess.kill, None):
            deadline = time.monotonic() + self._options.stop_grace_s
            processes = [p for p in processes if not p.join(max(0.0, deadline - time.monotonic()))]
            for process in processes:
                if end is not None:
                    end(process)
        for slot in self._slots:
            slot.process, slot.state = None, "stopped"
            slot.generation += 1
        self._queue.clear()
        self._questions.close()

    def _tell_positions(self) -> None:
        positions = self._queue.positions()
        if positions != self._positions:
            self._positions = positions
            self._tell.queue_moved(positions)

    @property
    def _tell(self) -> PoolListener:
        if self._listener is None:
            raise WorkerError("the pool was not started", next_step="start the studio first")
        return self._listener

    def _log_file(self, slot: _Slot) -> Path:
        return self._data_dir / "logs" / f"worker-{slot.device.replace(':', '-')}.log"
