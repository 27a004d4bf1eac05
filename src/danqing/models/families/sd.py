"""Stable Diffusion 1.x and 2.x, and the built-in family, which is a small one of them (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from danqing.models.attention import PerturbedAttention
from danqing.models.controlnet import NetInput
from danqing.models.families.parts import Loading, Tower, load_parts
from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.models.preview import LatentRgb
from danqing.models.text import TextEncoder, TextState
from danqing.models.tiling import Grid, in_tiles
from danqing.sampling.prediction import Prediction, scalings
from danqing.sampling.tables import FlowTable, SigmaTable
from danqing.spec.model import ModelInfo

Control = Callable[[NetInput], dict[str, Any]]
"""What the UNet reads → arguments of diffusers' UNet that carry residuals."""

Network = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
"""Scaled input, timesteps, context, what else diffusers' UNet is told → its answer. One whose attribute `reads_float32`
is true is given them as they are, and not in the denoiser's own format."""


_TILES_LATENT_PX = (64, 32)
"""Sides of the tiles once memory ran out."""


@dataclass(frozen=True, eq=False)
class Added:
    """What SDXL, SD3 and FLUX read besides their context, a row for each latent.

    Attributes:
        pooled: Of the texts [b, width].
        numbers: Original height and width, top and left of the crop, target height and width, aesthetic score [b, 7].
        distilled: The guidance that FLUX dev is told [b]; None is 3.5, at which its maker shows it.
    """

    pooled: Tensor
    numbers: Tensor
    distilled: Tensor | None = None


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
        tile_latent_px: Side of the tiles that the autoencoder works in; 0 for pictures in one piece.
    """

    info: ModelInfo
    precision: Precision
    device: torch.device
    text: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    table: SigmaTable | FlowTable
    preview: LatentRgb
    tile_latent_px: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        modules: tuple[torch.nn.Module, ...] = (self.text.model, self.unet, self.vae)
        listed = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
        return listed + packed_bytes(self.unet)

    def read_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[TextState]:
        """What the denoiser reads of each text."""
        return self.text.read(texts, emphasis=emphasis, clip_skip=clip_skip)

    def encode_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[Tensor]:
        """Contexts float32 [tokens, width], one for each text; tokens is a multiple of 77."""
        return [state.states for state in self.read_text(texts, emphasis, clip_skip)]

    def denoise(  # noqa: PLR0913
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        extra: Tensor | None,
        *,
        perturbed: bool,
        control: Control | None = None,
        added: Added | None = None,
        network: Network | None = None,
    ) -> Tensor:
        """`estimate` without gradients; what it answers takes part in none."""
        with torch.inference_mode():
            return self.estimate(
                x, sigma, context, extra, perturbed=perturbed, control=control, added=added, network=network
            )

    def estimate(  # noqa: PLR0913
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        extra: Tensor | None,
        *,
        perturbed: bool,
        control: Control | None = None,
        added: Added | None = None,
        network: Network | None = None,
    ) -> Tensor:
        """D(x, σ): the estimate of the clean latents.

        Args:
            x: Noisy latents in variance-exploding scaling, float32 [b, c, h, w].
            sigma: Noise levels [b].
            context: [b, tokens, width].
            extra: Further input channels [b, c2, h, w] of an inpainting UNet.
            perturbed: Identity self-attention in the mid block (PAG).
            control: What is added inside the UNet, a function of what the UNet reads.
            added: What SDXL reads besides.
            network: What stands for the denoiser's own module.

        Returns:
            float32 [b, c, h, w].
        """
        dtype = self.precision.denoiser
        prediction = Prediction(self.info.prediction)
        scale = scalings(prediction, sigma, x.ndim)
        scaled = scale.c_in.to(x) * x
        if extra is not None and self.info.variant == "edit":
            # InstructPix2Pix reads the picture's latents as the autoencoder gives them (arXiv 2211.09800).
            extra = extra / self._scale + self._shift
        if extra is not None:
            scaled = torch.cat([scaled, extra.to(scaled)], dim=1)
        if control is not None or not getattr(network, "reads_float32", False):
            scaled, context = scaled.to(self.device, dtype), context.to(self.device, dtype)
            if self.precision.channels_last:
                scaled = scaled.contiguous(memory_format=torch.channels_last)
        timesteps = torch.tensor([self.table.model_time(level) for level in sigma.tolist()], device=self.device)
        options = self._conditions(added)
        if control is not None:
            options |= control(NetInput(scaled, timesteps, context, options.get("added_cond_kwargs")))
        with self._perturbed() if perturbed else _nothing():
            output = (network or self._network)(scaled, timesteps, context, options)
        return scale.c_skip.to(x) * x + scale.c_out.to(x) * output.to(x.device, torch.float32)

    def _network(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The denoiser's own answer [b, c, h, w]."""
        return self.unet(scaled, timesteps, encoder_hidden_states=context, return_dict=False, **options)[0]

    def _conditions(self, added: Added | None) -> dict[str, Any]:
        """What else the UNet is given."""
        del added
        return {}

    @torch.inference_mode()
    def encode_image(self, image: Tensor, encoder: Callable[[Tensor], Tensor] | None = None, tile: int = 0) -> Tensor:
        """Latents float32 [b, c, h, w] of pictures [b, 3, H, W] in [−1, 1]: the mode of the posterior, scaled.

        Args:
            image: The pictures.
            encoder: What stands for the autoencoder's own: pictures to mean and log variance [b, 2c, h, w].
            tile: Side of the tiles to work in [latent pixels]; 0 for one piece, where `tile` has not changed that.
        """

        def mean(picture: Tensor) -> Tensor:
            if encoder is not None:
                return encoder(picture).chunk(2, dim=1)[0]
            posterior = self.vae.encode(picture.to(self.device, self.precision.vae)).latent_dist
            return posterior.mode().to(picture.device, torch.float32)

        unit = self.info.latent_scale
        side = self._side(tile, image.shape[-2] / unit, image.shape[-1] / unit)
        latent = in_tiles(mean, image, Grid(side, unit, 1)) if side else mean(image)
        return (latent - self._shift) * self._scale

    @torch.inference_mode()
    def decode(self, latent: Tensor, decoder: Callable[[Tensor], Tensor] | None = None, tile: int = 0) -> Tensor:
        """Pictures float32 [b, 3, H, W] of latents [b, c, h, w], nominally in [−1, 1].

        Args:
            latent: Scaled as the denoiser has them.
            decoder: What stands for the autoencoder's own: latents, not scaled, to pictures.
            tile: As for `encode_image`.
        """

        def picture(unscaled: Tensor) -> Tensor:
            made: Tensor = self.vae.decode(unscaled.to(self.device, self.precision.vae), return_dict=False)[0]
            return made.to(latent.device, torch.float32)

        run, unscaled = decoder or picture, latent / self._scale + self._shift
        side = self._side(tile, *latent.shape[-2:])
        return in_tiles(run, unscaled, Grid(side, 1, self.info.latent_scale)) if side else run(unscaled)

    def tile(self) -> bool:
        """Make the autoencoder work in tiles, or in smaller ones. False if they are as small as is sensible."""
        smaller = [side for side in _TILES_LATENT_PX if not self.tile_latent_px or side < self.tile_latent_px]
        if not smaller:
            return False
        self.tile_latent_px = smaller[0]
        return True

    def _side(self, tile: int, height: float, width: float) -> int:
        """Side of the tiles for a picture [latent pixels]; 0 where it is no larger than one, or cannot be cut."""
        side = min((one for one in (tile, self.tile_latent_px) if one), default=0)
        whole = float(height).is_integer() and float(width).is_integer()
        return side if whole and side < max(height, width) else 0

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


def load(task: Loading) -> StableDiffusion:
    """Load a checkpoint."""
    parts = load_parts(task, towers=[Tower("text_encoder", "tokenizer")])
    return StableDiffusion(
        **task.around(parts.unet),
        text=parts.texts[0],
        vae=parts.vae,
        table=parts.table,
    )
