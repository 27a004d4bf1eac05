"""The ways into a training set: a folder or a ZIP of this machine, an upload, pictures of the gallery."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from danqing.sets.importing import ImportOptions
from danqing.sets.layouts import ImportPlan, Planned
from danqing.sets.sources import FolderSource, GivenSource, Source, ZipSource
from danqing.spec.errors import NotFoundError
from danqing.spec.training_edit import ImportReport


class PictureShelf(Protocol):
    """The Records that a set can be begun from."""

    def words_and_bytes(self, record_id: str) -> tuple[str, bytes]:
        """What a picture was painted from, and the picture. NotFoundError."""
        ...


class SetIntake(ABC):
    """Every import ends in `import_source`."""

    @abstractmethod
    def import_source(
        self, name: str, source: Source, options: ImportOptions, plan: ImportPlan | None = None
    ) -> ImportReport:
        """Take whatever a source holds in."""

    def import_path(self, name: str, path: Path, options: ImportOptions | None = None) -> ImportReport:
        """Take a folder, a ZIP or one picture of this machine in; for the command line, never for a client's words.

        Raises:
            NotFoundError: There is nothing there.
            BadFileError: The ZIP or a list in it is damaged or hostile.
        """
        how = options or ImportOptions()
        if path.is_dir():
            return self.import_source(name, FolderSource(path, how.limits), how)
        if path.suffix.lower() == ".zip" and path.is_file():
            with ZipSource(path, how.limits) as source:
                return self.import_source(name, source, how)
        if not path.is_file():
            raise NotFoundError(
                "there is no such folder or file",
                field="source",
                value=str(path),
                allowed="a folder, a ZIP, or a picture",
                next_step="check the path",
            )
        beside = [path, *(path.with_suffix(suffix) for suffix in (".txt", ".caption"))]
        files = {one.name: one.read_bytes for one in beside if one.is_file()}
        return self.import_source(name, GivenSource(files, how.limits), how)

    def import_zip(
        self, name: str, file: IO[bytes], title: str = "", options: ImportOptions | None = None
    ) -> ImportReport:
        """Take an uploaded ZIP in. BadFileError."""
        how = options or ImportOptions()
        with ZipSource(file, how.limits, title) as source:
            return self.import_source(name, source, how)

    def import_files(self, name: str, files: Mapping[str, bytes], options: ImportOptions | None = None) -> ImportReport:
        """Take uploaded pictures in, with the `.txt` files among them as captions."""
        how = options or ImportOptions()
        given = {file: (lambda data=data: data) for file, data in files.items()}
        return self.import_source(name, GivenSource(given, how.limits), how)

    def import_records(
        self, name: str, record_ids: Sequence[str], shelf: PictureShelf, options: ImportOptions | None = None
    ) -> ImportReport:
        """Take pictures of the gallery in; their prompts become captions. NotFoundError."""
        how = options or ImportOptions()
        found = {record_id: shelf.words_and_bytes(record_id) for record_id in dict.fromkeys(record_ids)}
        files = {record_id: (lambda data=data: data) for record_id, (_, data) in found.items()}
        planned = tuple(Planned(record_id, words) for record_id, (words, _) in found.items())
        return self.import_source(name, GivenSource(files, how.limits), how, ImportPlan("plain", planned))
