"""Text to context: tokenize in chunks of 75, encode, apply emphasis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel

from danqing.prompt.chunks import Chunk, chunk_prompt
from danqing.prompt.emphasis import EmphasisMode, apply_emphasis, pieces_for
from danqing.prompt.tokenizer import ClipTokenizer
from danqing.spec.errors import UnsupportedError


class TextEncoder:
    """A CLIP text encoder with its tokenizer.

    Args:
        tokenizer_dir: A folder in CLIP's layout.
        model: The encoder, on its device.
        device: Where that is.
    """

    def __init__(self, tokenizer_dir: Path, model: CLIPTextModel, device: torch.device) -> None:
        self.tokenizer = ClipTokenizer(tokenizer_dir)
        self.model = model
        self.device = device

    def encode(self, texts: Sequence[str], *, emphasis: str, clip_skip: int) -> list[Tensor]:
        """Contexts float32 [77 · chunks, width], one for each text.

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
        chunked = [chunk_prompt(pieces_for(text, mode), self.tokenizer) for text in texts]
        encoded = iter(self._encode_chunks([chunk for chunks in chunked for chunk in chunks], mode, clip_skip))
        return [torch.cat([next(encoded) for _ in chunks]) for chunks in chunked]

    @torch.inference_mode()
    def _encode_chunks(self, chunks: Sequence[Chunk], mode: EmphasisMode, clip_skip: int) -> list[Tensor]:
        """[77, width] for each chunk. One at a time: its numbers must not depend on its company."""
        return [self._encode_chunk(chunk, mode, clip_skip) for chunk in chunks]

    def _encode_chunk(self, chunk: Chunk, mode: EmphasisMode, clip_skip: int) -> Tensor:
        ids = torch.tensor([chunk.ids], device=self.device)
        states = self.model(ids, output_hidden_states=True).hidden_states
        # The text tower moved up a level in transformers 5.
        tower: Any = getattr(self.model, "text_model", self.model)
        z = tower.final_layer_norm(states[-clip_skip]).to(torch.float32)
        if all(weight == 1.0 for weight in chunk.multipliers):
            return z[0]
        multipliers = torch.tensor([chunk.multipliers], device=self.device)
        return apply_emphasis(z, multipliers, mode)[0]
