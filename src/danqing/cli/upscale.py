"""`danqing upscale`: make a picture larger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import read_file
from danqing.cli.pictures import FORMATS, plan_target, write_atomically
from danqing.cli.session import open_studio, settings_of, terminal_of
from danqing.spec.complaints import from_validation_error
from danqing.spec.errors import BadFileError, DanqingError, InvalidRequestError
from danqing.spec.upscale import UpscaleRequest

app = typer.Typer(add_completion=False)
_OPTION_OF_FIELD = {"upscaler": "--model", "scale": "--scale", "width_px": "--width", "height_px": "--height"}


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
    with open_studio(options) as studio:
        image = options.source
        if not image.startswith("record:"):
            content = read_file(Path(image), "IN", settings_of(options).upload_max_bytes)
            try:
                image = f"sha256:{studio.upload(content, name=Path(image).name).sha256}"
            except BadFileError as error:
                error.field, error.value = "IN", options.source
                raise
        try:
            done = studio.upscale(_request(options, image, FORMATS[suffix]))
        except DanqingError as error:
            error.field = _OPTION_OF_FIELD.get(error.field or "", error.field)
            raise
        write_atomically(options.out, studio.picture_bytes(done.picture.sha256))
    for note in done.plan.notes:
        terminal.remark(f"note: {note}")
    seconds = time.monotonic() - started_s
    size = f"{done.picture.width_px}×{done.picture.height_px}"
    terminal.remark(f"{size} by {done.plan.upscaler} in {seconds:.1f} s")
    terminal.result(
        {
            "path": str(options.out),
            "sha256": done.picture.sha256,
            "width_px": done.picture.width_px,
            "height_px": done.picture.height_px,
            "media_type": done.picture.media_type,
            "upscaler": done.plan.upscaler,
            "notes": list(done.plan.notes),
            "seconds": round(seconds, 3),
        },
        str(options.out),
    )


def _request(options: UpscaleOptions, image: str, output_format: str) -> UpscaleRequest:
    from pydantic import ValidationError

    try:
        return UpscaleRequest.model_validate(
            {
                "image": image,
                "scale": options.scale,
                "width_px": options.width,
                "height_px": options.height,
                "upscaler": options.model,
                "output": {"format": output_format},
            }
        )
    except ValidationError as error:
        raise from_validation_error(error, (UpscaleRequest,)) from error
