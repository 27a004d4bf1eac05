"""The ControlNet stages: *line*, *block* and *detail*, each trained on all annotators of its class without weights.

The UNet and the text encoder stay as they are (Zhang et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from danqing.annotators import annotate
from danqing.spec.errors import UnsupportedError
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.diffusion import Schedule, add_noise, draw_timesteps, make_schedule
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
from danqing.training.builtin.pool import Pool
from danqing.training.builtin.unet import Models, draw_batch
from danqing.training.builtin.vae import autocast

CLASSES: dict[str, tuple[str, ...]] = {
    "line": (
        "canny",
        "lineart_standard",
        "lineart_xdog",
        "softedge_dog",
        "scribble_canny",
        "scribble_xdog",
        "mlsd_lsd",
    ),
    "block": ("seg_superpixels", "depth_relief", "normal_relief"),
    "detail": ("tile_resample", "blur_gaussian"),
}
# What stands in where an annotator cannot work on a picture (a relief needs a plain background).
FALLBACK = {"depth_relief": "seg_superpixels", "normal_relief": "seg_superpixels"}
EMPTY_CAPTIONS = 0.4


@dataclass(frozen=True)
class ControlData:
    """What batches are drawn from."""

    pool: Pool
    latents: torch.Tensor
    kind: str


def build_control(unet: UNet2DConditionModel, config: TrainConfig) -> ControlNetModel:
    """A ControlNet without attention for this UNet, starting from its encoder; its outputs start at zero.

    Attention takes half of the encoder's weights and reads words, which the UNet reads anyway.
    """
    blocks = len(config.unet.block_out_channels)
    net = ControlNetModel(
        in_channels=config.vae.latent_channels,
        conditioning_channels=3,
        down_block_types=("DownBlock2D",) * blocks,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=config.unet.block_out_channels,
        layers_per_block=config.unet.layers_per_block,
        cross_attention_dim=config.text.hidden_size,
        attention_head_dim=config.unet.heads,
        norm_num_groups=unet.config["norm_num_groups"],
        conditioning_embedding_out_channels=config.control.hint_channels,
    )
    own, theirs = net.state_dict(), unet.state_dict()
    net.load_state_dict({k: theirs[k] if k in theirs and theirs[k].shape == v.shape else v for k, v in own.items()})
    return net


def control_map(picture: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """The map of one picture `[h, w, 3]` by a random annotator of the class, uint8 `[h, w, 3]`."""
    name = str(rng.choice(CLASSES[kind]))
    params: dict[str, object] = {}
    if name == "canny":
        low = int(rng.integers(40, 140))
        params = {"low_threshold": low, "high_threshold": low + int(rng.integers(20, 100))}
    try:
        return annotate(name, picture, params, seed=int(rng.integers(2**31)))
    except UnsupportedError:
        return annotate(FALLBACK[name], picture, seed=int(rng.integers(2**31)))


def hint_batch(data: ControlData, places: list[tuple[int, int]], rng: np.random.Generator) -> torch.Tensor:
    """Control maps of these painted scenes, float32 `[b, 3, h, w]` in 0 to 1."""
    maps = [control_map(np.asarray(data.pool.rgb[row, variant]), data.kind, rng) for row, variant in places]
    return torch.from_numpy(np.stack(maps).transpose(0, 3, 1, 2).astype(np.float32) / 255.0)


def control_run(
    models: Models, config: TrainConfig, kind: str, folder: Path, device: torch.device, start: Path | None = None
) -> tuple[ControlNetModel, Run]:
    """The ControlNet and its optimiser, from the checkpoint if there is one, else from an exported one (`start`)."""
    torch.manual_seed(config.seed + 10 + list(CLASSES).index(kind))
    net = build_control(models.unet, config).to(device, memory_format=torch.channels_last)
    if start is not None:
        net.load_state_dict(ControlNetModel.from_pretrained(str(start), torch_dtype=torch.float32).state_dict())
    params = list(net.parameters())
    stage = config.control.stage
    digest = stage_digest("control", kind, config.seed, config.control, config.unet, config.text)
    run = Run(
        f"control-{kind}",
        folder,
        {"control": net},
        make_optimizer([(params, 1.0)], stage),
        Ema(params, stage.ema),
        digest,
    )
    run.resume()
    return net, run


def control_loss(
    net: ControlNetModel, models: Models, data: ControlData, config: TrainConfig, schedule: Schedule, step: int
) -> torch.Tensor:
    """The v-prediction loss of one batch with its control maps; a scalar."""
    device = models.unet.device
    rng = step_rng(config.seed, "control", step)
    batch = draw_batch(data.pool, data.latents, config, step, "control", config.control.stage.batch)
    captions = ["" if rng.random() < EMPTY_CAPTIONS else caption for caption in batch.captions]
    hints = hint_batch(data, batch.places, rng).to(device)
    latents = batch.latents.to(device, memory_format=torch.channels_last)
    noise = torch.randn(latents.shape, generator=step_torch(config.seed, "control", step)).to(latents)
    steps = draw_timesteps(schedule, rng, len(latents))
    noised = add_noise(schedule, latents, noise, steps, config.unet.min_snr_gamma)
    timesteps = torch.from_numpy(steps).to(device)
    with autocast(device, config.precision):
        with torch.no_grad():
            states = models.encode(captions, device)
        x = noised.x.contiguous(memory_format=torch.channels_last)
        down, mid = net(x, timesteps, states, hints, return_dict=False)
        output = models.unet(
            x,
            timesteps,
            encoder_hidden_states=states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
    error = (output.float() - noised.target).square().mean((1, 2, 3))
    return (error * noised.weight).mean()


def train_control(
    models: Models,
    data: ControlData,
    config: TrainConfig,
    folder: Path,
    deadline: float | None = None,
    start: Path | None = None,
) -> ControlNetModel:
    """Trains (or goes on training) one ControlNet and returns it with averaged weights.

    Args:
        models: The finished model.
        data: Scenes, their latents and the class of control.
        config: The stage's configuration.
        folder: The run's folder.
        deadline: Unix time in seconds at which training ends at the latest.
        start: An exported ControlNet to go on from where there is no checkpoint.
    """
    device = models.unet.device
    models.unet.eval().requires_grad_(False)
    net, run = control_run(models, config, data.kind, folder, device, start)
    schedule = make_schedule(config)
    steps = Steps(lambda step: control_loss(net, models, data, config, schedule, step))
    train_steps(run, config.control.stage, steps, deadline)
    return net.eval().requires_grad_(False)
