"""The concepts that mini-CLIP can name, with their labels and tags in three languages. No torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from danqing.spec.errors import BadFileError, MissingWeightsError

LOCALES = ("en", "zh", "zh-hant")
_MAX_BYTES = 32 * 2**20
_SEPARATORS = re.compile(r"[,，、;；\n]")  # some Chinese tags of the source are lists in one string


@dataclass(frozen=True)
class Concept:
    """One thing that can be in a picture.

    Attributes:
        hexcode: Its code point(s), which identify it.
        words: For each of `LOCALES`, the label and then the tags.
    """

    hexcode: str
    words: dict[str, tuple[str, ...]]

    def label(self, locale: str) -> str:
        """What it is called."""
        return self.words[locale][0]

    def tags(self, locale: str) -> tuple[str, ...]:
        """Other words for it."""
        return self.words[locale][1:]


def load_vocabulary(path: Path) -> tuple[Concept, ...]:
    """The concepts of a vocabulary.json.

    Raises:
        MissingWeightsError: There is no such file.
        BadFileError: It is not a list of concepts, or holds none.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadFileError("the vocabulary is too large", value=str(path), allowed=f"{_MAX_BYTES} bytes")
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingWeightsError(
            "interrogation needs mini-CLIP's vocabulary, and it is not installed",
            value=str(path),
            allowed='[{"hexcode": …, "en": [label, tag, …], "zh": […], "zh-hant": […]}, …]',
            next_step="copy mini-CLIP's folder again, vocabulary.json included",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"it cannot be read: {error}") from error
    if not isinstance(data, list):
        raise _damaged(path, "it is no list")
    found = [parse_concept(entry) for entry in cast("list[Any]", data)]
    concepts = tuple({concept.hexcode: concept for concept in found if concept is not None}.values())
    if not concepts:
        raise _damaged(path, "no entry in it has a hexcode and an English label")
    return concepts


def parse_concept(entry: Any) -> Concept | None:
    """A concept from its JSON, or None where it has no hexcode or no English label. Missing Chinese becomes English.

    >>> parse_concept({"hexcode": "1F408", "en": ["cat", "pet"], "zh": ["猫"]}).words["zh-hant"]
    ('cat', 'pet')
    """
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, Any]", entry)
    hexcode, english = fields.get("hexcode"), _words(fields.get("en"))
    if not isinstance(hexcode, str) or not hexcode or not english:
        return None
    return Concept(hexcode, {locale: _words(fields.get(locale)) or english for locale in LOCALES})


def _words(given: Any) -> tuple[str, ...]:
    """Words without blanks and repetitions, in order."""
    if not isinstance(given, list):
        return ()
    texts = [text for text in cast("list[Any]", given) if isinstance(text, str)]
    pieces = texts[:1] + [piece for text in texts[1:] for piece in _SEPARATORS.split(text)]
    clean = (" ".join(piece.encode("utf-8", "ignore").decode().split()) for piece in pieces)
    return tuple(dict.fromkeys(piece for piece in clean if piece))


def _damaged(path: Path, why: str) -> BadFileError:
    return BadFileError(
        f"mini-CLIP's vocabulary is damaged: {why}", value=str(path), next_step="copy mini-CLIP's folder again"
    )
