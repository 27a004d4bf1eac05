r"""The syntax tree of an A1111 prompt; lossless, and total: every text has exactly one tree.

A prompt is split in the order A1111 splits it: network tags (`<lora:…>`) are opaque, `AND` separates parts even inside
brackets, `part :1.2` gives a part its weight, and what is left nests in brackets:

| text | node |
|---|---|
| `(x)`, `(x:1.3)` | `Round` |
| `[x]` | `Square` |
| `[from:to:when]`, `[to:when]`, `[from::when]` | `Scheduled` |
| `[a|b|c]` | `Alternate` |
| `\(` | `Escape` |
| `BREAK` | `Break` |
| a bracket, colon or bar that fits none of these | `Stray`, and so do all brackets around it |

`danqing.prompt.printer.to_text` is the inverse: `to_text(parse(text)) == text` for every text.

A1111 reads this with an ambiguous Earley grammar whose choice, where a finished group is followed by two or more stray
brackets, depends on the interpreter's hash seed. Here the group always wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

MAX_DEPTH = 100
"""Deeper brackets than this are literal text, so that no prompt can exhaust the interpreter's stack."""

NETWORK = re.compile(r"<(\w+):([^>]+)>")
"""A network tag: kind and arguments."""

AND = re.compile(r"\bAND\b")
_BREAK = re.compile(r"\bBREAK\b")
PART_WEIGHT = re.compile(r"(?<!\s)\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*\Z")
"""The weight at the end of one part of an AND prompt."""

WHEN = re.compile(r"\s*([-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*\Z")
"""The step or fraction that ends a scheduled group; the number is group 1."""

_EMPHASIS_WEIGHT = re.compile(r"\s*([+-]?[.\d]+)\s*\Z")
_SPECIAL = re.compile(r"[\\()\[\]:|]")
_CLOSER_OF = {"(": ")", "[": "]"}


@dataclass(frozen=True, slots=True)
class Text:
    """Plain characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Escape:
    """A backslash with the character it protects, or a backslash with nothing to protect."""

    text: str


@dataclass(frozen=True, slots=True)
class Stray:
    """One bracket, colon or bar that stands for itself; inside a group, only a bar after a brace."""

    text: str


@dataclass(frozen=True, slots=True)
class Break:
    """`BREAK` with the whitespace around it."""

    text: str


@dataclass(frozen=True, slots=True)
class Network:
    """`<kind:arguments>`."""

    kind: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Round:
    """`(body)` or `(body:tail)`."""

    body: tuple[Node, ...]
    tail: tuple[Node, ...] | None = None

    @property
    def weight(self) -> str | None:
        """The number after the colon as written, or None where the tail is no number."""
        if self.tail is None or len(self.tail) != 1 or not isinstance(self.tail[0], Text):
            return None
        found = _EMPHASIS_WEIGHT.match(self.tail[0].text)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Square:
    """`[body]`: less attention."""

    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`[before:after:when]`; `before` is None in `[after:when]`. `when` keeps its whitespace."""

    before: tuple[Node, ...] | None
    after: tuple[Node, ...]
    when: str


@dataclass(frozen=True, slots=True)
class Alternate:
    """`[a|b|c]`: another option each step."""

    options: tuple[tuple[Node, ...], ...]


Node: TypeAlias = Text | Escape | Stray | Break | Network | Round | Square | Scheduled | Alternate


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an AND prompt; `weight` is its suffix as written, colon and whitespace included."""

    nodes: tuple[Node, ...]
    weight: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole prompt: its parts, which `AND` joins."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Mark:
    """An opener, closer, colon or bar whose meaning is not yet known; `index` is its place in the token list."""

    char: str
    index: int


_Token: TypeAlias = Text | Escape | Break | Network | _Mark


def parse(text: str) -> Prompt:
    """The tree of a whole prompt.

    >>> parse("a AND (b:1.3) :0.5").parts[1]
    Part(nodes=(Text(text=' '), Round(body=(Text(text='b'),), tail=(Text(text='1.3'),))), weight=' :0.5')
    """
    spans = [found.span() for found in find_networks(text)]
    parts: list[Part] = []
    start = 0
    for found in AND.finditer(text):
        if not any(low < found.end() and found.start() < high for low, high in spans):
            parts.append(_part(text[start : found.start()]))
            start = found.end()
    parts.append(_part(text[start:]))
    return Prompt(tuple(parts))


def find_networks(text: str) -> Iterator[re.Match[str]]:
    """The network tags of a text, in order; in linear time however many tags are never closed."""
    return NETWORK.finditer(text, 0, text.rfind(">") + 1)


def find_breaks(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every BREAK with the whitespace around it, in linear time."""
    reached = 0
    for found in _BREAK.finditer(text):
        start = reached + len(text[reached : found.start()].rstrip())
        reached = (
            len(text) - len(text[found.end() :].lstrip())
            if text[found.end() : found.end() + 1].isspace()
            else found.end()
        )
        yield start, reached


def parse_nodes(text: str, *, tags: bool = True) -> tuple[Node, ...]:
    """The nodes of one part.

    Args:
        text: The text.
        tags: Whether network tags and BREAK become nodes; otherwise they are plain text, as to A1111's scheduler,
            which runs after the tags are gone and before BREAK is read.
    """
    tokens = _tokens(text, tags=tags)
    nodes, _ = _nodes(tokens, _Grouping(tokens), 0, len(tokens))
    return tuple(nodes)


