"""Progress leaves by an event stream: plain data, one union, in order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from danqing.spec.base import Data


class _Event(Data):
    job_id: str


class StateEvent(_Event):
    """The job is now in this state."""

    type: Literal["state"] = "state"
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int | None = Field(default=None, description="jobs ahead of it when queued")
    error: dict[str, Any] | None = None


class ProgressEvent(_Event):
    """How far one picture is."""

    type: Literal["progress"] = "progress"
    index: int
    pass_index: int = 0
    step: int
    steps: int
    fraction: float = Field(ge=0, le=1, description="of the whole job")
    eta_s: float | None = None
    stage: str = Field(default="denoise", description="load, encode, denoise, decode, save")


class PreviewEvent(_Event):
    """A picture on its way, small and quick."""

    type: Literal["preview"] = "preview"
    index: int
    step: int
    media_type: str = "image/jpeg"
    data_base64: str


class RecordEvent(_Event):
    """One picture is finished and stored."""

    type: Literal["record"] = "record"
    index: int
    record_id: str
    picture: str


Event = Annotated[StateEvent | ProgressEvent | PreviewEvent | RecordEvent, Field(discriminator="type")]
EVENT: TypeAdapter[StateEvent | ProgressEvent | PreviewEvent | RecordEvent] = TypeAdapter(Event)
