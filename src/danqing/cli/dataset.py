"""`danqing dataset`: training sets, and the data of the built-in family. No torch is loaded here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing.cli.dataset_captions import app as captions_app
from danqing.cli.dataset_options import (
    BucketOptions,
    ChangeOptions,
    CheckOptions,
    CropOptions,
    ImportCommand,
    NewOptions,
    OneSet,
    PicturesOptions,
    RemoveOptions,
    aspect_of,
)
from danqing.cli.dataset_sets import counting, files_of, picture_rows, sets_of
from danqing.cli.options import ListsByDefault, StudioOptions, takes
from danqing.cli.session import open_studio, terminal_of
from danqing.cli.train import run_module
from danqing.sets.checks import BLUR_BELOW
from danqing.sets.importing import ImportOptions
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.style_projects import STYLE_PROJECTS, find_style_project
from danqing.spec.training_edit import ImportReport, PictureChanges, SetSummary
from danqing.spec.training_set import TrainingSet
from danqing.studio.set_works import check as check_pictures

LARGEST_PX = 256
SMALLEST_PX = 16

app = typer.Typer(cls=ListsByDefault, add_completion=False)
app.add_typer(captions_app, name="captions")


@app.callback()
def dataset() -> None:
    """Training sets: pictures with captions to train from; and the data that the built-in family learns from.

    Examples: danqing dataset new Starry --recipe van-gogh  ·  danqing dataset import Starry ~/paintings
    """


@app.command("list")
@takes(StudioOptions)
def list_sets(options: StudioOptions) -> None:
    """List training sets, the latest changed first."""
    rows = sets_of(options).summaries()
    terminal = terminal_of(options)
    shown = [
        (row.name, row.kind, str(row.pictures), str(row.captioned), row.trigger, row.error or _complaints(row))
        for row in rows
    ]
    columns = ("set", "kind", "pictures", "captions", "trigger", "remarks")
    terminal.table({"sets": [row.model_dump(mode="json") for row in rows]}, columns, shown)
    if not rows:
        terminal.remark("none yet; begin one: danqing dataset new Starry --recipe van-gogh")


@app.command()
@takes(NewOptions)
def new(options: NewOptions) -> None:
    """Make an empty set, by itself or from a ready-made style project."""
    made = sets_of(options).create(options.name, recipe=options.recipe, changes=options.changes())
    terminal = terminal_of(options)
    if options.recipe is not None:
        recipe = find_style_project(options.recipe)
        terminal.remark(f"{recipe.looks['en']}\nCollect: {recipe.collect['en']}\nRights: {recipe.rights['en']}")
        works = ", ".join(f"{work.title['en']} ({work.year})" for work in recipe.works)
        terminal.remark(f"For example: {works}")
    terminal.result(_data(options, made), f"{made.name}: now danqing dataset import {made.name!r} FOLDER")


@app.command()
@takes(ChangeOptions)
def change(options: ChangeOptions) -> None:
    """Change trigger, class, template, kind, mirroring, licence note or name of a set."""
    sets = sets_of(options)
    changed = sets.change(options.name, options.changes())
    if options.rename is not None:
        changed = sets.rename(options.name, options.rename)
    terminal_of(options).result(_data(options, changed), _head(changed))


@app.command("import")
@takes(ImportCommand)
def import_pictures(options: ImportCommand) -> None:
    """Take pictures in: folders (A1111, kohya, ControlNet, our own), ZIPs, pairs of `refine --export`, Records."""
    if not (options.source or options.records or options.project):
        raise InvalidRequestError(
            "there is nothing to import",
            field="SOURCE",
            allowed="a folder, a ZIP, a picture, --record or --project",
            next_step="for example danqing dataset import Starry ~/paintings",
        )
    sets, terminal = sets_of(options), terminal_of(options)
    if options.new and options.name not in {row.name for row in sets.summaries()}:
        sets.create(options.name)
    reports: list[ImportReport] = []
    with counting(terminal, "importing") as tell:
        how = ImportOptions(options.alpha_masks, options.regularisation, options.repeats, tell=tell)
        reports += [sets.import_path(options.name, path.expanduser(), how) for path in options.source or ()]
    if options.records or options.project:
        how = ImportOptions(regularisation=options.regularisation, repeats=options.repeats)
        with open_studio(options) as studio:
            reports.append(studio.records_to_set(options.name, options.records, options.project, how))
    for report in reports:
        for line in (*report.notes, *(f"left out: {one.file}: {one.reason}" for one in report.skipped)):
            terminal.remark(line)
    data = {"imports": [report.model_dump(mode="json") for report in reports]}
    terminal.result(data, "\n".join(_imported(report) for report in reports))


@app.command()
@takes(OneSet)
def show(options: OneSet) -> None:
    """Show a set and its pictures."""
    sets = sets_of(options)
    found = sets.get(options.name)
    terminal = terminal_of(options)
    if not options.json:
        terminal.result({}, f"{_head(found)}\nfolder: {sets.folder(options.name)}\n")
    columns = ("picture", "size", "repeats", "notes", "caption")
    terminal.table(_data(options, found), columns, picture_rows(found))


@app.command()
@takes(CheckOptions)
def check(options: CheckOptions) -> None:
    """Look for copies, blur, small and unreadable pictures, and captions that are missing."""
    sets, terminal = sets_of(options), terminal_of(options)
    with counting(terminal, "checking") as tell:
        found = check_pictures(sets, options.name, options.size, tell)
    flawed = [picture for picture in found.pictures if picture.complaints]
    rows = [
        (
            picture.file,
            ", ".join(picture.complaints),
            f"like {picture.like}" if picture.like else "",
            "" if picture.sharpness is None else f"{picture.sharpness:.0f}",
        )
        for picture in flawed
    ]
    data = {"pictures": len(found.pictures), "complaints": [one.model_dump(mode="json") for one in flawed]}
    terminal.table(data, ("picture", "complaints", "copy of", f"sharpness (blurred < {BLUR_BELOW:.0f})"), rows)
    terminal.remark(f"{len(flawed)} of {len(found.pictures)} pictures have something against them")


@app.command()
@takes(CropOptions)
def crop(options: CropOptions) -> None:
    """Cut pictures: around what stands out, tightly, in the middle; or not at all."""
    ways: dict[str, Callable[[float | None], PictureChanges]] = {
        "subject": lambda aspect: PictureChanges(crop_way="subject", aspect=aspect),
        "tight": lambda aspect: PictureChanges(crop_way="tight", aspect=aspect),
        "centre": lambda aspect: PictureChanges(crop_way="centre", aspect=aspect),
        "none": lambda _: PictureChanges(whole=True),
    }
    if options.way not in ways:
        raise InvalidRequestError(
            "there is no such way to crop", field="--way", value=options.way, allowed=", ".join(ways)
        )
    changes = ways[options.way](aspect_of(options.aspect))
    report = sets_of(options).change_pictures(options.name, changes, files_of(options.files))
    terminal_of(options).result(report.model_dump(), f"{report.changed} pictures; to undo: danqing dataset undo")


@app.command()
@takes(PicturesOptions)
def pictures(options: PicturesOptions) -> None:
    """Set repeats, and which pictures are of the class (regularisation)."""
    changes = PictureChanges(repeats=options.repeats, regularisation=options.regularisation)
    report = sets_of(options).change_pictures(options.name, changes, files_of(options.files))
    terminal_of(options).result(report.model_dump(), f"{report.changed} pictures")


@app.command()
@takes(BucketOptions)
def buckets(options: BucketOptions) -> None:
    """Show into which sizes the pictures fall, and how much of them is cut off."""
    rows = sets_of(options).buckets(options.name, options.size, options.step)
    data = [{**{key: value for key, value in vars(row).items() if key != "bucket"}, **vars(row.bucket)} for row in rows]
    shown = [
        (str(row.bucket), str(row.pictures), str(row.shown), f"{row.lost:.1%}", f"{row.worst:.1%}", str(row.enlarged))
        for row in rows
    ]
    columns = ("bucket", "pictures", "with repeats", "cut off", "at most", "enlarged")
    terminal_of(options).table({"buckets": data}, columns, shown)


@app.command()
@takes(RemoveOptions)
def remove(options: RemoveOptions) -> None:
    """Take pictures out of a set, or put the whole set aside; both can be undone."""
    sets, terminal = sets_of(options), terminal_of(options)
    if options.files:
        report = sets.remove_pictures(options.name, options.files)
        terminal.result(
            report.model_dump(), f"{report.changed} pictures; to undo: danqing dataset undo {options.name!r}"
        )
        return
    sets.remove(options.name)
    terminal.result({"removed": options.name}, f"to undo: danqing dataset restore {options.name!r}")


@app.command()
@takes(OneSet)
def restore(options: OneSet) -> None:
    """Bring back a set that was put aside."""
    found = sets_of(options).restore(options.name)
    terminal_of(options).result(_data(options, found), _head(found))


@app.command()
@takes(OneSet)
def undo(options: OneSet) -> None:
    """Take the last edit of a set back: an import, captions, crops or a removal."""
    report = sets_of(options).undo(options.name)
    kept = f"; {report.kept} were changed again and stay" if report.kept else ""
    terminal_of(options).result(report.model_dump(), f"taken back: {report.what}{kept}")


@app.command()
@takes(StudioOptions)
def recipes(options: StudioOptions) -> None:
    """List the ready-made style projects."""
    columns = ("recipe", "trigger", "class", "pictures", "free", "steps (SD 1.5)")
    rows = [
        (
            one.key,
            one.trigger,
            one.class_words,
            f"{one.count[0]}-{one.count[1]}",
            "yes" if one.free else "no: yours to supply",
            str(one.for_base("sd1").steps),
        )
        for one in STYLE_PROJECTS
    ]
    data: dict[str, Any] = {"recipes": [{"key": one.key, "name": one.name, "free": one.free} for one in STYLE_PROJECTS]}
    terminal_of(options).table(data, columns, rows)


@app.command()
def builtin(
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and their datasheet.")],
    packages: Annotated[Path | None, typer.Option("--packages", help="Folder of the npm packages; OUT/npm.")] = None,
    sizes: Annotated[str, typer.Option("--sizes", help="Sizes in pixels, separated by commas.")] = "128,256",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that draw.")] = 2,
    config: Annotated[str, typer.Option("--config", help="A TOML file with a \\[data] table.")] = "data-builtin",
) -> None:
    """Fetch the pinned npm packages, draw every picture, write shards and a datasheet."""
    check_sizes(sizes)
    command = [sys.executable, "-m", "danqing.training.builtin.shards", "--config", config, "--out", str(out)]
    command += ["--packages", str(packages)] if packages is not None else []
    raise typer.Exit(run_module([*command, "--sizes", sizes, "--workers", str(workers)]))


def check_sizes(sizes: str) -> None:
    """Refuses what the data tool cannot draw.

    Raises:
        InvalidRequestError: A part is no whole number from 16 to 256.
    """
    parts = [part.strip() for part in sizes.split(",")]
    if not all(part.isdecimal() and SMALLEST_PX <= int(part) <= LARGEST_PX for part in parts):
        raise InvalidRequestError(
            "the sizes cannot be drawn",
            field="--sizes",
            value=sizes,
            allowed=f"whole numbers from {SMALLEST_PX} to {LARGEST_PX}, separated by commas",
        )


def _complaints(row: SetSummary) -> str:
    return ", ".join(f"{count} {complaint.replace('_', ' ')}" for complaint, count in row.complaints.items())


def _imported(report: ImportReport) -> str:
    more = {
        "captions": report.captions,
        "masks": report.masks,
        "control maps": report.conditioning,
        "class pictures": report.regularisation,
        "left out": len(report.skipped),
    }
    told = ", ".join(f"{count} {what}" for what, count in more.items() if count)
    return f"{report.set_name}: {len(report.added)} pictures ({report.layout}){': ' if told else ''}{told}"


def _head(found: TrainingSet) -> str:
    head = found.model_dump(exclude={"pictures"}, exclude_defaults=True)
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in head.items())


def _data(options: StudioOptions, found: TrainingSet) -> dict[str, Any]:
    return {"set": found.model_dump(mode="json"), "folder": str(sets_of(options).folder(found.name))}
