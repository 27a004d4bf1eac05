"""Questions beside the jobs: asked of real processes, and what becomes of them when a worker dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from studio_helpers import make_plan

from danqing.spec.errors import DanqingError, NotFoundError, WorkerError
from danqing.store.vectors import from_text
from danqing.workers.asking import Questions
from danqing.workers.local import LocalPool, LocalPoolOptions
from danqing.workers.protocol import (
    COMMAND,
    EmbedCommand,
    EmbeddedMessage,
    InterrogateCommand,
    InterrogatedMessage,
    PictureSource,
    PictureWork,
    RunCommand,
    TaskFailedMessage,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")
WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
NOWHERE = PictureSource(sha256="0" * 64)


class Deaf:
    """A listener for pools whose jobs are of no interest."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def open_pool(tmp_path: Path) -> Iterator[Callable[..., LocalPool]]:
    pools: list[LocalPool] = []

    def begin(**options: Any) -> LocalPool:
        pool = LocalPool(
            LocalPoolOptions(
                **{"devices": ("cpu",), "command": WORKER, "backoff_s": 0.05, "stop_grace_s": 1, **options}
            )
        )
        pool.start(Deaf(), tmp_path)
        pools.append(pool)
        return pool

    yield begin
    for pool in pools:
        pool.close()


def texts(*words: str, task_id: str = "t1") -> EmbedCommand:
    return EmbedCommand(task_id=task_id, texts=words)


def test_a_question_starts_a_worker_and_is_answered_beside_the_painting(open_pool):
    pool = open_pool(environment={"FAKE_DELAY_S": "0.5"})
    pool.run(RunCommand(job_id="slow", pictures=(PictureWork(index=0, plan=make_plan()),)))
    answer = pool.ask(texts("a red apple", "a blue car")).result(10)
    assert isinstance(answer, EmbeddedMessage)
    red, blue = from_text(answer.texts, answer.dim)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert pool.status()[0].inflight == 1, "the job is still being painted"


def test_a_question_that_fails_says_why(open_pool):
    with pytest.raises(NotFoundError) as caught:
        open_pool().ask(InterrogateCommand(task_id="t", picture=NOWHERE)).result(10)
    assert caught.value.next_step


@pytest.mark.parametrize(("word", "said"), [("die", "signal 9"), ("exit", "exit code 3"), ("garbage", "protocol")])
def test_a_worker_that_dies_takes_its_questions_with_it(open_pool, word, said):
    pool = open_pool()
    with pytest.raises(WorkerError, match=said):
        pool.ask(texts(word)).result(15)
    assert pool.ask(texts("red", task_id="t2")).result(10).dim == 3, "the next worker answers"


def test_a_worker_that_cannot_start(open_pool):
    pool = open_pool(environment={"FAKE_START": "crash"}, start_failures=2)
    with pytest.raises(WorkerError, match="no torch here"):
        pool.ask(texts("red")).result(15)


def test_closing_ends_what_is_open(open_pool):
    pool = open_pool()
    never = pool.ask(texts("silence"))
    stranger = pool.ask(texts("stranger", task_id="t2"))
    assert pool.ask(texts("red", task_id="t3")).result(10)
    assert not never.done()
    pool.close()
    for future in (never, stranger, pool.ask(texts("red"))):
        with pytest.raises(WorkerError):
            future.result(5)


def test_bookkeeping():
    questions = Questions()
    futures: list[Future[Any]] = [Future() for _ in range(3)]
    for number, future in enumerate(futures):
        questions.add(texts("x", task_id=f"t{number}"), future)
    futures[2].cancel()
    assert [command.task_id for command in questions.assign(0)] == ["t0", "t1"]
    assert not questions.has_waiting
    failure = TaskFailedMessage(task_id="t0", error=NotFoundError("gone").as_dict())
    questions.answer(1, failure)
    assert not futures[0].done(), "only the worker that was asked may answer"
    questions.answer(0, failure)
    with pytest.raises(NotFoundError, match="gone"):
        futures[0].result(0)
    questions.answer(0, InterrogatedMessage.model_construct(task_id="t1"))
    with pytest.raises(WorkerError, match="another question"):
        futures[1].result(0)
    questions.lost(0, DanqingError("late"))
    with pytest.raises(CancelledError):
        futures[2].result(0)


def test_a_picture_is_named_or_given():
    for wrong in ({}, {"sha256": "0" * 64, "data_base64": "eA=="}, {"sha256": "../x"}):
        with pytest.raises(ValidationError):
            PictureSource.model_validate(wrong)
    command = texts("red", "藍色")
    assert COMMAND.validate_json(command.model_dump_json()) == command
