r"""Dynamic prompts: variants, multiple picks and wildcards, expanded reproducibly from a seed, or exhaustively.

| text | meaning |
|---|---|
| `{a|b|c}` | one of them |
| `{0.5::a|2::b}` | one of them, b four times as often |
| `{2$$a|b|c}`, `{1-2$$a|b|c}` | two, or one to two different ones, joined with ", " |
| `{2$$ and $$a|b|c}` | joined with " and " |
| `__animals__`, `__animals/*__`, `__**/cat__` | a line of a wildcard, or of any wildcard that matches |
| `\{`, `\}`, `\|` | the character itself |

Everything nests. A bar inside `[a|b]` belongs to A1111's alternation. A brace without its partner is literal. Random
choices use only `random.Random(seed).random()`, whose sequence Python keeps the same in every version.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import combinations
from typing import Final, Protocol, TypeAlias

from danqing.spec.errors import InvalidRequestError, PromptSyntaxError

MAX_DEPTH: Final = 20
MAX_WILDCARD_DEPTH: Final = 12
MAX_LENGTH: Final = 20_000
_WILDCARD = re.compile(r"__([\w\-./*? ]+?)__")
_COUNT = re.compile(r"\s*(?:(\d{1,4})|(\d{1,4})?\s*-\s*(\d{1,4})?)\s*\Z")
_WEIGHT = re.compile(r"\s*(\d{1,6}\.?\d{0,6}|\.\d{1,6})\s*::")


class WildcardSource(Protocol):
    """Where wildcards come from; the grammar itself opens no file."""

    def names(self) -> Sequence[str]:
        """All wildcards, as `folder/name`."""
        ...

    def values(self, name: str, /) -> Sequence[str]:
        """The lines of one wildcard, comments left out."""
        ...


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that stays."""

    text: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """`__pattern__`."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Variants:
    """`{…}`: low to high different options, joined with the separator."""

    options: tuple[tuple[float, tuple[Node, ...]], ...]
    low: int = 1
    high: int = 1
    separator: str = ", "


Node: TypeAlias = Literal | Wildcard | Variants


def expand(prompt: str, seed: int, wildcards: WildcardSource | None = None) -> str:
    """One random expansion; the same prompt, seed and wildcards give the same text.

    Args:
        prompt: A dynamic prompt.
        seed: The picture's seed.
        wildcards: Where wildcards come from; without it `__name__` is literal.

    Raises:
        PromptSyntaxError: A wildcard that contains itself, or nesting or text beyond the limits.
        InvalidRequestError: An unknown or empty wildcard.

    >>> expand("a {red|green} {2$$ and $$fox|owl|cat}", seed=1)
    'a green fox and owl'
    """
    # Not for secrets: the point is that the picture's seed decides.
    chooser = _Random(random.Random(seed), wildcards)  # noqa: S311
    return chooser.text(parse_dynamic(prompt), ())


def expand_all(prompt: str, wildcards: WildcardSource | None = None) -> Iterator[str]:
    """All expansions, lazily, in reading order; where several options are picked, each set of them once.

    >>> list(expand_all("{a|b} {1-2$$x|y}"))
    ['a x', 'a y', 'a x, y', 'b x', 'b y', 'b x, y']
    """
    return _every(parse_dynamic(prompt), _Names(wildcards), ())


def is_dynamic(prompt: str, wildcards: WildcardSource | None = None) -> bool:
    """Whether expanding can change the prompt."""
    nodes = parse_dynamic(prompt)
    wild = wildcards is not None
    return any(isinstance(node, Variants) or (wild and isinstance(node, Wildcard)) for node in nodes)


@lru_cache(maxsize=4096)
def parse_dynamic(prompt: str) -> tuple[Node, ...]:
    """The tree of a dynamic prompt.

    Raises:
        PromptSyntaxError: It is longer than 20000 characters or nests more than 20 deep.
    """
    if len(prompt) > MAX_LENGTH:
        raise _too_much("the prompt is too long", len(prompt), f"{MAX_LENGTH} characters")
    return _Parser(prompt).nodes(0, len(prompt), 0)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._partner = _partners(text)

    def nodes(self, start: int, end: int, depth: int) -> tuple[Node, ...]:
        if depth > MAX_DEPTH:
            raise _too_much("braces nest too deep", depth, f"{MAX_DEPTH} levels")
        nodes: list[Node] = []
        literal: list[str] = []
        position = start
        while position < end:
            char = self._text[position]
            found = _WILDCARD.match(self._text, position, end) if char == "_" else None
            node: Node | None = None
            if found:
                node, position = Wildcard(found[1]), found.end()
            elif char == "{" and position in self._partner:
                closer = self._partner[position]
                node, position = self._variants(position + 1, closer, depth), closer + 1
            elif char == "\\" and self._text[position + 1 : min(position + 2, end)] in {"{", "}", "|"}:
                literal.append(self._text[position + 1])
                position += 2
            else:
                literal.append(char)
                position += 1
            if node is not None:
                nodes += [Literal("".join(literal))] if literal else []
                literal = []
                nodes.append(node)
        nodes += [Literal("".join(literal))] if literal else []
        return tuple(nodes)

    def _variants(self, start: int, end: int, depth: int) -> Variants:
        low, high, separator = 1, 1, ", "
        head = self._text.find("$$", start, end)
        counts = _COUNT.match(self._text[start:head]) if head >= 0 else None
        if counts and self._text[start:head].strip() != "-":
            start = head + 2
            again = self._text.find("$$", start, end)
            if again >= 0:
                separator, start = self._text[start:again], again + 2
            low = int(counts[1] or counts[2] or 1)
            high = int(counts[1] or counts[3] or MAX_LENGTH)
        options = [self._option(low_end, high_end, depth) for low_end, high_end in self._split(start, end)]
        return Variants(tuple(options), min(low, high), max(low, high), separator)

    def _option(self, start: int, end: int, depth: int) -> tuple[float, tuple[Node, ...]]:
        found = _WEIGHT.match(self._text, start, end)
        weight, start = (float(found[1]), found.end()) if found else (1.0, start)
        return weight, self.nodes(start, end, depth + 1)

    def _split(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges between the bars that belong to this pair of braces."""
        ranges: list[tuple[int, int]] = []
        position = start
        while position < end:
            char = self._text[position]
            if char == "\\":
                position += 2
                continue
            if position in self._partner:
                position = self._partner[position]
            elif char == "|":
                ranges.append((start, position))
                start = position + 1
            position += 1
        return [*ranges, (start, end)]


