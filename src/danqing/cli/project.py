"""`danqing project`: briefs, versions, links for clients, what they said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing.cli.options import ListsByDefault, StudioOptions, WorkerOptions, takes
from danqing.cli.pictures import record_row
from danqing.cli.session import follow, open_studio, terminal_of
from danqing.spec.errors import DanqingError, InvalidRequestError
from danqing.spec.project import Brief, Version
from danqing.spec.review import Review
from danqing.spec.share import ShareOrder, Shown
from danqing.store.owners import utc_now
from danqing.store.projects_base import ProjectQuery, ReviewQuery

app = typer.Typer(cls=ListsByDefault, add_completion=False)
ProjectId = Annotated[str, typer.Argument(metavar="PROJECT", help="As `project list` shows it.")]
_INDENT = "  "


@app.callback()
def project() -> None:
    """Briefs, versions, links for clients, and what clients said; lists the projects if nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class NewOptions(StudioOptions):
    """What `project new` takes."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="What you will know it by.")]
    words: Annotated[str, typer.Option("--words", help="The brief in plain words, in any language.")] = ""
    colour: Annotated[list[str] | None, typer.Option("--colour", metavar="#RRGGBB", help="Repeatable.")] = None
    do: Annotated[list[str] | None, typer.Option("--do", help="What must be so. Repeatable.")] = None
    dont: Annotated[list[str] | None, typer.Option("--dont", help="What must not be so. Repeatable.")] = None
    size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="Of the deliverable, in pixels.")] = None


@dataclass(frozen=True, kw_only=True)
class ListOptions(StudioOptions):
    """What `project list` takes."""

    search: Annotated[str, typer.Option("--search", help="Words in the name or the brief.")] = ""
    archived: Annotated[bool, typer.Option("--archived", help="Those that are archived instead.")] = False
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many, newest first.")] = 50


@dataclass(frozen=True, kw_only=True)
class OneProject(StudioOptions):
    """A project."""

    project: ProjectId


@dataclass(frozen=True, kw_only=True)
class AddOptions(OneProject):
    """What `project add` takes."""

    record_ids: Annotated[list[str], typer.Argument(metavar="RECORD…", help="As `gallery list` shows them.")]


@dataclass(frozen=True, kw_only=True)
class ShareOptions(OneProject):
    """What `project share` takes."""

    title: Annotated[str | None, typer.Option("--title", help="For the client; the project's name if unset.")] = None
    record: Annotated[
        list[str] | None, typer.Option("--record", metavar="ID", help="Repeatable; the current one, or all, if unset.")
    ] = None
    days: Annotated[int | None, typer.Option("--days", min=1, max=3650, help="Open so long; for good if unset.")] = None
    follow: Annotated[bool, typer.Option("--follow", help="New versions of these appear by themselves.")] = False
    ask_password: Annotated[bool, typer.Option("--password", help="Ask for a password that the client needs.")] = False
    prompts: Annotated[bool, typer.Option("--prompts", help="Let the client read the prompts.")] = False
    brief: Annotated[bool, typer.Option("--brief", help="Let the client read the brief.")] = False
    language: Annotated[str, typer.Option("--language", help="Of the client's page: en, zh-Hans, zh-Hant.")] = "en"
    address: Annotated[str, typer.Option("--address", metavar="URL", help="Where clients reach this studio.")] = (
        "http://127.0.0.1:7860"
    )


@dataclass(frozen=True, kw_only=True)
class ReviewsOptions(OneProject):
    """What `project reviews` takes."""

    open_only: Annotated[bool, typer.Option("--open", help="Only those with open suggestions.")] = False
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, newest first.")] = 100


@dataclass(frozen=True, kw_only=True)
class ApplyOptions(WorkerOptions):
    """What `project apply` takes."""

    suggestion: Annotated[str, typer.Argument(metavar="SUGGESTION", help="As `project reviews` shows it.")]
    prompt: Annotated[str | None, typer.Option("--prompt", help="Other words than proposed.")] = None
    strength: Annotated[float | None, typer.Option("--strength", help="0 keeps the picture, 1 repaints it.")] = None
    count: Annotated[int | None, typer.Option("--count", help="So many versions.")] = None
    seed: Annotated[int | None, typer.Option("--seed", help="Random if unset.")] = None
    hidden: Annotated[bool, typer.Option("--hidden", help="Do not show the outcome on the link.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the Request that it would be.")] = False


@dataclass(frozen=True, kw_only=True)
class ExportOptions(OneProject):
    """What `project export` takes."""

    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Named after it if unset.")] = None
    language: Annotated[str, typer.Option("--language", help="Of the contact sheet: en, zh-Hans, zh-Hant.")] = "en"


@app.command()
@takes(NewOptions)
def new(options: NewOptions) -> None:
    """Make a project from a brief."""
    data = {
        "words": options.words,
        "palette": options.colour or [],
        "do": options.do or [],
        "dont": options.dont or [],
        "size": _size(options.size),
    }
    brief = _checked(Brief, data)
    with open_studio(options) as studio:
        project = studio.create_project(options.name, brief)
    terminal_of(options).result({"project": project.model_dump(mode="json")}, project.id)


@app.command("list")
@takes(ListOptions)
def list_projects(options: ListOptions) -> None:
    """List projects, newest first."""
    query = ProjectQuery(options.search, "archived" if options.archived else "active", options.limit)
    with open_studio(options) as studio:
        found = studio.projects(query)
    terminal = terminal_of(options)
    terminal.table(
        {"projects": [one.model_dump(mode="json") for one in found]},
        ("id", "versions", "reviews", "open", "links", "name"),
        [
            (
                one.project.id,
                str(one.versions),
                str(one.reviews),
                str(one.open_suggestions),
                str(one.shares),
                one.project.name,
            )
            for one in found
        ],
    )
    if not found:
        terminal.remark('none yet; make one: danqing project new "Tea house poster"')


@app.command()
@takes(OneProject)
def show(options: OneProject) -> None:
    """Show a project: its brief and its versions as a tree."""
    with open_studio(options) as studio:
        summary = studio.project_summary(options.project)
        tree = studio.version_tree(options.project)
        shares = studio.shares(options.project)
    nodes = {version.record: version for version in tree.versions}
    lines = [summary.project.name, summary.project.brief.words, ""]
    for root in tree.roots:
        lines += _branch(nodes, root)
    data = {
        **summary.model_dump(mode="json"),
        "tree": tree.model_dump(mode="json"),
        "links": [share.model_dump(mode="json") for share in shares],
    }
    terminal_of(options).result(data, "\n".join(lines))


@app.command()
@takes(AddOptions)
def add(options: AddOptions) -> None:
    """Let pictures of the gallery join a project."""
    with open_studio(options) as studio:
        items = studio.add_to_project(options.project, options.record_ids)
    rows = [item.model_dump(mode="json") for item in items]
    terminal_of(options).result({"items": rows}, f"{len(items)} in the project")


@app.command()
@takes(ShareOptions)
def share(options: ShareOptions) -> None:
    """Make a link for a client. It is told this once: only its hash is kept."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if options.ask_password else None
    expires_at = None if options.days is None else utc_now() + timedelta(days=options.days)
    with open_studio(options) as studio:
        title = options.title or studio.project(options.project).name
        data = {
            "name": title,
            "records": None if options.record is None else tuple(options.record),
            "follow": options.follow,
            "shown": Shown(prompts=options.prompts, brief=options.brief),
            "language": options.language,
            "expires_at": expires_at,
            "password": password,
        }
        made = studio.create_share(options.project, _checked(ShareOrder, data))
    link = f"{options.address.rstrip('/')}{made.path}"
    terminal = terminal_of(options)
    terminal.result({"share": made.share.model_dump(mode="json"), "link": link, "token": made.token}, link)
    terminal.remark("keep it: the link cannot be shown again. `danqing serve` must run for it to open")


