"""Attention weights: A1111's emphasis grammar.

`(x)` multiplies the weight of x by 1.1, `[x]` divides it by 1.1, `(x:1.3)` multiplies it by 1.3; brackets nest,
brackets that nobody closes reach to the end, a backslash protects a bracket or a backslash, and `BREAK` starts a new
chunk of tokens.
Round and square brackets need not nest in each other: each closer belongs to the last open bracket of its own kind.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from danqing.prompt.ast import find_breaks
from danqing.spec.errors import PromptSyntaxError

ROUND_FACTOR: Final = 1.1
SQUARE_FACTOR: Final = 1 / 1.1
BREAK_TEXT: Final = "BREAK"
BREAK_WEIGHT: Final = -1.0
"""A BREAK is the pair ("BREAK", -1.0). Inside brackets its weight changes too, and then it is a word, as in A1111."""

_SPECIAL = re.compile(r"[\\()\[\]:]")
_CLOSING_WEIGHT = re.compile(r":\s*([+-]?[.\d]+)\s*\)")
_PROTECTABLE = "()[]\\"


class _Scan:
    """The state of one reading: pieces with their weights, and where brackets opened."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._weights = np.ones(64)
        self.opened: dict[str, list[int]] = {"(": [], "[": []}

    def add(self, text: str, weight: float = 1.0) -> None:
        if len(self.texts) == len(self._weights):
            self._weights = np.concatenate((self._weights, np.ones(len(self._weights))))
        self._weights[len(self.texts)] = weight
        self.texts.append(text)

    def add_text(self, text: str) -> None:
        position = 0
        for start, end in find_breaks(text):
            self.add(text[position:start])
            self.add(BREAK_TEXT, BREAK_WEIGHT)
            position = end
        self.add(text[position:])

    def close(self, opener: str, factor: float) -> None:
        self.multiply_from(self.opened[opener].pop(), factor)

    def multiply_from(self, start: int, factor: float) -> None:
        # A weight may overflow to infinity; A1111's does too.
        with np.errstate(over="ignore", invalid="ignore"):
            self._weights[start : len(self.texts)] *= factor

    def finish(self) -> list[tuple[str, float]]:
        for opener, factor in (("(", ROUND_FACTOR), ("[", SQUARE_FACTOR)):
            for start in self.opened[opener]:
                self.multiply_from(start, factor)
        return _merged(self.texts, self._weights[: len(self.texts)].tolist())


def weighted_texts(text: str) -> list[tuple[str, float]]:
    """The pieces of a text with their weights; neighbours of equal weight are one piece.

    Args:
        text: A prompt without network tags, prompt edits and AND.

    Returns:
        (text, weight) pairs, at least one; a BREAK is ("BREAK", -1.0).

    Raises:
        PromptSyntaxError: A weight with two decimal points, or with no digit.

    >>> weighted_texts("an (important) word")
    [('an ', 1.0), ('important', 1.1), (' word', 1.0)]
    """
    scan = _Scan()
    position = 0
    while found := _SPECIAL.search(text, position):
        if found.start() > position:
            scan.add_text(text[position : found.start()])
        position = _special(scan, text, found.start())
    if position < len(text):
        scan.add_text(text[position:])
    return scan.finish()


def _special(scan: _Scan, text: str, position: int) -> int:
    """Reads the special character at `position`; returns the position after it."""
    char = text[position]
    if char == "\\":
        protected = text[position + 1 : position + 2]
        # A backslash before anything else vanishes; A1111 does the same.
        scan.add(protected if protected in _PROTECTABLE else "")
        return position + 1 + (len(protected) if protected in _PROTECTABLE else 0)
    if char in "([":
        scan.opened[char].append(len(scan.texts))
    elif char == ")" and scan.opened["("]:
        scan.close("(", ROUND_FACTOR)
    elif char == "]" and scan.opened["["]:
        scan.close("[", SQUARE_FACTOR)
    elif char == ":" and (found := _CLOSING_WEIGHT.match(text, position)):
        if scan.opened["("]:
            scan.close("(", _number(found[1]))
        else:
            scan.add_text(found[0])
        return found.end()
    else:
        scan.add_text(char)
    return position + 1


def _number(written: str) -> float:
    try:
        return float(written)
    except ValueError as error:
        raise PromptSyntaxError(
            "a weight in brackets is not a number",
            field="prompt",
            value=written,
            allowed="a number such as 1.2, as in (red hair:1.2)",
            next_step="correct the number, or protect the bracket with a backslash: \\(",
        ) from error


def _merged(texts: list[str], weights: list[float]) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    pieces: list[str] = []
    for index, weight in enumerate(weights):
        pieces.append(texts[index])
        if index + 1 == len(weights) or weights[index + 1] != weight:
            merged.append(("".join(pieces), weight))
            pieces = []
    return merged or [("", 1.0)]
