"""`danqing dataset`: makes training data in its own process, so that the command line loads no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.train import run_module
from danqing.spec.errors import InvalidRequestError

LARGEST_PX = 256
SMALLEST_PX = 16

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def dataset() -> None:
    """Make the data that a model of the built-in family learns from."""


@app.command()
def builtin(
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and their datasheet.")],
    packages: Annotated[Path | None, typer.Option("--packages", help="Folder of the npm packages; OUT/npm.")] = None,
    sizes: Annotated[str, typer.Option("--sizes", help="Sizes in pixels, separated by commas.")] = "128,256",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that draw.")] = 2,
    config: Annotated[str, typer.Option("--config", help="A TOML file with a \\[data] table.")] = "data-builtin",
) -> None:
    """Fetch the pinned npm packages, draw every picture, write shards and a datasheet."""
    check_sizes(sizes)
    command = [sys.executable, "-m", "danqing.training.builtin.shards", "--config", config, "--out", str(out)]
    command += ["--packages", str(packages)] if packages is not None else []
    raise typer.Exit(run_module([*command, "--sizes", sizes, "--workers", str(workers)]))


def check_sizes(sizes: str) -> None:
    """Refuses what the data tool cannot draw.

    Raises:
        InvalidRequestError: A part is no whole number from 16 to 256.
    """
    parts = [part.strip() for part in sizes.split(",")]
    if not all(part.isdecimal() and SMALLEST_PX <= int(part) <= LARGEST_PX for part in parts):
        raise InvalidRequestError(
            "the sizes cannot be drawn",
            field="--sizes",
            value=sizes,
            allowed=f"whole numbers from {SMALLEST_PX} to {LARGEST_PX}, separated by commas",
        )
