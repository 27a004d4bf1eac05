"""Chunks of 75 tokens: how a prompt of any length reaches a text encoder that reads 77.

A chunk that is full breaks after its last comma if that comma is among its last 20 tokens; `BREAK` starts a new chunk.
A textual-inversion embedding takes as many places as it has vectors and is never split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from danqing.prompt.attention import BREAK_TEXT, BREAK_WEIGHT
from danqing.spec.errors import UnsupportedError

CHUNK_TOKENS: Final = 75
COMMA_BACKTRACK: Final = 20


class TokenizerLike(Protocol):
    """What chunking needs of a tokenizer."""

    @property
    def bos_id(self) -> int:
        """Begin of text."""
        ...

    @property
    def eos_id(self) -> int:
        """End of text."""
        ...

    @property
    def pad_id(self) -> int:
        """Padding after the end."""
        ...

    @property
    def comma_id(self) -> int | None:
        """The comma as a word of its own."""
        ...

    def encode(self, text: str, /) -> list[int]:
        """Ids of a text, without begin and end tokens."""
        ...

    def token(self, token_id: int, /) -> str:
        """The token's own text, for display."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingMatch:
    """A known embedding found at a token position: it replaces `tokens` tokens by `vectors` vectors."""

    name: str
    vectors: int
    tokens: int


class EmbeddingLookup(Protocol):
    """Finds textual-inversion embeddings by their names' tokens."""

    def match(self, ids: Sequence[int], position: int, /) -> EmbeddingMatch | None:
        """The longest known name that begins at `position`."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingSlot:
    """Where an embedding's vectors go: `ids[position : position + vectors]` of a chunk are placeholders (0)."""

    position: int
    name: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One run of the text encoder.

    Attributes:
        ids: 77 token ids: begin, up to 75 of the prompt, end, padding.
        multipliers: 77 weights; begin, end and padding have 1.
        slots: Where embeddings go.
        count: How many of the 75 places the prompt uses.
    """

    ids: tuple[int, ...]
    multipliers: tuple[float, ...]
    slots: tuple[EmbeddingSlot, ...]
    count: int


class EmbeddingIndex:
    """An EmbeddingLookup over names and vector counts; the longest name wins."""

    def __init__(self, tokenizer: TokenizerLike, vectors_by_name: Iterable[tuple[str, int]]) -> None:
        self._by_first: dict[int, list[tuple[list[int], str, int]]] = {}
        for name, vectors in vectors_by_name:
            if ids := tokenizer.encode(name):
                self._by_first.setdefault(ids[0], []).append((ids, name, vectors))
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def match(self, ids: Sequence[int], position: int) -> EmbeddingMatch | None:
        """The longest known name that begins at `position`."""
        for name_ids, name, vectors in self._by_first.get(ids[position], ()):
            if list(ids[position : position + len(name_ids)]) == name_ids:
                return EmbeddingMatch(name, vectors, len(name_ids))
        return None


@dataclass(slots=True)
class _Filling:
    """A chunk that is being filled; positions here do not count the begin token."""

    ids: list[int] = field(default_factory=list[int])
    multipliers: list[float] = field(default_factory=list[float])
    slots: list[EmbeddingSlot] = field(default_factory=list[EmbeddingSlot])
    last_comma: int = -1


class _Chunker:
    def __init__(self, tokenizer: TokenizerLike, embeddings: EmbeddingLookup | None, backtrack: int) -> None:
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._backtrack = backtrack
        self._now = _Filling()
        self.done: list[Chunk] = []

    @property
    def is_empty(self) -> bool:
        return not self._now.ids

    def close(self) -> None:
        now, tokenizer = self._now, self._tokenizer
        count = len(now.ids)
        padding = CHUNK_TOKENS - count
        self.done.append(
            Chunk(
                (tokenizer.bos_id, *now.ids, tokenizer.eos_id, *[tokenizer.pad_id] * padding),
                (1.0, *now.multipliers, 1.0, *[1.0] * padding),
                tuple(now.slots),
                count,
            )
        )
        self._now = _Filling()

    def add_piece(self, ids: list[int], weight: float) -> None:
        position = 0
        while position < len(ids):
            found = self._embeddings.match(ids, position) if self._embeddings else None
            token = ids[position]
            if token == self._tokenizer.comma_id and found is None:
                self._now.last_comma = len(self._now.ids)
            elif len(self._now.ids) == CHUNK_TOKENS:
                self._break_after_comma()
            if len(self._now.ids) == CHUNK_TOKENS:
                self.close()
            if found is None:
                self._now.ids.append(token)
                self._now.multipliers.append(weight)
                position += 1
            else:
                self._add_embedding(found, weight)
                position += found.tokens

    def _break_after_comma(self) -> None:
        old = self._now
        if old.last_comma == -1 or len(old.ids) - old.last_comma > self._backtrack:
            return
        cut = old.last_comma + 1
        rest = _Filling(old.ids[cut:], old.multipliers[cut:])
        # Unlike A1111, which leaves them behind in the old chunk, embeddings move with their text.
        rest.slots = [
            EmbeddingSlot(slot.position - cut, slot.name, slot.vectors) for slot in old.slots if slot.position > cut
        ]
        old.ids, old.multipliers = old.ids[:cut], old.multipliers[:cut]
        old.slots = [slot for slot in old.slots if slot.position <= cut]
        self.close()
        self._now = rest

    def _add_embedding(self, found: EmbeddingMatch, weight: float) -> None:
        if found.vectors > CHUNK_TOKENS:
            raise UnsupportedError(
                f"the embedding {found.name!r} has more vectors than the text encoder reads at once",
                field="prompt",
                value=found.vectors,
                allowed=f"at most {CHUNK_TOKENS} vectors",
                next_step="use an embedding trained with fewer vectors",
            )
        if len(self._now.ids) + found.vectors > CHUNK_TOKENS:
            self.close()
        self._now.slots.append(EmbeddingSlot(len(self._now.ids) + 1, found.name, found.vectors))
        self._now.ids += [0] * found.vectors
        self._now.multipliers += [weight] * found.vectors


def chunk_prompt(
    pieces: Sequence[tuple[str, float]],
    tokenizer: TokenizerLike,
    *,
    embeddings: EmbeddingLookup | None = None,
    comma_backtrack: int = COMMA_BACKTRACK,
) -> list[Chunk]:
    """The chunks of a prompt, at least one.

    Args:
        pieces: (text, weight) pairs, as `danqing.prompt.emphasis.pieces_for` gives them.
        tokenizer: The text encoder's tokenizer.
        embeddings: Known textual-inversion embeddings.
        comma_backtrack: How far back a comma may be to break after it, in tokens; 0 turns that off.

    Raises:
        UnsupportedError: An embedding with more than 75 vectors.
    """
    chunker = _Chunker(tokenizer, embeddings, comma_backtrack)
    for text, weight in pieces:
        if text == BREAK_TEXT and weight == BREAK_WEIGHT:
            chunker.close()
        else:
            chunker.add_piece(tokenizer.encode(text), weight)
    if not chunker.is_empty or not chunker.done:
        chunker.close()
    return chunker.done


def token_count(chunks: Sequence[Chunk]) -> int:
    """Places used, counting every chunk but the last as full."""
    return CHUNK_TOKENS * (len(chunks) - 1) + chunks[-1].count if chunks else 0
