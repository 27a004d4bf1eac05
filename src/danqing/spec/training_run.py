"""A training run: what it was asked, how far it is, what it made. And what its process tells, line by line.

A run is a folder: `request.json`, `events.jsonl` (one `RunEvent` a line, appended), `checkpoint.pt`, `samples/`,
TensorBoard's `logs/`, and in the end `model/` with what it made and its card. The process that trains writes there and
nowhere else; whoever watches reads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from danqing.spec.base import Data
from danqing.spec.training import AnyTraining

RunState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
RUN_FINAL_STATES = frozenset({"done", "failed", "cancelled"})
RunStage = Literal["", "starting", "training", "held", "stopping", "publishing", "comparing"]
"""What a running one does now; `held`: it waits while pictures are painted."""
PAUSED_EXIT_CODE = 75
"""Of a trainer that wrote a checkpoint and left because it was asked to (SIGTERM or SIGINT); EX_TEMPFAIL."""


class Estimate(Data):
    """What a run will cost, told before it starts.

    Attributes:
        seconds: Until the end; None where nothing like it was ever measured on this machine.
        memory_bytes: At its height, in main memory, or in the GPU's where there is one.
        free_bytes: What is there.
        trainable_parameters: Numbers that are learnt.
        reasons: Why it cannot start; empty where it can.
        warnings: What a person should know, for example "three pictures are blurred".
    """

    seconds: float | None = Field(default=None, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    free_bytes: int = Field(default=0, ge=0)
    trainable_parameters: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class StartEvent(Data):
    """The trainer is ready for its first step (or its first after a pause)."""

    type: Literal["start"] = "start"
    at: datetime
    step: int = 0
    steps: int
    parameters: int = 0
    device: str = ""
    note: str = ""


class StepEvent(Data):
    """How far it is; about twice a second at most.

    Attributes:
        loss: Smoothed.
        parts: Other figures of this step by name, for example `generator`, `critic`.
    """

    type: Literal["step"] = "step"
    step: int
    loss: float | None = None
    parts: dict[str, float] = Field(default_factory=dict[str, float])
    learning_rate: float | None = None
    samples_per_s: float | None = None
    eta_s: float | None = None


class SampleEvent(Data):
    """A picture of what it can do by now; `file` is relative to the run's folder."""

    type: Literal["sample"] = "sample"
    step: int
    file: str
    what: str = Field(default="grid", description="grid, noising, denoising, loss, compare …")


class CheckpointEvent(Data):
    """A checkpoint was written; `score` is what the best one is picked by (higher is better)."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    file: str
    score: float | None = None


class NoteEvent(Data):
    """Something a person should know; `words` are plain English."""

    type: Literal["note"] = "note"
    words: str


class EndEvent(Data):
    """It is over, or rests.

    Attributes:
        files: What was made, relative to the run's folder.
        unpublished: Why nothing of it is worth publishing, in plain English that follows "because"; empty where it is.
        error: Of the error tree, as data.
    """

    type: Literal["end"] = "end"
    at: datetime
    state: RunState
    step: int
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict[str, float])
    unpublished: str = ""
    error: dict[str, Any] | None = None


RunEvent = Annotated[
    StartEvent | StepEvent | SampleEvent | CheckpointEvent | NoteEvent | EndEvent, Field(discriminator="type")
]
RUN_EVENT: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


class TrainingRun(Data):
    """A run as it stands. Durable.

    Attributes:
        folder: Where it lies, below the data folder.
        stage: What it does now, while it runs.
        note: What a person should know now, in plain English; empty for nothing.
        asked: What somebody asked for and has not happened yet.
        device: Where it runs, as the settings name it; empty until it began.
        estimate: As told before it began.
        attempts: Starts since it last got on; reset by every new checkpoint.
        product: Name in the catalogue of what was made, once it is there.
        published: The files of the product where the catalogue finds them.
        unpublished: Why a run that is done has nothing to publish, in plain English that follows "because".
        deleted_at: When it was deleted; it can be restored within the undo window.
    """

    id: str
    state: RunState
    request: AnyTraining
    folder: str
    step: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    loss: float | None = None
    eta_s: float | None = None
    stage: RunStage = ""
    note: str = ""
    asked: Literal["pause", "cancel"] | None = None
    device: str = ""
    estimate: Estimate | None = None
    attempts: int = Field(default=0, ge=0)
    product: str | None = None
    published: tuple[str, ...] = ()
    unpublished: str = ""
    error: dict[str, Any] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deleted_at: datetime | None = None
