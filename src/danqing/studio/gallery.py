"""The part of the Studio that keeps pictures: Records, uploads, files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from danqing.spec.errors import DanqingError, NotFoundError
from danqing.spec.plan import Plan
from danqing.spec.record import Record
from danqing.spec.request import Request
from danqing.store.base import RecordQuery, Store, Upload
from danqing.store.blobs import BlobStore
from danqing.store.owners import utc_now
from danqing.store.thumbnails import thumbnail_of_bytes
from danqing.studio.reproduction import plan_of_picture, request_of_picture
from danqing.studio.seeing import LARGEST_PAGE
from danqing.studio.settings import Settings
from danqing.studio.uploads import CheckedPicture, UploadLimits, check_picture

_BLOB_GRACE_S = 3600.0  # a worker may have just stored the same bytes for a Record that comes in a moment


class Gallery(ABC):
    """What was painted and what was brought."""

    settings: Settings
    blobs: BlobStore

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The open studio's store."""

    def records(
        self,
        *,
        search: str = "",
        kind: str | None = None,
        model: str | None = None,
        limit: int = 50,
        before: str | None = None,
        include_deleted: bool = False,
    ) -> list[Record]:
        """Newest first; the next page begins `before` the last id."""
        return self._store.records(RecordQuery(search, kind, model, page(limit), before, include_deleted))

    def record(self, record_id: str) -> Record:
        """One Record, also a deleted one inside its undo window. NotFoundError."""
        return self._store.record(record_id)

    def delete_record(self, record_id: str) -> Record:
        """Hide a picture; `restore_record` brings it back within the undo window. ConflictError if it is deleted."""
        return self._store.delete_record(record_id, utc_now())

    def restore_record(self, record_id: str) -> Record:
        """Bring a deleted picture back. ConflictError if it is not deleted."""
        return self._store.delete_record(record_id, None)

    def purge(self) -> int:
        """Remove for good what was deleted before the undo window; gives the number of files removed."""
        before = utc_now() - timedelta(seconds=self.settings.undo_window_s)
        self._store.projects.purge_projects(before)
        unused = self._store.purge(before)
        return sum(self.blobs.remove(sha256, unused_for_s=_BLOB_GRACE_S) for sha256 in unused)

    def picture_bytes(self, sha256: str) -> bytes:
        """A picture, with its bytes checked against its hash. NotFoundError; BadFileError if it is damaged."""
        return self.blobs.read(sha256, verify=True)

    def picture_path(self, sha256: str) -> Path:
        """The file of a picture. NotFoundError."""
        return self.blobs.path(sha256)

    def thumbnail_bytes(self, record_id: str) -> bytes:
        """A WebP of at most 256×256 px."""
        record = self.record(record_id)
        if record.thumbnail is not None:
            with suppress(NotFoundError):
                return self.blobs.read(record.thumbnail)
        return thumbnail_of_bytes(self.picture_bytes(record.picture))

    def upload(self, data: bytes, *, name: str = "") -> Upload:
        """Check and keep a picture, upright. BadFileError."""
        picture = self._check(data)
        try:
            sha256 = self.blobs.put(picture.data, picture.media_type)
        except OSError as error:
            raise DanqingError(
                f"the picture cannot be kept: {error.strerror}",
                value=str(self.settings.data_dir),
                next_step="make room on the disk, or check that the data folder can be written",
            ) from error
        upload = Upload(sha256, picture.width_px, picture.height_px, picture.media_type, Path(name).name[:255])
        self._store.add_upload(upload)
        return upload

    def request_of_picture(self, data: bytes) -> Request:
        """The Request inside a picture: from its Plan, else from its infotext. BadFileError if it holds neither."""
        self._check(data)
        request = request_of_picture(data)
        return request if self._knows(request.parent) else request.model_copy(update={"parent": None})

    def plan_of_picture(self, data: bytes) -> Plan:
        """The Plan inside a picture, which `reproduce` paints again. BadFileError if it holds none."""
        self._check(data)
        return plan_of_picture(data)

    def _check(self, data: bytes) -> CheckedPicture:
        return check_picture(data, self._limits)

    @property
    def _limits(self) -> UploadLimits:
        return UploadLimits(self.settings.upload_max_bytes, self.settings.upload_max_pixels)

    def _knows(self, record_id: str | None) -> bool:
        try:
            return record_id is None or self._store.record(record_id).deleted_at is None
        except NotFoundError:
            return False


def page(limit: int) -> int:
    """How many are given at once."""
    return min(max(limit, 0), LARGEST_PAGE)
