"""`danqing train list | show | resume | pause | cancel | delete | restore | publish | sample`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.options import StudioOptions, WorkerOptions, takes
from danqing.cli.progress import duration
from danqing.cli.session import open_studio, terminal_of
from danqing.cli.train_view import follow, tell_end
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.training_run import SampleEvent, TrainingRun
from danqing.studio.service import Studio
from danqing.studio.training_events import EventTail

_MOST = 500
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Its id, the beginning of it, or its name.")]


@dataclass(frozen=True, kw_only=True)
class ListOptions(StudioOptions):
    """What `list` takes."""

    all_: Annotated[bool, typer.Option("--all", help="Deleted ones too.")] = False
    limit: Annotated[int, typer.Option("--limit", min=1, max=_MOST, help="At most so many.")] = 20


@dataclass(frozen=True, kw_only=True)
class OneOptions(StudioOptions):
    """What commands for one run take."""

    run: RunArgument


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(WorkerOptions):
    """What `resume` takes."""

    run: RunArgument
    later: Annotated[bool, typer.Option("--later", help="Only queue it; `danqing serve` takes it.")] = False


@dataclass(frozen=True, kw_only=True)
class SampleOptions(StudioOptions):
    """What `sample` takes."""

    run: RunArgument
    what: Annotated[
        str | None, typer.Option("--what", metavar="NAME", help="grid, compare, noising …; the newest if unset.")
    ] = None
    step: Annotated[int | None, typer.Option("--step", min=0, help="The last one up to this step.")] = None
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Copy it there.")] = None
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=1, max=4096, help="Paint so many anew: dcgan, wgan, ddpm; with --out."),
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise of what is painted anew.")] = 0


def register(app: typer.Typer) -> None:
    """Add the commands that deal with runs."""
    app.command("list")(takes(ListOptions)(list_runs))
    app.command("show")(takes(OneOptions)(show))
    app.command("resume")(takes(ResumeOptions)(resume))
    app.command("sample")(takes(SampleOptions)(sample))
    changes: tuple[tuple[str, str, Callable[[Studio, str], TrainingRun]], ...] = (
        ("pause", "Have a run write a checkpoint and rest.", lambda studio, run: studio.pause_training(run)),
        ("cancel", "Stop a run; it can be resumed for some days.", lambda studio, run: studio.cancel_training(run)),
        ("delete", "Hide a run; what it made stays.", lambda studio, run: studio.delete_training(run)),
        ("restore", "Bring a deleted run back.", lambda studio, run: studio.restore_training(run)),
        ("publish", "Copy what a run made to the models again.", lambda studio, run: studio.publish_training(run)),
    )
    for name, words, change in changes:
        app.command(name, help=words)(takes(OneOptions)(_changing(change)))


def list_runs(options: ListOptions) -> None:
    """List training runs, newest first."""
    with open_studio(options) as studio:
        runs = studio.training_runs(limit=options.limit, include_deleted=options.all_)
    terminal_of(options).table(
        {"runs": [run.model_dump(mode="json") for run in runs]},
        ("id", "method", "name", "state", "step", "loss", "left", "made"),
        [_row(run) for run in runs],
    )


def show(options: OneOptions) -> None:
    """Show one run: what was asked, how far it is, what it made, what it told."""
    with open_studio(options) as studio:
        run = find_run(studio, options.run)
        folder = studio.training_folder(run.id)
        events = [event.model_dump(mode="json") for _, event in EventTail(folder).take()]
    data = {"run": run.model_dump(mode="json"), "folder": str(folder), "events": events}
    terminal_of(options).result(data, "\n".join(f"{name:10} {value}" for name, value in _lines(run, folder) if value))


def resume(options: ResumeOptions) -> None:
    """Go on with a paused, failed or cancelled run from its checkpoint, and stay with it."""
    terminal = terminal_of(options)
    with open_studio(options) as studio:
        run = find_run(studio, options.run)
        if run.state not in ("queued", "running"):
            run = studio.resume_training(run.id)
        if options.later:
            terminal.result({"run": run.model_dump(mode="json")}, run.id)
            return
        tail = EventTail(studio.training_folder(run.id))
        tail.take()
        tell_end(studio, follow(studio, run.id, terminal, after=tail.number), terminal)


def sample(options: SampleOptions) -> None:
    """Show where the newest picture of a run lies, or copy it; with -n, paint with a model made from nothing."""
    if options.count is not None:
        _paint(options, options.count)
        return
    with open_studio(options) as studio:
        run = find_run(studio, options.run)
        told = [event for _, event in EventTail(studio.training_folder(run.id)).take()]
        samples = [event for event in told if isinstance(event, SampleEvent)]
        found = [
            one
            for one in samples
            if options.what in (None, one.what) and (options.step is None or one.step <= options.step)
        ]
        if not found:
            raise NotFoundError(
                "the run has no such picture",
                field="--what",
                value=options.what,
                allowed=", ".join(sorted({one.what for one in samples})) or "none yet",
                next_step="wait for the first sample: `danqing train show` says how far the run is",
            )
        path = studio.training_picture(run.id, found[-1].file)
    if options.out is not None:
        if options.out.exists():
            raise InvalidRequestError("there is a file already", field="--out", value=str(options.out))
        shutil.copyfile(path, options.out)
        path = options.out
    data = {"path": str(path), "step": found[-1].step, "what": found[-1].what}
    terminal_of(options).result(data, str(path))


def _paint(options: SampleOptions, count: int) -> None:
    """A grid by what a run made, painted in a process of its own."""
    if options.out is None or options.out.exists():
        raise InvalidRequestError(
            "there is a file already" if options.out else "where the grid goes is not said",
            field="--out",
            value=None if options.out is None else str(options.out),
            allowed="a .png or .webp file that is not there yet",
        )
    with open_studio(options) as studio:
        folder = studio.training_folder(find_run(studio, options.run).id)
    command = [sys.executable, "-m", "danqing.training.own.foundation_sample", str(folder)]
    command += ["-n", str(count), "-o", str(options.out), "--seed", str(options.seed)]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own interpreter and module
    if code:
        raise typer.Exit(code)


def find_run(studio: Studio, text: str) -> TrainingRun:
    """The run with this id, the only one whose id begins so, or the newest of this name.

    Raises:
        NotFoundError: There is none.
    """
    runs = studio.training_runs(limit=_MOST, include_deleted=True)
    begins = [run for run in runs if run.id.startswith(text.upper())] if text else []
    named = [run for run in runs if run.request.name == text]
    if len(begins) == 1 or named:
        return begins[0] if len(begins) == 1 else named[0]
    raise NotFoundError(
        "several runs begin so" if begins else "there is no such training run",
        field="RUN",
        value=text,
        next_step="see them with `danqing train list`",
    )


def _changing(change: Callable[[Studio, str], TrainingRun]) -> Callable[[OneOptions], None]:
    def command(options: OneOptions) -> None:
        with open_studio(options) as studio:
            run = change(studio, find_run(studio, options.run).id)
        asked = f" ({run.asked} is asked for)" if run.asked else ""
        deleted = ", deleted" if run.deleted_at else ""
        terminal_of(options).result({"run": run.model_dump(mode="json")}, f"{run.id} {run.state}{deleted}{asked}")

    return command


def _row(run: TrainingRun) -> tuple[str, ...]:
    state = "deleted" if run.deleted_at else run.stage if run.stage == "held" else run.state
    left = duration(run.eta_s) if run.eta_s is not None and run.state in ("queued", "running") else ""
    loss = "" if run.loss is None else f"{run.loss:.4f}"
    steps, made = f"{run.step}/{run.steps}", "nothing" if run.unpublished else run.product or ""
    return (run.id, run.request.method, run.request.name, state, steps, loss, left, made)


def _lines(run: TrainingRun, folder: Path) -> list[tuple[str, str]]:
    error = run.error or {}
    return [
        ("run", run.id),
        ("method", run.request.method),
        ("name", run.request.name),
        ("state", f"{run.state} {run.stage}".strip() + (", deleted" if run.deleted_at else "")),
        ("step", f"{run.step} of {run.steps}"),
        ("loss", "" if run.loss is None else f"{run.loss:.4f}"),
        ("left", "" if run.eta_s is None or run.state != "running" else duration(run.eta_s)),
        ("note", run.note),
        ("error", str(error.get("message", ""))),
        ("said", str(error.get("value", ""))),
        ("next", str(error.get("next_step", ""))),
        ("made", f"nothing, because {run.unpublished}" if run.unpublished else run.product or ""),
        ("files", "\n           ".join(run.published)),
        ("folder", str(folder)),
    ]
