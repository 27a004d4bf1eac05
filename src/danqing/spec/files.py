"""What a file of weights is, told from the names and shapes of its tensors alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.model import Prediction

FileKind = Literal[
    "checkpoint",
    "denoiser",
    "vae",
    "taesd",
    "text_encoder",
    "image_encoder",
    "lora",
    "lycoris",
    "embedding",
    "hypernetwork",
    "controlnet",
    "controlnet_lllite",
    "control_lora",
    "t2i_adapter",
    "ip_adapter",
    "upscaler",
    "face_restorer",
    "annotator",
    "motion_module",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor without its numbers.

    Attributes:
        dtype: `float32`, `float16`, `bfloat16`, `float8_e4m3fn`, … ; GGUF's own name (`Q4_K`) for packed ones.
        shape: As PyTorch counts it, outermost first.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """All that a file says before its weights.

    Attributes:
        format: `safetensors`, `pickle` or `gguf`.
        tensors: By name; nested dictionaries of a pickle are joined with dots.
        metadata: The header's own words; scalars of a pickle besides tensors (`global_step`, `name`).
    """

    format: Literal["safetensors", "pickle", "gguf"]
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str] = field(default_factory=dict[str, str])


class FileIdentity(Data):
    """What a file is."""

    kind: FileKind
    family: str | None = Field(default=None, description="sd1, sd2, sdxl, sd3, flux, …; None where unknown")
    variant: str = Field(default="base", description="base, refiner, inpaint, edit, dev, schnell, fill, kontext, …")
    layout: str = Field(default="", description="whose names the tensors have: ldm, diffusers, kohya, peft, a1111, …")
    prediction: Prediction | None = None
    precision: str = Field(default="", description="the number format of most weights")
    parts: tuple[str, ...] = Field(default=(), description="of a checkpoint: denoiser, vae, text_encoder, …, ema")
    facts: dict[str, int | float | str | bool | tuple[int, ...] | tuple[str, ...]] = Field(
        default_factory=dict, description="context_width, in_channels, rank, vectors, tokens, scale, …"
    )
    why: str = Field(default="", description="the names that decided, for a person; for an unknown file, what was seen")


class ModelFile(Data):
    """A file of weights (or a diffusers folder) that a scan found."""

    name: str = Field(description="below the folder of its kind, without its ending: what a person types")
    path: str
    root: str = Field(description="the scanned folder")
    size_bytes: int = 0
    modified_s: float = Field(default=0.0, description="seconds since 1970")
    identity: FileIdentity | None = Field(default=None, description="None where it cannot be read")
    problem: str = Field(default="", description="why it cannot be used, for a person")
    folder_kind: FileKind | None = Field(default=None, description="what its folder says it is: a hint")
    title: str = Field(default="", description="as A1111 shows it: `name [hash]` where the hash is known")
    alias: str = Field(default="", description="the name its trainer gave it (ss_output_name)")
    hashes: dict[str, str] = Field(
        default_factory=dict, description="what is known: sha256, legacy, autov2, autov3, lora12, sshs_…"
    )
    trigger_words: tuple[str, ...] = Field(default=(), description="from the file's own metadata")
    preview: str | None = Field(default=None, description="a picture beside it")
    sidecars: tuple[str, ...] = Field(default=(), description="names of the files beside it that belong to it")


class ModelNotes(Data):
    """What the files beside a model, and its own metadata, say to a person."""

    description: str = ""
    notes: str = ""
    activation_text: str = ""
    negative_text: str = ""
    preferred_weight: float | None = None
    base_model: str = ""
    trigger_words: tuple[str, ...] = ()
    tags: tuple[str, ...] = Field(default=(), description="the most frequent training tags, first the most frequent")
