"""Following the events of a job, in a thread or in a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from danqing.studio.events import Channel, Cursor, Numbered

POLL_S = 0.5


@dataclass(frozen=True)
class Watching:
    """How to follow.

    Args:
        after: The last number this watcher has seen.
        timeout_s: Stop quietly after this time.
        poll: Called when nothing came for a while: a job that another process runs is seen through the database.
    """

    after: int
    timeout_s: float | None
    poll: Callable[[Channel], None]


def follow(channel: Channel, watching: Watching) -> Iterator[Numbered]:
    """Events until the job has ended, the studio closes or the time is up."""
    cursor, deadline = Cursor(channel, watching.after), _deadline(watching)
    while True:
        yield from cursor.take()
        left_s = min(POLL_S, deadline - time.monotonic())
        if cursor.ended or channel.closed or left_s <= 0:
            return
        if not channel.wait(cursor.number, left_s):
            watching.poll(channel)


async def afollow(channel: Channel, watching: Watching) -> AsyncIterator[Numbered]:
    """As `follow`, without a thread."""
    cursor, deadline = Cursor(channel, watching.after), _deadline(watching)
    while True:
        for item in cursor.take():
            yield item
        left_s = min(POLL_S, deadline - time.monotonic())
        if cursor.ended or channel.closed or left_s <= 0:
            return
        if not await channel.await_change(cursor.number, left_s):
            await asyncio.to_thread(watching.poll, channel)


def _deadline(watching: Watching) -> float:
    return float("inf") if watching.timeout_s is None else time.monotonic() + watching.timeout_s
