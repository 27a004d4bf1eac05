"""Names of files and sets: what is plain, and how any name is made so."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_set import SetName

MAX_NAME_BYTES = 255
_LONGEST_STEM = 100
_LONGEST_SET_BYTES = 240
_BAD = frozenset('/\\:*?"<>|')
_NOT_IN_STEMS = re.compile(r"[^\w\-+.,()&'!@ ]+", re.UNICODE)
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)$", re.IGNORECASE)
_NAME: TypeAdapter[str] = TypeAdapter(SetName)


def is_plain_name(name: str) -> bool:
    """Whether this is the name of one file in a folder, on any system: no way in it, nothing hidden.

    >>> is_plain_name("猫 1.png"), is_plain_name("../cat.png"), is_plain_name(".hidden")
    (True, False, False)
    """
    if not name or name[0] == "." or any(letter in _BAD or ord(letter) < 32 for letter in name):
        return False
    try:
        return len(name.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


def checked_set_name(name: str, field: str = "name") -> str:
    """The name, if a set can have it.

    Raises:
        InvalidRequestError: It is empty, too long, or holds what no folder can.
    """
    try:
        found = _NAME.validate_python(name, strict=True)
        if len(found.encode()) <= _LONGEST_SET_BYTES and is_plain_name(found) and found == found.strip(" ."):
            return found
    except (ValidationError, UnicodeEncodeError):
        pass
    raise InvalidRequestError(
        "a training set cannot have this name",
        field=field,
        value=name,
        allowed='up to 80 letters; none of / \\ : * ? " < > |, no dot at its beginning, no blank at its ends',
        next_step="choose another name",
    )


def set_folder(sets_dir: Path, name: str) -> Path:
    """Where the set of this name lies, or would. InvalidRequestError for a name that none can have."""
    return sets_dir / checked_set_name(name)


def free_name(wanted: str, suffix: str, taken: Collection[str]) -> str:
    """A plain file name like `wanted` whose stem none of the taken ones has, in any case.

    Args:
        wanted: Any name or path, of either kind of slashes.
        suffix: Of the file, with its dot.
        taken: Stems in lower case that are used.

    >>> free_name("a/../b/c?at.jpeg", ".png", {"c_at"})
    'c_at-2.png'
    """
    stem = PurePosixPath(wanted.replace("\\", "/")).stem
    stem = unicodedata.normalize("NFC", stem.encode("utf-8", "replace").decode())
    stem = _NOT_IN_STEMS.sub("_", stem).strip(" ._")[:_LONGEST_STEM].strip(" ._") or "picture"
    while len(stem.encode()) > MAX_NAME_BYTES - 20:
        stem = stem[:-1]
    stem = f"{stem}_" if _RESERVED.match(stem) else stem
    candidate, number = stem, 2
    while candidate.lower() in taken:
        candidate, number = f"{stem}-{number}", number + 1
    return candidate + suffix
