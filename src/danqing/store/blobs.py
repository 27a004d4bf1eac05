"""Content-addressed files: `blobs/ab/cd/<sha256>.<suffix>`, written once, never changed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from pathlib import Path

from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
MEDIA_TYPES = {suffix: media_type for media_type, suffix in SUFFIXES.items()}
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """Pictures by the sha256 of their bytes. Any number of processes may read and write one folder.

    Args:
        data_dir: The data folder; the blobs lie in `blobs/` below it.
    """

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "blobs"

    def put(self, data: bytes, media_type: str = "image/png") -> str:
        """Store bytes and give their sha256; bytes that are there already are not written again.

        Raises:
            InvalidRequestError: A media type that is not stored.
        """
        suffix = SUFFIXES.get(media_type)
        if suffix is None:
            raise InvalidRequestError("no such picture type", value=media_type, allowed=", ".join(SUFFIXES))
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._folder(sha256) / f"{sha256}{suffix}"
        if not _touch(path):
            _write_durably(path, data)
        return sha256

    def path(self, sha256: str) -> Path:
        """Where the blob lies.

        Raises:
            NotFoundError: There is no such blob (or that is no sha256 at all).
        """
        if _SHA256.fullmatch(sha256):
            folder = self._folder(sha256)
            for suffix in MEDIA_TYPES:
                path = folder / f"{sha256}{suffix}"
                if path.is_file():
                    return path
        raise NotFoundError(
            "no picture has this hash",
            value=sha256,
            allowed="the sha256 of an uploaded or painted picture, 64 lower-case hex digits",
            next_step="upload the picture, or look its hash up in the gallery",
        )

    def exists(self, sha256: str) -> bool:
        """Whether the blob is there."""
        try:
            self.path(sha256)
        except NotFoundError:
            return False
        return True

    def media_type(self, sha256: str) -> str:
        """`image/png`, `image/jpeg` or `image/webp`.

        Raises:
            NotFoundError: There is no such blob.
        """
        return MEDIA_TYPES[self.path(sha256).suffix]

    def read(self, sha256: str, *, verify: bool = False) -> bytes:
        """The bytes of a blob.

        Raises:
            NotFoundError: There is no such blob.
            BadFileError: `verify` is set and the bytes are not the ones that were stored.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError("the picture was removed", value=sha256, next_step="reload the gallery") from None
        if verify and hashlib.sha256(data).hexdigest() != sha256:
            raise BadFileError(
                "a stored picture is damaged: its bytes do not have its hash",
                value=str(path),
                next_step="restore the file from a backup, or repaint it from its Record's Plan",
            )
        return data

    def remove(self, sha256: str, *, unused_for_s: float = 0.0) -> bool:
        """Delete a blob unless somebody stored the same bytes within the last `unused_for_s` seconds."""
        try:
            path = self.path(sha256)
            if time.time() - path.stat().st_mtime < unused_for_s:
                return False
            path.unlink()
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def _folder(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256[2:4]


def _touch(path: Path) -> bool:
    """Renew the time of a file, so that `remove` sees that it is in use again; False if it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _write_durably(path: Path, data: bytes) -> None:
    """After this returns the file is complete on the disk under its name, or not there: never half."""
    new_folders = _make_folders(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *new_folders):
        _sync_folder(folder)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and give the older folders whose list of names changed by that."""
    changed: list[Path] = []
    missing = folder
    while not missing.is_dir() and missing != missing.parent:
        missing = missing.parent
        changed.append(missing)
    folder.mkdir(parents=True, exist_ok=True)
    return changed


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows neither needs nor allows fsync on a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
