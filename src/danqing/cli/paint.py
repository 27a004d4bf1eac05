"""`danqing paint`: a brief becomes pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from danqing.cli.option_names import in_option_words
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import PaintOptions, request_data
from danqing.cli.painting import Painting, paint_and_tell

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class PaintCommand(WorkerOptions, PaintOptions):
    """Everything `danqing paint` takes."""

    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="FILE|DIR", help="File (.png .jpg .webp) or folder; here if unset."),
    ] = None


@app.command()
@takes(PaintCommand)
def paint(options: PaintCommand) -> None:
    """Paint pictures from a brief.

    The kind follows from the options: --expand extends a picture, --mask repaints a part of it, --init starts from it.

    --control makes the picture follow another one: the ControlNet, the picture, the annotator that makes its map, how
    strongly, and in which share of the steps. Without a picture (danqing-mini-line::canny) it follows the --init one.

    --finish does what `danqing retouch` does, after the last pass and in the order given: "detail face,strength=0.5",
    "restore-faces", "upscale 2", "cutout"; behind the step's name stands what the option of that name takes there.

    --image-prompt paints like a picture, beside the words or without any; several may be given, each with its weight.

    Examples: danqing paint "a red apple, 3d" --seed 7 -o apple.png  ·  danqing paint "a hat" --init cat.png
    --mask hat.png  ·  danqing paint "a house" --control danqing-mini-line:sketch.png:scribble_xdog@0.8,0-0.6
    """
    run_paint(options)


def run_paint(options: PaintCommand) -> None:
    """Paint, save, and tell what was painted."""
    paint_and_tell(
        Painting(options, options.out, partial(request_data, options), in_option_words, format=options.format)
    )


if __name__ == "__main__":
    app()
