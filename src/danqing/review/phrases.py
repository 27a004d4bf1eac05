"""A brief taken apart: its phrases, the words that can be left out one by one, and the colours that it names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from danqing.prompt.plain import plain_parts
from danqing.spec.errors import PromptSyntaxError
from danqing.spec.registry.colors import COLORS

MAX_PHRASES = 12
MAX_UNITS = 24
_SEPARATORS = re.compile(r"[,，、;；。\n]|\.\s")
_NETWORK = re.compile(r"<[^<>]{0,200}>")
_STOP = frozenset(
    ("a", "an", "the", "of", "on", "in", "at", "by", "to", "for", "from", "with", "and", "or", "is", "are")
)
_BACKGROUND = ("background", "backdrop", "背景")
_LOCALES = ("en", "zh", "zh-hant")


@dataclass(frozen=True)
class Unit:
    """Something in the brief that can be left out.

    Attributes:
        words: The words.
        phrase: The phrase that they stand in.
        without: The brief without them; empty if they are all of it.
        rest: The phrase without them; empty if they are the phrase.
    """

    words: str
    phrase: str
    without: str
    rest: str


def phrases_of(brief: str) -> tuple[str, ...]:
    """What stands between commas and full stops, without weights, networks and repetitions; at most `MAX_PHRASES`.

    >>> phrases_of("a (red:1.2) apple, 3d, <lora:x:1> on a blue background")
    ('a red apple', '3d', 'on a blue background')
    """
    text = _NETWORK.sub(" ", brief)
    try:
        text = ", ".join(part.text for part in plain_parts(text))
    except PromptSyntaxError:  # then it is read as it stands
        text = re.sub(r"[()\[\]{}]", " ", text)
    found = (" ".join(piece.split()) for piece in _SEPARATORS.split(text))
    return tuple(dict.fromkeys(piece for piece in found if piece))[:MAX_PHRASES]


def units_of(phrases: tuple[str, ...]) -> tuple[Unit, ...]:
    """Each phrase, and each word of a phrase of several; what says nothing by itself (a, of, on …) is left out.

    >>> [(unit.words, unit.without) for unit in units_of(("red apple", "3d"))]
    [('red apple', '3d'), ('red', 'apple, 3d'), ('apple', 'red, 3d'), ('3d', 'red apple')]
    """
    found: list[Unit] = []
    for place, phrase in enumerate(phrases):
        others = (phrases[:place], phrases[place + 1 :])
        found.append(Unit(phrase, phrase, ", ".join([*others[0], *others[1]]), ""))
        words = phrase.split()
        telling = [i for i, word in enumerate(words) if word.lower() not in _STOP]
        for i in telling if len(telling) > 1 else []:
            rest = " ".join([*words[:i], *words[i + 1 :]])
            found.append(Unit(words[i], phrase, ", ".join([*others[0], rest, *others[1]]), rest))
    return tuple(unit for unit in found if unit.without)[:MAX_UNITS]


def is_background(phrase: str) -> bool:
    """Whether a phrase speaks of the background.

    >>> is_background("on a blue background"), is_background("蓝色背景"), is_background("3d")
    (True, True, False)
    """
    return any(word in phrase.lower() for word in _BACKGROUND)


def colors_in(phrase: str) -> tuple[str, ...]:
    """The colours that a phrase names, as keys of `spec.registry.colors`; `dark blue` is not also `blue`.

    >>> colors_in("dark blue to pink gradient background"), colors_in("红色的苹果")
    (('dark blue', 'pink'), ('red',))
    """
    text = " ".join(phrase.lower().split())
    found: dict[str, int] = {}
    names = {color.name(locale).lower(): key for key, color in COLORS.items() for locale in _LOCALES}
    for name in sorted(names, key=len, reverse=True):
        pattern = rf"\b{re.escape(name)}\b" if name.isascii() else re.escape(name)
        match = re.search(pattern, text)
        if match is not None:
            found.setdefault(names[name], match.start())
            text = text[: match.start()] + "·" * len(name) + text[match.end() :]
    return tuple(sorted(found, key=lambda key: found[key]))


def base_color(key: str) -> str:
    """The colour without its shade.

    >>> base_color("dark blue"), base_color("red")
    ('blue', 'red')
    """
    return key.rpartition(" ")[2]
