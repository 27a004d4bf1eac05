"""Questions to workers (interrogate, embed) that wait for a worker or an answer: bookkeeping, no processes."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from danqing.spec.errors import DanqingError, WorkerError
from danqing.workers.protocol import (
    EmbedCommand,
    EmbeddedMessage,
    InterrogateCommand,
    InterrogatedMessage,
    JudgeCommand,
    JudgedMessage,
    ReviewCommand,
    ReviewedMessage,
    TaskCommand,
    TaskFailedMessage,
    TaskMessage,
    UpscaleCommand,
    UpscaledMessage,
)

_ANSWERS: dict[type[Any], type[Any]] = {
    InterrogateCommand: InterrogatedMessage,
    EmbedCommand: EmbeddedMessage,
    UpscaleCommand: UpscaledMessage,
    ReviewCommand: ReviewedMessage,
    JudgeCommand: JudgedMessage,
}


@dataclass
class _Question:
    command: TaskCommand
    future: Future[Any]
    worker: int | None = None


@dataclass
class Questions:
    """The open questions of a pool. A question is asked once: if its worker dies, the asker is told."""

    _open: dict[str, _Question] = field(default_factory=dict[str, _Question])

    def add(self, command: TaskCommand, future: Future[Any]) -> None:
        """Remember a question until it is answered."""
        self._open[command.task_id] = _Question(command, future)

    @property
    def has_waiting(self) -> bool:
        """Whether any question waits for a worker."""
        return any(question.worker is None for question in self._open.values())

    def assign(self, worker: int) -> list[TaskCommand]:
        """Everything that waits, for this worker from here on; what nobody wants any more is left out."""
        given: list[TaskCommand] = []
        for task_id, question in list(self._open.items()):
            if question.worker is not None:
                continue
            if question.future.set_running_or_notify_cancel():
                question.worker = worker
                given.append(question.command)
            else:
                del self._open[task_id]
        return given

    def answer(self, worker: int, message: TaskMessage) -> None:
        """Pass an answer on; one that nobody waits for is dropped."""
        question = self._open.get(message.task_id)
        if question is None or question.worker != worker:
            return
        del self._open[message.task_id]
        if isinstance(message, TaskFailedMessage):
            _fail(question.future, DanqingError.from_dict(message.error))
        elif isinstance(message, _ANSWERS[type(question.command)]):
            question.future.set_result(message)
        else:
            _fail(question.future, WorkerError("the worker answered another question", value=message.type))

    def lost(self, worker: int, error: DanqingError) -> None:
        """The worker has gone: its questions fail."""
        self._fail_where(error, lambda question: question.worker == worker)

    def fail_waiting(self, error: DanqingError) -> None:
        """No worker can be started: the questions that wait for one fail."""
        self._fail_where(error, lambda question: question.worker is None)

    def close(self) -> None:
        """Nobody will answer any more."""
        self._fail_where(WorkerError("the studio was closed", next_step="open it and ask again"), lambda _: True)

    def _fail_where(self, error: DanqingError, chosen: Any) -> None:
        for task_id in [task_id for task_id, question in self._open.items() if chosen(question)]:
            _fail(self._open.pop(task_id).future, error)


def _fail(future: Future[Any], error: DanqingError) -> None:
    with suppress(InvalidStateError):  # the asker may have cancelled it
        future.set_exception(error)
