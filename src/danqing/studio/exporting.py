"""The part of the Studio that packs a project: one ZIP with everything, written while it is sent."""

from __future__ import annotations

import json
import re
import unicodedata
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.spec.project import Project, Version, VersionTree
from danqing.spec.record import Record
from danqing.spec.review import Review
from danqing.spec.share import ShareLanguage
from danqing.store.owners import utc_now
from danqing.store.projects_base import ReviewQuery
from danqing.studio.contact_sheet import Sheet, contact_sheet
from danqing.studio.piping import Pipe
from danqing.studio.project_parts import ProjectParts
from danqing.studio.sheet_words import SHEET_WORDS

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
_NAME_CHARS = 48
_UNSAFE = re.compile(r"[^\w-]+")
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(10))})
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_ALL = 100_000


@dataclass(frozen=True)
class Export:
    """A project on its way out.

    Args:
        name: File name for it, safe everywhere.
        chunks: The ZIP, made while it is read.
    """

    name: str
    chunks: Iterator[bytes]


class Exporting(ProjectParts):
    """Export of projects."""

    @abstractmethod
    def project(self, project_id: str) -> Project:
        """One project."""

    @abstractmethod
    def version_tree(self, project_id: str) -> VersionTree:
        """Its versions."""

    def export_project(self, project_id: str, language: str = "en") -> Export:
        """Pictures, Plans, brief, reviews and a contact sheet, in one folder.

        Raises:
            NotFoundError: There is no such project.
            InvalidRequestError: There is no contact sheet in this language.
        """
        spoken = next((known for known in SHEET_WORDS if known.lower() == language.lower()), None)
        if spoken is None:
            raise InvalidRequestError(
                "there is no contact sheet in this language",
                field="language",
                value=language,
                allowed=", ".join(SHEET_WORDS),
                next_step="choose one of these",
            )
        project = self.project(project_id)
        tree = self.version_tree(project_id)
        records = {record.id: record for record in self._projects.item_records(project_id)}
        reviews = self._projects.reviews(ReviewQuery(project=project_id, limit=_ALL))
        versions = sorted((one for one in tree.versions if one.record in records), key=lambda one: one.record)
        packing = _Packing(self, project, versions, [records[one.record] for one in versions], reviews[::-1])
        return Export(f"{packing.root}.zip", packing.chunks(spoken))


class _Packing:
    def __init__(
        self,
        studio: Exporting,
        project: Project,
        versions: Sequence[Version],
        records: Sequence[Record],
        reviews: Sequence[Review],
    ) -> None:
        self.studio = studio
        self.project = project
        self.versions = versions
        self.records = records
        self.reviews = reviews
        self.root = safe_name(project.name) or "project"
        self.pipe = Pipe()

    def chunks(self, language: ShareLanguage) -> Iterator[bytes]:
        with zipfile.ZipFile(self.pipe, "w") as archive:  # type: ignore[arg-type]
            files: dict[str, tuple[str | None, str]] = {}
            for number, (version, record) in enumerate(zip(self.versions, self.records, strict=True), 1):
                stem = "-".join(filter(None, (f"{number:03}", safe_name(version.prompt), record.id[-6:].lower())))
                plan = f"plans/{stem}.json"
                self._add(archive, plan, _json(record.plan.model_dump(mode="json")), record.created_at)
                picture = f"pictures/{stem}{_SUFFIXES.get(record.media_type, '.png')}"
                files[record.id] = (picture if self._picture(archive, picture, record) else None, plan)
                yield from self.pipe.take()
            self._add(archive, "brief.json", _json(self.project.brief.model_dump(mode="json")))
            self._add(archive, "project.json", _json(self._facts(files)))
            told = [review.model_dump(mode="json") for review in self.reviews]
            self._add(archive, "reviews.json", _json({"reviews": told}))
            made_at = utc_now().strftime("%Y-%m-%d")
            sheet = Sheet(self.project, self.versions, self.reviews, files, made_at)
            self._add(archive, "index.html", contact_sheet(sheet, language).encode())
        yield from self.pipe.take()

    def _picture(self, archive: zipfile.ZipFile, path: str, record: Record) -> bool:
        try:
            data = self.studio.picture_bytes(record.picture)
        except (NotFoundError, BadFileError):
            return False  # the sheet and project.json say so; the rest is worth having all the same
        self._add(archive, path, data, record.created_at, packed=True)
        return True

    def _facts(self, files: dict[str, tuple[str | None, str]]) -> dict[str, Any]:
        versions = [
            version.model_dump(mode="json")
            | {"picture_file": files[version.record][0], "plan_file": files[version.record][1]}
            for version in self.versions
        ]
        return {"project": self.project.model_dump(mode="json"), "versions": versions}

    def _add(
        self, archive: zipfile.ZipFile, path: str, data: bytes, at: datetime | None = None, *, packed: bool = False
    ) -> None:
        moment = (at or utc_now()).timetuple()[:6]
        info = zipfile.ZipInfo(f"{self.root}/{path}", max(moment, _EARLIEST))
        info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        archive.writestr(info, data)


def safe_name(text: str) -> str:
    """Part of a file name that is one on every system: letters of any language, digits, hyphens.

    >>> safe_name("../../etc/passwd"), safe_name("春天的 茶馆!"), safe_name("CON"), safe_name("...")
    ('etc-passwd', '春天的-茶馆', 'con-', '')
    """
    plain = unicodedata.normalize("NFC", text).casefold()
    name = _UNSAFE.sub("-", plain).strip("-_")[:_NAME_CHARS].strip("-_")
    return f"{name}-" if name in _RESERVED else name


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=2).encode("utf-8", "replace")
