"""The `danqing` command: a group whose commands are imported only when they are called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from danqing import __version__
from danqing.cli.failures import INTERRUPTED, report

COMMANDS: dict[str, tuple[str, str]] = {
    "paint": ("danqing.cli.paint", "Paint pictures from a brief, or from a brief and a picture."),
    "vary": ("danqing.cli.vary", "Paint pictures like a picture."),
    "blend": ("danqing.cli.blend", "Paint something between two to five pictures."),
    "explore": ("danqing.cli.explore", "Compare: one brief along up to three axes, as a labelled sheet."),
    "refine": ("danqing.cli.refine", "Paint, review, paint again, keep what the judge accepts."),
    "review": ("danqing.cli.review", "Say what a model would change in a picture."),
    "words": ("danqing.cli.words", "Change a picture by changing its words."),
    "drag": ("danqing.cli.drag", "Drag points of a picture to other places."),
    "serve": ("danqing.cli.serve", "Open the studio in the browser, with its HTTP API."),
    "retouch": ("danqing.cli.retouch", "Details, faces, size and background of a picture, step by step."),
    "upscale": ("danqing.cli.upscale", "Make a picture larger."),
    "project": ("danqing.cli.project", "Briefs, versions, links for clients, and what they said."),
    "gallery": ("danqing.cli.gallery", "List, show, export, delete and restore what was painted."),
    "reproduce": ("danqing.cli.reproduce", "Paint a picture again from the Plan inside it, and compare."),
    "interrogate": ("danqing.cli.interrogate", "Say what a picture shows: a caption, tags, colours."),
    "annotate": ("danqing.cli.annotate", "Make the control map of a picture: lines, depth, regions …"),
    "models": ("danqing.cli.models", "List the models that can paint."),
    "tools": ("danqing.cli.tools", "Merge, convert and prune checkpoints, bake a VAE in, extract a LoRA."),
    "doctor": ("danqing.cli.doctor", "Check device, versions, folders and weights."),
    "prompt": ("danqing.cli.prompt", "Explain what the prompt language makes of a prompt."),
    "dataset": ("danqing.cli.dataset", "Make the data that a model of the built-in family learns from."),
    "train": ("danqing.cli.train", "Train your own: styles, subjects, words, controls; or the built-in family."),
    "eval": ("danqing.cli.evaluate", "Measure how good the built-in family is."),
    "demo": ("danqing.cli.demo", "Paint a contact sheet of sixteen briefs."),
}


class LazyGroup(TyperGroup):
    """Shows every command's one line of help; imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, text) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=text, callback=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command behind the stub."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or name not in COMMANDS:
            return name, command, rest
        module = importlib.import_module(COMMANDS[name][0])
        loaded = typer.main.get_command(module.app)
        loaded.name = name
        return name, loaded, rest


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"danqing {__version__}")
        raise typer.Exit


@app.callback()
def _danqing(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Danqing, an AI painting studio: brief, draft, review, revise."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: What follows `danqing`.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    try:
        app(args=list(arguments), prog_name="danqing")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("DANQING_DEBUG") == "1":
            raise
        return report(error, as_json="--json" in arguments)
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
