"""The UNet stage, on cached latents, reading mini-CLIP's text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from danqing.training.builtin.architecture import build_unet, ignore_padding
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.loop import (
    Ema,
    Run,
    make_optimizer,
    stage_digest,
    step_rng,
)
from danqing.training.builtin.pool import Pool
from danqing.training.builtin.tokenizer import MAX_LENGTH


@dataclass
class Models:
    """The UNet, the frozen text encoder and its tokenizer."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    tokenizer: CLIPTokenizer

    def encode(self, captions: list[str], device: torch.device) -> torch.Tensor:
        """Text states `[b, 77, hidden]`."""
        ids = self.tokenizer(
            captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        return self.text(ids.to(device)).last_hidden_state


@dataclass(frozen=True)
class Batch:
    """One step's data: latents `[b, c, h, w]` float32 and captions; `places` are (row, variant) in the pool."""

    latents: torch.Tensor
    captions: list[str]
    places: list[tuple[int, int]]


def draw_places(
    pool: Pool, config: TrainConfig, step: int, stage: str = "unet", size: int | None = None
) -> tuple[list[tuple[int, int]], list[str]]:
    """Which painted scenes a step sees, as (row, variant), and their captions.

    It goes through the drawings in a new random order each epoch; the scene and the caption are drawn anew.

    Args:
        pool: Painted scenes.
        config: The captions' shares, the seed, the UNet stage's batch size.
        step: Which batch.
        stage: Whose randomness: another stage sees other batches.
        size: Another batch size.
    """
    n, size = len(pool.pictures), size or config.unet.stage.batch
    rng = step_rng(config.seed, stage, step)
    places: list[tuple[int, int]] = []
    for position in range(step * size, (step + 1) * size):
        epoch, place = divmod(position, n)
        places.append((int(_order(config.seed, epoch, n)[place]), int(rng.integers(config.scenes.variants))))
    return places, [pool.caption(row, variant, config.captions, rng) for row, variant in places]


def draw_batch(
    pool: Pool, latents: torch.Tensor, config: TrainConfig, step: int, stage: str = "unet", size: int | None = None
) -> Batch:
    """`draw_places` with the scenes' latents, taken from float16 `[n, variants, c, h, w]`."""
    places, captions = draw_places(pool, config, step, stage, size)
    return Batch(torch.stack([latents[row, variant] for row, variant in places]).float(), captions, places)


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The epoch's permutation `[n]`, kept for the two newest epochs."""
    key = (seed, epoch, n)
    if key not in _orders:
        while len(_orders) > 1:
            del _orders[next(iter(_orders))]
        _orders[key] = step_rng(seed + 1, "unet", epoch).permutation(n)
    return _orders[key]


def unet_run(
    config: TrainConfig, tokenizer: CLIPTokenizer, text: CLIPTextModel, folder: Path, device: torch.device
) -> tuple[Models, Run]:
    """UNet and optimiser, from the checkpoint if there is one; the text encoder is read, not trained."""
    torch.manual_seed(config.seed + 1)
    unet = build_unet(config, config.data.size_px).to(device, memory_format=torch.channels_last)
    text = text.to(device).eval().requires_grad_(False)
    if device.type == "cpu":
        # The CPU's fused attention has a slow backward pass at these lengths (64 and 77): 18 % of a step against 4 %.
        unet.set_attn_processor(AttnProcessor())
        text.set_attn_implementation("eager")
    ignore_padding(unet, text, tokenizer, config.unet.padding_logit)
    params: list[nn.Parameter] = list(unet.parameters())
    stage = config.unet.stage
    digest = stage_digest(
        "unet", config.seed, config.unet, config.text, config.captions, config.scenes, config.data, config.precision
    )
    run = Run("unet", folder, {"unet": unet}, make_optimizer([(params, 1.0)], stage), Ema(params, stage.ema), digest)
    run.resume()
    return Models(unet, text, tokenizer), run
