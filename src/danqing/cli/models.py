"""`danqing models`: what can paint."""

from __future__ import annotations

import typer

from danqing.cli.options import ListsByDefault, StudioOptions, takes
from danqing.cli.session import open_studio, terminal_of

app = typer.Typer(cls=ListsByDefault, add_completion=False)


@app.callback()
def models() -> None:
    """List the models that can paint."""


@app.command("list")
@takes(StudioOptions)
def list_models(options: StudioOptions) -> None:
    """List every checkpoint in the catalogue."""
    with open_studio(options) as studio:
        found = list(studio.models())
    data = {"models": [info.model_dump(mode="json") | {"short_hash": info.short_hash} for info in found]}
    terminal_of(options).table(
        data,
        ("name", "family", "hash", "native size", "description"),
        [(info.name, info.family, info.short_hash, f"{info.defaults.size_px} px", info.description) for info in found],
    )
