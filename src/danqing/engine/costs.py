"""What a batch costs: seconds by rows, learnt from the times that batches took. No torch, no clock of its own.

For each part of a batch (what its time depends on: model, precision, shape, kind of rows) the table keeps the last
times of every number of rows that ran. Between two of them it draws a line; beyond them t(n) = a + b·n goes on as the
measured ones point, and no further than twice the largest. Before there are two, a prior says how a device gains.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

KEPT_TIMES = 7
"""Of each number of rows; enough for a median that one busy moment does not move."""
SETTLED_TIMES = 3
"""From so many on the first run of a size is no longer asked."""
REACH = 2
"""A number of rows may be tried up to so many times the largest that was measured."""
HOPE = 0.9
"""What a row beyond the measured ones is expected to cost of what the measured ones say, while doubling still pays."""
PAYS = 0.98
"""Doubling pays while a row takes at most this share of the time that it took in half as many."""
STALE_BATCHES = 256
"""Sizes above those in use are tried anew, and memory is trusted again, after so many batches."""
FIRST_STALE_BATCHES = 8
"""The same where a size ran but once, perhaps in a busy moment; twice as many for each time more."""
KEPT_PARTS = 512
"""Parts in the table; the one that was idle longest makes room."""

Load = Mapping[Hashable, int]
"""Rows of a batch by part."""


@dataclass(frozen=True)
class Part:
    """Rows that are computed as one batch.

    Attributes:
        key: What their time depends on; rows with equal keys are computed together.
        rows: How many.
        half_rows: Rows at which, before anything is measured, half of the time is supposed to be the batch's own.
    """

    key: Hashable
    rows: int
    half_rows: float


@dataclass
class _Size:
    """The times of one number of rows.

    Attributes:
        first_s: Of the first run, for which kernels were chosen and graphs compiled: counts only against slower ones.
        times_s: Of the last others, newest at the end.
        seen: How many batches of the part had run when this size ran last.
    """

    first_s: float
    times_s: deque[float] = field(default_factory=lambda: deque[float](maxlen=KEPT_TIMES))
    seen: int = 0

    @property
    def typical_s(self) -> float:
        """Their lower median: other programs on the machine only ever add to a time."""
        middle_s = sorted(self.times_s)[(len(self.times_s) - 1) // 2]
        return middle_s if len(self.times_s) >= SETTLED_TIMES else min(middle_s, self.first_s)


@dataclass
class _Curve:
    """Seconds by rows of one part."""

    half_rows: float
    sizes: dict[int, _Size] = field(default_factory=dict[int, _Size])
    batches: int = 0
    too_many: int | None = None
    too_many_since: int = 0
    _rows: list[int] = field(default_factory=list[int])
    _seconds: list[float] = field(default_factory=list[float])

    def learn(self, rows: int, seconds: float) -> None:
        self.batches += 1
        size = self.sizes.get(rows)
        if size is None:
            size = self.sizes[rows] = _Size(seconds)
        else:
            size.times_s.append(seconds)
        size.seen = self.batches
        if self.too_many is not None and self.too_many_since < self.batches - STALE_BATCHES:
            self.too_many = None
        self._rows = sorted(n for n, one in self.sizes.items() if one.times_s and (n <= rows or self._holds(one)))
        self._seconds = [self.sizes[n].typical_s for n in self._rows]

    def _holds(self, size: _Size) -> bool:
        """Whether a size above the one in use need not be tried again yet: the surer, the longer it holds."""
        return self.batches - size.seen <= min(FIRST_STALE_BATCHES << len(size.times_s), STALE_BATCHES)

    def refuse(self, rows: int) -> None:
        self.too_many, self.too_many_since = min(rows, self.too_many or rows), self.batches

    def seconds(self, rows: int) -> float | None:
        """Of so many rows; None where nothing near is measured, or where memory did not suffice."""
        known = self._rows
        if not known or rows > REACH * known[-1] or (self.too_many is not None and rows >= self.too_many):
            return None
        at = bisect_left(known, rows)
        if at < len(known) and known[at] == rows:
            return self._seconds[at]
        if at == 0:
            return self._below(rows)
        if at == len(known):
            return self._beyond(rows)
        low, high, share = known[at - 1], known[at], self._seconds[at - 1]
        return share + (self._seconds[at] - share) * (rows - low) / (high - low)

    def _prior(self, rows: int) -> float:
        """The prior's shape, a + b·n with a = b·half_rows."""
        return self.half_rows + rows

    def _below(self, rows: int) -> float:
        """Fewer rows than were measured: never more than those took, nor less than their share of it."""
        most, most_s = self._rows[0], self._seconds[0]
        if len(self._rows) == 1:
            return most_s * self._prior(rows) / self._prior(most)
        slope = (self._seconds[1] - most_s) / (self._rows[1] - most)
        return min(max(most_s - slope * (most - rows), most_s * rows / most), most_s)

    def _beyond(self, rows: int) -> float:
        """More rows than were measured."""
        most, most_s = self._rows[-1], self._seconds[-1]
        if len(self._rows) == 1:
            return most_s * self._prior(rows) / self._prior(most)
        # Against half as many, not against the next smaller one: between neighbours noise is larger than the slope.
        at = max(bisect_left(self._rows, most // 2 + 1) - 1, 0)
        fewer, fewer_s = self._rows[at], self._seconds[at]
        slope = max((most_s - fewer_s) / (most - fewer), 0.0)
        pays = most_s / most <= PAYS * fewer_s / fewer
        return most_s + (HOPE if pays else 1.0) * slope * (rows - most)


class Costs:
    """The table of one executor. Empty at every start: a few batches fill it, and yesterday's load is not today's."""

    def __init__(self) -> None:
        self._curves: OrderedDict[Hashable, _Curve] = OrderedDict()

    def learn(self, parts: Iterable[Part], seconds: float) -> None:
        """Take note of a batch that ran.

        Where it had several parts, each is given its share by what was expected of it.

        Args:
            parts: Of all its Calls.
            seconds: What it took; nothing is learnt of a clock that stood still.
        """
        parts = list(parts)
        if seconds <= 0 or not parts:
            return
        load = load_of(parts)
        for part in parts:
            self._curves.setdefault(part.key, _Curve(part.half_rows))
            self._curves.move_to_end(part.key)
        while len(self._curves) > max(KEPT_PARTS, len(load)):
            self._curves.popitem(last=False)
        expected = {key: self._curves[key].seconds(rows) for key, rows in load.items()}
        if any(one is None for one in expected.values()):
            expected = dict(load)
        total = sum(one or 0.0 for one in expected.values())
        for key, rows in load.items():
            self._curves[key].learn(rows, seconds * (expected[key] or 0.0) / total)

    def refuse(self, parts: Iterable[Part]) -> None:
        """Take note of a batch that did not fit into memory: as many rows are not tried again for a while."""
        for key, rows in load_of(parts).items():
            if key in self._curves:
                self._curves[key].refuse(rows)

    def seconds(self, load: Load) -> float | None:
        """What a batch would take; None where nothing near it was measured, or where it did not fit.

        Args:
            load: Its rows by part; a batch of nothing takes no time.
        """
        total = 0.0
        for key, rows in load.items():
            curve = self._curves.get(key)
            one = None if curve is None else curve.seconds(rows)
            if one is None:
                return None
            total += one
        return total

    def table(self, key: Hashable) -> dict[int, float]:
        """Seconds by rows of a part, as far as they were measured."""
        curve = self._curves.get(key)
        return {} if curve is None else {n: one.typical_s for n, one in sorted(curve.sizes.items()) if one.times_s}


def load_of(parts: Iterable[Part]) -> dict[Hashable, int]:
    """Rows by part."""
    load: dict[Hashable, int] = {}
    for part in parts:
        load[part.key] = load.get(part.key, 0) + part.rows
    return load
