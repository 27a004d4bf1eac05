"""`danqing models`: what can paint."""

from __future__ import annotations

import typer

from danqing.cli.options import StudioOptions, takes
from danqing.cli.session import open_studio, terminal_of

app = typer.Typer(add_completion=False, invoke_without_command=True)


@app.callback()
def models(context: typer.Context) -> None:
    """List the models that can paint."""
    if context.invoked_subcommand is None:
        _list(StudioOptions())


@app.command("list")
@takes(StudioOptions)
def list_models(options: StudioOptions) -> None:
    """List every checkpoint in the catalogue."""
    _list(options)


def _list(options: StudioOptions) -> None:
    with open_studio(options) as studio:
        found = list(studio.models())
    data = {"models": [info.model_dump(mode="json") | {"short_hash": info.short_hash} for info in found]}
    terminal_of(options).table(
        data,
        ("name", "family", "hash", "native size", "description"),
        [(info.name, info.family, info.short_hash, f"{info.defaults.size_px} px", info.description) for info in found],
    )
