"""Files that are whole or as they were, and a lock that holds between processes."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK_FILE = ".lock"
_FEW = 64


def write_one(path: Path, data: bytes) -> None:
    """Write a file; after this returns it is on the disk. OSError."""
    write_all({path: data})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write files, each whole or not at all: none is renamed before all of them are on the disk. OSError."""
    made: list[tuple[Path, Path]] = []
    try:
        for path, data in contents.items():
            temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
            made.append((temporary, path))
            with temporary.open("xb") as file:
                file.write(data)
                if len(contents) <= _FEW:
                    file.flush()
                    os.fsync(file.fileno())
        if len(contents) > _FEW and sys.platform != "win32":
            os.sync()  # thousands of captions: once for all of them
        for temporary, path in made:
            temporary.replace(path)
    except BaseException:
        for temporary, _ in made:
            temporary.unlink(missing_ok=True)
        raise
    _sync_folders({path.parent for path in contents})


def write_loose(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; it is on the disk for sure only after `settle`. OSError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def settle(paths: Sequence[Path]) -> None:
    """Wait until files that were written loosely are on the disk. OSError."""
    if len(paths) > _FEW and sys.platform != "win32":
        os.sync()
        return
    for path in paths:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _sync_folders({path.parent for path in paths})


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """The folder for this thread of this process alone, as far as others ask too. Not to be taken twice. OSError."""
    with (folder / LOCK_FILE).open("a+b") as file:
        _lock(file)
        try:
            yield
        finally:
            _unlock(file)


def _sync_folders(folders: set[Path]) -> None:
    if sys.platform == "win32":
        return  # Windows neither needs nor allows fsync on a folder
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
