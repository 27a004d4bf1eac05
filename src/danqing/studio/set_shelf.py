"""The part of the Studio that holds training sets, and begins them from the gallery."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cached_property
from typing import cast

from danqing.prompt.plain import plain_parts
from danqing.sets.importing import ImportOptions
from danqing.spec.errors import DanqingError
from danqing.spec.project import VersionTree
from danqing.spec.record import Record
from danqing.spec.training_edit import ImportReport
from danqing.spec.training_set import MAX_CAPTION_CHARS
from danqing.studio.set_works import Eyes, SetWorks
from danqing.studio.settings import Settings
from danqing.studio.training_sets import TrainingSets

SETS_FOLDER = ("training", "sets")
_NETWORKS = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)


class SetShelf(ABC):
    """Training sets of a studio; needs no open studio but for what looks at pictures or takes Records."""

    settings: Settings

    @abstractmethod
    def record(self, record_id: str) -> Record:
        """One Record."""

    @abstractmethod
    def picture_bytes(self, sha256: str) -> bytes:
        """A picture."""

    @abstractmethod
    def version_tree(self, project_id: str) -> VersionTree:
        """The versions of a project."""

    @cached_property
    def training_sets(self) -> TrainingSets:
        """The sets of the data folder."""
        return TrainingSets(self.settings.data_dir.joinpath(*SETS_FOLDER), self.settings.undo_window_s)

    @cached_property
    def set_works(self) -> SetWorks:
        """Checks and captions of this process."""
        return SetWorks(self.training_sets, cast("Eyes", self))

    def words_and_bytes(self, record_id: str) -> tuple[str, bytes]:
        """The words that a picture was painted from, without weights and networks, and the picture. NotFoundError."""
        record = self.record(record_id)
        return plain_words(record.plan.base.text.prompt), self.picture_bytes(record.picture)

    def records_to_set(
        self,
        name: str,
        record_ids: list[str] | None = None,
        project: str | None = None,
        options: ImportOptions | None = None,
    ) -> ImportReport:
        """Take Records, or every version of a project, into a set. NotFoundError."""
        wanted = list(record_ids or ())
        if project is not None:
            wanted += [version.record for version in self.version_tree(project).versions]
        return self.training_sets.import_records(name, wanted, self, options)


def plain_words(prompt: str) -> str:
    """A prompt without weights, networks and schedules, as a caption; as it stands where it cannot be read."""
    try:
        words = " ".join(part.text for part in plain_parts(prompt))
    except DanqingError:
        words = prompt
    return " ".join(re.sub(r"\s+,", ",", _NETWORKS.sub("", words)).split())[:MAX_CAPTION_CHARS].strip(" ,")
