"""What was made, and the state of the work that makes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from danqing.spec.base import Data, Sha256
from danqing.spec.plan import Plan
from danqing.spec.request import Request

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL_STATES = frozenset({"done", "failed", "cancelled"})


class Timings(Data):
    """Seconds spent, by what they were spent on."""

    queued_s: float = 0.0
    total_s: float = 0.0
    by_call_s: dict[str, float] = Field(default_factory=dict[str, float])


class Versions(Data):
    """What painted the picture: enough to know why a repaint could differ."""

    danqing: str
    torch: str = ""
    diffusers: str = ""
    device: str = ""
    precision: str = ""
    executor: str = ""


class Record(Data):
    """A finished picture. Immutable."""

    id: str
    job_id: str
    index: int = Field(ge=0, description="which picture of the job")
    plan: Plan
    picture: Sha256
    thumbnail: Sha256 | None = None
    media_type: str = "image/png"
    width_px: int
    height_px: int
    infotext: str = ""
    timings: Timings = Timings()
    versions: Versions
    parent: str | None = None
    created_at: datetime
    deleted_at: datetime | None = Field(default=None, description="set inside the undo window of a deletion")


class Job(Data):
    """A Request on its way to Records. Durable."""

    id: str
    state: JobState
    request: Request
    plans: tuple[Plan, ...]
    user: str = "local"
    priority: int = 0
    attempts: int = 0
    progress: float = Field(default=0.0, ge=0, le=1)
    records: tuple[str, ...] = Field(default=(), description="ids of the finished pictures, in the order of the plans")
    error: dict[str, Any] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINAL_STATES
