"""A prompt for a reader that knows no grammar: its words without weights, and what got lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from danqing.prompt.ast import Alternate, Break, Network, Node, Round, Scheduled, Square, parse
from danqing.prompt.attention import BREAK_TEXT, BREAK_WEIGHT, weighted_texts
from danqing.prompt.composable import composable_parts

_NAMES: Final[dict[type[Node], str]] = {
    Scheduled: "a change of words on the way ([a:b:0.5])",
    Alternate: "words in turn ([a|b])",
    Network: "a network tag (<lora:…>, <hypernet:…>)",
}


@dataclass(frozen=True)
class PlainPart:
    """One of the texts that `AND` joins.

    Attributes:
        text: Without brackets.
        weight: After it, 1 where none stands there.
    """

    text: str
    weight: float = 1.0


def plain_parts(prompt: str) -> list[PlainPart]:
    """The texts of a prompt as plain words, at least one.

    Raises:
        PromptSyntaxError: A weight with two decimal points, or with no digit.

    >>> plain_parts("a (red:1.3) cat :2 AND a [dog]")
    [PlainPart(text='a red cat', weight=2.0), PlainPart(text='a dog', weight=1.0)]
    """
    return [PlainPart(_plain(part.text), part.weight) for part in composable_parts(prompt)]


def beyond_words(prompt: str) -> list[str]:
    """What in a prompt cannot be said in plain words, for a person; emphasis is none of it.

    >>> beyond_words("a [red:blue:0.5] cat")
    ['a change of words on the way ([a:b:0.5])']
    """
    nodes = [node for part in parse(prompt).parts for node in _walk(part.nodes)]
    return list(dict.fromkeys(name for node in nodes if (name := _NAMES.get(type(node))) is not None))


def has_emphasis(prompt: str) -> bool:
    """Whether words are weighted by brackets, or BREAK stands between them."""
    return any(isinstance(node, Round | Square | Break) for part in parse(prompt).parts for node in _walk(part.nodes))


def _plain(text: str) -> str:
    pieces = (" " if pair == (BREAK_TEXT, BREAK_WEIGHT) else pair[0] for pair in weighted_texts(text))
    return " ".join("".join(pieces).split())


def _walk(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, Round | Square):
            yield from _walk(node.body)
        elif isinstance(node, Scheduled):
            yield from _walk((*(node.before or ()), *node.after))
        elif isinstance(node, Alternate):
            yield from (inner for option in node.options for inner in _walk(option))
