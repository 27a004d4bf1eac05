"""Finding an entry of a registry by what a person typed."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol, TypeVar

from danqing.spec.errors import InvalidRequestError


class Named(Protocol):
    """What every registry entry has: a key for code, a label for people, and other spellings."""

    @property
    def key(self) -> str:
        """The stable snake_case key."""
        ...

    @property
    def name(self) -> str:
        """The label a person sees."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other accepted spellings."""
        ...


Entry = TypeVar("Entry", bound=Named)


def normalise(name: str) -> str:
    """A spelling without case, outer blanks and the differences between blank, `-` and `_`.

    >>> normalise("  SGM-Uniform ")
    'sgm uniform'
    """
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def match(entries: Sequence[Entry], name: str) -> Entry | None:
    """The entry whose key, label or alias is `name`, or None."""
    wanted = normalise(name)
    for entry in entries:
        if wanted in {normalise(spelling) for spelling in (entry.key, entry.name, *entry.aliases)}:
            return entry
    return None


def nearest(entries: Sequence[Named], name: str, count: int = 3) -> list[str]:
    """Labels of the entries spelt most like `name`, best first."""
    labels = {normalise(spelling): e.name for e in entries for spelling in (e.name, e.key, *e.aliases)}
    close = get_close_matches(normalise(name), list(labels), n=count * 2, cutoff=0.5)
    return list(dict.fromkeys(labels[spelling] for spelling in close))[:count]


def unknown(entries: Sequence[Named], name: str, *, field: str, what: str) -> InvalidRequestError:
    """The error for a name that no entry has, with the nearest ones.

    Args:
        entries: The registry.
        name: What the person typed.
        field: The request field it came from.
        what: The word for one entry, such as "sampler".
    """
    close = nearest(entries, name)
    step = f"did you mean {' or '.join(repr(label) for label in close)}?" if close else "choose one from the list"
    return InvalidRequestError(
        f"there is no {what} of this name",
        field=field,
        value=name,
        allowed=", ".join(entry.name for entry in entries),
        next_step=step,
    )
