"""Stable Diffusion 1.x and 2.x, and the built-in family, which is a small one of them (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from danqing.models.attention import PerturbedAttention
from danqing.models.derived import load_unet
from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.models.prepare import prepare_denoiser
from danqing.models.preview import LatentRgb
from danqing.models.text import TextEncoder
from danqing.sampling.prediction import Prediction, denoised_from, network_input
from danqing.sampling.tables import SigmaTable
from danqing.spec.model import ModelInfo

Control = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
"""(network input, timesteps, context) → residuals for the skip connections and the middle."""


@dataclass
class StableDiffusion:
    """A loaded checkpoint.

    Attributes:
        info: What the catalogue knows of it.
        precision: Its number formats.
        device: Where it computes.
        text: Tokenizer and text encoder.
        unet: The denoiser.
        vae: The autoencoder.
        table: Its noise levels.
        preview: Latent → RGB map.
    """

    info: ModelInfo
    precision: Precision
    device: torch.device
    text: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    table: SigmaTable
    preview: LatentRgb

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        modules: tuple[torch.nn.Module, ...] = (self.text.model, self.unet, self.vae)
        listed = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
        return listed + packed_bytes(self.unet)

    def encode_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[Tensor]:
        """Contexts float32 [tokens, width], one for each text; tokens is a multiple of 77."""
        return self.text.encode(texts, emphasis=emphasis, clip_skip=clip_skip)

    @torch.inference_mode()
    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        extra: Tensor | None,
        *,
        perturbed: bool,
        control: Control | None = None,
    ) -> Tensor:
        """D(x, σ): the estimate of the clean latents.

        Args:
            x: Noisy latents in variance-exploding scaling, float32 [b, c, h, w].
            sigma: Noise levels [b].
            context: [b, tokens, width].
            extra: Further input channels [b, c2, h, w] of an inpainting UNet.
            perturbed: Identity self-attention in the mid block (PAG).
            control: What is added inside the UNet: a function of its input [b, c, h, w], timesteps [b] and context
                that gives a residual for each skip connection and, last, for the middle.

        Returns:
            float32 [b, c, h, w].
        """
        dtype = self.precision.denoiser
        prediction = Prediction(self.info.prediction)
        scaled = network_input(prediction, x, sigma)
        if extra is not None:
            scaled = torch.cat([scaled, extra.to(scaled)], dim=1)
        scaled = scaled.to(self.device, dtype)
        if self.precision.channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        timesteps = torch.tensor([self.table.model_time(level) for level in sigma.tolist()], device=self.device)
        context = context.to(self.device, dtype)
        added: dict[str, Any] = {}
        if control is not None:
            *down, mid = control(scaled, timesteps, context)
            added = {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}
        with self._perturbed() if perturbed else _nothing():
            output = self.unet(scaled, timesteps, encoder_hidden_states=context, return_dict=False, **added)[0]
        return denoised_from(prediction, x, output.to(x.device, torch.float32), sigma)

    @torch.inference_mode()
    def encode_image(self, image: Tensor) -> Tensor:
        """Latents float32 [b, c, h, w] of pictures [b, 3, H, W] in [−1, 1]: the mode of the posterior, scaled."""
        posterior = self.vae.encode(image.to(self.device, self.precision.vae)).latent_dist
        latent = posterior.mode().to(image.device, torch.float32)
        return (latent - self._shift) * self._scale

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures float32 [b, 3, H, W] of latents [b, c, h, w], nominally in [−1, 1]."""
        unscaled = latent / self._scale + self._shift
        return self.vae.decode(unscaled.to(self.device, self.precision.vae), return_dict=False)[0].to(
            latent.device, torch.float32
        )

    def tile(self) -> bool:
        """Make the VAE work in tiles. False if it already does."""
        if self.vae.use_tiling:
            return False
        self.vae.enable_tiling()
        return True

    @property
    def _scale(self) -> float:
        return float(self.vae.config["scaling_factor"])

    @property
    def _shift(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)

    @contextmanager
    def _perturbed(self) -> Iterator[None]:
        kept = dict(self.unet.attn_processors)
        changed = {
            name: PerturbedAttention() if name.startswith("mid_block") and ".attn1." in name else processor
            for name, processor in kept.items()
        }
        self.unet.set_attn_processor(changed)
        try:
            yield
        finally:
            self.unet.set_attn_processor(kept)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def load(
    info: ModelInfo,
    precision: Precision,
    device: torch.device,
    vae_path: Path | None = None,
    *,
    fast_cpu: bool = True,
) -> StableDiffusion:
    """Load a diffusers folder.

    Args:
        info: From the catalogue; `path` is the folder.
        precision: Number formats.
        device: Where it shall compute.
        vae_path: A diffusers VAE folder to use instead of the checkpoint's own.
        fast_cpu: As for `prepare_denoiser`.
    """
    folder = Path(info.weights_path)
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    unet = load_unet(info, precision.denoiser)
    vae = AutoencoderKL.from_pretrained(vae_path or folder / "vae", torch_dtype=precision.vae, **options)
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=precision.text, **options)
    return StableDiffusion(
        info=info,
        precision=precision,
        device=device,
        text=TextEncoder(folder / "tokenizer", encoder.to(device).eval().requires_grad_(False), device),
        unet=prepare_denoiser(unet, precision, device, fast_cpu=fast_cpu),
        vae=vae.to(device).eval().requires_grad_(False),
        table=SigmaTable.from_alphas_cumprod(DDPMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod),
        preview=LatentRgb.of(info),
    )
