from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_helpers import make_plan, painted

from danqing.spec.errors import DanqingError, InvalidRequestError, WorkerError
from danqing.workers.local import LocalPool, LocalPoolOptions
from danqing.workers.protocol import PictureWork, RunCommand

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")
WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.errors: dict[str, DanqingError] = {}
        self._changed = threading.Condition()

    def _note(self, what: str, about: Any) -> None:
        with self._changed:
            self.heard.append((what, about))
            self._changed.notify_all()

    def wait_for(self, what: str, about: Any, timeout_s: float = 60.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (what, about) in self.heard, timeout_s), self.heard

    def job_started(self, job_id: str) -> None:
        self._note("started", job_id)

    def job_progress(self, event: Any) -> None:
        self._note("progress", (event.job_id, event.index))

    def picture_painted(self, message: Any) -> None:
        self._note("picture", (message.job_id, message.index))

    def job_finished(self, job_id: str) -> None:
        self._note("finished", job_id)

    def job_failed(self, job_id: str, error: DanqingError) -> None:
        self.errors[job_id] = error
        self._note("failed", job_id)

    def job_cancelled(self, job_id: str) -> None:
        self._note("cancelled", job_id)

    def job_lost(self, job_id: str, error: WorkerError) -> None:
        self.errors[job_id] = error
        self._note("lost", job_id)

    def queue_moved(self, positions: dict[str, int]) -> None:
        self._note("moved", positions)