def _part(text: str) -> Part:
    found = PART_WEIGHT.search(text)
    cut = found.start() if found else len(text)
    return Part(parse_nodes(text[:cut]), text[cut:])


def _tokens(text: str, *, tags: bool) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    for found in find_networks(text) if tags else ():
        _tokens_without_tags(text[position : found.start()], tokens, breaks=tags)
        tokens.append(Network(found[1], found[2]))
        position = found.end()
    _tokens_without_tags(text[position:], tokens, breaks=tags)
    return tokens


def _tokens_without_tags(text: str, tokens: list[_Token], *, breaks: bool) -> None:
    position = 0
    while found := _SPECIAL.search(text, position):
        _add_text(text[position : found.start()], tokens, breaks=breaks)
        position = found.end()
        if found[0] == "\\":
            protected = text[position : position + 1]
            protected = "" if protected == "\n" else protected
            tokens.append(Escape("\\" + protected))
            position += len(protected)
        else:
            tokens.append(_Mark(found[0], len(tokens)))
    _add_text(text[position:], tokens, breaks=breaks)


def _add_text(text: str, tokens: list[_Token], *, breaks: bool) -> None:
    position = 0
    for start, end in find_breaks(text) if breaks else ():
        if start > position:
            tokens.append(Text(text[position:start]))
        tokens.append(Break(text[start:end]))
        position = end
    if position < len(text):
        tokens.append(Text(text[position:]))


class _Grouping:
    """Which brackets form groups that the grammar allows, decided before any node is built.

    Attributes:
        closer_of: Index of the opener → index of its closer, for allowed groups only.
    """

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self.closer_of: dict[int, int] = {}
        self._tokens = tokens
        stack: list[_Open] = []
        for token in tokens:
            if not isinstance(token, _Mark):
                continue
            if token.char in _CLOSER_OF:
                stack.append(_Open(token))
            elif token.char in ":|":
                if stack:
                    stack[-1].separators.append(token)
            elif stack and _CLOSER_OF[stack[-1].mark.char] == token.char:
                self._close(stack.pop(), token, stack)
            else:
                # A closer that closes nothing: no group may contain it, so every open bracket is stray.
                stack.clear()

    def _close(self, group: _Open, closer: _Mark, stack: list[_Open]) -> None:
        if group.allowed and group.depth <= MAX_DEPTH and self._fits(group, closer):
            self.closer_of[group.mark.index] = closer.index
            if stack:
                stack[-1].depth = max(stack[-1].depth, group.depth + 1)
        elif stack:
            stack[-1].allowed = False

    def _fits(self, group: _Open, closer: _Mark) -> bool:
        colons = sum(mark.char == ":" for mark in group.separators)
        bars = len(group.separators) - colons
        if group.mark.char == "(":
            return bars == 0 and colons <= 1
        if colons == 0:
            return True
        if colons > 2 or (bars and not self._braced(group)):
            return False
        last = self._tokens[group.separators[-1].index + 1 : closer.index]
        return len(last) == 1 and isinstance(last[0], Text) and WHEN.match(last[0].text) is not None

    def _braced(self, group: _Open) -> bool:
        """Whether every bar follows an opening brace since the last colon.

        A1111 documents `[{b|d{:.5]` as a schedule of the text `{b|d{`, though its own grammar then refuses the prompt.
        """
        start = group.mark.index
        for mark in group.separators:
            between = self._tokens[start + 1 : mark.index]
            if mark.char == ":":
                start = mark.index
            elif not any(isinstance(token, Text) and "{" in token.text for token in between):
                return False
        return True


@dataclass(slots=True)
class _Open:
    """An open bracket while its closer is looked for."""

    mark: _Mark
    separators: list[_Mark]
    allowed: bool
    depth: int

    def __init__(self, mark: _Mark) -> None:
        self.mark = mark
        self.separators = []
        self.allowed = True
        self.depth = 1


def _nodes(
    tokens: Sequence[_Token], grouping: _Grouping, start: int, end: int
) -> tuple[list[Node], list[tuple[str, int]]]:
    """The nodes of tokens[start:end], and (character, node index) of each separator among them."""
    nodes: list[Node] = []
    separators: list[tuple[str, int]] = []
    index = start
    while index < end:
        token = tokens[index]
        if not isinstance(token, _Mark):
            nodes.append(token)
        elif (closer := grouping.closer_of.get(index)) is not None:
            nodes.append(_group(tokens, grouping, index, closer))
            index = closer
        else:
            if token.char in ":|":
                separators.append((token.char, len(nodes)))
            nodes.append(Stray(token.char))
        index += 1
    return nodes, separators


def _group(tokens: Sequence[_Token], grouping: _Grouping, opener: int, closer: int) -> Node:
    nodes, separators = _nodes(tokens, grouping, opener + 1, closer)
    if any(char == ":" for char, _ in separators):
        separators = [(char, index) for char, index in separators if char == ":"]
    cuts = [-1, *(index for _, index in separators), len(nodes)]
    segments = [tuple(nodes[low + 1 : high]) for low, high in pairwise(cuts)]
    mark = tokens[opener]
    if isinstance(mark, _Mark) and mark.char == "(":
        return Round(segments[0], segments[1] if len(segments) == 2 else None)
    if not separators:
        return Square(segments[0])
    if separators[0][0] == "|":
        return Alternate(tuple(segments))
    when = "".join(node.text for node in segments[-1] if isinstance(node, Text))
    return Scheduled(segments[0] if len(segments) == 3 else None, segments[-2], when)
