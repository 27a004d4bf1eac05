from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from studio_helpers import make_plan

from danqing.workers.protocol import PictureWork, RunCommand
from danqing.workers.queue import WorkQueue

PLAN = make_plan()


def command(job_id: str, count: int, user: str = "a", priority: int = 0) -> RunCommand:
    pictures = tuple(PictureWork(index=index, plan=PLAN) for index in range(count))
    return RunCommand(job_id=job_id, user=user, priority=priority, pictures=pictures)


def sent(commands: list[RunCommand]) -> dict[str, int]:
    return {item.job_id: len(item.pictures) for item in commands}


def test_first_come_first_served_within_one_user():
    queue = WorkQueue(4)
    queue.add(command("j2", 3), solo=False)
    queue.add(command("j1", 3), solo=False)
    assert sent(queue.next_commands(0)) == {"j1": 3, "j2": 1}


def test_users_share_fairly():
    queue = WorkQueue(8)
    queue.add(command("j1", 64, "a"), solo=False)
    queue.add(command("j2", 64, "b"), solo=False)
    assert sent(queue.next_commands(0)) == {"j1": 4, "j2": 4}


def test_priority_goes_before_fairness():
    queue = WorkQueue(4)
    queue.add(command("j1", 4, "a"), solo=False)
    queue.add(command("j2", 4, "b", priority=1), solo=False)
    assert sent(queue.next_commands(0)) == {"j2": 4, "j1": 1}  # the newcomer's extra place
    assert queue.positions() == {}


def test_a_newcomer_gets_into_a_full_worker():
    queue = WorkQueue(8)
    queue.add(command("j1", 64, "a"), solo=False)
    assert sent(queue.next_commands(0)) == {"j1": 8}
    queue.add(command("j2", 64, "a"), solo=False)
    assert sent(queue.next_commands(0)) == {}
    queue.add(command("j3", 64, "b"), solo=False)
    assert sent(queue.next_commands(0)) == {"j3": 1}


def test_a_solo_job_waits_for_an_empty_worker_and_is_not_overtaken():
    queue = WorkQueue(8)
    queue.add(command("j1", 1), solo=False)
    assert sent(queue.next_commands(0)) == {"j1": 1}
    queue.add(command("j2", 2), solo=True)
    queue.add(command("j3", 1), solo=False)
    assert queue.next_commands(0) == []
    queue.chunk_ended("j1")
    queue.remove("j1")
    assert sent(queue.next_commands(0)) == {"j2": 2}
    assert queue.next_commands(0) == []


def test_positions_count_the_jobs_ahead():
    queue = WorkQueue(1)
    for name in ("j1", "j2", "j3"):
        queue.add(command(name, 1), solo=False)
    queue.next_commands(0)
    assert queue.positions() == {"j2": 0, "j3": 1}


class QueueMachine(RuleBasedStateMachine):
    """Whatever comes: every picture is sent exactly once, no worker is overfull, a solo job is alone."""

    @initialize(max_inflight=st.integers(1, 6))
    def begin(self, max_inflight: int) -> None:
        self.queue = WorkQueue(max_inflight)
        self.counts: dict[str, int] = {}
        self.sent: Counter[tuple[str, int]] = Counter()
        self.solo: set[str] = set()

    @rule(count=st.integers(1, 9), user=st.sampled_from("abc"), priority=st.integers(0, 2), solo=st.booleans())
    def add(self, count: int, user: str, priority: int, solo: bool) -> None:
        job_id = f"j{len(self.counts):04d}"
        self.counts[job_id] = count
        if solo:
            self.solo.add(job_id)
        self.queue.add(command(job_id, count, user, priority), solo=solo)

    @rule(worker=st.integers(0, 1))
    def dispatch(self, worker: int) -> None:
        for item in self.queue.next_commands(worker):
            for work in item.pictures:
                self.sent[item.job_id, work.index] += 1

    @precondition(lambda self: any(self.queue.on_worker(w) for w in (0, 1)))
    @rule(data=st.data())
    def finish_chunk(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([j for w in (0, 1) for j in self.queue.on_worker(w)]))
        if self.queue.chunk_ended(job_id):
            self.queue.remove(job_id)

    @invariant()
    def every_picture_once(self) -> None:
        assert all(times == 1 for times in self.sent.values())

    @invariant()
    def no_worker_is_overfull(self) -> None:
        for worker in (0, 1):
            most = self.queue.max_inflight + max(1, self.queue.max_inflight // 4)
            assert self.queue.inflight(worker) <= most
            here = self.queue.on_worker(worker)
            assert len(here) == 1 or not self.solo & set(here)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        for _ in range(10_000):
            if not self.queue.has_waiting and not self.queue.on_worker(0):
                break
            for job_id in [*self.queue.on_worker(0), *self.queue.on_worker(1)]:
                self.finish(job_id)
            self.dispatch(0)
        for job_id in self.queue.on_worker(1):
            self.finish(job_id)
        self.dispatch(0)
        assert len(self.sent) == sum(self.counts.values())
        self.every_picture_once()

    def finish(self, job_id: str) -> None:
        if self.queue.chunk_ended(job_id):
            self.queue.remove(job_id)


QueueMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestQueueMachine = QueueMachine.TestCase


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from("abc")), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_users_differ_by_one_picture_while_all_of_them_wait(jobs: list[tuple[int, str]]):
    queue = WorkQueue(6)
    wanted: Counter[str] = Counter()
    for number, (count, user) in enumerate(jobs):
        queue.add(command(f"j{number}", count, user), solo=False)
        wanted[user] += count
    got: Counter[str] = Counter()
    for item in queue.next_commands(0):
        got[item.user] += len(item.pictures)
    hungry = [got[user] for user in wanted if wanted[user] > got[user]]
    assert not hungry or max(got.values()) - min(hungry) <= 1
