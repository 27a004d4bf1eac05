"""What shelves of files share: looking at every candidate, and finding the one that a person means."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from danqing.spec.errors import DanqingError, NotFoundError
from danqing.spec.model import ModelRef


class Shelved(Protocol):
    """A file or folder with a name and the hash of its content."""

    @property
    def name(self) -> str:
        """Below its folder."""
        ...

    @property
    def sha256(self) -> str:
        """Of its content, 64 hex digits."""
        ...


T = TypeVar("T", bound=Shelved)


@dataclass(frozen=True)
class Kind:
    """How a kind of file is spoken of when none is found.

    Attributes:
        noun: In the plural, `ControlNets`.
        one: In the singular, `ControlNet`.
        field: Of the Request.
        next_step: What to do.
    """

    noun: str
    one: str
    field: str
    next_step: str


def look_at(
    candidates: Iterable[tuple[str, Path]], identify: Callable[[Path, str], T]
) -> list[tuple[str, T | DanqingError]]:
    """(name, what it is or why it can't be used) of every candidate."""
    found: list[tuple[str, T | DanqingError]] = []
    for name, path in candidates:
        try:
            found.append((name, identify(path, name)))
        except DanqingError as error:
            found.append((name, error))
    return found


def spellings(name: str) -> set[str]:
    """How a name below its folder may be written: whole, its last part, that without or with the usual ending."""
    last = Path(name).name.lower()
    return {name.lower(), last, Path(name).stem.lower(), f"{last}.safetensors"}


def answers(info: Shelved, wanted: str) -> bool:
    """Whether a name, file name, A1111 title (8 or 10 digits of the hash) or the hash's beginning means this one."""
    lower = wanted.strip().lower()
    names = spellings(info.name)
    titles = {f"{name} [{info.sha256[:digits]}]" for name in names for digits in (8, 10)}
    return lower in names | titles or (len(lower) >= 8 and info.sha256.startswith(lower))


def find_one(scanned: Sequence[tuple[str, T | DanqingError]], wanted: str, kind: Kind) -> T:
    """The one that answers to a name.

    Raises:
        NotFoundError: None or several do.
        DanqingError: It is there and cannot be used, with the reason.
    """
    name = wanted.strip()
    usable = [info for _, info in scanned if not isinstance(info, DanqingError)]
    found = [info for info in usable if answers(info, name)]
    if len(found) == 1:
        return found[0]
    for other, error in scanned:
        if not found and isinstance(error, DanqingError) and name.lower() in spellings(other):
            error.field = kind.field
            raise error
    names = [info.name for info in usable]
    near = difflib.get_close_matches(name, names, n=1)
    raise NotFoundError(
        f"several {kind.noun} answer to this name" if found else f"there is no such {kind.one}",
        field=kind.field,
        value=name,
        allowed=", ".join(names) or "none is installed",
        next_step=f"did you mean {near[0]}?" if near else kind.next_step,
    )


def not_installed(what: str, wanted: ModelRef, field: str, advice: str = "or choose another one") -> NotFoundError:
    """A file that a Plan names is gone.

    Args:
        what: *the model*, *the ControlNet*; "" where the name says enough.
        wanted: What the Plan names.
        field: Of the Request.
        advice: What to do beside installing it.
    """
    return NotFoundError(
        f"{what} {wanted.name} is not installed".lstrip(),
        field=field,
        value=wanted.sha256[:10],
        next_step=f"install the file with hash {wanted.sha256[:10]}, {advice}",
    )
