"""What is known of a model from its files, without loading it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.base import Data

Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]
ImageAdapterKind = Literal["ip_adapter", "revision"]
ControlKind = Literal["controlnet", "union", "control_lora", "t2i_adapter", "lllite"]


class ModelDefaults(Data):
    """What a model likes when the Request leaves it open."""

    sampler: str = "Euler a"
    schedule: str = "automatic"
    steps: int = 20
    guidance_scale: float = 7.0
    distilled_guidance: float | None = Field(default=None, description="where the network is told its guidance")
    size_px: int = 512


class ForeignParts(Data):
    """What is known of a diffusers folder that its own pipeline paints."""

    index: str = Field(description="the class in its `model_index.json`, a key of spec.registry.foreign")
    prior_path: str | None = Field(default=None, description="the folder that is loaded with it")
    next_stage: str | None = Field(default=None, max_length=256, description="the model that enlarges its pictures")
    call: dict[str, bool | int | float | str] = Field(
        default_factory=dict[str, bool | int | float | str], description="arguments that it is always called with"
    )


class ModelInfo(Data):
    """A checkpoint in the catalogue."""

    name: str = Field(description="what a person types")
    family: str = Field(description="key in spec.registry.families")
    path: str = Field(description="file or diffusers folder")
    base_path: str | None = Field(default=None, description="the folder of the model that this one is a change of")
    sha256: str = Field(description="content hash; of all weight files for a folder")
    builtin: bool = False
    variant: str = Field(default="base", description="base, refiner, inpaint or edit (instruct-pix2pix)")
    vae_path: str | None = Field(default=None, description="an autoencoder beside it that takes its own one's place")
    prediction: Prediction = "epsilon"
    latent_channels: int = 4
    latent_scale: int = Field(default=8, description="picture pixels per latent pixel")
    unet_in_channels: int = 4
    context_width: int = Field(default=0, description="width of a text state the UNet reads; 0 where it is not known")
    pooled_width: int = Field(default=0, description="width of SDXL's pooled text; 0 where there is none")
    block_widths: tuple[int, ...] = Field(default=(), description="channels of the UNet's levels")
    layers_per_block: tuple[int, ...] = Field(default=(), description="layers of each level on the way down")
    attention_widths: tuple[int, ...] = Field(default=(), description="of the cross-attentions, in diffusers' order")
    defaults: ModelDefaults = ModelDefaults()
    foreign: ForeignParts | None = Field(default=None, description="where a pipeline of diffusers paints as a whole")
    description: str = ""
    styles: tuple[str, ...] = ()

    @property
    def short_hash(self) -> str:
        """The first ten hex digits, as A1111 shows."""
        return self.sha256[:10]

    @property
    def ref(self) -> ModelRef:
        """It inside a Plan."""
        return ModelRef(name=self.name, sha256=self.sha256, family=self.family)

    @property
    def weights_path(self) -> str:
        """Where its UNet, VAE, text encoder and tokenizer lie: a derived model shares its base's."""
        return self.base_path or self.path

    @property
    def is_inpainting(self) -> bool:
        """Whether its UNet takes mask and masked picture as extra channels (2 × latents + 1)."""
        return self.unet_in_channels == 2 * self.latent_channels + 1


class ControlNetInfo(Data):
    """A ControlNet or what does its work (union, Control-LoRA, T2I-Adapter, LLLite) in the catalogue."""

    name: str = Field(description="what a person types")
    path: str = Field(description="file or diffusers folder")
    sha256: str = Field(description="content hash of its weights")
    kind: ControlKind = "controlnet"
    family: str | None = Field(default=None, description="sd1, sd2, sdxl, where its shapes tell")
    control_type: str | None = Field(default=None, description="what it follows, told from its name")
    control_types: tuple[str, ...] = Field(default=(), description="of a union ControlNet: what its maps can be")
    builtin: bool = False
    base: str | None = Field(default=None, description="the model it was trained for, where its maker says so")
    context_width: int | None = Field(default=None, description="None where it reads no text")
    block_widths: tuple[int, ...] = ()
    layers_per_block: tuple[int, ...] = ()
    in_channels: int | None = Field(default=4, description="latent channels; None where it reads no latents")
    hint_scale: int = Field(default=8, description="picture pixels per latent pixel")
    global_pool: bool = Field(default=False, description="control without place (shuffle): acts on the prompt only")
    annotators: tuple[str, ...] = Field(default=(), description="annotators it was trained with, the best one first")
    description: str = ""

    @property
    def short_hash(self) -> str:
        """The first ten hex digits, as A1111 shows."""
        return self.sha256[:10]


class ImageEncoderInfo(Data):
    """A CLIP image tower that feeds image adapters."""

    path: str = Field(description="transformers folder")
    sha256: str = Field(description="content hash of its weights")
    embedding_width: int
    whole_picture: bool = Field(default=False, description="sees all of a picture, letterboxed; else its middle square")


class IpAdapterInfo(Data):
    """An image adapter in the catalogue: an IP-Adapter, or an image tower that Revision needs alone."""

    name: str = Field(description="what a person types")
    path: str = Field(description="safetensors file; for Revision the image tower's folder")
    sha256: str = Field(description="content hash of the file")
    kind: ImageAdapterKind = "ip_adapter"
    encoder: ImageEncoderInfo
    builtin: bool = False
    base: str | None = Field(default=None, description="the model it was trained for, where its maker says so")
    context_width: int = Field(description="width of the text states beside which its tokens stand")
    layer_widths: tuple[int, ...] = Field(description="width of each cross-attention that it extends")
    description: str = ""

    @property
    def short_hash(self) -> str:
        """The first ten hex digits, as A1111 shows."""
        return self.sha256[:10]


class ModelRef(Data):
    """A model inside a Plan: enough to find the very same one again."""

    name: str
    sha256: str
    family: str
