"""Which Calls run next: plain data in, plain data out, in one place.

A lone user gets everything. Several users get equal shares of rows (deficit round robin: who was served least goes
first). Among the Sessions of one user the one with the least left to do goes first, so that a 4-step draft is never
stuck behind a 50-step picture; what a Session needs before its first step goes before any step, so that a newcomer can
share the next one; a Session passed over for `patience` ticks goes before all of its priority, so that
none starves.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


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


def choose(waiting: Sequence[Waiting], served: dict[str, float], *, patience: int = 24) -> list[str]:
    """Keys of the Sessions to run together now: the most urgent one and whoever fits beside it.

    Args:
        waiting: All Sessions that wait for an answer; not empty.
        served: Rows each user has been given so far.
        patience: Ticks after which a passed-over Session goes first.
    """

    def urgency(item: Waiting) -> tuple[float, ...]:
        starving = item.skipped >= patience
        return (
            -item.priority,
            0.0 if starving else 1.0,
            float(-item.skipped) if starving else 0.0,
            0.0 if item.prelude else 1.0,
            served.get(item.user, 0.0),
            item.remaining,
            float(item.order),
        )

    ranked = sorted(waiting, key=urgency)
    head = ranked[0]
    keys = [head.key]
    rows = head.rows
    for item in ranked[1:]:
        if item.group == head.group and rows + item.rows <= head.max_rows:
            keys.append(item.key)
            rows += item.rows
    return keys
