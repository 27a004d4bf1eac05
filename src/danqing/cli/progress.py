"""A moving line with step, ETA and, where the terminal can, a preview."""

from __future__ import annotations

import base64
import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.style import Style
from rich.text import Text

from danqing.cli.terminal import Terminal
from danqing.spec.events import PreviewEvent, ProgressEvent, RecordEvent, StateEvent

PREVIEW_COLUMNS = 40
PREVIEW_ROWS = 16
UPPER_HALF = "▀"


def half_blocks(picture: bytes, columns: int = PREVIEW_COLUMNS, rows: int = PREVIEW_ROWS) -> Text:
    """A picture as coloured half blocks, two pixels a character.

    Args:
        picture: Bytes of a PNG, JPEG or WebP picture.
        columns: At most this wide, in characters.
        rows: At most this high, in lines.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    scale = min(columns / image.width, rows * 2 / image.height)
    width, height = max(1, round(image.width * scale)), max(2, round(image.height * scale) // 2 * 2)
    pixels = image.resize((width, height), Image.Resampling.BOX).tobytes()
    text = Text()
    for top in range(0, height, 2):
        for left in range(width):
            upper, lower = ((row * width + left) * 3 for row in (top, top + 1))
            style = Style(color=_hex(pixels, upper), bgcolor=_hex(pixels, lower))
            text.append(UPPER_HALF, style)
        text.append("\n")
    return text


def _hex(pixels: bytes, place: int) -> str:
    return f"#{pixels[place : place + 3].hex()}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(75), duration(4.2), duration(None)
    ('1:15', '4 s', '?')
    """
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}" if whole >= 60 else f"{whole} s"


@dataclass
class JobView:
    """Shows events; the plain one shows nothing."""

    def show(self, event: StateEvent | ProgressEvent | PreviewEvent | RecordEvent) -> None:
        """Take in one event."""

    def say(self, text: str) -> None:
        """Replace the words beside the bar."""

    def add_finished(self, pictures: int) -> None:
        """Count pictures of a job that is done."""


@dataclass
class LiveView(JobView):
    """A bar that moves, on a terminal."""

    live: Live
    bar: Progress
    task: TaskID
    previews: bool
    pictures: int | None
    finished: int = 0
    preview: Text | None = field(default=None)

    def show(self, event: StateEvent | ProgressEvent | PreviewEvent | RecordEvent) -> None:
        """Move the bar."""
        if isinstance(event, StateEvent):
            waiting = f" behind {event.position}" if event.position else ""
            self.say(f"{event.state}{waiting}")
        elif isinstance(event, ProgressEvent):
            words = f"{event.stage} · picture {event.index + 1} · step {event.step}/{event.steps}"
            if self.pictures:
                self.bar.update(self.task, completed=(self.finished + event.fraction) / self.pictures)
                self.say(f"{self.finished}/{self.pictures} painted · step {event.step}/{event.steps}")
            else:
                self.bar.update(self.task, completed=event.fraction)
                self.say(f"{words} · {duration(event.eta_s)} left")
        elif isinstance(event, PreviewEvent) and self.previews:
            self.preview = half_blocks(base64.b64decode(event.data_base64))
            self.live.update(self._drawing())

    def say(self, text: str) -> None:
        """Replace the words beside the bar."""
        self.bar.update(self.task, description=text)

    def add_finished(self, pictures: int) -> None:
        """Count pictures of a job that is done."""
        self.finished += pictures
        self.bar.update(self.task, completed=self.finished / (self.pictures or self.finished))

    def _drawing(self) -> RenderableType:
        return self.bar if self.preview is None else Group(self.preview, self.bar)


@contextmanager
def open_view(terminal: Terminal, pictures: int | None = None) -> Generator[JobView, None, None]:
    """A view for the length of a job; it leaves nothing behind on the terminal.

    Args:
        terminal: Where to show it.
        pictures: How many pictures several jobs paint together; None for one job.
    """
    if not terminal.shows_progress:
        yield JobView()
        return
    bar = Progress(BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    task = bar.add_task("starting", total=1.0)
    with Live(bar, console=terminal.error_console, transient=True, refresh_per_second=8) as live:
        yield LiveView(live, bar, task, terminal.shows_previews, pictures)
