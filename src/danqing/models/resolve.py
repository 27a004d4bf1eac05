"""Which file a person means: by title, name, file name, alias or any hash that their programs show."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from danqing.spec.errors import NotFoundError
from danqing.spec.files import FileKind, ModelFile

_TITLE = re.compile(r"^(?P<name>.+?)\s*[\[(](?P<hash>[0-9a-fA-F]{8,64})[\])]$")
_HASH = re.compile(r"^[0-9a-fA-F]{8,64}$")


def resolve(files: Sequence[ModelFile], wanted: str, kinds: Collection[FileKind] | None = None) -> ModelFile:
    """The file with this title (`name [hash]`), name, file name, alias, path or hash.

    Args:
        files: As a scan gives them.
        wanted: What the person wrote, or what an infotext has.
        kinds: Only these kinds; all for None.

    Raises:
        NotFoundError: None answers, or several.
    """
    text = wanted.strip().replace("\\", "/")
    among = [file for file in files if kinds is None or (file.identity is not None and file.identity.kind in kinds)]
    title = _TITLE.match(text)
    name, digits = (title["name"], title["hash"].lower()) if title else (text, "")
    steps: list[list[ModelFile]] = [[file for file in among if _has_hash(file, digits)]] if digits else []
    steps += [[file for file in among if _is_named(file, name, exactly)] for exactly in (True, False)]
    if not digits and _HASH.match(text):
        steps.append([file for file in among if _has_hash(file, text.lower())])
    found: list[ModelFile] = next((matches for matches in steps if matches), list[ModelFile]())
    if len(found) > 1:
        # Copies of one file are one model; a name and a hash together leave one.
        same = {file.hashes.get("sha256", file.path) for file in found}
        narrowed = [file for file in found if _is_named(file, name, exactly=True)]
        found = found[:1] if len(same) == 1 else narrowed or found
    if len(found) == 1:
        return found[0]
    raise _not_found(among, wanted, found)


def _is_named(file: ModelFile, name: str, exactly: bool) -> bool:
    lower = name.lower()
    if exactly:
        return lower in {file.name.lower(), file.path.lower().replace("\\", "/")}
    last = Path(file.path).name.lower()
    return lower in {last, file.name.lower().rpartition("/")[2], last.rpartition(".")[0], file.alias.lower() or last}


def _has_hash(file: ModelFile, digits: str) -> bool:
    """Whether one of a file's hashes begins so; a shorter hash may also be the beginning of what was given."""
    return any(value.startswith(digits) or (len(value) >= 8 and digits == value) for value in file.hashes.values())


def _not_found(among: Sequence[ModelFile], wanted: str, found: Sequence[ModelFile]) -> NotFoundError:
    if found:
        return NotFoundError(
            "several files answer to this name",
            value=wanted,
            allowed=", ".join(file.path for file in found[:5]),
            next_step="name its folder too, or its hash",
        )
    names = [file.name for file in among]
    near = difflib.get_close_matches(wanted, names, n=1)
    unhashed = bool(_HASH.match(wanted.strip()) or _TITLE.match(wanted.strip()))
    unhashed = unhashed and any("sha256" not in file.hashes for file in among)
    return NotFoundError(
        "there is no such file",
        value=wanted,
        allowed=", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none was found",
        next_step=f"did you mean {near[0]}?"
        if near
        else "hashes are not known yet: run `danqing models scan --hash` once"
        if unhashed
        else "run `danqing models scan` to see what is there",
    )
