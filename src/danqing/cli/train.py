"""`danqing train`: runs a trainer in its own process, so that the command line loads no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from danqing.spec.errors import NotFoundError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train a model of the built-in family."""


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def builtin(
    context: typer.Context,
    config: Annotated[Path, typer.Option("--config", help="A training configuration (TOML).")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the prepared pictures.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
) -> None:
    """Train danqing-mini; further options go to `python -m danqing.training.builtin` as they are."""
    if not config.is_file():
        raise NotFoundError(
            "there is no such configuration",
            field="--config",
            value=str(config),
            allowed="a TOML file",
            next_step="see src/danqing/training/configs for examples",
        )
    command = [sys.executable, "-m", "danqing.training.builtin", "--config", str(config)]
    for option, value in (("--out", out), ("--data", data)):
        command += [option, str(value)] if value is not None else []
    command += ["--resume"] if resume else []
    raise typer.Exit(_run([*command, *context.args]))


def _run(command: list[str]) -> int:
    with subprocess.Popen(command) as process:  # noqa: S603 - our own interpreter and module
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # the trainer got the same Ctrl-C and is writing its checkpoint
                continue
