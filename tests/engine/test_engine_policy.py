"""Which Calls run next: fairness between users, short work first, nobody starves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from engine_sessions import Log, denoise_only
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.engine import Engine, EngineOptions
from danqing.engine.calls import ModelCall
from danqing.engine.fake import FakeExecutor
from danqing.engine.policy import Waiting, choose


def waiting(key: str, **changes) -> Waiting:
    plain = {
        "user": "ann",
        "priority": 0,
        "group": "g",
        "rows": 2,
        "max_rows": 8,
        "remaining": 10.0,
        "skipped": 0,
        "order": 0,
    }
    return Waiting(key=key, **{**plain, **changes})


def test_the_head_takes_along_whoever_fits():
    line = [waiting(f"s{i}", order=i) for i in range(6)]
    assert choose(line, {}) == ["s0", "s1", "s2", "s3"]


def test_only_the_heads_group_is_taken():
    line = [waiting("a", group="x", order=0), waiting("b", group="y", order=1), waiting("c", group="x", order=2)]
    assert choose(line, {}) == ["a", "c"]


def test_a_head_larger_than_a_batch_still_runs():
    assert choose([waiting("wide", rows=20)], {}) == ["wide"]


def test_the_least_left_to_do_goes_first():
    assert choose([waiting("long", remaining=50, rows=8), waiting("short", remaining=4, rows=8)], {}) == ["short"]


def test_who_was_served_least_goes_first():
    line = [waiting("a", user="ann", rows=8, remaining=1), waiting("b", user="bo", rows=8, remaining=99)]
    assert choose(line, {"ann": 10, "bo": 2}) == ["b"]


def test_priority_goes_before_everything():
    line = [waiting("low", skipped=1000, remaining=1, rows=8), waiting("high", priority=1, remaining=99, rows=8)]
    assert choose(line, {}) == ["high"]


def test_patience_goes_before_fairness():
    line = [waiting("a", user="ann", rows=8, skipped=24), waiting("b", user="bo", rows=8)]
    assert choose(line, {"ann": 1e6, "bo": 0}, patience=24) == ["a"]
    assert choose(line, {"ann": 1e6, "bo": 0}, patience=25) == ["b"]


LINES = st.lists(
    st.builds(
        waiting,
        key=st.uuids().map(str),
        user=st.sampled_from("abc"),
        priority=st.integers(-1, 1),
        group=st.sampled_from("xyz"),
        rows=st.integers(1, 12),
        remaining=st.floats(0, 100),
        skipped=st.integers(0, 50),
        order=st.integers(0, 99),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(line=LINES)
def test_a_choice_is_one_group_and_fits(line: list[Waiting]):
    by_key = {item.key: item for item in line}
    chosen = [by_key[key] for key in choose(line, {})]
    assert len({item.group for item in chosen}) == 1
    assert len(chosen) == 1 or sum(item.rows for item in chosen) <= chosen[0].max_rows
    assert max(item.priority for item in line) == chosen[0].priority


# --- in the engine ----------------------------------------------------------------------------------------------------


class Counting(FakeExecutor):
    """One row a batch, and a tally of whose row it was (told by the latent's side)."""

    def __init__(self) -> None:
        super().__init__(batch_rows=1, on_batch=self._note)
        self.order: list[int] = []

    def _note(self, calls: Sequence[ModelCall]) -> None:
        self.order.append(calls[0].x.shape[-1])


def test_two_users_get_equal_shares_whatever_they_submit():
    """Ann floods with twenty pictures, Bo has two: while both wait, rows go out evenly."""
    fake, log = Counting(), Log()
    engine = Engine(fake, EngineOptions(patience=10_000))
    for i in range(20):
        engine.submit(f"ann{i}", denoise_only(i, 10, side=4), log, user="ann", expected_calls=10)
    for i in range(2):
        engine.submit(f"bo{i}", denoise_only(i, 10, side=8), log, user="bo", expected_calls=10)
    for _ in range(40):
        engine.tick()
    assert Counter(fake.order) == {4: 20, 8: 20}


def test_a_newcomer_has_no_claim_on_the_past():
    fake, log = Counting(), Log()
    engine = Engine(fake, EngineOptions(patience=10_000))
    engine.submit("ann", denoise_only(1, 200, side=4), log, user="ann", expected_calls=200)
    for _ in range(100):
        engine.tick()
    engine.submit("bo", denoise_only(2, 60, side=8), log, user="bo", expected_calls=60)
    fake.order.clear()
    for _ in range(40):
        engine.tick()
    assert Counter(fake.order) == {4: 20, 8: 20}


def test_a_short_picture_overtakes_a_long_one():
    log = Log()
    engine = Engine(Counting())
    engine.submit("long", denoise_only(1, 50), log, expected_calls=50)
    engine.tick()
    engine.submit("short", denoise_only(2, 4), log, expected_calls=4)
    for _ in range(4):
        engine.tick()
    assert log.ends() == ["short"]


def test_nobody_waits_longer_than_patience_and_the_queue():
    """A long picture against an endless stream of short ones: bounded by patience + Sessions that wait."""
    patience, beside = 12, 5
    ran: defaultdict[str, list[int]] = defaultdict(list)
    ticks = 0

    def session(key: str, steps: int):
        for _ in range(steps):
            yield from denoise_only(1, 1)
            ran[key].append(ticks)

    log = Log()
    engine = Engine(FakeExecutor(batch_rows=1), EngineOptions(patience=patience))
    engine.submit("long", session("long", 10), log, expected_calls=1000)
    for ticks in range(400):
        while len(engine) < beside + 1 and "long" in engine:
            key = f"short{ticks}-{len(engine)}"
            engine.submit(key, session(key, 2), log, expected_calls=2)
        if not engine.tick():
            break
    gaps = [after - before for before, after in zip([0, *ran["long"]], ran["long"], strict=False)]
    assert len(ran["long"]) == 10
    assert max(gaps) <= patience + beside + 1
