"""What is known of a model from its files, without loading it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.base import Data

Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]


class ModelDefaults(Data):
    """What a model likes when the Request leaves it open."""

    sampler: str = "Euler a"
    schedule: str = "automatic"
    steps: int = 20
    guidance_scale: float = 7.0
    size_px: int = 512


class ModelInfo(Data):
    """A checkpoint in the catalogue."""

    name: str = Field(description="what a person types")
    family: str = Field(description="key in spec.registry.families")
    path: str = Field(description="file or diffusers folder")
    sha256: str = Field(description="content hash; of all weight files for a folder")
    builtin: bool = False
    prediction: Prediction = "epsilon"
    latent_channels: int = 4
    latent_scale: int = Field(default=8, description="picture pixels per latent pixel")
    unet_in_channels: int = 4
    defaults: ModelDefaults = ModelDefaults()
    description: str = ""
    styles: tuple[str, ...] = ()

    @property
    def short_hash(self) -> str:
        """The first ten hex digits, as A1111 shows."""
        return self.sha256[:10]

    @property
    def is_inpainting(self) -> bool:
        """Whether its UNet takes mask and masked picture as extra channels (2 × latents + 1)."""
        return self.unet_in_channels == 2 * self.latent_channels + 1


class ModelRef(Data):
    """A model inside a Plan: enough to find the very same one again."""

    name: str
    sha256: str
    family: str
