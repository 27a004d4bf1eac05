"""What goes to the terminal: results on stdout, progress and remarks on stderr, no control codes into a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Terminal:
    """Where a command speaks.

    Attributes:
        json: Results are one JSON object.
        quiet: No progress and no remarks.
        error_console: Rich's console on stderr, for progress.
    """

    json: bool = False
    quiet: bool = False
    error_console: Console = field(default_factory=lambda: Console(stderr=True))

    @property
    def shows_progress(self) -> bool:
        """Whether a moving line on stderr reaches a person."""
        return not self.quiet and self.error_console.is_terminal and not self.error_console.is_dumb_terminal

    @property
    def shows_previews(self) -> bool:
        """Whether coloured half blocks can be drawn."""
        colours = self.error_console.color_system in {"256", "truecolor"}
        return self.shows_progress and not self.json and sys.stdout.isatty() and colours

    def remark(self, text: str) -> None:
        """A line for the person, not for a program."""
        if not self.quiet and not self.json:
            typer.echo(text, err=True)

    def result(self, data: dict[str, Any], text: str) -> None:
        """The result: the data as JSON, or the text."""
        if self.json:
            typer.echo(json.dumps(data, ensure_ascii=False, allow_nan=False))
        elif text:
            typer.echo(text)

    def table(self, data: dict[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for a person; tab-separated lines for a pipe; or the data as JSON."""
        if self.json:
            self.result(data, "")
        elif not sys.stdout.isatty():
            typer.echo("\n".join("\t".join(cell.replace("\t", " ") for cell in row) for row in [columns, *rows]))
        else:
            drawn = Table(box=None, header_style="bold", pad_edge=False)
            for column in columns:
                drawn.add_column(column, overflow="ellipsis", no_wrap=True)
            for row in rows:
                drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
            Console().print(drawn)
