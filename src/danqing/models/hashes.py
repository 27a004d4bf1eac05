"""Content hashes of weights, remembered by size and modification time."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

WEIGHT_SUFFIXES = (".safetensors", ".bin")


class HashCache:
    """sha256 of weight files, kept in a JSON file so that a second start reads no weights.

    Args:
        store: Where to keep them, or None for this process only. An unwritable place is as good as None.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._known: dict[str, str] = {}
        self._dirty = False
        if store is not None and store.exists():
            try:
                data = json.loads(store.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                data = {}
            if isinstance(data, dict):
                self._known = {str(key): str(value) for key, value in data.items()}

    def file(self, path: Path) -> str:
        """sha256 of a file, in hex."""
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._known:
            with path.open("rb") as stream:
                self._known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            self._dirty = True
        return self._known[key]

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
