"""`danqing train`: runs a trainer in its own process, so that the command line loads no torch."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli import train_methods, train_runs
from danqing.spec.errors import NotFoundError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train your own: styles, subjects, words, controls; look after runs; train the built-in family."""


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def builtin(
    context: typer.Context,
    config: Annotated[str, typer.Option("--config", help="A TOML file, or the name of one in the package.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; runs/NAME if unset.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of `danqing dataset builtin`; OUT/data.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
) -> None:
    """Train danqing-mini; further options go to `python -m danqing.training.builtin` as they are."""
    names = sorted(file.name.removesuffix(".toml") for file in _configs().iterdir() if file.name.endswith(".toml"))
    if config not in names and not Path(config).is_file():
        raise NotFoundError(
            "there is no such configuration",
            field="--config",
            value=config,
            allowed=f"a TOML file, or {', '.join(names)}",
            next_step="begin with builtin-tiny, which shows in a minute that everything is installed",
        )
    out = out or Path("runs") / Path(config).stem
    command = [sys.executable, "-m", "danqing.training.builtin", "--config", config, "--out", str(out)]
    command += ["--data", str(data)] if data is not None else []
    command += ["--resume"] if resume else []
    raise typer.Exit(run_module([*command, *context.args]))


train_methods.register(app)
train_runs.register(app)


def _configs() -> Traversable:
    # by path, not by import: the trainer's package loads torch
    return files("danqing").joinpath("training", "configs")


def run_module(command: list[str]) -> int:
    """Runs a module of ours in its own process, which gets Ctrl-C too; its exit code."""
    with subprocess.Popen(command) as process:  # noqa: S603 - our own interpreter and module
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # the trainer got the same Ctrl-C and is writing its checkpoint
                continue