@app.command()
@takes(ReviewsOptions)
def reviews(options: ReviewsOptions) -> None:
    """Show what was said, newest first."""
    query = ReviewQuery(options.project, state="open" if options.open_only else None, limit=options.limit)
    with open_studio(options) as studio:
        found = studio.reviews(query)
    text = "\n\n".join(_told(review) for review in found)
    terminal = terminal_of(options)
    terminal.result({"reviews": [review.model_dump(mode="json") for review in found]}, text)
    if not found:
        terminal.remark("nobody has said anything yet")


@app.command()
@takes(ApplyOptions)
def apply(options: ApplyOptions) -> None:
    """Carry a suggestion out: a new version, with the old one as its parent."""
    given = {name: getattr(options, name) for name in ("prompt", "strength", "count", "seed")}
    changes = {name: value for name, value in given.items() if value is not None}
    terminal = terminal_of(options)
    with open_studio(options) as studio:
        if options.dry_run:
            draft = studio.draft(options.suggestion, changes)
            request = {"kind": draft.kind} | draft.model_dump(mode="json", exclude_defaults=True)
            terminal.result({"request": request}, "\n".join(f"{name}: {value}" for name, value in request.items()))
            return
        job = studio.apply_suggestion(options.suggestion, changes, show=not options.hidden)
        done = follow(studio, job, terminal)
        records = [studio.record(record_id) for record_id in done.records]
    rows = [record_row(record) for record in records]
    terminal.result({"records": rows}, "\n".join(record.id for record in records))


