"""Content hashes of weights, as each program's users know them, remembered by size and modification time.

| name | what | who uses it |
|---|---|---|
| sha256 | the whole file | everyone |
| autov2 | its first 10 digits | A1111 titles, Civitai |
| legacy (autov1) | sha256 of 64 KiB at 1 MiB, first 8 digits | A1111 before 2023, old infotexts |
| autov3 | sha256 of a safetensors' tensor part, first 12 digits | Civitai |
| lora12 | the same, as kohya's `sshs_model_hash` has it | A1111's LoRA hashes in infotexts |
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from danqing.spec.errors import BadFileError

WEIGHT_SUFFIXES = (".safetensors", ".bin")
LEGACY_OFFSET_BYTES = 0x100000
LEGACY_LENGTH_BYTES = 0x10000
NO_LEGACY = hashlib.sha256(b"").hexdigest()[:8]
"""The legacy hash of every file that ends before its sample: it names none of them."""
_HEADER_LIMIT_BYTES = 100_000_000
_WHOLE, _LEGACY, _TENSORS = "", "legacy:", "tensors:"


def file_stamp(path: Path) -> tuple[str, int, int]:
    """Path, size and time of change: what tells whether a file is still the one that was looked at; zeros if gone."""
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_size, stat.st_mtime_ns


class HashCache:
    """Hashes of weight files, kept in a JSON file so that a second start reads no weights.

    Args:
        store: Where to keep them, or None for this process only. An unwritable place is as good as None.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._known: dict[str, str] = {}
        self._dirty = False
        if store is not None and store.exists():
            try:
                data: Any = json.loads(store.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                data = {}
            if isinstance(data, dict):
                self._known = {str(key): str(value) for key, value in cast("dict[Any, Any]", data).items()}

    def file(self, path: Path) -> str:
        """sha256 of a file, in hex."""
        return self._remembered(_WHOLE, path, _whole)

    def legacy(self, path: Path) -> str:
        """A1111's old model hash, 8 digits; `NO_LEGACY` for a file that is too short for one."""
        return self._remembered(_LEGACY, path, _legacy)

    def tensors(self, path: Path) -> str:
        """sha256 of what comes after a safetensors' header, in hex: renaming a file's metadata does not change it.

        Raises:
            BadFileError: It is no safetensors file.
        """
        return self._remembered(_TENSORS, path, _tensors)

    def compute(self, path: Path) -> dict[str, str]:
        """Every hash of a file, reading it where it is not known."""
        self.file(path)
        self.legacy(path)
        if path.suffix.lower() in {".safetensors", ".sft"}:
            self.tensors(path)
        stat = path.stat()
        return self.known(str(path.resolve()), stat.st_size, stat.st_mtime_ns)

    def known(self, real_path: str, size_bytes: int, modified_ns: int) -> dict[str, str]:
        """The hashes of a file that are remembered; reads nothing.

        Args:
            real_path: With its links resolved.
            size_bytes: As it is now.
            modified_ns: As it is now.
        """
        key = f"{real_path}|{size_bytes}|{modified_ns}"
        found: dict[str, str] = {}
        if (whole := self._known.get(key)) is not None:
            found |= {"sha256": whole, "autov2": whole[:10]}
        if (legacy := self._known.get(_LEGACY + key)) is not None and legacy != NO_LEGACY:
            found["legacy"] = legacy
        if (tensors := self._known.get(_TENSORS + key)) is not None:
            found |= {"autov3": tensors[:12], "lora12": tensors[:12]}
        return found

    def folder(self, folder: Path) -> str:
        """sha256 over the names and hashes of all weight files below a folder."""
        total = hashlib.sha256()
        files = (path for path in folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES and path.is_file())
        for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
            total.update(f"{path.relative_to(folder).as_posix()} {self.file(path)}\n".encode())
        return total.hexdigest()

    def save(self) -> None:
        """Write what is new."""
        if not self._dirty or self._store is None or not self._store.parent.is_dir():
            return
        temporary = self._store.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(self._known), encoding="utf-8")
            temporary.replace(self._store)
        except OSError:
            return
        self._dirty = False

    def _remembered(self, kind: str, path: Path, compute: Callable[[Path], str]) -> str:
        stat = path.stat()
        key = f"{kind}{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._known:
            self._known[key] = compute(path)
            self._dirty = True
        return self._known[key]


def _whole(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _legacy(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(LEGACY_OFFSET_BYTES)
        return hashlib.sha256(stream.read(LEGACY_LENGTH_BYTES)).hexdigest()[:8]


def _tensors(path: Path) -> str:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= _HEADER_LIMIT_BYTES:
            raise BadFileError(
                f"{path.name} has no safetensors header, so it has no hash of its tensors", value=str(path)
            )
        stream.seek(8 + length)
        return hashlib.file_digest(stream, "sha256").hexdigest()
