"""Which Calls run next: plain data in, plain data out, in one place.

A lone user gets everything. Several users get equal shares of rows (deficit round robin: who was served least goes
first). Among the Sessions of one user the one with the least left to do goes first, so that a 4-step draft is never
stuck behind a 50-step picture; what a Session needs before its first step goes before any step, so that a newcomer can
share the next one; a Session passed over for `patience` ticks goes before all of its priority, so that
none starves.

Who joins the most urgent one is a question of cost. The smallest company is taken with which all that wait are served
within `THRIFT` of the best time: where batches gain nothing, nobody joins. Companions that have much more left to
do than it has may slow its step down to what taking turns between the users in the batch would make of it, or by
`SLOWDOWN`, and no further.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from danqing.engine.costs import Load, Part, load_of

THRIFT = 0.03
"""Throughput that a smaller batch may cost, since everybody's next step comes sooner."""
SLOWDOWN = 2.0
"""How many times as long as alone a step may take for longer work of the same user."""
EQUALS = 2.0
"""Who has at most so many times as much left is an equal: together they end no later than one after the other."""

Seconds = Callable[[Load], float | None]
"""What a batch of so many rows by part would take; None where it shall not be tried."""


@dataclass(frozen=True)
class Waiting:
    """One Session waiting for an answer.

    Attributes:
        key: The Session.
        user: Whose it is.
        priority: Higher goes first.
        group: What it can share a batch with.
        rows: Rows it takes.
        max_rows: Most rows of such a batch.
        remaining: Estimated model calls to its end.
        skipped: Ticks since it last ran.
        order: When it was submitted.
        prelude: Whether this Call only prepares steps (facts, text, the init picture).
        parts: What its time depends on; empty where that is of no account, and all that fits is taken.
    """

    key: str
    user: str
    priority: int
    group: Hashable
    rows: int
    max_rows: int
    remaining: float
    skipped: int
    order: int
    prelude: bool = False
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class _Company:
    """The head and its first companions, and what they would cost.

    Attributes:
        count: Sessions, the head included.
        seconds: Of the batch.
        gain: How many times as fast as one after the other.
        bound: Times as long as alone that the head's step may take.
    """

    count: int
    seconds: float
    gain: float
    bound: float

    @property
    def pays(self) -> bool:
        """Whether it is no slower than one after the other."""
        return self.gain >= 1.0


def choose(
    waiting: Sequence[Waiting], served: dict[str, float], *, patience: int = 24, seconds: Seconds | None = None
) -> list[str]:
    """Keys of the Sessions to run together now: the most urgent one and whoever is worth taking along.

    Args:
        waiting: All Sessions that wait for an answer; not empty.
        served: Rows each user has been given so far.
        patience: Ticks after which a passed-over Session goes first.
        seconds: What batches cost; without it all that fits is taken.
    """

    def urgency(item: Waiting) -> tuple[float | str, ...]:
        starving = item.skipped >= patience
        return (
            -item.priority,
            0.0 if starving else 1.0,
            float(-item.skipped) if starving else 0.0,
            0.0 if item.prelude else 1.0,
            served.get(item.user, 0.0),
            item.remaining,
            float(item.order),
            item.key,
        )

    ranked = sorted(waiting, key=urgency)
    if seconds is None or not ranked[0].parts:
        return [item.key for item in _that_fit(ranked)]
    return _worth_it(ranked, seconds)


def _that_fit(ranked: Sequence[Waiting]) -> Iterator[Waiting]:
    """The head and whoever fits beside it."""
    head = ranked[0]
    rows = 0
    for item in ranked:
        if item is head or (item.group == head.group and rows + item.rows <= head.max_rows):
            rows += item.rows
            yield item


def _worth_it(ranked: Sequence[Waiting], seconds: Seconds) -> list[str]:
    """The head and the smallest company that is about as good as any."""
    head = ranked[0]
    alone_s = seconds(load_of(head.parts))
    if alone_s is None:
        return [head.key]
    keys, companies = [head.key], [_Company(1, alone_s, 1.0, 1.0)]
    for item, company in _companies(ranked, alone_s, seconds):
        keys.append(item.key)
        companies.append(company)
    gains = {one.count: _of_all(one, companies) for one in companies if one.pays and one.seconds <= one.bound * alone_s}
    enough = (1.0 - THRIFT) * max(gains.values())
    return keys[: next(count for count, gain in gains.items() if gain >= enough)]


def _of_all(company: _Company, companies: Sequence[_Company]) -> float:
    """The gain of serving all that wait in such companies, the last one being what is left over."""
    left_over = len(companies) % company.count
    share = left_over / len(companies)
    return 1.0 / ((1.0 - share) / company.gain + (share / companies[left_over - 1].gain if left_over else 0.0))


def _companies(ranked: Sequence[Waiting], alone_s: float, seconds: Seconds) -> Iterator[tuple[Waiting, _Company]]:
    """Each companion in the order of urgency, and the company that it makes with those before it."""
    head = ranked[0]
    kinds = {part.key for part in head.parts}
    load, rows, count, work_s = load_of(head.parts), head.rows, 1, alone_s
    users, equals = {head.user}, True
    for item in ranked[1:]:
        # Rows of another kind are computed on their own: their Sessions gain nothing by being told together.
        alike = item.group == head.group and not kinds.isdisjoint(part.key for part in item.parts)
        if not alike or rows + item.rows > head.max_rows:
            continue
        own = load_of(item.parts)
        more = load | {key: load.get(key, 0) + n for key, n in own.items()}
        own_s, together_s = seconds(own), seconds(more)
        if own_s is None or together_s is None:
            continue
        load, rows, count, work_s = more, rows + item.rows, count + 1, work_s + own_s
        users.add(item.user)
        equals = equals and item.remaining <= EQUALS * head.remaining
        bound = float("inf") if equals else max(SLOWDOWN, len(users))
        yield item, _Company(count, together_s, work_s / together_s, bound)
