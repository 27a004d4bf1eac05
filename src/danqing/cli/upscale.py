"""`danqing upscale`: make a picture larger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing.cli.option_names import naming
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import upload_pictures, without_pictures
from danqing.cli.pictures import FORMATS, plan_target, write_atomically
from danqing.cli.session import follow, open_studio, settings_of, terminal_of
from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.spec.request import parse_request
from danqing.studio.service import Studio

app = typer.Typer(add_completion=False)
_OPTION_OF_FIELD = {
    "steps.0.upscaler": "--model",
    "steps.0.scale": "--scale",
    "steps.0.width_px": "--width",
    "steps.0.height_px": "--height",
    "image": "IN",
    "--init": "IN",
}


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions(WorkerOptions):
    """What `danqing upscale` takes."""

    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, or record:ID.")]
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write (.png .jpg .webp).")]
    scale: Annotated[float, typer.Option("--scale", help="How many times larger, 1 to 8.")] = 4.0
    width: Annotated[int | None, typer.Option("--width", help="In pixels; wins over --scale.")] = None
    height: Annotated[int | None, typer.Option("--height", help="In pixels; wins over --scale.")] = None
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="An upscaler file, or Lanczos, Bicubic, Nearest."),
    ] = None


@app.command()
@takes(UpscaleOptions)
def upscale(options: UpscaleOptions) -> None:
    """Make a picture larger with a super-resolution network, or by a filter; transparency is kept.

    It is a job like any painting, the same as `danqing retouch IN --upscale N`: it stays in the gallery, is finished
    after a crash, and Ctrl-C stops it.

    Examples: danqing upscale apple.png large.png  ·  danqing upscale record:ID poster.png --scale 6 --model Lanczos
    """
    terminal = terminal_of(options)
    started_s = time.monotonic()
    suffix = options.out.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidRequestError(
            "the file to write needs a picture's suffix",
            field="OUT",
            value=str(options.out),
            allowed=", ".join(FORMATS),
        )
    plan_target(str(options.out), None)
    with naming(_option_of):
        data = _request_data(options, FORMATS[suffix])
        parse_request(without_pictures(data))
    settings = settings_of(options)
    with open_studio(options) as studio, naming(_option_of):
        data = upload_pictures(data, studio, settings.upload_max_bytes)
        job = studio.submit(parse_request(_with_words(data, options.source, studio)))
        for note in job.plans[0].notes:
            terminal.remark(f"note: {note}")
        job = follow(studio, job, terminal)
        record = studio.record(job.records[0])
        write_atomically(options.out, studio.picture_bytes(record.picture))
    retouched = record.plan.retouch
    upscaler = retouched.steps[0].tool if retouched is not None else ""
    seconds = time.monotonic() - started_s
    terminal.remark(f"{record.width_px}×{record.height_px} by {upscaler} in {seconds:.1f} s · record {record.id}")
    terminal.result(
        {
            "path": str(options.out),
            "sha256": record.picture,
            "width_px": record.width_px,
            "height_px": record.height_px,
            "media_type": record.media_type,
            "upscaler": upscaler,
            "notes": list(record.plan.notes),
            "seconds": round(seconds, 3),
            "job": job.id,
            "record": record.id,
        },
        str(options.out),
    )


def _request_data(options: UpscaleOptions, output_format: str) -> dict[str, Any]:
    """A retouch of one step, the picture still as a file name."""
    step = {
        "kind": "upscale",
        "scale": options.scale,
        "width_px": options.width,
        "height_px": options.height,
        "upscaler": options.model,
    }
    return {"kind": "retouch", "image": options.source, "steps": [step], "output": {"format": output_format}}


def _with_words(data: dict[str, Any], source: str, studio: Studio) -> dict[str, Any]:
    """With what the picture says that it shows, so that the larger one is found by it, too."""
    if source.startswith("record:"):
        text = studio.record(source.removeprefix("record:")).plan.base.text
        return data | {"prompt": text.prompt, "negative_prompt": text.negative_prompt}
    try:
        told = studio.request_of_picture(studio.picture_bytes(data["image"].removeprefix("sha256:")))
    except BadFileError:
        return data  # it says nothing
    return data | {"prompt": told.prompt, "negative_prompt": told.negative_prompt}


def _option_of(field: str) -> str:
    return _OPTION_OF_FIELD.get(field, field)


if __name__ == "__main__":
    app()
