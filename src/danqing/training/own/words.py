"""A word that is being learnt: its vectors stand in the text encoders' input where prompts name it.

The encoders' tables of words are never touched: the vectors are put into their answer, as painting does it
(models/text.py), so that every other row stays bit for bit as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from danqing.models.text import TextEncoder
from danqing.prompt.chunks import Chunk, EmbeddingIndex, chunk_prompt
from danqing.prompt.embeddings import set_apart
from danqing.spec.errors import InvalidRequestError
from danqing.training.own.opened import Opened
from danqing.training.own.seeds import torch_of

MARK = 1 << 24
"""Token ids from here on are places of the word: `MARK + i` is its i-th vector."""


class NewWord(nn.Module):
    """The vectors of a word, one table for each text encoder.

    Args:
        names: How prompts and captions call it; the first is its own.
        texts: (part, encoder) as `Opened.texts` has them.
        vectors: How many places it takes.
        initial_words: Whose vectors it begins with, in turn; "" draws from the table's mean and deviation.
        seed: For that.

    Raises:
        InvalidRequestError: The initial words have no token, or the name has none.
    """

    def __init__(
        self,
        names: Sequence[str],
        texts: Sequence[tuple[str, TextEncoder]],
        vectors: int,
        initial_words: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.names = tuple(dict.fromkeys(name for name in names if name))
        self.count = vectors
        self.vectors = nn.ParameterDict()
        self.usual_norm: dict[str, float] = {}
        for part, encoder in texts:
            if not encoder.tokenizer.encode(self.names[0]):
                raise InvalidRequestError("this name has no token", field="name", value=self.names[0])
            table = _table(encoder)
            self.usual_norm[part] = float(table.norm(dim=1).mean())
            first = _first_values(encoder, table, vectors, initial_words, seed)
            self.vectors[part] = nn.Parameter(first.to(encoder.device))

    def chunk(self, text: str, encoder: TextEncoder) -> Chunk:
        """The first chunk of a text, with slots where the word stands."""
        index = EmbeddingIndex(encoder.tokenizer, [(name, self.count) for name in self.names])
        return chunk_prompt([(set_apart(text, self.names), 1.0)], encoder.tokenizer, embeddings=index)[0]

    def strangeness(self) -> Tensor:
        """How far the vectors' lengths are from those of ordinary words: mean squared ratio less one."""
        each = [(self.vectors[part].norm(dim=1) / self.usual_norm[part] - 1.0).square().mean() for part in self.vectors]
        return torch.stack(each).mean()

    @contextmanager
    def standing(self, part: str, encoder: TextEncoder, ids: Tensor) -> Iterator[Tensor]:
        """Inside, the encoder reads the vectors where `ids` [b, 77] are marked; yields ids that it knows."""
        marked = ids >= MARK
        which = torch.where(marked, ids - MARK, 0)

        def place(_: Any, __: Any, embedded: Tensor) -> Tensor:
            return torch.where(marked[..., None], self.vectors[part][which].to(embedded), embedded)

        handle = encoder.model.get_input_embeddings().register_forward_hook(place)
        try:
            yield torch.where(marked, 0, ids)
        finally:
            handle.remove()


@dataclass
class WordOpened(Opened):
    """A model opened that knows the word, in captions, prompts and negative prompts alike."""

    word: NewWord | None = None

    @classmethod
    def of(cls, opened: Opened, word: NewWord) -> Self:
        """The same model with the word."""
        return cls(**vars(opened), word=word)

    def token_ids(self, captions: Sequence[str]) -> list[Tensor]:
        """As `Opened.token_ids`; places of the word are marked."""
        if self.word is None:
            return super().token_ids(captions)
        found: list[Tensor] = []
        for _, encoder in self.texts:
            rows = [_marked(self.word.chunk(caption, encoder)) for caption in captions]
            found.append(torch.tensor(rows, device=self.device))
        return found

    def read_text(self, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """As `Opened.read_text`, with gradients to the word's vectors."""
        if self.word is None:
            return super().read_text(ids)
        states: list[Tensor] = []
        pooled: Tensor | None = None
        for (part, encoder), rows in zip(self.texts, ids, strict=True):
            with self.word.standing(part, encoder, rows) as known:
                read, pooled = encoder.states(known, self.clip_skip)
            states.append(read)
        return torch.cat(states, dim=-1), pooled


def _marked(chunk: Chunk) -> list[int]:
    ids = list(chunk.ids)
    for slot in chunk.slots:
        ids[slot.position : slot.position + slot.vectors] = range(MARK, MARK + slot.vectors)
    return ids


def _table(encoder: TextEncoder) -> Tensor:
    """The encoder's table of words float32 [words, width]."""
    return encoder.model.get_input_embeddings().weight.detach().float()


def _first_values(encoder: TextEncoder, table: Tensor, vectors: int, words: str, seed: int) -> Tensor:
    """What the word begins with [n, width]."""
    if words.strip():
        ids = encoder.tokenizer.encode(words)
        if not ids:
            raise InvalidRequestError(
                "the initial words have no token",
                field="initial_words",
                value=words,
                allowed="ordinary words, or none at all",
                next_step="say in plain words what it resembles",
            )
        return table[[ids[i % len(ids)] for i in range(vectors)]].clone()
    noise = torch.randn(vectors, table.shape[1], generator=torch_of(seed, "word", 0))
    return table.mean(0) + table.std(0) * noise.to(table.device)
