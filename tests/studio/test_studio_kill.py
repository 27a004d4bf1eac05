"""kill -9 of the worker and of the whole front: the job is done in the end, and each picture is there exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from front_process import local_pool
from studio_helpers import painted

from danqing.spec.events import StateEvent
from danqing.spec.painting import Txt2ImgRequest
from danqing.studio.service import Studio

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9")
TESTS = Path(__file__).parents[1]


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def apples(count: int, prompt: str = "an apple") -> Txt2ImgRequest:
    return Txt2ImgRequest(prompt=prompt, seed=1, count=count)


def check_once_each(studio: Studio, job_id: str, count: int) -> None:
    job = studio.job(job_id)
    assert job.state == "done"
    records = [studio.record(record_id) for record_id in job.records]
    assert [record.index for record in records] == list(range(count))
    assert [record.plan for record in records] == list(job.plans)
    assert len(studio.records(limit=100)) == count
    for record in records:
        assert studio.picture_bytes(record.picture)


def test_a_killed_worker(open_studio, tmp_path: Path):
    studio = open_studio(local_pool(0.03))
    job = studio.submit(apples(4))
    seen: list[str] = []
    killed = 0
    for _, event in studio.watch(job.id, timeout_s=30):
        if isinstance(event, StateEvent):
            seen.append(event.state)
        if event.type == "record" and event.index == 1:
            killed = studio.workers()[0].pid
            os.kill(killed, signal.SIGKILL)
    check_once_each(studio, job.id, 4)
    assert seen[-3:] == ["queued", "running", "done"]
    assert studio.job(job.id).attempts == 2
    lines = painted(tmp_path)
    assert {line["index"] for line in lines if line["pid"] == killed} >= {0, 1}
    assert not {0, 1} & {line["index"] for line in lines if line["pid"] != killed}  # what has a Record is skipped


def test_a_poison_job_fails_and_takes_no_other_with_it(open_studio):
    studio = open_studio(local_pool(0.02, max_inflight=8))
    good = [studio.submit(apples(2)) for _ in range(2)]
    poison = studio.submit(apples(1, "die"))
    good.append(studio.submit(apples(2)))
    failed = studio.wait(poison.id, 120)
    assert failed.state == "failed"
    assert failed.attempts == 3
    assert failed.error is not None
    assert "started 3 times" in failed.error["message"]
    assert "signal 9" in failed.error["message"]
    assert "about to die" in failed.error["value"]
    assert [studio.wait(job.id, 60).state for job in good] == ["done"] * 3
    again = studio.retry(poison.id)
    assert again.attempts == 0
    studio.cancel(again.id)


def start_front(data_dir: Path, delay_s: float, count: int) -> tuple[subprocess.Popen[str], str]:
    paths = [str(TESTS.parent / "src"), str(TESTS / "studio")]
    front = subprocess.Popen(
        [sys.executable, str(TESTS / "studio" / "front_process.py"), str(data_dir), str(delay_s), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert front.stdout is not None
    return front, front.stdout.readline().strip()


def kill_front(front: subprocess.Popen[str]) -> list[psutil.Process]:
    workers = psutil.Process(front.pid).children()
    front.kill()
    front.wait(10)
    assert front.stdout is not None
    front.stdout.close()
    return workers


def test_a_killed_front(open_studio, tmp_path: Path):
    front, job_id = start_front(tmp_path, 0.1, 3)
    wait_until(lambda: painted(tmp_path))
    watcher = open_studio(local_pool(0.0))
    assert watcher.job(job_id).state == "running"  # its front lives: nobody takes the job
    wait_until(lambda: watcher.job(job_id).records)
    workers = kill_front(front)
    assert len(workers) == 1
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []  # the worker heard the end of its input
    watcher.close()

    second = open_studio(local_pool(0.0))
    assert second.job(job_id).state == "queued"
    assert second.wait(job_id, 30).attempts == 2
    check_once_each(second, job_id, 3)
    assert max(Counter(line["index"] for line in painted(tmp_path)).values()) <= 2


def test_a_running_server_takes_over_from_a_killed_front(open_studio, tmp_path: Path):
    server = open_studio(local_pool(0.0), eager=True, lease_s=1.0)
    front, job_id = start_front(tmp_path, 0.1, 2)
    wait_until(lambda: server.job(job_id).state == "running")
    kill_front(front)
    wait_until(lambda: server.job(job_id).is_final)
    check_once_each(server, job_id, 2)


def test_a_front_killed_between_the_last_picture_and_the_end(open_studio, tmp_path: Path):
    """Every Record is there and the job still runs: the next Studio only says that it is done."""
    first = open_studio()
    job = first.wait(first.submit(apples(2)).id, 10)
    store = first._store
    first._open = None  # as if killed: nothing is tidied up
    with store.database.write() as session:
        from sqlalchemy import text

        session.execute(text("UPDATE jobs SET state = 'running', owner_id = 'gone', finished_at = NULL"))
    store.close()
    first.pool.close()
    second = open_studio(eager=True)
    assert second.wait(job.id, 5).state == "done"
    assert second.pool.ran == []
    check_once_each(second, job.id, 2)
