"""Where pictures come from: a folder of this machine, a ZIP, or bytes at hand. Nothing in them is believed."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from danqing.sets.folder import MAX_PIXELS
from danqing.spec.errors import BadFileError, NotFoundError

MIB = 1024 * 1024
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_BOMB_RATIO = 100
_BOMB_BYTES = 256 * MIB
_ENCRYPTED = 0x1
_UTF8 = 0x800


@dataclass(frozen=True)
class ImportLimits:
    """How much is taken from one source."""

    max_files: int = 100_000
    max_file_bytes: int = 256 * MIB
    max_total_bytes: int = 16 * 1024 * MIB
    max_pixels: int = MAX_PIXELS


class Source(Protocol):
    """Files by their way below a root, with `/` between names."""

    @property
    def title(self) -> str:
        """The root's own name; "" if it has none."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Every file, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes. BadFileError if it cannot be read or is too large."""
        ...


class FolderSource:
    """The files below a folder of this machine; links and hidden files are left out.

    Args:
        root: The folder.
        limits: What is taken at most.

    Raises:
        NotFoundError: There is no such folder.
        BadFileError: It holds too many files.
    """

    def __init__(self, root: Path, limits: ImportLimits) -> None:
        if not root.is_dir():
            raise NotFoundError(
                "there is no such folder",
                field="source",
                value=str(root),
                allowed="a folder, or a ZIP file",
                next_step="check the path",
            )
        self._root = root
        self._limits = limits
        self.title = root.resolve().name
        self.names = self._list()

    def read(self, name: str) -> bytes:
        """See `Source`."""
        path = self._root / name
        try:
            with path.open("rb") as file:
                data = file.read(self._limits.max_file_bytes + 1)
        except OSError as error:
            raise BadFileError(f"it cannot be read: {error.strerror or error}", value=name) from error
        return _checked_size(data, self._limits, name)

    def _list(self) -> tuple[str, ...]:
        found: list[str] = []
        for place, folders, files in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in files:
                path = Path(place) / name
                if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                    found.append(path.relative_to(self._root).as_posix())
            if len(found) > self._limits.max_files:
                raise _too_many(len(found), self._limits)
        return tuple(sorted(found))


class ZipSource:
    """The files in a ZIP; used as a context manager, or closed.

    Args:
        file: Its path, or an open file that can be sought in.
        limits: What is taken at most.
        title: What it is called.

    Raises:
        BadFileError: It is damaged, encrypted, too large when unpacked, or leads out of itself.
    """

    def __init__(self, file: Path | IO[bytes], limits: ImportLimits, title: str = "") -> None:
        self._limits = limits
        self.title = title or (file.stem if isinstance(file, Path) else "")
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN_ZIP as error:
            raise BadFileError(
                "this is no ZIP file, or a damaged one",
                field="source",
                value=self.title or None,
                allowed="a folder, or a ZIP of pictures",
                next_step="pack the pictures again",
            ) from error
        try:
            self._entries = self._checked()
        except BaseException:
            self._zip.close()
            raise
        self.names = tuple(sorted(self._entries))

    def __enter__(self) -> ZipSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """See `Source`."""
        try:
            with self._zip.open(self._entries[name]) as file:
                data = file.read(self._limits.max_file_bytes + 1)
        except _BROKEN_ZIP as error:
            raise BadFileError(f"it is damaged in the ZIP: {error}", value=name) from error
        return _checked_size(data, self._limits, name)

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > self._limits.max_files:
            raise _too_many(len(infos), self._limits)
        total = sum(info.file_size for info in infos)
        packed = sum(info.compress_size for info in infos)
        if total > self._limits.max_total_bytes or (total > _BOMB_BYTES and total > packed * _BOMB_RATIO):
            raise BadFileError(
                "the ZIP is too large when it is unpacked",
                field="source",
                value=f"{total:,} bytes from {packed:,}",
                allowed=f"{self._limits.max_total_bytes:,} bytes, and no more than {_BOMB_RATIO} times the ZIP",
                next_step="import the folder, or several smaller ZIPs",
            )
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = _name(info)
            if info.is_dir() or _is_hidden(name) or stat.S_ISLNK(info.external_attr >> 16):
                continue
            _check_way(name)
            if info.flag_bits & _ENCRYPTED:
                raise BadFileError(
                    "the ZIP asks for a password", field="source", value=name, next_step="pack it without a password"
                )
            entries[name] = info
        return entries


@dataclass(frozen=True)
class GivenSource:
    """Files that somebody has at hand, each read when it is its turn.

    Attributes:
        files: By name; a function that gives the bytes.
    """

    files: Mapping[str, Callable[[], bytes]]
    limits: ImportLimits = ImportLimits()
    title: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(self.files)

    def read(self, name: str) -> bytes:
        """See `Source`."""
        return _checked_size(self.files[name](), self.limits, name)


def _name(info: zipfile.ZipInfo) -> str:
    """The entry's name: Chinese Windows writes GB 18030 without saying so, and Python reads that as code page 437."""
    name = info.filename
    if not info.flag_bits & _UTF8 and not name.isascii():
        try:
            raw = name.encode("cp437")
        except UnicodeEncodeError:
            return name
        for encoding in ("utf-8", "gb18030"):
            try:
                return raw.decode(encoding)
            except UnicodeDecodeError:
                continue
    return name


def _check_way(name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or ".." in parts or "\x00" in name or (parts and parts[0].endswith(":")):
        raise BadFileError(
            "a name in the ZIP leads out of it",
            field="source",
            value=name,
            allowed="names below the ZIP's own root",
            next_step="do not trust this file; pack the pictures again",
        )


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


def _checked_size(data: bytes, limits: ImportLimits, name: str) -> bytes:
    if len(data) > limits.max_file_bytes:
        raise BadFileError("the file is too large", value=name, allowed=f"{limits.max_file_bytes:,} bytes")
    return data


def _too_many(count: int, limits: ImportLimits) -> BadFileError:
    return BadFileError(
        "there are too many files",
        field="source",
        value=f"{count:,} files or more",
        allowed=f"{limits.max_files:,} files",
        next_step="import a folder that holds only the pictures",
    )
