"""Text to context: tokenize in chunks of 75, encode, apply emphasis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from danqing.prompt.chunks import Chunk, EmbeddingIndex, chunk_prompt
from danqing.prompt.embeddings import set_apart
from danqing.prompt.emphasis import EmphasisMode, apply_emphasis, pieces_for
from danqing.prompt.tokenizer import ClipTokenizer
from danqing.spec.errors import UnsupportedError

Layers: TypeAlias = Callable[[Tensor, Sequence[int]], Sequence[Tensor]]
"""Embedded tokens [b, 77, width] and indices of a text encoder's layers → the states after each of these layers,
normalised as the last one's unless `TextOptions.hidden`."""


@dataclass(frozen=True, eq=False)
class TextState:
    """What a model reads of a text.

    Attributes:
        states: Of its tokens, float32 [77 · chunks, width].
        pooled: Of the whole text (its first chunk, as in A1111), float32 [width]; None where the model reads none.
    """

    states: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A new word of a text encoder (textual inversion).

    Attributes:
        name: How it is written in a prompt.
        vectors: What stands for its tokens [n, width].
    """

    name: str
    vectors: Tensor


@dataclass(frozen=True)
class TextOptions:
    """How a model reads its text encoder.

    Attributes:
        pad_id: The token that fills a chunk up; None as the tokenizer's own files say.
        hidden: Reads the layer before the last as it is (SDXL) and not the last one normalised (Stable Diffusion).
        pooled: Gives the pooled text of an encoder without a projection (FLUX).
    """

    pad_id: int | None = None
    hidden: bool = False
    pooled: bool = False


class TextEncoder:
    """A CLIP text encoder with its tokenizer.

    Args:
        tokenizer_dir: A folder in CLIP's layout.
        model: The encoder, on its device; with a projection it also gives the pooled text.
        device: Where that is.
        options: How it is read.
    """

    def __init__(
        self,
        tokenizer_dir: Path,
        model: CLIPTextModel | CLIPTextModelWithProjection,
        device: torch.device,
        options: TextOptions | None = None,
    ) -> None:
        self.tokenizer = ClipTokenizer(tokenizer_dir)
        self.model = model
        self.device = device
        self.options = options or TextOptions()
        if self.options.pad_id is not None:
            self.tokenizer.pad_id = self.options.pad_id
        self._words: dict[str, WordVectors] = {}
        self._layers: Layers | None = None

    @contextmanager
    def computed_by(self, layers: Layers) -> Iterator[None]:
        """Inside the block these stand for the encoder's own layers."""
        kept, self._layers = self._layers, layers
        try:
            yield
        finally:
            self._layers = kept

    @contextmanager
    def knowing(self, words: Sequence[WordVectors]) -> Iterator[None]:
        """Inside the block these words stand for their vectors."""
        kept, self._words = self._words, {word.name: word for word in words}
        try:
            yield
        finally:
            self._words = kept

    def encode(self, texts: Sequence[str], *, emphasis: str, clip_skip: int) -> list[Tensor]:
        """Contexts float32 [77 · chunks, width], one for each text.

        Raises:
            UnsupportedError: clip_skip is more than the encoder has layers.
        """
        return [state.states for state in self.read(texts, emphasis=emphasis, clip_skip=clip_skip)]

    def read(self, texts: Sequence[str], *, emphasis: str, clip_skip: int) -> list[TextState]:
        """What a model reads of each text; pooled where the encoder has a projection.

        Raises:
            UnsupportedError: clip_skip is more than the encoder has layers.
        """
        layers = int(self.model.config.num_hidden_layers)
        if clip_skip > layers:
            raise UnsupportedError(
                "this text encoder has fewer layers",
                field="clip_skip",
                value=clip_skip,
                allowed=f"1 to {layers}",
                next_step="choose a smaller clip skip",
            )
        mode = EmphasisMode(emphasis)
        chunked = [self._chunks(text, mode) for text in texts]
        encoded = iter(self._encode_chunks([chunk for chunks in chunked for chunk in chunks], mode, clip_skip))
        return [_joined([next(encoded) for _ in chunks]) for chunks in chunked]

    def _chunks(self, text: str, mode: EmphasisMode) -> list[Chunk]:
        pieces = pieces_for(text, mode)
        if not self._words:
            return chunk_prompt(pieces, self.tokenizer)
        index = EmbeddingIndex(self.tokenizer, [(word.name, len(word.vectors)) for word in self._words.values()])
        apart = [(set_apart(piece, self._words), weight) for piece, weight in pieces]
        return chunk_prompt(apart, self.tokenizer, embeddings=index)

    @contextmanager
    def _placed(self, chunk: Chunk) -> Iterator[None]:
        """Inside the block the token embeddings of a chunk are replaced where new words stand."""
        if not chunk.slots:
            yield
            return

        def place(_: Any, __: Any, embedded: Tensor) -> Tensor:
            embedded = embedded.clone()
            for slot in chunk.slots:
                vectors = self._words[slot.name].vectors
                embedded[0, slot.position : slot.position + slot.vectors] = vectors.to(embedded)
            return embedded

        handle = self.model.get_input_embeddings().register_forward_hook(place)
        try:
            yield
        finally:
            handle.remove()

    @torch.inference_mode()
    def _encode_chunks(self, chunks: Sequence[Chunk], mode: EmphasisMode, clip_skip: int) -> list[TextState]:
        """[77, width] for each chunk. One at a time: its numbers must not depend on its company."""
        return [self._encode_chunk(chunk, mode, clip_skip) for chunk in chunks]

    def _encode_chunk(self, chunk: Chunk, mode: EmphasisMode, clip_skip: int) -> TextState:
        ids = torch.tensor([chunk.ids], device=self.device)
        with self._placed(chunk):
            z, pooled = self.states(ids, clip_skip)
        first = None if pooled is None else pooled[0]
        if all(weight == 1.0 for weight in chunk.multipliers):
            return TextState(z[0], first)
        multipliers = torch.tensor([chunk.multipliers], device=self.device)
        return TextState(apply_emphasis(z, multipliers, mode)[0], first)

    def states(self, ids: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """What the model reads of token ids [b, 77]: float32 [b, 77, width], and pooled [b, width] where it has that.

        Gradients flow where they are wanted: training calls this.
        """
        # SDXL was trained on the layer before the last, so that a clip skip of 1 and of 2 are the same.
        skipped = max(2, clip_skip) if self.options.hidden else clip_skip
        layers = self._layers
        chosen, pooled = self._by_module(ids, skipped) if layers is None else self._by_layers(layers, ids, skipped)
        return chosen.to(torch.float32), None if pooled is None else pooled.to(torch.float32)

    @property
    def _tower(self) -> Any:
        # It moved up a level in transformers 5.
        return getattr(self.model, "text_model", self.model)

    def _by_module(self, ids: Tensor, skipped: int) -> tuple[Tensor, Tensor | None]:
        """States [b, 77, width] so many layers from the end, and pooled [b, width] where it is read."""
        output: Any = self.model(ids, output_hidden_states=True)
        pooled = output.pooler_output if self.options.pooled else output.get("text_embeds")
        states = output.hidden_states[-skipped]
        return states if self.options.hidden else self._tower.final_layer_norm(states), pooled

    def _by_layers(self, layers: Layers, ids: Tensor, skipped: int) -> tuple[Tensor, Tensor | None]:
        """The same by what stands for the encoder's layers."""
        projection: Any = getattr(self.model, "text_projection", None)
        pools = self.options.pooled or projection is not None
        count = int(self.model.config.num_hidden_layers)
        embedded: Tensor = self._tower.embeddings(input_ids=ids)
        wanted = [place for place in (count - skipped, *((count - 1,) if pools else ())) if place >= 0]
        found = layers(embedded, wanted)
        # A single layer has nothing before it but what it reads.
        chosen = found[0] if skipped <= count else embedded
        if not pools:
            return chosen, None
        pooled = found[-1][torch.arange(len(ids)), self._ends(ids)]
        if self.options.hidden:
            pooled = self._tower.final_layer_norm(pooled)
        return chosen, pooled if self.options.pooled else projection(pooled)

    def _ends(self, ids: Tensor) -> Tensor:
        """Where the first end token stands in each row of ids, as transformers looks for it."""
        end = int(self._tower.eos_token_id)
        # Configurations of old say 2; the end token has the greatest id.
        return ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)


def _joined(chunks: Sequence[TextState]) -> TextState:
    return TextState(torch.cat([chunk.states for chunk in chunks]), chunks[0].pooled)