Start = Callable[..., tuple[LocalPool, Listener]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    pools: list[LocalPool] = []

    def begin(eager: bool = False, environment: dict[str, str] | None = None, **options: Any) -> Any:
        values: dict[str, Any] = {"devices": ("cpu",), "command": WORKER, "backoff_s": 0.05, **options}
        pool = LocalPool(LocalPoolOptions(environment=environment or {}, **values))
        listener = Listener()
        pool.start(listener, tmp_path, eager=eager)
        pools.append(pool)
        return pool, listener

    yield begin
    for pool in pools:
        pool.close()


def run(job_id: str, count: int = 1, prompt: str = "an apple", user: str = "a") -> RunCommand:
    works = tuple(PictureWork(index=i, plan=make_plan(i, prompt)) for i in range(count))
    return RunCommand(job_id=job_id, user=user, pictures=works)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_paints_every_picture_once_in_batches(start: Start, tmp_path: Path):
    pool, listener = start(max_inflight=4)
    assert pool.status()[0].state == "stopped"  # lazy: no job, no worker
    pool.run(run("j1", 10))
    listener.wait_for("finished", "j1")
    assert sorted(about for what, about in listener.heard if what == "picture") == [("j1", i) for i in range(10)]
    assert len(painted(tmp_path)) == 10
    assert pool.status()[0].state == "ready"
    assert listener.heard.count(("started", "j1")) == 1


def test_an_eager_pool_starts_its_workers_and_close_leaves_no_process(start: Start):
    pool, _ = start(eager=True, devices=("cpu", "cuda:0"), stop_grace_s=60.0)
    wait_until(lambda: all(worker.state == "ready" for worker in pool.status()))
    pids = [worker.pid for worker in pool.status()]
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 40  # they leave by themselves, nobody waits until they are ended
    assert not any(alive(pid) for pid in pids if pid)


def test_cancel_waiting_and_running(start: Start):
    pool, listener = start(max_inflight=1, environment={"FAKE_DELAY_S": "0.1"})
    pool.run(run("j1", 3))
    pool.run(run("j2"))
    listener.wait_for("progress", ("j1", 0))
    pool.cancel("j2")
    listener.wait_for("cancelled", "j2", 0.5)
    pool.cancel("j1")
    pool.cancel("j1")
    listener.wait_for("cancelled", "j1", 1)
    pool.cancel("unknown")
    pool.run(run("j3"))
    listener.wait_for("finished", "j3")
    assert ("started", "j2") not in listener.heard


def test_a_killed_worker_loses_only_its_jobs_and_comes_back(start: Start):
    pool, listener = start(devices=("cpu", "cuda:0"), max_inflight=1, environment={"FAKE_DELAY_S": "0.1"}, eager=True)
    wait_until(lambda: all(worker.state == "ready" for worker in pool.status()))
    for job_id in ("j1", "j2"):
        pool.run(run(job_id, 2, user=job_id))
    listener.wait_for("progress", ("j1", 0))
    listener.wait_for("progress", ("j2", 0))
    os.kill(pool.status()[0].pid or 0, signal.SIGKILL)
    listener.wait_for("lost", "j1")
    listener.wait_for("finished", "j2")
    assert "signal 9" in listener.errors["j1"].message
    wait_until(lambda: pool.status()[0].state == "ready")
    assert pool.status()[0].restarts == 1


def test_the_last_words_and_the_log(start: Start, tmp_path: Path):
    pool, listener = start()
    pool.run(run("j1", 1, "die"))
    listener.wait_for("lost", "j1")
    error = listener.errors["j1"]
    assert "about to die" in str(error.value)
    assert "about to die" in (tmp_path / "logs" / "worker-cpu.log").read_text()
    assert "worker-cpu.log" in str(error.next_step)


@pytest.mark.parametrize(("prompt", "words"), [("exit", "exit code 3"), ("garbage", "not in the protocol")])
def test_other_ends(start: Start, prompt: str, words: str):
    pool, listener = start()
    pool.run(run("j1", 1, prompt))
    listener.wait_for("lost", "j1")
    assert words in listener.errors["j1"].message


def test_a_failed_job_fails_alone(start: Start):
    pool, listener = start()
    pool.run(run("j1", 2, "refuse"))
    pool.run(run("j2"))
    pool.run(run("j3", 3, "liar"))
    listener.wait_for("failed", "j1")
    listener.wait_for("failed", "j3")
    listener.wait_for("finished", "j2")
    assert isinstance(listener.errors["j1"], InvalidRequestError)
    assert "missing" in listener.errors["j3"].message
    assert pool.status()[0].restarts == 0


def test_workers_that_never_start_fail_the_job_with_the_reason(start: Start):
    pool, listener = start(environment={"FAKE_START": "crash"}, start_failures=2)
    pool.run(run("j1"))
    listener.wait_for("failed", "j1")
    assert "no torch here" in str(listener.errors["j1"])
    assert pool.status()[0].restarts == 2


def test_a_worker_that_hangs_at_the_start_is_ended(start: Start):
    pool, listener = start(environment={"FAKE_START": "hang"}, start_failures=1, ready_timeout_s=0.5)
    pool.run(run("j1"))
    listener.wait_for("failed", "j1")
    assert "not ready after 0.5 s" in listener.errors["j1"].message


def test_a_program_that_is_not_there(start: Start):
    pool, listener = start(command=("/nowhere/python",), start_failures=1)
    pool.run(run("j1"))
    listener.wait_for("failed", "j1")
    assert "cannot be started" in listener.errors["j1"].message


def test_restarts_back_off(start: Start, caplog: pytest.LogCaptureFixture):
    pool, _ = start(eager=True, command=("/nowhere/python",), backoff_s=0.1, backoff_max_s=0.3)
    begin = time.monotonic()
    wait_until(lambda: pool.status()[0].restarts >= 4)
    assert time.monotonic() - begin >= 0.1 + 0.2 + 0.3
    pauses = [record.getMessage().rsplit(" ", maxsplit=2)[-2] for record in caplog.records]
    assert pauses[:4] == ["0.1", "0.2", "0.3", "0.3"]


def test_a_stubborn_worker_is_killed_at_close(start: Start):
    pool, _ = start(eager=True, environment={"FAKE_START": "hang"}, stop_grace_s=0.2)
    wait_until(lambda: pool.status()[0].pid is not None)
    pid = pool.status()[0].pid
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 30  # by itself it would stay for a minute
    assert pid
    assert not alive(pid)
