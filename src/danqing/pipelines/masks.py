"""Masks on latents: what is repainted, what is kept, and how the two meet."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danqing.spec.painting import SoftInpainting


def latent_mask(mask: Image.Image, width: int, height: int, *, soft: bool) -> Tensor:
    """A mask on the latent grid, float32 [1, 1, h, w]; 1 is repainted; rounded to 0 or 1 unless soft."""
    small = mask.resize((width, height), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255.0)[None, None]
    return values if soft else values.round()


@dataclass(frozen=True)
class HardBlend:
    """Kept latents are put back after every step.

    Attributes:
        original: Clean latents [1, c, h, w].
        mask: [1, 1, h, w], 1 is repainted.
    """

    original: Tensor
    mask: Tensor

    def __call__(self, denoised: Tensor, sigma: float) -> Tensor:
        """The estimate with the kept part put back [1, c, h, w]."""
        del sigma
        return denoised * self.mask + self.original * (1.0 - self.mask)


@dataclass(frozen=True)
class SoftBlend:
    """Old and new latents mixed by a mask that hardens as the noise goes, magnitudes kept.

    Behaviour of A1111's *soft inpainting*.

    Attributes:
        original: Clean latents [1, c, h, w].
        mask: [1, 1, h, w] with soft edges, 1 is repainted.
        settings: The person's numbers.
    """

    original: Tensor
    mask: Tensor
    settings: SoftInpainting

    def __call__(self, denoised: Tensor, sigma: float) -> Tensor:
        """The mixed estimate [1, c, h, w]."""
        exponent = sigma**self.settings.schedule_bias * self.settings.preservation_strength
        keep = torch.pow(1.0 - self.mask, exponent)
        new = 1.0 - keep
        mixed = self.original * keep + denoised * new
        p = self.settings.transition_contrast_boost
        norm_old = torch.linalg.vector_norm(self.original, dim=1, keepdim=True)
        norm_new = torch.linalg.vector_norm(denoised, dim=1, keepdim=True)
        wanted = (norm_old**p * keep + norm_new**p * new) ** (1.0 / p)
        return mixed * (wanted / (torch.linalg.vector_norm(mixed, dim=1, keepdim=True) + 1e-5))


def changed_mask(original: Tensor, painted: Tensor, mask: Image.Image, settings: SoftInpainting) -> Image.Image:
    """How much of the new picture to show, from how far the latents moved: soft inpainting's paste mask.

    Args:
        original: Latents before [1, c, h, w].
        painted: Latents after [1, c, h, w].
        mask: What was repainted, at picture size.
        settings: The person's numbers.
    """
    distance = torch.linalg.vector_norm(painted - original, dim=1)[0].cpu().numpy().astype(np.float32)
    distance = cv2.GaussianBlur(distance, (0, 0), 1.0)
    painted_over = np.asarray(mask.resize(distance.shape[::-1], Image.Resampling.BICUBIC), dtype=np.float32) / 255.0
    half = settings.difference_threshold * (1.0 - painted_over * settings.mask_influence)
    kept = 1.0 / (1.0 + (distance / np.maximum(half, 1e-6)) ** settings.difference_contrast)
    shown = (np.clip(1.0 - kept, 0.0, 1.0) * 255).astype(np.uint8)
    return Image.fromarray(shown).resize(mask.size, Image.Resampling.BICUBIC)


def inpainting_extra(masked_latent: Tensor, mask: Tensor) -> Tensor:
    """Further input of an inpainting UNet [1, 1 + c, h, w]: mask, then the latents of the masked picture."""
    return torch.cat([mask.round(), masked_latent], dim=1)
