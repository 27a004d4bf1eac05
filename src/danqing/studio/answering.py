"""Waiting for what a worker answers to a question."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from danqing.spec.errors import WorkerError
from danqing.workers.protocol import TaskMessage


def answer_of(future: Future[TaskMessage], timeout_s: float) -> TaskMessage:
    """The answer.

    Args:
        future: As the pool gave it.
        timeout_s: How long a worker may take; it may have to start and to load a model first.

    Raises:
        WorkerError: None came in time.
        DanqingError: What the worker failed with.
    """
    try:
        return future.result(timeout_s)
    except FutureTimeoutError as error:
        future.cancel()
        raise WorkerError(
            "no worker answered",
            value=f"{timeout_s:g} s",
            next_step="run `danqing doctor`, and see the workers' logs in the data folder's logs/",
        ) from error
