"""The mini-CLIP stage: a vision transformer and the text encoder learn which caption belongs to which picture.

The text encoder is then frozen and read by the UNet, as Stable Diffusion reads CLIP's. Evaluation trains another pair
with another seed, which nothing else ever sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from danqing.training.builtin.architecture import build_text_encoder
from danqing.training.builtin.config import ClipConfig, TrainConfig
from danqing.training.builtin.loop import Ema, Run, Steps, make_optimizer, stage_digest, step_rng, train_steps
from danqing.training.builtin.pool import Pool, to_tensor_scale
from danqing.training.builtin.tokenizer import MAX_LENGTH
from danqing.training.builtin.vae import autocast


class MiniClip(nn.Module):
    """Both towers; `logit_scale` (log) and `logit_bias` are SigLIP's (Zhai et al. 2023, t' = log 10, b = -10)."""

    def __init__(self, vision: CLIPVisionModelWithProjection, text: CLIPTextModel, width: int) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        self.text_projection = nn.Linear(text.config.hidden_size, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(np.log(10.0))))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors `[n, width]` of pictures `[n, 3, size, size]` in [-1, 1]."""
        return F.normalize(self.vision(pixel_values=pixels).image_embeds.float(), dim=-1)

    def embed_texts(self, ids: torch.Tensor) -> torch.Tensor:
        """Unit vectors `[n, width]` of token ids `[n, tokens]`."""
        return F.normalize(self.text_projection(self.text(ids).pooler_output).float(), dim=-1)


def build_vision(config: ClipConfig, size_px: int) -> CLIPVisionModelWithProjection:
    """A small vision transformer in CLIP's form."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=4 * config.hidden_size,
            projection_dim=config.projection_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            image_size=size_px,
            patch_size=config.patch_px,
        )
    )


def build_clip(config: TrainConfig, tokenizer: CLIPTokenizer) -> MiniClip:
    """Both towers with fresh weights."""
    text = build_text_encoder(config, tokenizer)
    return MiniClip(build_vision(config.clip, config.data.size_px), text, config.clip.projection_dim)


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Ids `[n, longest]`: padding after the end changes nothing in a causal encoder, so no more is added."""
    return tokenizer(captions, padding=True, max_length=MAX_LENGTH, truncation=True, return_tensors="pt").input_ids


def siglip_loss(model: MiniClip, images: torch.Tensor, texts: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """The sigmoid loss of all pairs `[n, n]`, Zhai et al. 2023, eq. 1; `same` marks the pairs that belong together."""
    logits = images @ texts.T * model.logit_scale.exp() + model.logit_bias
    return -F.logsigmoid(logits * (2.0 * same - 1.0)).sum() / len(images)


@dataclass(frozen=True)
class ClipData:
    """Where batches come from: a pool, and the share of each batch from rows that the UNet will learn."""

    pool: Pool
    favored: np.ndarray
    share: float = 0.5

    def rows(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Rows of one batch, none twice where that is possible: `[count]`."""
        some = min(int(count * self.share), len(self.favored))
        chosen = rng.choice(self.favored, some, replace=False)
        others = rng.choice(len(self.pool.pictures), count - some, replace=len(self.pool.pictures) < count - some)
        return np.concatenate([chosen, others])


def draw_batch(
    data: ClipData, config: TrainConfig, rng: np.random.Generator, count: int
) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Pictures `[n, 3, s, s]`, captions, and which pairs belong together `[n, n]` (equal captions do)."""
    rows = data.rows(rng, count)
    variants = rng.integers(0, data.pool.rgb.shape[1], count)
    pixels = np.stack([data.pool.rgb[r, v] for r, v in zip(rows, variants, strict=True)])
    captions = [data.pool.caption(int(r), int(v), config.captions, rng) for r, v in zip(rows, variants, strict=True)]
    # No caption, no lesson: an empty one would be pushed away from every picture.
    captions = [c or data.pool.pictures[int(r)].concept.words["en"][0] for c, r in zip(captions, rows, strict=True)]
    text = np.asarray(captions)
    same = torch.from_numpy(text[:, None] == text[None]).float()
    return torch.from_numpy(to_tensor_scale(pixels)), captions, same


@torch.no_grad()
def match_rate(
    model: MiniClip, tokenizer: CLIPTokenizer, data: ClipData, config: TrainConfig, choices: int = 50
) -> float:
    """How often the right caption of `choices` has the highest score, over 4 fresh batches of known drawings."""
    device = next(model.parameters()).device
    model.eval()
    hits = total = 0
    for i in range(4):
        pixels, captions, same = draw_batch(data, config, step_rng(config.seed, "eval", i), choices)
        images = model.embed_images(pixels.to(device))
        scores = images @ model.embed_texts(tokens(tokenizer, captions).to(device)).T
        hits += int(same[torch.arange(len(captions)), scores.argmax(1).cpu()].sum())
        total += len(captions)
    model.train()
    return hits / total


def clip_run(
    config: TrainConfig, tokenizer: CLIPTokenizer, folder: Path, device: torch.device, seed_offset: int = 3
) -> tuple[MiniClip, Run]:
    """Both towers and their optimiser, from the checkpoint if there is one."""
    torch.manual_seed(config.seed + seed_offset)
    model = build_clip(config, tokenizer).to(device)
    if device.type == "cpu":
        # As in the UNet stage: the fused attention's backward pass is slow at these lengths.
        model.text.set_attn_implementation("eager")
        model.vision.set_attn_implementation("eager")
    params = list(model.parameters())
    stage = config.clip.stage
    digest = stage_digest("clip", config.seed + seed_offset, config.clip, config.text, config.captions, config.scenes)
    run = Run("clip", folder, {"clip": model}, make_optimizer([(params, 1.0)], stage), Ema(params, stage.ema), digest)
    run.resume()
    return model, run


def train_clip(
    model: MiniClip,
    run: Run,
    data: ClipData,
    tokenizer: CLIPTokenizer,
    config: TrainConfig,
    deadline: float | None = None,
) -> MiniClip:
    """Trains (or goes on training) both towers and returns them with averaged weights."""
    device = next(model.parameters()).device
    model.train()

    def step(number: int) -> torch.Tensor:
        pixels, captions, same = draw_batch(
            data, config, step_rng(config.seed, "clip", number), config.clip.stage.batch
        )
        with autocast(device, config.precision):
            images = model.embed_images(pixels.to(device))
            texts = model.embed_texts(tokens(tokenizer, captions).to(device))
        return siglip_loss(model, images, texts, same.to(device))

    steps = Steps(step, checked=lambda: {"match_of_50": match_rate(model, tokenizer, data, config)})
    train_steps(run, config.clip.stage, steps, deadline)
    return model.eval().requires_grad_(False)
