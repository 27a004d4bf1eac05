"""Staying with a training run: a moving line with loss and ETA; Ctrl-C pauses it and says how to go on."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from danqing.cli.progress import duration
from danqing.cli.terminal import Terminal
from danqing.spec.errors import CancelledError, ConflictError, DanqingError
from danqing.spec.training_run import NoteEvent, RunEvent, SampleEvent, StepEvent, TrainingRun
from danqing.studio.service import Studio

_PAUSE_WAIT_S = 90.0
_STAGES = {
    "starting": "opening the model",
    "held": "waiting while pictures are painted",
    "stopping": "writing a checkpoint",
    "publishing": "copying what was made",
    "comparing": "painting the sheet by strength",
}
_SAID_SHARE = 0.1


@dataclass
class RunView:
    """Says how a run goes; the plain one a line for each tenth, for logs and pipes."""

    terminal: Terminal
    folder: str = ""
    state: str = ""
    said: float = -1.0

    def show_run(self, run: TrainingRun, ahead: int) -> None:
        """The run as it stands."""
        words = _STAGES.get(run.stage, run.state)
        if run.state == "queued" and ahead:
            words = f"queued behind {ahead}"
        if run.stage != "training" and words != self.state:
            self.remark(words)
        self.state = words

    def show(self, event: RunEvent, steps: int) -> None:
        """An event."""
        if isinstance(event, NoteEvent):
            self.remark(event.words)
        elif isinstance(event, SampleEvent):
            self.remark(f"sample: {self.folder}/{event.file}")
        elif isinstance(event, StepEvent):
            self.step(event, steps)

    def step(self, event: StepEvent, steps: int) -> None:
        """How far it is."""
        share = event.step / max(1, steps)
        if share - self.said >= _SAID_SHARE or event.step == steps:
            self.said = share
            self.remark(line_of(event, steps))

    def remark(self, text: str) -> None:
        """A line that stays."""
        self.terminal.remark(text)


@dataclass
class LiveRunView(RunView):
    """A bar that moves, on a terminal."""

    bar: Progress = field(default_factory=Progress)
    task: TaskID = field(default_factory=lambda: TaskID(0))

    def show_run(self, run: TrainingRun, ahead: int) -> None:
        """The run as it stands."""
        words = f"queued behind {ahead}" if run.state == "queued" and ahead else _STAGES.get(run.stage, "")
        if words:
            self.bar.update(self.task, description=words)

    def step(self, event: StepEvent, steps: int) -> None:
        """How far it is."""
        self.bar.update(self.task, total=steps, completed=event.step, description=line_of(event, steps))

    def remark(self, text: str) -> None:
        """A line above the bar."""
        self.bar.console.print(text, markup=False, highlight=False)


def line_of(event: StepEvent, steps: int) -> str:
    """How far a run is, in a line.

    >>> line_of(StepEvent(step=30, loss=0.12345, eta_s=75.0, samples_per_s=8.04), 300)
    'step 30/300 · loss 0.1235 · 8.0 pictures/s · 1:15 left'
    """
    parts = [f"step {event.step}/{steps}"]
    parts += [] if event.loss is None else [f"loss {event.loss:.4f}"]
    parts += [f"{name} {value:.3g}" for name, value in event.parts.items()]
    parts += [] if event.samples_per_s is None else [f"{event.samples_per_s:.1f} pictures/s"]
    parts += [] if event.eta_s is None else [f"{duration(event.eta_s)} left"]
    return " · ".join(parts)


def follow(studio: Studio, run_id: str, terminal: Terminal, after: int = 0) -> TrainingRun:
    """Watch a run until it rests or has ended. Ctrl-C pauses it.

    Raises:
        KeyboardInterrupt: It was paused here.
    """
    with _view(terminal, str(studio.training_folder(run_id))) as view:
        try:
            _watch(studio, run_id, view, after)
        except KeyboardInterrupt:
            _pause(studio, run_id, view)
            raise
    return studio.training_run(run_id)


def tell_end(studio: Studio, run: TrainingRun, terminal: Terminal) -> None:
    """The result of a run that rests or has ended.

    Raises:
        DanqingError: What it failed with.
        CancelledError: It was cancelled elsewhere.
    """
    if run.state == "failed":
        raise DanqingError.from_dict(run.error or {})
    if run.state == "cancelled":
        raise CancelledError(
            "the run was cancelled", value=run.id, next_step=f"go on with: danqing train resume {run.id}"
        )
    folder = studio.training_folder(run.id)
    if run.state == "paused":
        terminal.remark(f"paused at step {run.step}; go on with: danqing train resume {run.id}")
    elif run.unpublished:
        terminal.remark(f"nothing was published, because {run.unpublished}")
    elif run.product is not None:
        terminal.remark(f"{run.product} is in the catalogue")
    lines = list(run.published) or [str(folder)]
    terminal.result({"run": run.model_dump(mode="json"), "folder": str(folder)}, "\n".join(lines))


def _watch(studio: Studio, run_id: str, view: RunView, after: int) -> None:
    steps = studio.training_run(run_id).steps
    for _, told in studio.watch_training(run_id, after=after, rests=("paused",)):
        if isinstance(told, TrainingRun):
            steps = told.steps or steps
            waiting = studio.trainings_waiting() if told.state == "queued" else []
            view.show_run(told, waiting.index(run_id) if run_id in waiting else 0)
        else:
            steps = getattr(told, "steps", steps)
            view.show(told, steps)


def _pause(studio: Studio, run_id: str, view: RunView) -> None:
    view.remark("pausing: a checkpoint is written …")
    try:
        studio.pause_training(run_id)
    except ConflictError:
        return  # it ended in the meantime
    deadline = time.monotonic() + _PAUSE_WAIT_S
    while studio.training_run(run_id).state in ("running", "queued") and time.monotonic() < deadline:
        time.sleep(0.1)
    run = studio.training_run(run_id)
    view.remark(f"{run.state} at step {run.step} of {run.steps}; go on with: danqing train resume {run_id}")


@contextmanager
def _view(terminal: Terminal, folder: str) -> Generator[RunView]:
    if not terminal.shows_progress:
        yield RunView(terminal, folder)
        return
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=terminal.error_console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield LiveRunView(terminal, folder, bar=bar, task=task)
