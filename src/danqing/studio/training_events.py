"""What a trainer tells: the lines of `events.jsonl`, numbered from 1, as they grow."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from danqing.spec.training_run import RUN_EVENT, EndEvent, RunEvent

EVENTS_FILE = "events.jsonl"
REQUEST_FILE = "request.json"
LOG_FILE = "trainer.log"
SAMPLES = "samples"
_READ_BYTES = 4 * 1024 * 1024

NumberedRunEvent = tuple[int, RunEvent]


class EventTail:
    """Follows the events of a run; a line counts once it is whole.

    Args:
        folder: The run's.
        after: The number of the last line that was seen.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        self._path = folder / EVENTS_FILE
        self._after = after
        self._place = 0
        self._rest = b""
        self.number = 0

    def take(self) -> list[NumberedRunEvent]:
        """What is new. A line that is no event (a kill cut it in half) keeps its number and is left out."""
        found: list[NumberedRunEvent] = []
        while lines := self._lines():
            for line in lines:
                self.number += 1
                if self.number <= self._after:
                    continue
                event = _parsed(line)
                if event is not None:
                    found.append((self.number, event))
        return found

    def _lines(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                data = file.read(_READ_BYTES)
        except FileNotFoundError:
            return []
        self._place += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def last_end(folder: Path) -> EndEvent | None:
    """How the trainer ended last; None if it has told something since, or nothing yet."""
    told = [event for _, event in EventTail(folder).take() if event.type in ("start", "step", "end")]
    return told[-1] if told and isinstance(told[-1], EndEvent) else None


def add_event(folder: Path, event: RunEvent) -> None:
    """Append a line of the studio's own; only while no trainer runs."""
    path = folder / EVENTS_FILE
    torn = False
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, 2)
            torn = file.read(1) != b"\n"
    with path.open("ab") as file:
        file.write(b"\n" * torn + RUN_EVENT.dump_json(event) + b"\n")


def _parsed(line: bytes) -> RunEvent | None:
    try:
        return RUN_EVENT.validate_json(line)
    except ValidationError:
        return None
