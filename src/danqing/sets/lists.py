"""Lists that lie with training pictures: `set.json`, `pairs.jsonl`, `prompt.json`, `metadata.json` and their like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from danqing.sets.folder import SET_FILE, parse_set
from danqing.sets.pictures import PICTURE_SUFFIXES
from danqing.sets.sources import Source
from danqing.sets.text import decode_text
from danqing.spec.errors import BadFileError
from danqing.spec.training_edit import Layout
from danqing.spec.training_set import TrainingSet

PAIRS_FILE = "pairs.jsonl"
_JSON_LISTS = (
    "metadata.json",
    "captions.json",
    "meta_cap.json",
    "meta_clean.json",
    "meta_cap_dd.json",
    "meta_lat.json",
)
_LINE_LISTS = (PAIRS_FILE, "prompt.json", "metadata.jsonl", "train.jsonl")
_AFTER = ("after", "target", "image", "file_name")
_BEFORE = ("before", "source", "conditioning_image", "conditioning")
_WORDS = ("brief", "prompt", "text", "caption")


@dataclass
class Listed:
    """What the lists of a source say.

    Attributes:
        words: Captions by the picture's way without its suffix, and by its bare name, both without case.
        pairs: Way of the picture, way of its control map or of the picture before, words.
        head: A set of ours.
        root: Where that lies, with a slash at its end.
    """

    words: dict[str, str] = field(default_factory=dict[str, str])
    pairs: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    layout: Layout = "control"
    head: TrainingSet | None = None
    root: str = ""


def read_lists(source: Source) -> Listed:
    """Read every list of a source that is known.

    Raises:
        BadFileError: One of them is damaged.
    """
    found = Listed()
    for name in sorted(source.names, key=lambda name: (name.count("/"), name)):
        way = PurePosixPath(name)
        root = "" if str(way.parent) == "." else f"{way.parent}/"
        if way.name == SET_FILE and found.head is None and any(n.startswith(f"{root}pictures/") for n in source.names):
            found.head, found.root = parse_set(_json(source, name), name), root
        elif way.name in _LINE_LISTS:
            _read_lines(source, name, root, found)
        elif way.name in _JSON_LISTS:
            _read_words(_json(source, name), root, found)
    return found


def _read_lines(source: Source, name: str, root: str, found: Listed) -> None:
    pairs = list(found.pairs)
    for line in _lines(source, name):
        after = _text(line, _AFTER)
        before, words = _text(line, _BEFORE), _text(line, _WORDS)
        if after and before:
            pairs.append((_below(root, after), _below(root, before), words))
        elif after and words:
            _say(found.words, _below(root, after), words)
    if len(pairs) > len(found.pairs):
        found.layout = "pairs" if PurePosixPath(name).name == PAIRS_FILE else "control"
        found.pairs = pairs


def _read_words(data: Any, root: str, found: Listed) -> None:
    if not isinstance(data, dict):
        return
    for key, value in cast("dict[str, Any]", data).items():
        words = value
        if isinstance(value, dict):  # kohya's: a caption in words and tags, either may be missing
            entry = cast("dict[str, Any]", value)
            words = ", ".join(part for part in (_text(entry, ("caption",)), _text(entry, ("tags",))) if part)
        if isinstance(words, str) and words.strip():
            _say(found.words, _below(root, key), words.strip())


def _say(words: dict[str, str], name: str, said: str) -> None:
    way = PurePosixPath(name)
    bare = way.with_suffix("") if way.suffix.lower() in PICTURE_SUFFIXES else way
    words[str(bare).casefold()] = said
    words.setdefault(bare.name.casefold(), said)


def _below(root: str, name: str) -> str:
    """The way in the source; an absolute one of another machine keeps only what can match by its bare name."""
    plain = name.replace("\\", "/").removeprefix("./")
    return plain if plain.startswith("/") else f"{root}{plain}"


def _text(line: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = line.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _lines(source: Source, name: str) -> Iterator[dict[str, Any]]:
    """JSON objects, one a line, or a list of them."""
    text = decode_text(source.read(name), name).strip()
    try:
        rows = (
            json.loads(text) if text.startswith("[") else [json.loads(row) for row in text.splitlines() if row.strip()]
        )
    except (ValueError, RecursionError) as error:
        raise _no_json(name, error) from error
    for row in rows:
        if isinstance(row, dict):
            yield cast("dict[str, Any]", row)


def _json(source: Source, name: str) -> Any:
    try:
        return json.loads(decode_text(source.read(name), name))
    except (ValueError, RecursionError) as error:
        raise _no_json(name, error) from error


def _no_json(name: str, error: Exception) -> BadFileError:
    return BadFileError(
        f"a list beside the pictures is not JSON: {error}",
        field="source",
        value=name,
        allowed="JSON in UTF-8",
        next_step="correct the list, or take it away: pictures are imported without it",
    )
