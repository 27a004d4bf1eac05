"""Embeddings of words, computed once for each mini-CLIP and kept in a file. No torch."""

from __future__ import annotations

import io
import json
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danqing.store.vectors import unit

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
_log = logging.getLogger(__name__)


class WordVectors:
    """Text to unit vector; what is not known yet is embedded and remembered.

    The vectors are kept in float16: an error of 5e-4 at most in a cosine, for half the file.

    Args:
        embed: Texts to unit vectors float32 `[n, dim]`.
        folder: Where the file is kept, or None for this process only. An unwritable place is as good as None.
        key: Content hash of the weights: other weights, another file.
    """

    def __init__(self, embed: Embed, folder: Path | None, key: str) -> None:
        self._embed = embed
        self._path = None if folder is None else folder / f"words-{key[:16]}.npz"
        self._places: dict[str, int] = {}
        self._vectors: NDArray[np.float32] | None = None
        if self._path is not None and self._path.is_file():
            self._read(self._path)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[n, dim]` of texts, in their order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._places]
        if new or self._vectors is None:
            self._learn(new)
        known = self._vectors
        return known[[self._places[text] for text in texts]] if known is not None else self._embed(texts)

    def _learn(self, texts: list[str]) -> None:
        # Through float16 at once, so that this process and the next one see the same numbers.
        vectors = unit(self._embed(texts).astype(np.float16))
        self._vectors = vectors if self._vectors is None else np.concatenate([self._vectors, vectors])
        for text in texts:
            self._places[text] = len(self._places)
        if texts and self._path is not None:
            self._write(self._path, self._vectors)

    def _read(self, path: Path) -> None:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                texts: Any = json.loads(found["texts"].tobytes())
                vectors = found["vectors"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("the cached word embeddings in %s cannot be read and are computed anew: %s", path, error)
            return
        whole = isinstance(texts, list) and vectors.ndim == 2 and len(set(map(str, texts))) == len(vectors) > 0
        if whole and np.isfinite(vectors).all():
            self._places = {str(text): place for place, text in enumerate(texts)}
            self._vectors = unit(vectors)

    def _write(self, path: Path, vectors: NDArray[np.float32]) -> None:
        buffer = io.BytesIO()
        texts = np.frombuffer(json.dumps(list(self._places)).encode(), np.uint8)
        np.savez(buffer, texts=texts, vectors=vectors.astype(np.float16))
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(buffer.getvalue())
            temporary.replace(path)
        except OSError as error:
            _log.warning("the word embeddings cannot be kept in %s: %s", path, error)
