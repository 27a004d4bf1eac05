"""`danqing eval`: measures a model in its own process, so that the command line loads no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from danqing.spec.errors import NotFoundError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Measure how good a model is."""


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def builtin(
    context: typer.Context,
    data: Annotated[Path, typer.Option("--data", help="Folder made by `danqing dataset builtin`.")],
    config: Annotated[str, typer.Option("--config", help="The model's training configuration.")] = "builtin-cpu",
    model_dir: Annotated[
        Path | None, typer.Option("--model-dir", help="Folder of the model; the one in the package if unset.")
    ] = None,
    only: Annotated[str | None, typer.Option("--only", help="Sections to measure, separated by commas.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of everything, to see that it runs.")] = False,
) -> None:
    """Measure the built-in family and write docs/builtin-model.md; further options go to the evaluation as they are.

    Those are --run, --docs, --train-only, --render, --device and --threads of `python -m danqing.training.evaluation`.
    """
    if not (data / "pictures.json").is_file():
        raise NotFoundError(
            "there are no drawings to measure with",
            field="--data",
            value=str(data),
            allowed="a folder with pictures.json and pictures-128.npy",
            next_step="make it with `danqing dataset builtin --out FOLDER`",
        )
    command = [sys.executable, "-m", "danqing.training.evaluation", "--config", config, "--data", str(data)]
    command += ["--model-dir", str(model_dir)] if model_dir is not None else []
    command += ["--only", only] if only is not None else []
    command += ["--quick"] if quick else []
    raise typer.Exit(subprocess.run([*command, *context.args], check=False).returncode)  # noqa: S603 - our own module
