"""Wildcards in a folder: `animals/cats.txt` is `__animals/cats__`, one entry a line, `#` begins a comment line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from danqing.spec.errors import BadFileError

MAX_WILDCARD_FILE_BYTES: Final = 4 * 2**20
MAX_WILDCARD_FILES: Final = 20_000


def wildcard_lines(text: str) -> tuple[str, ...]:
    """The entries of a wildcard's text: no blank lines, no comment lines, no whitespace around."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


class WildcardTexts:
    """Wildcards from memory: name → text or entries."""

    def __init__(self, entries: Mapping[str, str | Sequence[str]]) -> None:
        self._entries = {
            name: wildcard_lines(entry) if isinstance(entry, str) else tuple(entry) for name, entry in entries.items()
        }

    def names(self) -> tuple[str, ...]:
        """All wildcards."""
        return tuple(sorted(self._entries))

    def values(self, name: str) -> tuple[str, ...]:
        """The entries of one wildcard."""
        return self._entries[name]


class WildcardFolder:
    """Wildcards from a folder of text files, read when needed; a missing folder has none.

    Links that lead out of the folder are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        if not folder.is_dir():
            return
        root = folder.resolve()
        for path in sorted(root.rglob("*.txt")):
            if path.is_file() and path.resolve().is_relative_to(root) and len(self._files) < MAX_WILDCARD_FILES:
                self._files[path.relative_to(root).with_suffix("").as_posix()] = path

    def names(self) -> tuple[str, ...]:
        """All wildcards, as `folder/name`."""
        return tuple(self._files)

    def values(self, name: str) -> tuple[str, ...]:
        """The entries of one wildcard.

        Raises:
            BadFileError: The file is too large or not UTF-8.
        """
        path = self._files[name]
        if path.stat().st_size > MAX_WILDCARD_FILE_BYTES:
            raise BadFileError("the wildcard file is too large", value=str(path), allowed="4 MiB")
        try:
            return wildcard_lines(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise BadFileError(
                "the wildcard file is not UTF-8 text", value=str(path), next_step="save it as UTF-8"
            ) from error
