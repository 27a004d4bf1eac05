"""What a run tells: a line of JSON for each event, appended to `events.jsonl`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from danqing.spec.training_run import RUN_EVENT, NoteEvent, RunEvent

FILE = "events.jsonl"


class EventLog:
    """The run's events. A line that a kill cut in half is closed, so that readers only lose that one.

    Args:
        folder: The run's; None tells nobody (estimates, tests).
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if _is_torn(self._path):
                self._append("\n")

    def tell(self, event: RunEvent) -> None:
        """Append an event."""
        self._append(RUN_EVENT.dump_json(event).decode() + "\n")

    def note(self, words: str) -> None:
        """Something a person should know."""
        self.tell(NoteEvent(words=words))

    def _append(self, text: str) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as handle:
                handle.write(text)


def _is_torn(path: Path) -> bool:
    """Whether a file's last line has no end."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as handle:
        handle.seek(-1, 2)
        return handle.read(1) != b"\n"


def read_events(folder: Path) -> list[RunEvent]:
    """Every event of a run so far; halves of lines are passed over."""
    path = folder / FILE
    found: list[RunEvent] = []
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(RUN_EVENT.validate_json(line))
        except ValueError:
            continue
    return found


def now() -> datetime:
    """The moment, with its zone."""
    return datetime.now(UTC)
