"""The evaluator's own tokenizer: whole words of Latin script, single signs of any other."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 40
PAD, UNKNOWN = 0, 1
_PIECES = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


def pieces(text: str) -> list[str]:
    """The words and signs of a text, in order.

    >>> pieces("A red T-shirt, 3D，深藍色背景")
    ['a', 'red', 't', '-', 'shirt', ',', '3d', '，', '深', '藍', '色', '背', '景']
    """
    return _PIECES.findall(text.lower())


@dataclass(frozen=True)
class Words:
    """A vocabulary: number 0 is padding, 1 whatever is not in it."""

    known: tuple[str, ...]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: i + 2 for i, word in enumerate(self.known)}

    def __len__(self) -> int:
        return len(self.known) + 2

    def encode(self, texts: list[str]) -> NDArray[np.int64]:
        """Numbers `[n, longest]`, padded with 0 and cut after 40."""
        rows = [[self._numbers.get(p, UNKNOWN) for p in pieces(text)][:MAX_WORDS] or [UNKNOWN] for text in texts]
        out = np.full((len(rows), max(len(row) for row in rows)), PAD, np.int64)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return out

    def save(self, path: Path) -> None:
        """Writes the vocabulary as JSON."""
        path.write_text(json.dumps(self.known, ensure_ascii=False), encoding="utf-8")


def learn(texts: Iterable[str], least: int = 2) -> Words:
    """The vocabulary of these texts: what occurs at least `least` times, in a fixed order."""
    counts = Counter(piece for text in texts for piece in pieces(text))
    return Words(tuple(sorted(piece for piece, n in counts.items() if n >= least)))


def read(path: Path) -> Words:
    """The vocabulary that `save` wrote."""
    return Words(tuple(json.loads(path.read_text(encoding="utf-8"))))
