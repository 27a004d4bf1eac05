"""What the front and a worker process say to each other: one JSON object a line, over the worker's stdin and stdout.

The worker reads `Command`s from stdin and writes `Message`s to the file descriptor it was started with as stdout
(libraries that print go to stderr). End of input on stdin means the front has gone: the worker stops at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from danqing.spec.base import Data, Sha256
from danqing.spec.events import PreviewEvent, ProgressEvent
from danqing.spec.plan import Plan
from danqing.spec.record import Timings, Versions


class PictureWork(Data):
    """One picture still to be painted."""

    index: int
    plan: Plan


class RunCommand(Data):
    """Paint these pictures of this job."""

    type: Literal["run"] = "run"
    job_id: str
    user: str = "local"
    priority: int = 0
    pictures: tuple[PictureWork, ...]


class CancelCommand(Data):
    """Stop a job within one step."""

    type: Literal["cancel"] = "cancel"
    job_id: str


class ShutdownCommand(Data):
    """Finish nothing, leave in order."""

    type: Literal["shutdown"] = "shutdown"


Command = Annotated[RunCommand | CancelCommand | ShutdownCommand, Field(discriminator="type")]
COMMAND: TypeAdapter[RunCommand | CancelCommand | ShutdownCommand] = TypeAdapter(Command)


class ReadyMessage(Data):
    """The worker has started and takes commands."""

    type: Literal["ready"] = "ready"
    versions: Versions
    memory_bytes: int = 0


class PictureMessage(Data):
    """A picture is finished; its bytes already lie in the blob store."""

    type: Literal["picture"] = "picture"
    job_id: str
    index: int
    picture: Sha256
    thumbnail: Sha256 | None
    media_type: str
    width_px: int
    height_px: int
    infotext: str
    timings: Timings
    versions: Versions


class JobDoneMessage(Data):
    """Every picture of the RunCommand is finished."""

    type: Literal["job_done"] = "job_done"
    job_id: str


class JobFailedMessage(Data):
    """The job stopped with an error (`DanqingError.as_dict`)."""

    type: Literal["job_failed"] = "job_failed"
    job_id: str
    error: dict[str, Any]


class JobCancelledMessage(Data):
    """The job stopped because it was told to."""

    type: Literal["job_cancelled"] = "job_cancelled"
    job_id: str


Message = Annotated[
    ReadyMessage
    | ProgressEvent
    | PreviewEvent
    | PictureMessage
    | JobDoneMessage
    | JobFailedMessage
    | JobCancelledMessage,
    Field(discriminator="type"),
]
MESSAGE: TypeAdapter[
    ReadyMessage
    | ProgressEvent
    | PreviewEvent
    | PictureMessage
    | JobDoneMessage
    | JobFailedMessage
    | JobCancelledMessage
] = TypeAdapter(Message)
