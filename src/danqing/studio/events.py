"""The numbered event stream of each job, in memory, bounded: what is overtaken is dropped, nothing else is.

A channel keeps, for each picture, its Record and the newest progress and preview, and the newest event of each state.
So a watcher that is slow, late or gone for a while gets fewer previews, but every Record and the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from danqing.spec.events import Event, PreviewEvent, ProgressEvent, RecordEvent, StateEvent
from danqing.spec.record import FINAL_STATES

Numbered = tuple[int, Event]
_KEPT_CHANNELS = 256


class Channel:
    """The events of one job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.last = 0
        self.state: StateEvent | None = None
        self.watchers = 0
        self.closed = False
        self._entries: dict[tuple[Any, ...], Numbered] = {}
        self._changed = threading.Condition()
        self._wakers: set[Callable[[], None]] = set()

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state is not None and self.state.state in FINAL_STATES

    def publish(self, event: Event) -> None:
        """Number an event and wake the watchers; nothing follows a final state."""
        with self._changed:
            if self.is_final or event == self.state:
                return
            self.last += 1
            self._entries[_key(event)] = (self.last, event)
            if isinstance(event, StateEvent):
                self.state = event
                if self.is_final:
                    self._forget_progress(None)
            elif isinstance(event, RecordEvent):
                self._forget_progress(event.index)
            self._wake()

    def close(self) -> None:
        """Let the watchers go: the studio closes."""
        with self._changed:
            self.closed = True
            self._wake()

    def after(self, number: int) -> list[Numbered]:
        """The kept events with a greater number, in order."""
        with self._changed:
            return sorted((entry for entry in self._entries.values() if entry[0] > number), key=lambda entry: entry[0])

    def wait(self, number: int, timeout_s: float) -> bool:
        """Block until there is an event after `number`; False when the time was up first."""
        with self._changed:
            return self._changed.wait_for(lambda: self.last > number or self.closed, timeout_s)

    async def await_change(self, number: int, timeout_s: float) -> bool:
        """As `wait`, without a thread."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop of a watcher that has gone
                loop.call_soon_threadsafe(woken.set)

        with self._changed:
            if self.last > number or self.closed:
                return True
            self._wakers.add(wake)
        try:
            await asyncio.wait_for(woken.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            with self._changed:
                self._wakers.discard(wake)
        return True

    def _wake(self) -> None:
        self._changed.notify_all()
        for wake in self._wakers:
            wake()

    def _forget_progress(self, index: int | None) -> None:
        """Previews and progress of a finished picture (or of all) are of no use to anyone."""
        for key in [key for key in self._entries if key[0] in ("progress", "preview") and index in (None, key[1])]:
            del self._entries[key]


class Cursor:
    """One watcher's place in a channel.

    Args:
        channel: Has a state already.
        after: The number of the last event that this watcher has seen; 0 for none.
    """

    def __init__(self, channel: Channel, after: int) -> None:
        self.channel = channel
        self.number = after if after <= channel.last else 0  # numbers begin anew when the studio was restarted
        self.ended = False
        self._fresh = True

    def take(self) -> list[Numbered]:
        """What is new; the first time the current state comes first, under the number the watcher already has."""
        fresh, self._fresh = self._fresh, False
        events = self.channel.after(self.number)
        state = self.channel.state
        if fresh and state is not None:
            final = [(max(self.number, self.channel.last), state)] if self.channel.is_final else []
            head = [] if final else [(self.number, state)]
            events = [*head, *(entry for entry in events if not isinstance(entry[1], StateEvent)), *final]
        if events:
            self.number = max(self.number, *(number for number, _ in events), self.channel.last if fresh else 0)
        self.ended = any(isinstance(event, StateEvent) and event.state in FINAL_STATES for _, event in events)
        return events


class EventHub:
    """The channels of all jobs that are live here or watched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: OrderedDict[str, Channel] = OrderedDict()

    def channel(self, job_id: str) -> Channel | None:
        """The channel of a job, if there is one."""
        with self._lock:
            return self._channels.get(job_id)

    def open(self, job_id: str, begin: list[Event]) -> Channel:
        """The channel of a job; a new one begins with these events."""
        with self._lock:
            channel = self._channels.get(job_id)
            if channel is None:
                channel = self._channels[job_id] = Channel(job_id)
                for event in begin:
                    channel.publish(event)
                self._forget_old()
            return channel

    def publish(self, event: Event) -> None:
        """Send an event to the watchers of its job."""
        channel = self.channel(event.job_id)
        if channel is not None:
            channel.publish(event)

    def close(self) -> None:
        """Let every watcher go."""
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.close()

    def _forget_old(self) -> None:
        excess = len(self._channels) - _KEPT_CHANNELS
        if excess > 0:
            old = [job_id for job_id, channel in self._channels.items() if channel.is_final and not channel.watchers]
            for job_id in old[:excess]:
                del self._channels[job_id]


def _key(event: Event) -> tuple[Any, ...]:
    """Events with the same key overtake each other."""
    match event:
        case StateEvent():
            return ("state", event.state)
        case ProgressEvent() | PreviewEvent() | RecordEvent():
            return (event.type, event.index)
