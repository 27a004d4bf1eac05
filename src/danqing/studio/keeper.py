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
    """Something done every `every_s` seconds."""

    name: str
    every_s: float
    work: Callable[[], object]
    due_at: float = 0.0


class Keeper:
    """One thread that does the chores; a chore that fails is logged and done again at its next time.

    Args:
        chores: Done in this order when several are due.
    """

    def __init__(self, chores: list[Chore]) -> None:
        self._chores = chores
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="danqing-keeper", daemon=True)

    def start(self) -> None:
        """Begin; the first round comes after each chore's own time."""
        now = time.monotonic()
        for chore in self._chores:
            chore.due_at = now + chore.every_s
        self._thread.start()

    def close(self) -> None:
        """Stop after the chore at hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(max(0.0, min(chore.due_at for chore in self._chores) - time.monotonic())):
            for chore in self._chores:
                now = time.monotonic()
                if chore.due_at <= now and not self._stop.is_set():
                    chore.due_at = now + chore.every_s
                    self._do(chore)

    def _do(self, chore: Chore) -> None:
        try:
            chore.work()
        except (DanqingError, OSError) as error:
            _log.warning("%s: %s", chore.name, error)
