"""What a Studio does by itself: heartbeat, jobs cancelled elsewhere, jobs of dead processes, purging."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from danqing.spec.errors import DanqingError

_log = logging.getLogger(__name__)


@dataclass
class Chore:
    """Something done every `every_s` seconds; `apart` gives it a thread of its own, for it may take long."""

    name: str
    every_s: float
    work: Callable[[], object]
    due_at: float = 0.0
    apart: bool = False


class Keeper:
    """A thread that does the chores; a chore that fails is logged and done again at its next time.

    Args:
        chores: Done in this order when several are due.
    """

    def __init__(self, chores: list[Chore]) -> None:
        self._chores = chores
        self._stop = threading.Event()
        groups = [[chore for chore in chores if not chore.apart], *([chore] for chore in chores if chore.apart)]
        self._threads = [
            threading.Thread(target=self._run, args=(group,), name="danqing-keeper", daemon=True)
            for group in groups
            if group
        ]

    def start(self) -> None:
        """Begin; the first round comes after each chore's own time."""
        now = time.monotonic()
        for chore in self._chores:
            chore.due_at = now + chore.every_s
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop.set()

    def close(self) -> None:
        """Stop after the chore at hand."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self, chores: list[Chore]) -> None:
        while not self._stop.wait(max(0.0, min(chore.due_at for chore in chores) - time.monotonic())):
            for chore in chores:
                now = time.monotonic()
                if chore.due_at <= now and not self._stop.is_set():
                    chore.due_at = now + chore.every_s
                    self._do(chore)

    def _do(self, chore: Chore) -> None:
        try:
            chore.work()
        except (DanqingError, OSError) as error:
            _log.warning("%s: %s", chore.name, error)
