"""Which Calls run next: fairness between users, short work first, nobody starves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine_sessions import Log, denoise_only
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.engine import Engine, EngineOptions
from danqing.engine.calls import ModelCall
from danqing.engine.costs import Load, Part, load_of
from danqing.engine.fake import FakeExecutor
from danqing.engine.policy import EQUALS, SLOWDOWN, Seconds, Waiting, choose


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


# --- by what batches cost ---------------------------------------------------------------------------------------------


def costed(key: str, **changes) -> Waiting:
    """Two rows of one part, of a batch of 64."""
    item = waiting(key, **{"max_rows": 64, **changes})
    return replace(item, parts=(Part(item.group, item.rows, 16.0),))


def by(curve: Callable[[int], float | None]) -> Seconds:
    """The cost of a batch of one part."""
    return lambda load: curve(sum(load.values()))


def test_where_a_batch_costs_what_its_rows_cost_nobody_joins():
    line = [costed(f"s{i}", order=i, user=str(i)) for i in range(6)]
    assert choose(line, {}, seconds=by(lambda rows: 1.0 * rows)) == ["s0"]


def test_where_rows_cost_nothing_everybody_joins():
    line = [costed(f"s{i}", order=i, user=str(i)) for i in range(6)]
    assert choose(line, {}, seconds=by(lambda rows: 1.0)) == [f"s{i}" for i in range(6)]


def test_the_smallest_of_equally_good_companies_is_taken():
    """Eight rows and more are computed in eights: 16 gain nothing over 8."""
    line = [costed(f"s{i}", order=i, user=str(i)) for i in range(8)]
    assert choose(line, {}, seconds=by(lambda rows: -(-rows // 8))) == ["s0", "s1", "s2", "s3"]


def test_what_was_never_measured_runs_alone_and_nobody_joins_out_of_reach():
    line = [costed(f"s{i}", order=i) for i in range(4)]
    assert choose(line, {}, seconds=by(lambda rows: None)) == ["s0"]
    assert choose(line, {}, seconds=by(lambda rows: 1.0 if rows <= 4 else None)) == ["s0", "s1"]


def test_longer_work_of_the_same_user_slows_a_short_one_down_by_twice_at_most():
    curve = by(lambda rows: 4.0 + 0.5 * rows)
    long = [costed(f"long{i}", remaining=50, order=i) for i in range(8)]
    chosen = choose([*long, costed("draft", remaining=4)], {}, seconds=curve)
    assert chosen == ["draft", "long0", "long1", "long2", "long3"], "9 s for 5 s alone"
    assert len(choose(long, {}, seconds=curve)) == 8, "equals end together no later than in turns"


def test_users_may_slow_each_other_down_as_far_as_taking_turns_would():
    curve = by(lambda rows: 4.0 + 0.5 * rows)
    line = [costed(f"long{i}", remaining=50, user=f"u{i}", order=i) for i in range(8)]
    assert len(choose([*line, costed("draft", remaining=4, user="me")], {}, seconds=curve)) == 9


def test_who_shares_no_part_of_the_batch_does_not_join():
    line = [costed("a"), replace(costed("b", order=1), parts=(Part("other", 2, 16.0),)), costed("c", order=2)]
    assert choose(line, {}, seconds=by(lambda rows: 1.0)) == ["a", "c"]


def test_a_head_without_parts_takes_along_whoever_fits():
    line = [waiting(f"s{i}", order=i) for i in range(6)]
    assert choose(line, {}, seconds=by(lambda rows: 1.0 * rows)) == ["s0", "s1", "s2", "s3"]


CURVE_POINTS = st.lists(st.none() | st.floats(0.01, 100), min_size=80, max_size=80)


def curve_of(points: list[float | None]) -> Seconds:
    return lambda load: sum(points[rows] for rows in load.values()) if load_fits(points, load) else None


def load_fits(points: list[float | None], load: Load) -> bool:
    return all(rows < len(points) and points[rows] is not None for rows in load.values())


@st.composite
def costed_lines(draw: st.DrawFn) -> list[Waiting]:
    """Lines of every kind; some Calls have rows of two parts, some have none."""
    found, rows = list[Waiting](), draw(st.sampled_from([8, 64]))
    for index, item in enumerate(draw(LINES)):
        shares = draw(st.sampled_from([(), (1,), (1, 1), (0, 1)]))
        parts = tuple(Part((item.group, kind), item.rows, 16.0) for kind, share in enumerate(shares) if share)
        found.append(replace(item, key=f"{index}", max_rows=rows, parts=parts))
    return found


@settings(deadline=None)
@given(line=costed_lines(), points=CURVE_POINTS, served=st.dictionaries(st.sampled_from("abc"), st.floats(0, 100)))
def test_whatever_batches_cost_the_bounds_hold(line: list[Waiting], points: list[float | None], served: dict):
    """The head is served; a batch is of one group and within its rows; company delays nobody beyond the bound."""
    by_key, seconds = {item.key: item for item in line}, curve_of(points)
    chosen = [by_key[key] for key in choose(line, served, seconds=seconds)]
    head, company = chosen[0], chosen[1:]
    assert head.key == choose(line, served)[0], "who is most urgent is not a question of cost"
    assert len(set(by_key) & {item.key for item in chosen}) == len(chosen)
    assert {item.group for item in chosen} == {head.group}
    assert not company or sum(item.rows for item in chosen) <= head.max_rows
    if company and head.parts:
        together_s = seconds(load_of(part for item in chosen for part in item.parts))
        alone_s = [seconds(load_of(item.parts)) for item in chosen]
        assert together_s <= sum(alone_s) * (1 + 1e-9), "no slower than one after the other"
        if any(item.remaining > EQUALS * head.remaining for item in company):
            users = len({item.user for item in chosen})
            assert together_s <= max(SLOWDOWN, users) * alone_s[0] * (1 + 1e-9)


@settings(deadline=None)
@given(line=costed_lines(), points=CURVE_POINTS, data=st.data())
def test_the_order_in_which_sessions_are_listed_changes_nothing(line: list[Waiting], points, data: st.DataObject):
    shuffled = data.draw(st.permutations(line))
    assert choose(line, {}, seconds=curve_of(points)) == choose(shuffled, {}, seconds=curve_of(points))
    assert choose(line, {}) == choose(shuffled, {})


@settings(deadline=None, max_examples=50)
@given(line=costed_lines(), points=CURVE_POINTS)
def test_nobody_starves_whatever_batches_cost(line: list[Waiting], points: list[float | None]):
    """Of one priority everybody runs within patience and one turn of each of the others."""
    patience, line = 6, [replace(item, priority=0, skipped=0) for item in line]
    served: defaultdict[str, float] = defaultdict(float)
    for _ in range(4 * (patience + len(line))):
        chosen = set(choose(line, served, patience=patience, seconds=curve_of(points)))
        for item in line:
            served[item.user] += item.rows if item.key in chosen else 0
        line = [replace(item, skipped=0 if item.key in chosen else item.skipped + 1) for item in line]
        assert max(item.skipped for item in line) <= patience + len(line)


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