def _partners(text: str) -> dict[int, int]:
    """Opening brace or square bracket → its closing one; a bracket that crosses a brace has none."""
    partner: dict[int, int] = {}
    stack: list[int] = []
    braces = 0
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 2
            continue
        if char in "{[":
            stack.append(position)
            braces += char == "{"
        elif char == "]" and stack and text[stack[-1]] == "[":
            partner[stack.pop()] = position
        elif char == "}" and braces:
            while text[stack[-1]] == "[":
                stack.pop()
            partner[stack.pop()] = position
            braces -= 1
        position += 1
    return partner


class _Names:
    """Looks wildcards up and refuses those that contain themselves."""

    def __init__(self, source: WildcardSource | None) -> None:
        self.source = source
        self._all = tuple(source.names()) if source else ()

    def options(self, pattern: str, trail: tuple[str, ...]) -> list[tuple[float, tuple[Node, ...], tuple[str, ...]]]:
        """(weight, nodes, trail with the wildcard added) of every line that a pattern stands for."""
        wanted = pattern.strip().strip("/")
        names = [wanted] if wanted in self._all else sorted(n for n in self._all if fnmatchcase(n, wanted))
        options: list[tuple[float, tuple[Node, ...], tuple[str, ...]]] = []
        for name in names:
            if name in trail:
                circle = " → ".join(f"__{step}__" for step in (*trail[trail.index(name) :], name))
                raise PromptSyntaxError(
                    "a wildcard contains itself",
                    field="prompt",
                    value=circle,
                    allowed="wildcards that lead to plain text",
                    next_step=f"break the circle in the file of __{name}__",
                )
            if len(trail) >= MAX_WILDCARD_DEPTH:
                raise _too_much("wildcards nest too deep", " → ".join(trail), f"{MAX_WILDCARD_DEPTH} levels")
            for line in self.source.values(name) if self.source else ():
                found = _WEIGHT.match(line)
                weight, text = (float(found[1]), line[found.end() :]) if found else (1.0, line)
                options.append((weight, parse_dynamic(text), (*trail, name)))
        if not options:
            raise self._unknown(wanted, exists=bool(names))
        return options

    def _unknown(self, wanted: str, *, exists: bool) -> InvalidRequestError:
        return InvalidRequestError(
            "the wildcard has no lines" if exists else "there is no wildcard of this name",
            field="prompt",
            value=f"__{wanted}__",
            allowed=", ".join(self._all[:12]) or "none are installed",
            next_step=f"add wildcards/{wanted}.txt with one entry a line, or correct the name",
        )