@app.command()
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write pictures, Plans, brief, reviews and a contact sheet into one ZIP."""
    with open_studio(options) as studio:
        packed = studio.export_project(options.project, options.language)
        target = options.out or Path(packed.name)
        if target.is_dir():
            target /= packed.name
        temporary = target.with_name(f"{target.name}.part")
        try:
            with temporary.open("wb") as file:
                for chunk in packed.chunks:
                    file.write(chunk)
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DanqingError(
                f"the ZIP cannot be written: {error.strerror}",
                field="--out",
                value=str(target),
                next_step="choose another place, or make room on the disk",
            ) from error
    terminal_of(options).result({"path": str(target), "bytes": target.stat().st_size}, str(target))


def _size(text: str | None) -> dict[str, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InvalidRequestError(
            "this is no size", field="--size", value=text, allowed="WIDTHxHEIGHT, for example 1024x1536"
        )
    return {"width_px": int(width), "height_px": int(height)}


def _checked(model: Any, data: dict[str, Any]) -> Any:
    """The model of what was given. InvalidRequestError says what is wrong with it."""
    from pydantic import ValidationError

    from danqing.spec.complaints import from_validation_error

    try:
        return model(**data)
    except ValidationError as error:
        raise from_validation_error(error, (model,)) from error


def _branch(nodes: dict[str, Version], record_id: str) -> list[str]:
    version = nodes[record_id]
    marks = "".join(
        mark
        for mark, holds in (
            (" *", version.current),
            (" approved", version.approved),
            (f" {version.open_suggestions} open", version.open_suggestions),
        )
        if holds
    )
    changed = ", ".join(change.field for change in version.changes[:6])
    line = f"{_INDENT * version.depth}{version.record}{marks}  {' '.join(version.prompt.split())}"
    found = [f"{line}  [{changed}]" if changed else line]
    for child in version.children:
        found += _branch(nodes, child)
    return found


def _told(review: Review) -> str:
    marks = [name for name in ("approved", "picked", "starred") if getattr(review, name)]
    lines = [f"{review.reviewer} on {review.record_id}{': ' + ', '.join(marks) if marks else ''}"]
    if review.note:
        lines.append(f"{_INDENT}{review.note}")
    for one in review.suggestions:
        place = "whole picture" if one.bounds is None else "{},{} … {},{}".format(*one.bounds)
        results = f" → {' '.join(one.results)}" if one.results else ""
        lines.append(f"{_INDENT}{one.id} [{one.state}] {place}: {one.prompt}{results}")
    return "\n".join(lines)
