"""From a picture's name in a Request or a question to its bytes in the store."""

from __future__ import annotations

from typing import Protocol

from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.record import Record
from danqing.store.blobs import BlobStore


class Records(Protocol):
    """Whoever knows Records: the store, or the studio."""

    def record(self, record_id: str) -> Record:
        """NotFoundError if there is none."""
        ...


def live_picture(record_id: str, records: Records, field: str = "image") -> str:
    """The content hash of a Record's picture.

    Raises:
        NotFoundError: There is no such Record, or it was deleted.
    """
    try:
        record = records.record(record_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, field=field, value=record_id, next_step=error.next_step) from error
    if record.deleted_at is not None:
        raise NotFoundError("that picture was deleted", field=field, value=record_id, next_step="restore it first")
    return record.picture


def picture_hash(reference: str, records: Records, field: str = "image") -> str:
    """The content hash of a picture named `record:<id>` or `sha256:<hex>`.

    Raises:
        NotFoundError: There is no such Record, or it was deleted.
        InvalidRequestError: The name has another form.
    """
    kind, _, name = reference.partition(":")
    if kind == "record":
        return live_picture(name, records, field)
    if kind != "sha256":
        raise InvalidRequestError(
            "this names no picture", field=field, value=reference, allowed="record:<id> or sha256:<hex>"
        )
    return name


def stored_picture(reference: str, records: Records, blobs: BlobStore) -> str:
    """As `picture_hash`, for a picture whose bytes are there.

    Raises:
        NotFoundError: There is no such Record or picture, or it was deleted.
        InvalidRequestError: The name has another form.
    """
    name = picture_hash(reference, records)
    blobs.path(name)
    return name
