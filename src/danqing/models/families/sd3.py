"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a flow-matching transformer, two CLIP towers, T5 if it is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from danqing.models.families.parts import Loading, load_vae, owned, ready
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.families.transformer_files import FileParts, Reading, load_file
from danqing.models.folder_parts import load_part
from danqing.models.packing import packed_bytes
from danqing.models.patches import in_patches
from danqing.models.precision import Precision
from danqing.models.singlefile.facts import facts_of
from danqing.models.t5 import T5Reader, load_t5
from danqing.models.text import TextEncoder, TextOptions, TextState
from danqing.sampling.tables import FlowTable
from danqing.spec.errors import BadFileError

T5_TOKENS = 256
"""How many tokens of T5 the family was trained with; as many zeros stand in its place where it is left out."""


@dataclass
class StableDiffusion3(StableDiffusion):
    """A loaded SD3 checkpoint; `unet` is its transformer.

    Attributes:
        texts: CLIP's two towers.
        t5: The third text encoder; without it the model knows less of long prompts and of letters.
    """

    texts: tuple[TextEncoder, ...] = field(default=())
    t5: T5Reader | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        encoders = [text.model for text in self.texts] + ([self.t5.model] if self.t5 else [])
        modules: list[torch.nn.Module] = [*encoders, self.unet, self.vae]
        return sum(p.numel() * p.element_size() for one in modules for p in one.parameters()) + packed_bytes(self.unet)

    def read_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[TextState]:
        """States [tokens, 4096], CLIP's before T5's, and pooled [2048] of each text."""
        read = [one.read(texts, emphasis=emphasis, clip_skip=clip_skip) for one in self.texts]
        return [self._state(text, states, emphasis) for text, *states in zip(texts, *read, strict=True)]

    def _state(self, text: str, states: Sequence[TextState], emphasis: str) -> TextState:
        width = int(self.unet.config["joint_attention_dim"])
        tokens = max(len(state.states) for state in states)
        clip = torch.cat([_grown(state.states, tokens, state.states.shape[1]) for state in states], dim=-1)
        empty = torch.zeros(T5_TOKENS, width, device=clip.device)
        t5 = empty if self.t5 is None else self.t5.read(text, emphasis)
        pooled = torch.cat([state.pooled for state in states if state.pooled is not None])
        return TextState(torch.cat([_grown(clip, tokens, width), t5]), pooled)

    def _conditions(self, added: Added | None) -> dict[str, Any]:
        if added is None:
            raise RuntimeError("SD3 was called without pooled text")
        return {"pooled_projections": added.pooled.to(self.device, self.precision.denoiser)}

    def _network(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        def answer(whole: Tensor) -> Tensor:
            found: Tensor = self.unet(
                hidden_states=whole,
                timestep=timesteps,
                encoder_hidden_states=context,
                return_dict=False,
                **options,
            )[0]
            return found

        return in_patches(scaled, answer)


def _grown(states: Tensor, tokens: int, width: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, width - states.shape[1], 0, tokens - states.shape[0]))


def load(task: Loading) -> StableDiffusion3:
    """Load a diffusers folder, or a file with what belongs to it.

    Raises:
        MissingWeightsError: T5 is there without its tokenizer, or another part is nowhere.
        BadFileError: A file is damaged.
    """
    place = Path(task.info.path)
    parts = _from_file if place.is_file() else _from_folder
    found = parts(place, task.precision, task.device, task.vae_path)
    return StableDiffusion3(
        **task.around(found.transformer),
        text=found.clips[0],
        vae=found.vae,
        table=FlowTable(shift=facts_of("sd3")["scheduler"]["shift"] if place.is_file() else _shift(place)),
        texts=found.clips,
        t5=found.t5,
    )


def _from_file(place: Path, precision: Precision, device: torch.device, vae_path: Path | None) -> FileParts:
    reading = Reading(("clip_l", "clip_g"), TextOptions(hidden=True), T5_TOKENS, needs_t5=False)
    return load_file(place, precision, device, vae_path, reading)


def _from_folder(place: Path, precision: Precision, device: torch.device, vae_path: Path | None) -> FileParts:
    transformer = place / "transformer"
    unet = load_part(SD3Transformer2DModel, transformer, precision.denoiser, precision)
    texts = tuple(_clip(place / f"text_encoder{at}", place / f"tokenizer{at}", precision, device) for at in ("", "_2"))
    return FileParts(
        transformer=owned(unet),
        vae=ready(load_vae(vae_path or place / "vae", "sd3", precision.vae), device),
        clips=texts,
        t5=load_t5(place / "text_encoder_3", place / "tokenizer_3", precision, device, T5_TOKENS),
    )


def _clip(folder: Path, tokenizer: Path, precision: Precision, device: torch.device) -> TextEncoder:
    model = load_part(CLIPTextModelWithProjection, folder, precision.text)
    return TextEncoder(tokenizer, ready(model, device), device, TextOptions(hidden=True))


def _shift(place: Path) -> float:
    """How far times are moved towards noise."""
    path = place / "scheduler" / "scheduler_config.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8")).get("shift", 3.0))
    except (OSError, ValueError, AttributeError) as error:
        raise BadFileError(f"the noise schedule cannot be read: {error}", value=str(path)) from error
