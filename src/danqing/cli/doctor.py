"""`danqing doctor`: what is there, what is missing, and how to get it."""

from __future__ import annotations

from typing import Any, cast

import typer

from danqing.cli.failures import FAILED
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.session import open_studio, terminal_of

app = typer.Typer(add_completion=False)


@app.command()
@takes(WorkerOptions)
def doctor(options: WorkerOptions) -> None:
    """Check device, precision, versions, folders and weights; ends with 1 where something is to be done."""
    with open_studio(options) as studio:
        facts = studio.doctor()
    terminal_of(options).result(facts, "\n".join(_lines(facts)))
    if facts.get("problems"):
        raise typer.Exit(FAILED)


def _lines(data: Any, depth: int = 0) -> list[str]:
    pad = "  " * depth
    if isinstance(data, dict):
        lines: list[str] = []
        for name, value in cast("dict[str, Any]", data).items():
            if isinstance(value, (dict, list)) and value:
                lines += [f"{pad}{name}:", *_lines(cast("Any", value), depth + 1)]
            else:
                lines.append(f"{pad}{name}: {_plain(value)}")
        return lines
    if isinstance(data, list):
        return [line for item in cast("list[Any]", data) for line in _item(item, depth)]
    return [f"{pad}{_plain(data)}"]


def _item(item: Any, depth: int) -> list[str]:
    first, *rest = _lines(item, depth + 1) or [""]
    return [f"{'  ' * depth}- {first.strip()}", *rest]


def _plain(value: Any) -> str:
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
