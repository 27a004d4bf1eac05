"""The image-prompt stage: an IP-Adapter for the built-in model (Ye et al. 2023, arXiv:2308.06721).

mini-CLIP's image tower feeds it; the UNet and both towers stay as they are. The prompt of a scene is the scene itself
or another one of the same drawing, mirrored or in other colours, so that it says what is drawn rather than where.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from danqing.adapters.ip_adapter import ImageRows, IpAdapter, fresh
from danqing.models.ip_adapter import IpAdapterWeights
from danqing.spec.errors import MissingWeightsError
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.diffusion import Schedule, add_noise, draw_timesteps, make_schedule
from danqing.training.builtin.export import publish
from danqing.training.builtin.finished import Finished, SideJob, open_finished, side_main
from danqing.training.builtin.loop import (
    Ema,
    Run,
    Steps,
    make_optimizer,
    stage_digest,
    step_rng,
    step_torch,
    train_steps,
)
from danqing.training.builtin.pool import Pool, to_tensor_scale
from danqing.training.builtin.sample import decode_pixels, sample_latents, save_grid
from danqing.training.builtin.unet import Models, draw_batch
from danqing.training.builtin.vae import autocast

STAGE = "ip_adapter"
SAMPLED = 8
ENCODER = "danqing-mini-clip/image_encoder"
"""Where the model's own stages leave the image tower, beside the model."""


@dataclass(frozen=True)
class ImageData:
    """What batches are drawn from.

    Attributes:
        pool: Painted scenes.
        latents: Theirs, float16 `[n, variants, c, h, w]`.
        vision: The image tower.
    """

    pool: Pool
    latents: Tensor
    vision: CLIPVisionModelWithProjection


@torch.no_grad()
def embed(vision: CLIPVisionModelWithProjection, pictures: np.ndarray, device: torch.device) -> Tensor:
    """Embeddings float32 `[n, projection_dim]`, not normalised, of pictures uint8 `[n, size, size, 3]`."""
    return vision(pixel_values=torch.from_numpy(to_tensor_scale(pictures)).to(device)).image_embeds.float()


