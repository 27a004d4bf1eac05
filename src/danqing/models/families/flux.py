"""FLUX.1 dev and schnell by Black Forest Labs: a flow-matching transformer that reads T5, and CLIP's pooled text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from transformers import CLIPTextModel

from danqing.models.families.parts import Loading, load_vae, owned, ready
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.families.transformer_files import Reading, load_file
from danqing.models.folder_parts import load_part
from danqing.models.packing import packed_bytes
from danqing.models.patches import PATCH, in_patches
from danqing.models.singlefile.facts import facts_of
from danqing.models.t5 import T5Reader, load_t5
from danqing.models.text import TextEncoder, TextOptions, TextState
from danqing.sampling.tables import FlowTable, SizeShift
from danqing.spec.errors import BadFileError, MissingWeightsError

T5_TOKENS = {"dev": 512, "schnell": 256}
"""How many tokens of T5 each was trained with."""
OWN_GUIDANCE = 3.5


@dataclass
class Flux(StableDiffusion):
    """A loaded FLUX.1; `unet` is its transformer, `text` its CLIP.

    Attributes:
        t5: What it reads words with.
    """

    t5: T5Reader | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        modules: list[torch.nn.Module] = [self.text.model, self.unet, self.vae] + ([self.t5.model] if self.t5 else [])
        return sum(p.numel() * p.element_size() for one in modules for p in one.parameters()) + packed_bytes(self.unet)

    def read_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[TextState]:
        """T5's states [512 or 256, 4096] and CLIP's pooled [768] of each text."""
        if self.t5 is None:
            raise RuntimeError("FLUX was loaded without T5")
        pooled = self.text.read(texts, emphasis=emphasis, clip_skip=clip_skip)
        return [
            TextState(self.t5.read(text, emphasis), state.pooled) for text, state in zip(texts, pooled, strict=True)
        ]

    def _conditions(self, added: Added | None) -> dict[str, Any]:
        if added is None:
            raise RuntimeError("FLUX was called without pooled text")
        conditions: dict[str, Any] = {"pooled_projections": added.pooled.to(self.device, self.precision.denoiser)}
        if self.unet.config["guidance_embeds"]:
            told = torch.full((len(added.pooled),), OWN_GUIDANCE) if added.distilled is None else added.distilled
            conditions["guidance"] = told.to(self.device, torch.float32)
        return conditions

    def _network(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        def answer(whole: Tensor) -> Tensor:
            rows, columns = whole.shape[-2] // PATCH, whole.shape[-1] // PATCH
            tokens: Tensor = self.unet(
                hidden_states=packed(whole),
                timestep=timesteps,
                encoder_hidden_states=context,
                # Words have no place.
                txt_ids=torch.zeros(context.shape[1], 3, device=self.device, dtype=whole.dtype),
                img_ids=places(rows, columns).to(self.device, whole.dtype),
                return_dict=False,
                **options,
            )[0]
            return unpacked(tokens, rows, columns)

        return in_patches(scaled, answer)


def packed(latents: Tensor) -> Tensor:
    """Latents [b, c, 2·rows, 2·columns] as tokens [b, rows·columns, 4·c], a patch of 2 × 2 each."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH * PATCH)


def unpacked(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `packed`: latents [b, c, 2·rows, 2·columns]."""
    patches = tokens.reshape(len(tokens), rows, columns, -1, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * PATCH, columns * PATCH)


def places(rows: int, columns: int) -> Tensor:
    """(0, row, column) of each token [rows·columns, 3]."""
    grid = torch.zeros(rows, columns, 3)
    grid[..., 1] = torch.arange(rows)[:, None]
    grid[..., 2] = torch.arange(columns)
    return grid.reshape(-1, 3)


def load(task: Loading) -> Flux:
    """Load a diffusers folder, or a transformer's file with its text encoders and autoencoder from their own folders.

    Raises:
        MissingWeightsError: A text encoder, a tokenizer or the autoencoder is not there.
        BadFileError: A file is damaged.
    """
    info, precision, device, vae_path = task.info, task.precision, task.device, task.vae_path
    place = Path(info.path)
    tokens = T5_TOKENS[info.variant]
    if place.is_file():
        reading = Reading(("clip_l",), TextOptions(pooled=True), tokens, needs_t5=True)
        parts = load_file(place, precision, device, vae_path, reading)
        clip, t5, unet, vae = parts.clips[0], parts.t5, parts.transformer, parts.vae
        schedule = facts_of("flux")["scheduler"][info.variant]
    else:
        transformer = place / "transformer"
        unet = owned(load_part(FluxTransformer2DModel, transformer, precision.denoiser, precision))
        folder = place / "text_encoder"
        model = load_part(CLIPTextModel, folder, precision.text)
        clip = TextEncoder(place / "tokenizer", ready(model, device), device, TextOptions(pooled=True))
        t5 = load_t5(place / "text_encoder_2", place / "tokenizer_2", precision, device, tokens)
        vae = ready(load_vae(vae_path or place / "vae", "flux", precision.vae), device)
        schedule = _schedule(place)
    if t5 is None:
        raise MissingWeightsError(
            f"{info.name} has no T5", value=str(place / "text_encoder_2"), next_step="copy the whole folder again"
        )
    return Flux(
        **task.around(unet),
        text=clip,
        vae=vae,
        table=table_of(schedule),
        t5=t5,
    )


def table_of(schedule: Mapping[str, Any]) -> FlowTable:
    """The noise levels that a scheduler's config describes; the network is told σ itself."""
    if not schedule.get("use_dynamic_shifting"):
        return FlowTable(shift=float(schedule.get("shift", 1.0)), multiplier=1.0)
    by_size = SizeShift(
        float(schedule.get("base_shift", 0.5)),
        float(schedule.get("max_shift", 1.15)),
        int(schedule.get("base_image_seq_len", 256)),
        int(schedule.get("max_image_seq_len", 4096)),
    )
    return FlowTable(shift=by_size.at(by_size.high_tokens), multiplier=1.0, by_size=by_size)


def _schedule(place: Path) -> dict[str, Any]:
    path = place / "scheduler" / "scheduler_config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadFileError(f"the noise schedule cannot be read: {error}", value=str(path)) from error
