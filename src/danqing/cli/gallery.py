"""`danqing gallery`: what was painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from danqing.cli.interrogate import picture_argument
from danqing.cli.options import ListsByDefault, StudioOptions, WorkerOptions, takes
from danqing.cli.pictures import plan_target, record_row, save_pictures
from danqing.cli.session import open_studio, settings_of, terminal_of

app = typer.Typer(cls=ListsByDefault, add_completion=False)
Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="Records, as `gallery list` shows them.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A Record, as `gallery list` shows it.")]


@dataclass(frozen=True, kw_only=True)
class ListOptions(StudioOptions):
    """What `gallery list` takes."""

    search: Annotated[str, typer.Option("--search", help="Words in the brief.")] = ""
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many, newest first.")] = 20
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Only older ones than this.")] = None
    deleted: Annotated[bool, typer.Option("--deleted", help="Also those in the bin.")] = False


@dataclass(frozen=True, kw_only=True)
class SearchOptions(WorkerOptions):
    """What `gallery search` takes."""

    words: Annotated[str | None, typer.Argument(metavar="[WORDS]", help="What the picture shows.")] = None
    like: Annotated[
        str | None, typer.Option("--like", metavar="PICTURE", help="A file, or record:ID: pictures like this one.")
    ] = None
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many, best first.")] = 20


@dataclass(frozen=True, kw_only=True)
class OneRecord(StudioOptions):
    """A Record."""

    record_id: Id


@dataclass(frozen=True, kw_only=True)
class SomeRecords(StudioOptions):
    """Records."""

    record_ids: Ids


@dataclass(frozen=True, kw_only=True)
class ExportOptions(SomeRecords):
    """What `gallery export` takes."""

    out: Annotated[str | None, typer.Option("-o", "--out", metavar="FILE|DIR", help="Here if unset.")] = None


@app.callback()
def gallery() -> None:
    """List, search, show, export, delete and restore what was painted; lists it if nothing else is said."""


@app.command("list")
@takes(ListOptions)
def list_records(options: ListOptions) -> None:
    """List Records, newest first."""
    with open_studio(options) as studio:
        records = studio.records(
            search=options.search, limit=options.limit, before=options.before, include_deleted=options.deleted
        )
    rows = [record_row(record) for record in records]
    terminal = terminal_of(options)
    terminal.table(
        {"records": rows},
        ("id", "painted", "size", "seed", "model", "brief"),
        [
            (
                row["id"],
                f"{row['created_at'][:16].replace('T', ' ')}{' (bin)' if row['deleted_at'] else ''}",
                f"{row['width_px']}x{row['height_px']}",
                str(row["seed"]),
                row["model"],
                " ".join(row["prompt"].split()),
            )
            for row in rows
        ],
    )
    if not rows:
        terminal.remark('nothing yet; paint something: danqing paint "a red apple, 3d"')


@app.command()
@takes(SearchOptions)
def search(options: SearchOptions) -> None:
    """Find Records by how they look: by words in any of the three languages, by a picture, or by both."""
    like = None
    if options.like is not None:
        like = picture_argument(options.like, "--like", settings_of(options).upload_max_bytes)
    with open_studio(options) as studio:
        found = studio.search(options.words or "", like=like, limit=options.limit)
    rows = [{"score": round(one.score, 4), **record_row(one.record)} for one in found]
    terminal = terminal_of(options)
    terminal.table(
        {"found": rows},
        ("score", "id", "size", "brief"),
        [
            (
                f"{row['score']:.3f}",
                row["id"],
                f"{row['width_px']}x{row['height_px']}",
                " ".join(row["prompt"].split()),
            )
            for row in rows
        ],
    )
    if not rows:
        terminal.remark('the gallery is empty; paint something: danqing paint "a red apple, 3d"')


@app.command()
@takes(OneRecord)
def show(options: OneRecord) -> None:
    """Show one Record: its facts, its infotext and where its picture lies."""
    with open_studio(options) as studio:
        record = studio.record(options.record_id)
        path = studio.picture_path(record.picture)
    data = record_row(record) | {"path": str(path), "infotext": record.infotext}
    lines = [f"{name}: {value}" for name, value in data.items() if value not in (None, "") and name != "infotext"]
    text = "\n".join([*lines, "", record.infotext])
    terminal_of(options).result(data | {"plan": record.plan.model_dump(mode="json")}, text)


@app.command()
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write pictures, metadata included, to a file or folder."""
    target = plan_target(options.out, None)
    with open_studio(options) as studio:
        records = [studio.record(record_id) for record_id in options.record_ids]
        pictures = save_pictures(studio, records, target)
    terminal_of(options).result({"pictures": pictures}, "\n".join(picture["path"] for picture in pictures))


@app.command()
@takes(SomeRecords)
def delete(options: SomeRecords) -> None:
    """Put Records in the bin; `restore` takes them out again inside the undo window."""
    with open_studio(options) as studio:
        for record_id in options.record_ids:
            studio.record(record_id)  # all of them exist, or none is deleted
        records = [studio.delete_record(record_id) for record_id in options.record_ids]
    rows = [{"id": record.id, "deleted_at": record_row(record)["deleted_at"]} for record in records]
    ids = " ".join(record.id for record in records)
    terminal_of(options).result({"deleted": rows}, f"in the bin; to undo: danqing gallery restore {ids}")


@app.command()
@takes(SomeRecords)
def restore(options: SomeRecords) -> None:
    """Take Records out of the bin."""
    with open_studio(options) as studio:
        records = [studio.restore_record(record_id) for record_id in options.record_ids]
    ids = [record.id for record in records]
    terminal_of(options).result({"restored": ids}, f"restored: {' '.join(ids)}")