class _Random:
    def __init__(self, generator: random.Random, source: WildcardSource | None) -> None:
        self._generator = generator
        self._names = _Names(source)
        self._length = 0

    def text(self, nodes: Sequence[Node], trail: tuple[str, ...]) -> str:
        return "".join(self._node(node, trail) for node in nodes)

    def _node(self, node: Node, trail: tuple[str, ...]) -> str:
        if isinstance(node, Literal):
            self._length += len(node.text)
            if self._length > MAX_LENGTH:
                raise _too_much("the expanded prompt is too long", self._length, f"{MAX_LENGTH} characters")
            return node.text
        if isinstance(node, Wildcard):
            if self._names.source is None:
                return f"__{node.pattern}__"
            options = self._names.options(node.pattern, trail)
            _, nodes, inner = options[self._index([option[0] for option in options])]
            return self.text(nodes, inner)
        return self._variants(node, trail)

    def _variants(self, node: Variants, trail: tuple[str, ...]) -> str:
        options = _choices(node, self._names, trail)
        low, high = min(node.low, len(options)), min(node.high, len(options))
        count = low + int(self._generator.random() * (high - low + 1))
        picked: list[str] = []
        for _ in range(count):
            _, nodes, inner = options.pop(self._index([option[0] for option in options]))
            picked.append(self.text(nodes, inner))
        return node.separator.join(picked)

    def _index(self, weights: Sequence[float]) -> int:
        total = sum(weights)
        if total <= 0:
            return min(int(self._generator.random() * len(weights)), len(weights) - 1)
        point = self._generator.random() * total
        for index, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return index
        return max(index for index, weight in enumerate(weights) if weight > 0)


def _choices(
    node: Variants, names: _Names, trail: tuple[str, ...]
) -> list[tuple[float, tuple[Node, ...], tuple[str, ...]]]:
    """What `{…}` picks from; a wildcard alone in it, as in `{2$$__colours__}`, stands for its lines."""
    only = node.options[0][1] if len(node.options) == 1 else ()
    if len(only) == 1 and isinstance(only[0], Wildcard) and names.source is not None:
        return names.options(only[0].pattern, trail)
    return [(weight, nodes, trail) for weight, nodes in node.options]


def _every(nodes: Sequence[Node], names: _Names, trail: tuple[str, ...]) -> Iterator[str]:
    if not nodes:
        yield ""
        return
    if len(nodes) == 1:
        yield from _every_of(nodes[0], names, trail)
        return
    # Halves, so that a long prompt does not exhaust the interpreter's stack.
    half = len(nodes) // 2
    for head in _every(nodes[:half], names, trail):
        for tail in _every(nodes[half:], names, trail):
            yield head + tail


def _every_of(node: Node, names: _Names, trail: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, Literal):
        yield node.text
    elif isinstance(node, Wildcard):
        if names.source is None:
            yield f"__{node.pattern}__"
            return
        for _, nodes, inner in names.options(node.pattern, trail):
            yield from _every(nodes, names, inner)
    else:
        options = _choices(node, names, trail)
        low, high = min(node.low, len(options)), min(node.high, len(options))
        for count in range(low, high + 1):
            for picked in combinations(options, count):
                yield from _joined(picked, node.separator, names)


def _joined(
    picked: Sequence[tuple[float, tuple[Node, ...], tuple[str, ...]]], separator: str, names: _Names
) -> Iterator[str]:
    if not picked:
        yield ""
        return
    _, nodes, trail = picked[0]
    for head in _every(nodes, names, trail):
        for tail in _joined(picked[1:], separator, names):
            yield head + separator + tail if len(picked) > 1 else head


def _too_much(message: str, value: int | str, allowed: str) -> PromptSyntaxError:
    return PromptSyntaxError(
        message, field="prompt", value=value, allowed=f"at most {allowed}", next_step="make the prompt simpler"
    )
