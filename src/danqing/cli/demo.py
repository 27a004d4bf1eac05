"""`danqing demo`: sixteen fixed briefs on one contact sheet."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw

from danqing.cli.options import WorkerOptions, takes
from danqing.cli.pictures import plan_target, write_atomically
from danqing.cli.session import follow_all, open_studio, terminal_of
from danqing.spec.errors import InvalidRequestError
from danqing.spec.request import parse_request
from danqing.store.fonts import sheet_font

app = typer.Typer(add_completion=False)

BRIEFS = (
    "red apple",
    "grinning face",
    "red heart",
    "sun",
    "cat face",
    "crescent moon",
    "birthday cake",
    "guitar",
    "rose",
    "snowman",
    "pizza",
    "rocket",
    "panda",
    "umbrella",
    "evergreen tree",
    "alarm clock",
)
SEED = 0
COLUMNS = 4
TILE_PX = 192
GAP_PX = 16
CAPTION_PX = 28
PAPER, INK = "#FAF8F3", "#1E1B18"


@dataclass(frozen=True, kw_only=True)
class DemoOptions(WorkerOptions):
    """What `danqing demo` takes."""

    out: Annotated[str, typer.Option("-o", "--out", metavar="FILE", help="The contact sheet.")] = "out/demo.png"
    model: Annotated[str | None, typer.Option("--model", help="The built-in one if unset.")] = None
    style: Annotated[str, typer.Option("--style-word", help="Added to each brief.")] = "3d"
    steps: Annotated[int | None, typer.Option("--steps", help="The model's own if unset.")] = None


@app.command()
@takes(DemoOptions)
def demo(options: DemoOptions) -> None:
    """Paint sixteen fixed briefs, unpicked seeds 0 to 15, on one contact sheet."""
    terminal = terminal_of(options)
    started_s = time.monotonic()
    target = plan_target(options.out, None)
    if target.file is None:
        raise InvalidRequestError(
            "the contact sheet needs a file name",
            field="--out",
            value=options.out,
            allowed="a file ending in .png, .jpg or .webp",
        )
    briefs = [f"{brief}, {options.style}" if options.style else brief for brief in BRIEFS]
    with open_studio(options) as studio:
        jobs = [
            studio.submit(
                parse_request(
                    {
                        "prompt": brief,
                        "seed": SEED + place,
                        "model": options.model,
                        "sampling": {"steps": options.steps},
                    }
                )
            )
            for place, brief in enumerate(briefs)
        ]
        finished = follow_all(studio, jobs, terminal)
        records = [studio.record(job.records[0]) for job in finished]
        pictures = [studio.picture_bytes(record.picture) for record in records]
    path = target.folder / target.file
    write_atomically(path, contact_sheet(pictures, briefs, path.suffix))
    seconds = time.monotonic() - started_s
    terminal.remark(f"{len(pictures)} pictures in {seconds:.1f} s")
    terminal.result(
        {
            "path": str(path),
            "briefs": briefs,
            "records": [record.id for record in records],
            "seeds": [record.plan.seeds.seed for record in records],
            "seconds": round(seconds, 3),
        },
        str(path),
    )


def contact_sheet(pictures: list[bytes], captions: list[str], suffix: str = ".png") -> bytes:
    """Pictures in rows of four, each over its caption.

    Args:
        pictures: Encoded pictures.
        captions: One for each.
        suffix: Of the file it becomes.
    """
    rows = -(-len(pictures) // COLUMNS)
    step_x, step_y = TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (COLUMNS * step_x + GAP_PX, rows * step_y + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, _ = sheet_font(15)
    for place, (content, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP_PX + place % COLUMNS * step_x, GAP_PX + place // COLUMNS * step_y
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
        if picture.width < TILE_PX and picture.height < TILE_PX:
            scale = TILE_PX / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (left + (TILE_PX - picture.width) // 2, top + (TILE_PX - picture.height) // 2))
        middle = left + TILE_PX // 2
        draw.text((middle, top + TILE_PX + CAPTION_PX // 2), caption, fill=INK, font=font, anchor="mm")
    buffer = io.BytesIO()
    sheet.save(buffer, Image.registered_extensions()[Path(f"sheet{suffix}").suffix.lower()])
    return buffer.getvalue()
