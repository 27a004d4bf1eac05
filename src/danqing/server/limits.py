"""How much one share may ask for: a bucket of permissions that fills again with time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass

from danqing.studio.sharing import TooManyError

_KEPT = 10_000


@dataclass(frozen=True)
class Rate:
    """So many at once, then so many each second."""

    burst: int
    per_s: float


@dataclass(frozen=True)
class ShareLimits:
    """What is asked of one share by all its clients together, in this process.

    Attributes:
        reads: State, pictures, thumbnails.
        writes: Reviews.
        unlocks: Tries at the password (the store counts the wrong ones too, across processes).
        streams: Open event streams.
    """

    reads: Rate = Rate(3000, 300.0)
    writes: Rate = Rate(120, 10.0)
    unlocks: Rate = Rate(20, 1.0)
    streams: int = 250


class Buckets:
    """A bucket for each key; the least lately used are forgotten.

    Args:
        rate: How fast they fill.
        clock: Seconds that only grow.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """TooManyError, with the time to wait, if the bucket is empty."""
        with self._lock:
            now = self._clock()
            level, since = self._levels.pop(key, (float(self._rate.burst), now))
            level = min(float(self._rate.burst), level + (now - since) * self._rate.per_s)
            enough = level >= 1
            self._levels[key] = (level - 1 if enough else level, now)
            if len(self._levels) > _KEPT:
                self._levels.popitem(last=False)
        if not enough:
            raise TooManyError("too many requests for this link", wait_s=(1 - level) / self._rate.per_s)


class Pages:
    """What many clients ask for at once, made once for each state of a share.

    Args:
        size: How many are kept; the least lately used are forgotten.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, str] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], str]) -> str:
        """The text under this key, made if it is not there."""
        with self._lock:
            text = self._kept.get(key)
            if text is not None:
                self._kept.move_to_end(key)
                return text
        text = make()
        with self._lock:
            self._kept[key] = text
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return text


class Seats:
    """So many at the same time for each key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def check(self, key: str) -> None:
        """TooManyError if there is no place."""
        with self._lock:
            if self._taken.get(key, 0) >= self._limit:
                raise TooManyError("too many are watching this link", wait_s=30.0)

    @contextmanager
    def seat(self, key: str) -> Generator[None]:
        """A place for as long as the block runs."""
        with self._lock:
            self._taken[key] = self._taken.get(key, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[key] -= 1
                if not self._taken[key]:
                    del self._taken[key]
