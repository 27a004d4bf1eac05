"""What the parts of the Studio that deal with projects share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from danqing.spec.record import Record
from danqing.store.projects_base import ProjectsStore
from danqing.studio.feed import Feed


class ProjectParts(ABC):
    """The open studio, as far as projects, links, reviews and exports need it."""

    @property
    @abstractmethod
    def _projects(self) -> ProjectsStore:
        """The open studio's projects."""

    @property
    @abstractmethod
    def _feed(self) -> Feed:
        """What happens in them."""

    @abstractmethod
    def record(self, record_id: str) -> Record:
        """One Record."""

    @abstractmethod
    def picture_bytes(self, sha256: str) -> bytes:
        """A picture."""
