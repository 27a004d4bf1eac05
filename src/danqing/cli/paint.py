"""`danqing paint`: a brief becomes pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from danqing.cli.option_names import in_option_words
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import PaintOptions, request_data, upload_pictures, without_pictures
from danqing.cli.pictures import plan_target, save_pictures
from danqing.cli.session import follow, open_studio, settings_of, terminal_of
from danqing.cli.terminal import Terminal
from danqing.spec.record import Job
from danqing.spec.request import parse_request

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

    --image-prompt paints like a picture, beside the words or without any; several may be given, each with its weight.

    Examples: danqing paint "a red apple, 3d" --seed 7 -o apple.png  ·  danqing paint "a hat" --init cat.png
    --mask hat.png  ·  danqing paint "a house" --control danqing-mini-line:sketch.png:scribble_xdog@0.8,0-0.6
    """
    run_paint(options)


def run_paint(options: PaintCommand) -> None:
    """Paint, save, and tell what was painted."""
    terminal = terminal_of(options)
    started_s = time.monotonic()
    target = plan_target(options.out, options.format)
    with in_option_words():
        data = request_data(options, target.format)
        parse_request(without_pictures(data))
    settings = settings_of(options)
    with open_studio(options) as studio, in_option_words():
        request = parse_request(upload_pictures(data, studio, settings.upload_max_bytes))
        job = studio.submit(request)
        for note in dict.fromkeys(note for plan in job.plans for note in plan.notes):
            terminal.remark(f"note: {note}")
        job = follow(studio, job, terminal)
        records = [studio.record(record_id) for record_id in job.records]
        pictures = save_pictures(studio, records, target)
    tell(job, pictures, time.monotonic() - started_s, terminal)


def tell(job: Job, pictures: list[dict[str, object]], seconds: float, terminal: Terminal) -> None:
    """What was painted, for a person or as JSON."""
    notes = list(dict.fromkeys(note for plan in job.plans for note in plan.notes))
    data = {
        "job": job.id,
        "state": job.state,
        "pictures": pictures,
        "notes": notes,
        "seconds": round(seconds, 3),
    }
    for picture in pictures:
        terminal.remark(
            f"seed {picture['seed']} · {picture['width_px']}×{picture['height_px']} · record {picture['record']}"
        )
    terminal.remark(f"{len(pictures)} painted in {seconds:.1f} s")
    terminal.result(data, "\n".join(str(picture["path"]) for picture in pictures))
