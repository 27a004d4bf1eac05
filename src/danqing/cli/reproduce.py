"""`danqing reproduce`: paint a picture again and compare it pixel by pixel."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from danqing.cli.failures import FAILED
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import read_file
from danqing.cli.pictures import plan_target, save_pictures
from danqing.cli.session import follow, open_studio, settings_of, terminal_of

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(WorkerOptions):
    """What `danqing reproduce` takes."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture painted by Danqing.")]
    out: Annotated[str | None, typer.Option("-o", "--out", metavar="FILE|DIR", help="Also write the new picture.")] = (
        None
    )


@app.command()
@takes(ReproduceOptions)
def reproduce(options: ReproduceOptions) -> None:
    """Paint a picture again from the Plan inside it.

    Ends with 0 when every pixel is the same, with 1 when not.
    """
    terminal = terminal_of(options)
    content = read_file(options.file, "FILE", settings_of(options).upload_max_bytes)
    target = None if options.out is None else plan_target(options.out, None)
    with open_studio(options) as studio:
        plan = studio.plan_of_picture(content)
        job = follow(studio, studio.reproduce(plan), terminal)
        record = studio.record(job.records[0])
        again = studio.picture_bytes(record.picture)
        written = [] if target is None else save_pictures(studio, [record], target)
    compared = compare(content, again)
    terminal.result(
        {
            "file": str(options.file),
            "record": record.id,
            "path": written[0]["path"] if written else None,
            "seed": plan.seeds.seed,
            **compared,
        },
        _words(compared, record.media_type),
    )
    if not compared["identical"]:
        raise typer.Exit(FAILED)


def compare(first: bytes, second: bytes) -> dict[str, Any]:
    """How two encoded pictures differ.

    Returns:
        `identical`, `pixels`, `differing_pixels`, `max_difference` (0 to 255); the last two are None where the
        sizes differ.
    """
    one, two = (_pixels(content) for content in (first, second))
    pixels = int(one.shape[0] * one.shape[1])
    if one.shape != two.shape:
        return {"identical": False, "pixels": pixels, "differing_pixels": None, "max_difference": None}
    difference = np.abs(one.astype(np.int16) - two.astype(np.int16))
    differing = int(np.count_nonzero(difference.max(axis=2)))
    return {
        "identical": differing == 0,
        "pixels": pixels,
        "differing_pixels": differing,
        "max_difference": int(difference.max()),
    }


def _pixels(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGBA"))


def _words(compared: dict[str, Any], media_type: str) -> str:
    if compared["identical"]:
        return f"identical: all {compared['pixels']} pixels are the same"
    if compared["differing_pixels"] is None:
        return "different: the sizes differ"
    text = (
        f"different: {compared['differing_pixels']} of {compared['pixels']} pixels differ, "
        f"at most by {compared['max_difference']} of 255"
    )
    return text if media_type == "image/png" else f"{text} ({media_type} is lossy)"
