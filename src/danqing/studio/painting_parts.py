"""What parts of the Studio that paint many pictures need of it."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod

from PIL import Image

from danqing.spec.plan import Plan
from danqing.spec.record import Job, Record
from danqing.spec.request import Request
from danqing.store.projects_base import Tie


class Painting(ABC):
    """Planning, queueing, and the pictures that come of it."""

    @abstractmethod
    def _planned(self, request: Request) -> tuple[Plan, ...]:
        """The Plans of a Request; nothing is queued."""

    @abstractmethod
    def _queue(
        self, request: Request, plans: tuple[Plan, ...], *, user: str, priority: int, tie: Tie | None = None
    ) -> Job:
        """A durable job, tied to a project if its Records join one."""

    @abstractmethod
    def cancel(self, job_id: str) -> Job:
        """Stop a job."""

    @abstractmethod
    def record(self, record_id: str) -> Record:
        """One Record."""

    @abstractmethod
    def picture_bytes(self, sha256: str) -> bytes:
        """A picture."""

    def opened(self, record: Record) -> Image.Image:
        """A Record's picture, in memory."""
        with Image.open(io.BytesIO(self.picture_bytes(record.picture))) as picture:
            picture.load()
            return picture
