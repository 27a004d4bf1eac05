"""Stable Diffusion XL, base and refiner (arXiv 2307.01952): two text encoders, pooled text, the picture's sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from danqing.models.families.parts import Loading, Tower, load_parts
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.packing import packed_bytes
from danqing.models.text import TextEncoder, TextState
from danqing.spec.errors import BadFileError

_FIRST = Tower("text_encoder", "tokenizer")
_SECOND = Tower("text_encoder_2", "tokenizer_2", projection=True)
# Original height and width, crop top and left; then target height and width, or the refiner's aesthetic score.
_BASE_NUMBERS = (0, 1, 2, 3, 4, 5)
_REFINER_NUMBERS = (0, 1, 2, 3, 6)


@dataclass
class StableDiffusionXL(StableDiffusion):
    """A loaded SDXL checkpoint.

    Attributes:
        texts: Its text encoders in the order in which their states stand beside each other; the last one pools.
    """

    texts: tuple[TextEncoder, ...] = field(default=())

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        modules = (*(text.model for text in self.texts), self.unet, self.vae)
        return sum(p.numel() * p.element_size() for one in modules for p in one.parameters()) + packed_bytes(self.unet)

    @property
    def is_refiner(self) -> bool:
        """Whether it reads an aesthetic score in place of a target size."""
        return len(self.texts) == 1

    def read_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[TextState]:
        """States [tokens, 2048] (1280 for the refiner) and pooled [1280] of each text."""
        read = [one.read(texts, emphasis=emphasis, clip_skip=clip_skip) for one in self.texts]
        return [_beside(states) for states in zip(*read, strict=True)]

    def _conditions(self, added: Added | None) -> dict[str, Any]:
        if added is None:
            raise RuntimeError("SDXL was called without pooled text and sizes")
        picked = _REFINER_NUMBERS if self.is_refiner else _BASE_NUMBERS
        dtype = self.precision.denoiser
        conditions = {
            "text_embeds": added.pooled.to(self.device, dtype),
            # Always in float32: bfloat16 has no 1000, and the network turns them into waves first.
            "time_ids": added.numbers[:, picked].to(self.device, torch.float32),
        }
        return {"added_cond_kwargs": conditions}


def _beside(states: Sequence[TextState]) -> TextState:
    """The states of several encoders side by side; a text of unlike numbers of chunks is filled up with zeros."""
    tokens = max(len(state.states) for state in states)
    padded = [_longer(state.states, tokens) for state in states]
    return TextState(torch.cat(padded, dim=-1), states[-1].pooled)


def _longer(states: Tensor, tokens: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, 0, tokens - len(states)))


def load(task: Loading) -> StableDiffusionXL:
    """Load a checkpoint; the autoencoder is in float32 where `Precision` says so, since it overflows in float16.

    Raises:
        BadFileError: Its second text encoder gives no pooled text.
    """
    towers = (_SECOND,) if task.info.variant == "refiner" else (_FIRST, _SECOND)
    parts = load_parts(task, towers=towers, hidden=True)
    if not hasattr(parts.texts[-1].model, "text_projection"):
        raise BadFileError("the second text encoder has no projection", value=task.info.path)
    return StableDiffusionXL(
        **task.around(parts.unet),
        text=parts.texts[0],
        vae=parts.vae,
        table=parts.table,
        texts=parts.texts,
    )
