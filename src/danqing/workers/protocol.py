"""What the front and a worker process say to each other: one JSON object a line, over the worker's stdin and stdout.

The worker reads `Command`s from stdin and writes `Message`s to the file descriptor it was started with as stdout
(libraries that print go to stderr). End of input on stdin means the front has gone: the worker stops at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from danqing.review.findings import Findings
from danqing.spec.base import Data, Sha256
from danqing.spec.events import PreviewEvent, ProgressEvent
from danqing.spec.plan import Plan
from danqing.spec.record import Timings, Versions
from danqing.spec.refine import Scores
from danqing.spec.registry.interrogators import BUILTIN
from danqing.spec.sight import Interrogation
from danqing.spec.upscale import UpscalePlan


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


class PictureSource(Data):
    """A picture to look at: one in the blob store, or the bytes themselves (nothing of a mere question is kept)."""

    sha256: Sha256 | None = None
    data_base64: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.sha256 is None) == (self.data_base64 is None):
            raise ValueError("give either sha256 or data_base64")
        return self


class InterrogateCommand(Data):
    """Say in words what a picture shows."""

    type: Literal["interrogate"] = "interrogate"
    task_id: str
    picture: PictureSource
    tags: int = Field(default=12, ge=0, le=100)
    interrogator: str = BUILTIN
    threshold: float | None = Field(default=None, ge=0, le=1)
    character_threshold: float | None = Field(default=None, ge=0, le=1)


class EmbedCommand(Data):
    """Give the mini-CLIP embeddings of texts and pictures."""

    type: Literal["embed"] = "embed"
    task_id: str
    texts: tuple[str, ...] = ()
    pictures: tuple[PictureSource, ...] = ()


class UpscaleCommand(Data):
    """Make a picture larger."""

    type: Literal["upscale"] = "upscale"
    task_id: str
    plan: UpscalePlan
    user: str = "local"


class ReviewCommand(Data):
    """Say what to change in a picture; `reviewer` is one that needs torch (`review.base`)."""

    type: Literal["review"] = "review"
    task_id: str
    picture: PictureSource
    brief: str
    reviewer: str = BUILTIN


class JudgeCommand(Data):
    """Score pictures of one brief; the first one is what the others are compared with."""

    type: Literal["judge"] = "judge"
    task_id: str
    brief: str
    pictures: tuple[PictureSource, ...] = Field(min_length=1, max_length=16)


SightCommand = InterrogateCommand | EmbedCommand | ReviewCommand | JudgeCommand
"""Questions that are answered beside the painting."""
TaskCommand = InterrogateCommand | EmbedCommand | UpscaleCommand | ReviewCommand | JudgeCommand
Command = Annotated[
    RunCommand
    | CancelCommand
    | ShutdownCommand
    | InterrogateCommand
    | EmbedCommand
    | UpscaleCommand
    | ReviewCommand
    | JudgeCommand,
    Field(discriminator="type"),
]
COMMAND: TypeAdapter[
    RunCommand
    | CancelCommand
    | ShutdownCommand
    | InterrogateCommand
    | EmbedCommand
    | UpscaleCommand
    | ReviewCommand
    | JudgeCommand
] = TypeAdapter(Command)


class ReadyMessage(Data):
    """The worker has started and takes commands."""

    type: Literal["ready"] = "ready"
    versions: Versions
    memory_bytes: int = 0
    choices: tuple[str, ...] = Field(default=(), description="precision and memory, and why, in sentences")


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


class InterrogatedMessage(Data):
    """The answer to an InterrogateCommand."""

    type: Literal["interrogated"] = "interrogated"
    task_id: str
    interrogation: Interrogation


class EmbeddedMessage(Data):
    """The answer to an EmbedCommand: unit vectors, as base64 of float32 `[n, dim]` (`store.vectors.from_text`).

    Attributes:
        model: Content hash of the mini-CLIP; vectors of different ones cannot be compared.
        dim: Width of a vector.
        scale: A picture and a text belong together with probability σ(scale · cosine + bias).
        bias: As above.
        texts: One row for each text.
        pictures: One row for each picture; zeros for one that cannot be read.
    """

    type: Literal["embedded"] = "embedded"
    task_id: str
    model: Sha256
    dim: int = Field(ge=1)
    scale: float
    bias: float
    texts: str = ""
    pictures: str = ""


class TaskFailedMessage(Data):
    """A question or an UpscaleCommand that failed (`DanqingError.as_dict`)."""

    type: Literal["task_failed"] = "task_failed"
    task_id: str
    error: dict[str, Any]


class UpscaledMessage(Data):
    """The answer to an UpscaleCommand: the picture lies in the blob store."""

    type: Literal["upscaled"] = "upscaled"
    task_id: str
    picture: Sha256
    media_type: str
    width_px: int
    height_px: int
    seconds: float = 0.0


class ReviewedMessage(Data):
    """The answer to a ReviewCommand."""

    type: Literal["reviewed"] = "reviewed"
    task_id: str
    findings: Findings


class JudgedMessage(Data):
    """The answer to a JudgeCommand: one score for each picture, in their order."""

    type: Literal["judged"] = "judged"
    task_id: str
    scores: tuple[Scores, ...]


TaskMessage = (
    InterrogatedMessage | EmbeddedMessage | UpscaledMessage | ReviewedMessage | JudgedMessage | TaskFailedMessage
)
Message = Annotated[
    ReadyMessage
    | ProgressEvent
    | PreviewEvent
    | PictureMessage
    | JobDoneMessage
    | JobFailedMessage
    | JobCancelledMessage
    | InterrogatedMessage
    | EmbeddedMessage
    | UpscaledMessage
    | ReviewedMessage
    | JudgedMessage
    | TaskFailedMessage,
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
    | InterrogatedMessage
    | EmbeddedMessage
    | UpscaledMessage
    | ReviewedMessage
    | JudgedMessage
    | TaskFailedMessage
] = TypeAdapter(Message)
