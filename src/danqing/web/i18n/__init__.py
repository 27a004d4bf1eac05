"""The page's words in English, Simplified and Traditional Chinese: one flat JSON file each, with equal keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
LANGUAGES: dict[str, str] = {"en": "English", "zh-Hans": "简体中文", "zh-Hant": "繁體中文"}
_TRADITIONAL = frozenset({"hant", "tw", "hk", "mo"})


@cache
def words(language: str) -> Mapping[str, str]:
    """All strings of one of `LANGUAGES`; English for any other."""
    name = language if language in LANGUAGES else "en"
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def say(language: str, key: str, **values: object) -> str:
    """The string of this key with its `{placeholders}` filled.

    Raises:
        KeyError: No such key.

    >>> say("zh-Hans", "paint")
    '绘制'
    """
    text = words(language)[key]
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def negotiate(accept_language: str) -> str:
    """The best of our languages for an `Accept-Language` header (RFC 9110 §12.5.4); English if none fits.

    >>> negotiate("fr, zh-TW;q=0.9, en;q=0.8")
    'zh-Hant'
    >>> negotiate("zh")
    'zh-Hans'
    >>> negotiate("")
    'en'
    """
    for _, tag in sorted(_weighted(accept_language), key=lambda pair: -pair[0]):
        parts = tag.lower().split("-")
        if parts[0] == "zh":
            return "zh-Hant" if "hans" not in parts and set(parts) & _TRADITIONAL else "zh-Hans"
        if parts[0] == "en":
            return "en"
    return "en"


def _weighted(header: str) -> list[tuple[float, str]]:
    pairs: list[tuple[float, str]] = []
    for item in header.split(","):
        tag, _, quality = item.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        if tag and weight > 0:
            pairs.append((weight, tag))
    return pairs
