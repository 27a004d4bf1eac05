"""Two prompts side by side: which words were exchanged, which stayed, and where their tokens stand.

Positions are places of what a model reads of a text: 77 for each chunk, of which the first is the begin token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Protocol

from danqing.prompt.attention import BREAK_TEXT, BREAK_WEIGHT
from danqing.prompt.chunks import CHUNK_TOKENS, TokenizerLike, chunk_prompt
from danqing.prompt.emphasis import EmphasisMode, pieces_for
from danqing.spec.errors import InvalidRequestError

PLACES: Final = CHUNK_TOKENS + 2
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\s\w]")
_LETTER = "A-Za-z0-9À-ɏ"


class SpanTokenizer(TokenizerLike, Protocol):
    """A tokenizer that also says where its tokens stand in a text."""

    def spans(self, text: str, /) -> list[tuple[int, int]]:
        """From which character up to which each token reaches."""
        ...


@dataclass(frozen=True)
class PlacedText:
    """A prompt with its tokens and their places.

    Attributes:
        plain: Its words without brackets.
        ids: Of its tokens, in order.
        places: Where each stands.
        spans: From which character of `plain` up to which each reaches.
        tails: For each chunk the places after its words: its end token and padding.
    """

    plain: str
    ids: tuple[int, ...]
    places: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    tails: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Places in all."""
        return PLACES * len(self.tails)

    def places_of(self, phrase: str) -> list[int]:
        """Where the tokens of a word, or of words beside each other, stand; empty where they are not there."""
        found = spans_of(self.plain, phrase)
        return [
            place
            for place, (start, end) in zip(self.places, self.spans, strict=True)
            if any(start < last and end > first for first, last in found)
        ]


@dataclass(frozen=True)
class TokenMap:
    """How the attention to a source text becomes attention to another one.

    Attributes:
        pairs: (place in the source, place in the target, share of it).
        own: Places of the target that have no counterpart and keep their own attention.
        length: Places of each text.
    """

    pairs: tuple[tuple[int, int, float], ...]
    own: tuple[int, ...]
    length: int


def plain_text(prompt: str) -> str:
    """A prompt's words without brackets and weights.

    Raises:
        PromptSyntaxError: A weight that is no number.
    """
    return "".join(_texts(prompt, EmphasisMode.ORIGINAL))


def words_in(text: str) -> list[str]:
    """The words and signs of a plain text.

    >>> words_in("a cat's hat, 3d")
    ['a', "cat's", 'hat', ',', '3d']
    """
    return _WORD.findall(text)


def spans_of(text: str, phrase: str) -> list[tuple[int, int]]:
    """Where a word, or several beside each other, stand in a plain text, whole and in any case.

    >>> spans_of("a cat in a category", "Cat")
    [(2, 5)]
    """
    parts = [re.escape(part) for part in phrase.split()]
    if not parts:
        return []
    words = r"\s+".join(parts)
    pattern = rf"(?<![{_LETTER}]){words}(?![{_LETTER}])"
    return [found.span() for found in re.finditer(pattern, text, re.IGNORECASE)]


