"""The objects in a text that should be JSON and may be fenced, in prose, cut off or slightly wrong. No torch."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

MAX_OBJECT_CHARS = 20_000
_MAX_DEPTH = 8
_MAX_INNER = 4
_MOST_OBJECTS = 200
_LITERAL_CHARS = 4000
_TRAILING = re.compile(r",(?=\s{0,200}[}\]])")
_EMPTY = re.compile(r"\[\s{0,20}\]")
_ITEM_KEYS = frozenset({"prompt", "suggestion", "change", "label", "object", "text", "description", "name"})
_BOX_KEYS = frozenset({"bbox_2d", "bbox", "box", "box_2d", "bounding_box", "rect", "region"})


@dataclass(frozen=True)
class Loose:
    """What was found.

    Attributes:
        items: Objects that have words or a box, in the text's order.
        readable: Whether there was any JSON: also an empty list is an answer.
    """

    items: tuple[dict[str, Any], ...]
    readable: bool


@dataclass
class _Scan:
    """Where the scan stands: the open braces with their depth of children, and whether a string is open."""

    opened: list[list[int]] = field(default_factory=list[list[int]])
    quoted: bool = False
    escaped: bool = False


def loose_objects(text: str) -> Loose:
    """Every object that has words or a box. An object that was cut off, and what encloses others, is left out.

    Each closing brace ends one object; an object is read only if few are inside it, so the time is linear in the text.

    >>> loose_objects('Sure! ```json [{"label": "cat", "bbox_2d": [1, 2, 3, 4]}, {"label": "do').items
    ({'label': 'cat', 'bbox_2d': [1, 2, 3, 4]},)
    """
    found = _objects(text)
    if not found.items and (place := text.find("[{")) > 0:
        found = _objects(text[place:])  # a brace or a quote in the prose before it was never closed
    return found


def _objects(text: str) -> Loose:
    items: list[tuple[int, dict[str, Any]]] = []
    readable = False
    for start, end, inner in _spans(text):
        if inner > _MAX_INNER or end - start > MAX_OBJECT_CHARS or len(items) >= _MOST_OBJECTS:
            continue
        entry = read_object(text[start:end])
        if entry is None:
            continue
        readable = True
        if _has(entry, _ITEM_KEYS) or not _BOX_KEYS.isdisjoint(entry):
            # A suggestion's own box may be an object with names too: it is part of the suggestion.
            items = [one for one in items if one[0] < start]
            items.append((start, entry))
    return Loose(tuple(entry for _, entry in items), readable or _EMPTY.search(text) is not None)


def read_object(text: str) -> dict[str, Any] | None:
    """One object as JSON, as JSON with commas too many, or as Python writes it; None for anything else."""
    for variant in (text, _TRAILING.sub("", text)):
        try:
            found = json.loads(variant, strict=False)
        except (ValueError, RecursionError):
            continue
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None
    if len(text) > _LITERAL_CHARS:
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    if not isinstance(found, dict):
        return None
    return {str(key): value for key, value in cast("dict[Any, Any]", found).items()}


def _spans(text: str) -> list[tuple[int, int, int]]:
    """(start, end, levels of objects inside) of every closed object, in the order in which they close."""
    found: list[tuple[int, int, int]] = []
    scan = _Scan()
    for place, sign in enumerate(text):
        if scan.quoted:
            _in_string(scan, sign)
        elif sign == '"' and scan.opened:
            scan.quoted = True
        elif sign == "{":
            scan.opened.append([place, 0])
            if len(scan.opened) > _MAX_DEPTH * 8:
                scan.opened = scan.opened[-_MAX_DEPTH:]  # braces in prose, or a hostile answer
        elif sign == "}" and scan.opened:
            start, inner = scan.opened.pop()
            found.append((start, place + 1, inner))
            if scan.opened:
                scan.opened[-1][1] = max(scan.opened[-1][1], inner + 1)
    return found


def _in_string(scan: _Scan, sign: str) -> None:
    if scan.escaped:
        scan.escaped = False
    elif sign == "\\":
        scan.escaped = True
    elif sign == '"':
        scan.quoted = False


def _has(entry: dict[str, Any], keys: frozenset[str]) -> bool:
    return any(isinstance(entry.get(key), str) for key in keys)
