"""Following what happens in projects, also what other processes of the studio write: one look for all watchers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable

from danqing.spec.errors import DanqingError
from danqing.spec.share import ProjectEvent
from danqing.store.projects_base import ProjectsStore

LOOK_S = 0.25
_KEPT = 4096
_PAGE = 500


class Feed:
    """Looks into the store for new events, while anybody watches, and wakes the watchers.

    Args:
        store: Where the events are.
    """

    def __init__(self, store: ProjectsStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._wakers: set[Callable[[], None]] = set()
        self._recent: deque[ProjectEvent] = deque(maxlen=_KEPT)
        self._since = 0  # events with a greater number are in `_recent`, unless they were pushed out of it
        self._last = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    async def follow(self, project_id: str, after: int) -> AsyncGenerator[ProjectEvent]:
        """The events of a project behind a number (-1: from now on), as they come; ends when the feed closes."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop of a watcher that has gone
                loop.call_soon_threadsafe(woken.set)

        seen = await asyncio.to_thread(self._store.last_event) if after < 0 else after
        try:
            await asyncio.to_thread(self._enter, wake)
            while not self._stop.is_set():
                woken.clear()
                events, more, known = self._kept(seen), False, self._last
                if events is None:  # longer ago than what is kept here
                    events = await asyncio.to_thread(self._store.events, seen, project_id=project_id, limit=_PAGE)
                    more = len(events) == _PAGE
                for event in events:
                    seen = event.number
                    if event.project == project_id:
                        yield event
                if not more:
                    seen = max(seen, known)
                    await woken.wait()
        finally:
            self._leave(wake)

    def close(self) -> None:
        """Let every watcher go."""
        self._stop.set()
        with self._lock:
            wakers, thread = list(self._wakers), self._thread
        for wake in wakers:
            wake()
        if thread is not None:
            thread.join(timeout=5)

    def _kept(self, after: int) -> list[ProjectEvent] | None:
        """The events behind a number, of all projects; None if not all of them are kept here."""
        with self._lock:
            oldest = self._recent[0].number - 1 if len(self._recent) == _KEPT else self._since
            if after < oldest:
                return None
            return [event for event in self._recent if event.number > after]

    def _enter(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakers.add(wake)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._look, name="project-events", daemon=True)
                self._recent.clear()
                self._since = self._last = self._store.last_event()
                self._thread.start()

    def _leave(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakers.discard(wake)

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            with self._lock:
                if not self._wakers:
                    self._thread = None
                    return
            try:
                fresh = self._store.events(self._last, limit=_PAGE)
            except DanqingError:  # a database that is busy or gone for a moment: the next look finds what came
                continue
            if not fresh:
                continue
            with self._lock:
                self._recent.extend(fresh)
                self._last = fresh[-1].number
                wakers = list(self._wakers)
            for wake in wakers:
                wake()