def draw_drops(config: TrainConfig, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows lose their text, and which their image prompt, bool `[count]` each.

    The shares exclude one another: both, the image alone, the text alone.
    """
    shares, draw = config.ip_adapter, rng.random(count)
    image_end = shares.drop_both + shares.drop_image
    both = draw < shares.drop_both
    image = draw < image_end
    text = both | ((draw >= image_end) & (draw < image_end + shares.drop_text))
    return text, image


def draw_prompts(
    data: ImageData, config: TrainConfig, places: list[tuple[int, int]], rng: np.random.Generator
) -> np.ndarray:
    """The prompt picture of each scene, uint8 `[b, size, size, 3]`: itself, or another scene of its drawing."""
    variants = data.pool.rgb.shape[1]
    chosen: list[np.ndarray] = []
    for row, variant in places:
        other = (variant + int(rng.integers(1, variants))) % variants if variants > 1 else variant
        chosen.append(np.asarray(data.pool.rgb[row, variant if rng.random() < config.ip_adapter.own_share else other]))
    return np.stack(chosen)


def adapter_loss(
    adapter: IpAdapter, models: Models, data: ImageData, config: TrainConfig, schedule: Schedule, step: int
) -> Tensor:
    """The v-prediction loss of one batch with its image prompts; a scalar."""
    device = models.unet.device
    rng = step_rng(config.seed, "adapter", step)
    batch = draw_batch(data.pool, data.latents, config, step, "adapter", config.ip_adapter.stage.batch)
    no_text, no_image = draw_drops(config, rng, len(batch.captions))
    captions = ["" if drop else caption for caption, drop in zip(batch.captions, no_text, strict=True)]
    embeddings = embed(data.vision, draw_prompts(data, config, batch.places, rng), device)
    embeddings[torch.from_numpy(no_image).to(device)] = 0.0
    latents = batch.latents.to(device, memory_format=torch.channels_last)
    noise = torch.randn(latents.shape, generator=step_torch(config.seed, "adapter", step)).to(latents)
    steps = draw_timesteps(schedule, rng, len(latents))
    noised = add_noise(schedule, latents, noise, steps, config.unet.min_snr_gamma)
    with autocast(device, config.precision):
        with torch.no_grad():
            states = models.encode(captions, device)
        adapter.rows = ImageRows(adapter.weights.image_proj(embeddings), torch.ones(len(latents), device=device))
        x = noised.x.contiguous(memory_format=torch.channels_last)
        output = models.unet(x, torch.from_numpy(steps).to(device), encoder_hidden_states=states).sample
    error = (output.float() - noised.target).square().mean((1, 2, 3))
    return (error * noised.weight).mean()


def adapter_run(
    models: Models, embedding_width: int, config: TrainConfig, folder: Path
) -> tuple[IpAdapterWeights, Run]:
    """The adapter's weights and their optimiser, from the checkpoint if there is one."""
    torch.manual_seed(config.seed + 30)
    weights, stage = fresh(models.unet, embedding_width, config.ip_adapter.tokens), config.ip_adapter.stage
    params: list[nn.Parameter] = list(weights.parameters())
    digest = stage_digest(STAGE, config.seed, config.ip_adapter, config.unet, config.text, config.clip, config.scenes)
    run = Run(
        STAGE, folder, {"adapter": weights}, make_optimizer([(params, 1.0)], stage), Ema(params, stage.ema), digest
    )
    run.resume()
    return weights, run


def train_adapter(
    models: Models,
    data: ImageData,
    config: TrainConfig,
    folder: Path,
    deadline: float | None = None,
    stop_after: int | None = None,
) -> tuple[IpAdapterWeights, Run]:
    """Trains (or goes on training) the adapter and returns it with averaged weights; the UNet is left as it was."""
    models.unet.eval().requires_grad_(False)
    weights, run = adapter_run(models, data.vision.config.projection_dim, config, folder)
    schedule = make_schedule(config)
    adapter = IpAdapter(weights).inject(models.unet)
    try:
        steps = Steps(lambda step: adapter_loss(adapter, models, data, config, schedule, step), stop_after=stop_after)
        train_steps(run, config.ip_adapter.stage, steps, deadline)
    finally:
        adapter.eject()
    weights.eval().requires_grad_(False)
    return weights, run


@torch.no_grad()
def paint_like(
    weights: IpAdapterWeights, models: Models, data: ImageData, config: TrainConfig, pictures: np.ndarray
) -> Tensor:
    """Latents `[n, c, h, w]` of variations on pictures uint8 `[n, size, size, 3]`, without any words."""
    device = models.unet.device
    found = embed(data.vision, pictures, device)
    # The negative rows read the empty image prompt, as IP-Adapter does it.
    tokens = weights.image_proj(torch.cat([found, torch.zeros_like(found)]))
    adapter = IpAdapter(weights)
    with adapter.acting(models.unet, ImageRows(tokens, torch.ones(len(tokens), device=device))):
        return sample_latents(models, make_schedule(config), [""] * len(pictures), seed=0)


def export_adapter(weights: IpAdapterWeights, config: TrainConfig, run: Run, model_dir: Path) -> None:
    """Writes `ip-adapter/<model>.safetensors` beside the model, in the published form, and danqing.json."""
    name = model_dir.name
    about = {
        "name": name,
        "kind": "ip_adapter",
        "base": name,
        "encoder": ENCODER,
        "made_by": "danqing.training.builtin.ip_adapter",
        "description": "Paints like a picture: variations, and blends of several.",
        "config": config.name,
        "config_sha256": config.digest(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "samples": run.progress.samples,
        "training_seconds": round(run.progress.seconds, 1),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights.save(folder / f"{name}.safetensors")
        (folder / "danqing.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        publish(folder, model_dir.parent / "ip-adapter")


def image_prompt_stage(job: SideJob) -> None:
    """The whole stage, from a finished run to the exported file and a sheet: prompts above, variations below."""
    done: Finished = open_finished(job)
    if done.clip is None:
        raise MissingWeightsError(
            "image prompts are learnt from mini-CLIP's tower, which an exported model does not bring",
            field="start",
            value=str(job.start),
            next_step="name the folder of the run in place of --start",
        )
    data = ImageData(done.pool, done.latents, done.clip.vision)
    weights, run = train_adapter(done.models, data, done.config, job.run, job.until)
    export_adapter(weights, done.config, run, job.model_dir)
    rows = np.linspace(0, len(done.pool.pictures) - 1, min(SAMPLED, len(done.pool.pictures))).astype(int)
    prompts = np.stack([np.asarray(done.pool.rgb[row, 0]) for row in rows])
    painted = decode_pixels(done.vae, paint_like(weights, done.models, data, done.config, prompts))
    save_grid(np.concatenate([prompts, painted]), job.run / "samples" / f"{STAGE}.png", columns=len(rows))


if __name__ == "__main__":
    sys.exit(side_main(image_prompt_stage, STAGE))