def differences(source: str, target: str) -> list[tuple[list[str], list[str]]]:
    """Blocks of words that stand in one plain text in place of those in the other: (gone, new).

    >>> differences("a cat on grass", "a big dog on grass")
    [(['cat'], ['big', 'dog'])]
    """
    old, new = words_in(source), words_in(target)
    matcher = SequenceMatcher(None, _folded(old), _folded(new), autojunk=False)
    return [(old[a:b], new[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]


def is_exchange(source: str, target: str) -> bool:
    """Whether the texts differ, and only by words that were exchanged one for one."""
    found = differences(source, target)
    return bool(found) and all(len(gone) == len(new) for gone, new in found)


def placed(prompt: str, mode: EmphasisMode, tokenizer: SpanTokenizer) -> PlacedText:
    """A prompt as a model reads it, with where its tokens stand.

    Args:
        prompt: With emphasis; without schedules, AND, network tags or embeddings.
        mode: How brackets are read.
        tokenizer: The model's.
    """
    texts = _texts(prompt, mode)
    spans: list[tuple[int, int]] = []
    before = 0
    for text in texts:
        spans += [(start + before, end + before) for start, end in tokenizer.spans(text)]
        before += len(text)
    chunks = chunk_prompt(pieces_for(prompt, mode), tokenizer)
    ids: list[int] = []
    places: list[int] = []
    for index, chunk in enumerate(chunks):
        ids += chunk.ids[1 : 1 + chunk.count]
        places += range(index * PLACES + 1, index * PLACES + 1 + chunk.count)
    tails = [range(i * PLACES + 1 + chunk.count, (i + 1) * PLACES) for i, chunk in enumerate(chunks)]
    return PlacedText("".join(texts), tuple(ids), tuple(places), tuple(spans), tuple(map(tuple, tails)))


def token_map(source: PlacedText, target: PlacedText, alignment: str) -> TokenMap:
    """How attention is carried over: `replace` word for word, `refine` along the longest common subsequence.

    Hertz et al., *Prompt-to-Prompt*, arXiv 2208.01626, section 3.2. End token and padding of a chunk are carried over
    in order, surplus ones together with the last, so that no attention is lost.

    Raises:
        InvalidRequestError: The texts fill different numbers of chunks, or `replace` has other numbers of words.
    """
    if len(source.tails) != len(target.tails):
        raise InvalidRequestError(
            "one of the two prompts is longer by 75 tokens",
            field="prompt",
            value=f"{len(source.tails)} and {len(target.tails)} chunks of 75 tokens",
            allowed="prompts that fill the same number of chunks",
            next_step="shorten the longer prompt, or say the same with as many words",
        )
    pairs, own = _replaced(source, target) if alignment == "replace" else _refined(source, target)
    for index, (old, new) in enumerate(zip(source.tails, target.tails, strict=True)):
        pairs.append((index * PLACES, index * PLACES, 1.0))
        pairs += _tail(old, new)
    return TokenMap(tuple(pairs), tuple(own), target.length)


def check_exchange(source: str, target: str) -> None:
    """See that words can be exchanged one for one.

    Raises:
        InvalidRequestError: The numbers of words differ; names the first words without a counterpart.
    """
    old, new = words_in(source), words_in(target)
    if len(old) == len(new):
        return
    gone, added = next(pair for pair in differences(source, target) if len(pair[0]) != len(pair[1]))
    raise InvalidRequestError(
        f"words are exchanged one for one, and {_quoted(gone)} has become {_quoted(added)}",
        field="prompt",
        value=f"{len(new)} words and signs",
        allowed=f"as many as in the source prompt: {len(old)}",
        next_step="use the alignment `refine`, or leave it open",
    )


def _replaced(source: PlacedText, target: PlacedText) -> tuple[list[tuple[int, int, float]], list[int]]:
    check_exchange(source.plain, target.plain)
    pairs: list[tuple[int, int, float]] = []
    matched: set[int] = set()
    for old, new in zip(_groups(source), _groups(target), strict=True):
        matched |= set(new)
        if len(old) == len(new):
            pairs += [(a, b, 1.0) for a, b in zip(old, new, strict=True)]
        elif new:
            pairs += [(a, b, 1.0 / len(new)) for a in old for b in new]
    return pairs, [place for place in target.places if place not in matched]


def _groups(text: PlacedText) -> list[list[int]]:
    """The places of each word; a token that two words share belongs to the first."""
    groups: list[list[int]] = []
    taken: set[int] = set()
    for word in _WORD.finditer(text.plain):
        mine = [
            place
            for place, (start, end) in zip(text.places, text.spans, strict=True)
            if start < word.end() and end > word.start() and place not in taken
        ]
        taken |= set(mine)
        groups.append(mine)
    return groups


def _refined(source: PlacedText, target: PlacedText) -> tuple[list[tuple[int, int, float]], list[int]]:
    common = longest_common(source.ids, target.ids)
    pairs = [(source.places[a], target.places[b], 1.0) for a, b in common]
    matched = {b for _, b in common}
    return pairs, [place for index, place in enumerate(target.places) if index not in matched]


def longest_common(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """Index pairs of a longest common subsequence.

    >>> longest_common([1, 2, 3, 4], [2, 9, 4])
    [(1, 0), (3, 2)]
    """
    rows, columns = len(first), len(second)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for a in range(rows - 1, -1, -1):
        for b in range(columns - 1, -1, -1):
            same = first[a] == second[b]
            best[a][b] = best[a + 1][b + 1] + 1 if same else max(best[a + 1][b], best[a][b + 1])
    pairs: list[tuple[int, int]] = []
    a = b = 0
    while a < rows and b < columns:
        if first[a] == second[b]:
            pairs.append((a, b))
            a, b = a + 1, b + 1
        elif best[a + 1][b] >= best[a][b + 1]:
            a += 1
        else:
            b += 1
    return pairs


def _tail(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int, float]]:
    """End token to end token, padding to padding; where one has more, its last ones are taken together."""
    both = min(len(old), len(new))
    pairs = [(old[i], new[i], 1.0) for i in range(both - 1)]
    rest_old, rest_new = old[both - 1 :], new[both - 1 :]
    return pairs + [(a, b, 1.0 / len(rest_new)) for a in rest_old for b in rest_new]


def _texts(prompt: str, mode: EmphasisMode) -> list[str]:
    """The pieces of a prompt that the tokenizer sees; a BREAK parts words as a blank does."""
    pieces = pieces_for(prompt, mode)
    return [" " if (text, weight) == (BREAK_TEXT, BREAK_WEIGHT) else text for text, weight in pieces]


def _quoted(words: Sequence[str]) -> str:
    return repr(" ".join(words)) if words else "nothing"


def _folded(words: Sequence[str]) -> list[str]:
    return [word.casefold() for word in words]
