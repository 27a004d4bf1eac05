"""`danqing explore`: one brief in many forms, side by side."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.option_names import in_option_words
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import PaintOptions, request_data, upload_pictures, without_pictures
from danqing.cli.pictures import plan_target, write_atomically
from danqing.cli.session import follow_all, open_studio, settings_of, terminal_of
from danqing.planning.explore import lines_of
from danqing.spec.errors import InvalidRequestError
from danqing.spec.explore import Axis, ExploreRequest
from danqing.spec.registry.axes import AXES
from danqing.spec.request import parse_request
from danqing.studio.sheet import SheetLook

app = typer.Typer(add_completion=False)
_SYNTAX = "AXIS=VALUES"


@dataclass(frozen=True, kw_only=True)
class ExploreCommand(WorkerOptions, PaintOptions):
    """Everything `danqing explore` takes."""

    x: Annotated[str | None, typer.Option("--x", metavar=_SYNTAX, help='Columns: "CFG Scale=1-9 (+2)".')] = None
    y: Annotated[str | None, typer.Option("--y", metavar=_SYNTAX, help='Rows: "Prompt S/R=cat,dog".')] = None
    z: Annotated[str | None, typer.Option("--z", metavar=_SYNTAX, help="One sheet below the other.")] = None
    vary_seeds: Annotated[bool, typer.Option("--vary-seeds", help="A seed of its own for each picture.")] = False
    no_legend: Annotated[bool, typer.Option("--no-legend", help="No values beside rows and columns.")] = False
    gap: Annotated[int, typer.Option("--gap", help="Between pictures, in pixels.")] = 12
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="NAME|ID", help="Every picture becomes a version of this project."),
    ] = None
    out: Annotated[str, typer.Option("-o", "--out", metavar="FILE", help="The sheet (.png .jpg .webp).")] = (
        "out/explore.png"
    )
    axes: Annotated[bool, typer.Option("--axes", help="List what can be compared, and paint nothing.")] = False


@app.command()
@takes(ExploreCommand)
def explore(options: ExploreCommand) -> None:
    """Compare: one brief along up to three axes, as a labelled sheet and as pictures in the gallery.

    An axis is a name and its values: numbers with commas or as ranges (1-5, 1-9 (+2), 0-1 [5]), names with commas. All
    pictures have one seed unless an axis or --vary-seeds says otherwise.

    Examples: danqing explore "red apple, 3d" --x "CFG Scale=1-9 (+2)" --y "Prompt S/R=red apple,penguin"  ·
    danqing explore "a fox" --x "LoRA weight=ink: 0-1 (+0.25)" --y Seed=1-4 -o foxes.webp  ·  danqing explore x --axes
    ·  danqing explore "a tea house" --x Seed=1-4 --project "Tea house"
    """
    terminal = terminal_of(options)
    if options.axes:
        rows = [{"key": a.key, "name": a.name, "example": a.example, "hint": a.hint} for a in AXES]
        terminal.result({"axes": rows}, "\n".join(f"{a.name:<26}{a.example:<36}{a.hint}" for a in AXES))
        return
    started_s = time.monotonic()
    target = plan_target(options.out, None)
    if target.file is None:
        raise InvalidRequestError(
            "the sheet needs a file name",
            field="--out",
            value=options.out,
            allowed="a .png, .jpg or .webp file",
        )
    with in_option_words():
        data = request_data(options, None)
        first = _asked(options, without_pictures(data))
        lines_of(first)
    settings = settings_of(options)
    with open_studio(options) as studio, in_option_words():
        project = None if options.project is None else studio.project_called(options.project)
        asked = _asked(options, upload_pictures(data, studio, settings.upload_max_bytes))
        found = studio.explore(asked.model_copy(update={"project": None if project is None else project.id}))
        terminal.remark(f"{len(found.cells)} pictures: {' × '.join(found.names)}")
        follow_all(studio, [studio.job(cell.job) for cell in found.cells], terminal)
        sheet = studio.exploration_sheet(found.id, SheetLook(max(0, options.gap), legend=not options.no_legend))
        records = studio.exploration_records(found.id)
    path = target.folder / target.file
    buffer = io.BytesIO()
    sheet.save(buffer, {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(Path(path).suffix.lower(), "PNG"))
    write_atomically(path, buffer.getvalue())
    seconds = time.monotonic() - started_s
    terminal.remark(f"{len(records)} painted in {seconds:.1f} s")
    terminal.result(
        {
            "path": str(path),
            "exploration": found.id,
            "project": found.asked.project,
            "width_px": sheet.width,
            "height_px": sheet.height,
            "pictures": [{"x": x, "y": y, "z": z, "record": r.id} for (x, y, z), r in sorted(records.items())],
            "seconds": round(seconds, 3),
        },
        str(path),
    )


def _asked(options: ExploreCommand, data: dict[str, object]) -> ExploreRequest:
    if options.x is None:
        raise InvalidRequestError(
            "a comparison needs an axis",
            field="--x",
            allowed=", ".join(axis.name for axis in AXES),
            next_step='for example --x "CFG Scale=1-9 (+2)"; `danqing explore x --axes` lists them with examples',
        )
    return ExploreRequest(
        request=parse_request(data),
        x=parse_axis(options.x, "--x"),
        y=None if options.y is None else parse_axis(options.y, "--y"),
        z=None if options.z is None else parse_axis(options.z, "--z"),
        vary_seeds=options.vary_seeds,
    )


def parse_axis(text: str, field: str) -> Axis:
    """`AXIS=VALUES` as typed.

    Raises:
        InvalidRequestError: There is no `=` in it.

    >>> parse_axis("CFG Scale = 1-5", "--x")
    Axis(axis='CFG Scale', values='1-5')
    """
    name, sign, values = text.partition("=")
    if not sign or not name.strip() or not values.strip():
        raise InvalidRequestError(
            "this is no axis",
            field=field,
            value=text,
            allowed=_SYNTAX,
            next_step='for example "Seed=1-4"',
        )
    return Axis(axis=name.strip(), values=values.strip())


if __name__ == "__main__":
    app()
