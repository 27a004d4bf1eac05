"""Model families by name: what a front needs to know without loading one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FamilyInfo:
    """One family of models.

    Attributes:
        key: Name in Plans and in `models/families/`.
        name: Label for people.
        latent_channels: Channels of its latents, where the family fixes them.
        latent_scale: Picture pixels per latent pixel.
        native_px: Side of the square it was trained on.
    """

    key: str
    name: str
    latent_channels: int
    latent_scale: int
    native_px: int


FAMILIES: tuple[FamilyInfo, ...] = (
    FamilyInfo("danqing", "Danqing built-in", 8, 8, 128),
    FamilyInfo("sd1", "Stable Diffusion 1.x", 4, 8, 512),
    FamilyInfo("sd2", "Stable Diffusion 2.x", 4, 8, 768),
    FamilyInfo("sdxl", "Stable Diffusion XL", 4, 8, 1024),
    FamilyInfo("sd3", "Stable Diffusion 3", 16, 8, 1024),
    FamilyInfo("flux", "FLUX.1", 16, 8, 1024),
)
BUILTIN_MODEL = "danqing-mini"
