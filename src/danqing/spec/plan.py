"""The Request with every default resolved, for one picture. Re-running a Plan reproduces the picture."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from danqing.spec.base import Data, Seed, Sha256
from danqing.spec.control import ControlMode, ControlPasses, ControlResize, ParamValue
from danqing.spec.drag import DragPlan
from danqing.spec.geometry import BoxPx, Margins, SizePx
from danqing.spec.image_prompt import ImageMix
from danqing.spec.model import ModelRef
from danqing.spec.network import EmbeddingPlan, NetworkPlan
from danqing.spec.painting import (
    MAX_STEPS,
    Emphasis,
    Guidance,
    MaskFill,
    NoiseSourceName,
    Output,
    Precision,
    ResizeMode,
    SizeHints,
    SoftInpainting,
)
from danqing.spec.region import RegionEngine
from danqing.spec.retouch_steps import RetouchPlan
from danqing.spec.shortcuts import Quality, ShortcutsPlan
from danqing.spec.words_edit import WordsPlan

PLAN_VERSION = 1
PlanKind = Literal["txt2img", "img2img", "inpaint", "outpaint", "drag", "words", "retouch"]


class TextPlan(Data):
    """The words of one pass, with styles and wildcards already expanded."""

    prompt: str
    negative_prompt: str
    emphasis: Emphasis = "Original"
    clip_skip: int = Field(default=1, ge=1, le=12)


class SeedPlan(Data):
    """Where the noise of this one picture comes from."""

    seed: Seed
    variation_seed: Seed = 0
    variation_strength: float = Field(default=0.0, ge=0, le=1)
    resize_from: SizePx | None = None
    source: NoiseSourceName = "cpu"
    eta_noise_seed_delta: int = 0


class SamplingPlan(Data):
    """Sampler and schedule keys with every number filled in."""

    sampler: str = Field(description="key in spec.registry.samplers")
    schedule: str = Field(description="key in spec.registry.schedules")
    steps: int = Field(ge=1, le=MAX_STEPS)
    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0
    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None


class ImageAdapterPlan(Data):
    """What turns image prompts into something that a model reads: an IP-Adapter and its image tower."""

    model: ModelRef
    encoder: ModelRef


class RefinerPlan(Data):
    """Which model takes over, and before which step."""

    model: ModelRef
    switch_step: int = Field(ge=1)
    image_adapter: ImageAdapterPlan | None = None
    networks: tuple[NetworkPlan, ...] = ()
    embeddings: tuple[EmbeddingPlan, ...] = ()


class ControlPlan(Data):
    """A ControlNet unit with everything filled in."""

    model: ModelRef
    image: Sha256 | None = Field(default=None, description="None follows the picture the pass starts from")
    mask: Sha256 | None = None
    annotator: str = Field(default="none", description="key in spec.registry.annotators")
    control_type: str | None = Field(default=None, description="of a union ControlNet: what the map shows")
    params: dict[str, ParamValue] = Field(default_factory=dict[str, ParamValue])
    resolution_px: int | None = None
    pixel_perfect: bool = True
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: ControlMode = "balanced"
    cond_only: bool = Field(default=False, description="acts on the prompt's rows alone, not on the negative prompt's")
    resize_mode: ControlResize = "crop"
    passes: ControlPasses = "both"


class RegionPlan(Data):
    """Where a region lies, and how strongly its words count there."""

    picture: SizePx = Field(description="what box and mask are drawn on")
    box: BoxPx | None = None
    mask: Sha256 | None = None
    weight: float = 1.0
    feather_px: int = 8
    control: ControlPlan | None = Field(default=None, description="a ControlNet unit that acts here alone")


class RegionWords(Data):
    """What a region's words say in one pass, and what they load."""

    text: TextPlan
    own_negative: bool = Field(default=False, description="whether its negative prompt is not the whole's")
    networks: tuple[NetworkPlan, ...] = ()
    embeddings: tuple[EmbeddingPlan, ...] = ()


class PassPlan(Data):
    """One trip through the denoiser."""

    kind: Literal["base", "hires", "detail"]
    model: ModelRef
    size: SizePx
    text: TextPlan
    sampling: SamplingPlan
    guidance: Guidance
    guidance_scale: float
    size_hints: SizeHints = SizeHints()
    shortcuts: ShortcutsPlan = ShortcutsPlan()
    strength: float | None = Field(
        default=None, ge=0, le=1, description="denoising strength; None starts from pure noise"
    )
    exact_steps: bool = False
    pipeline: str | None = Field(default=None, description="diffusers' class, where it paints the pass as a whole")
    upscaler: str | None = Field(default=None, description="how a hires pass enlarges the picture before it")
    upscaler_file: ModelRef | None = Field(default=None, description="the network, where `upscaler` names a file")
    refiner: RefinerPlan | None = None
    image_adapter: ImageAdapterPlan | None = Field(default=None, description="where the Plan has image prompts")
    networks: tuple[NetworkPlan, ...] = Field(default=(), description="LoRA and hypernetworks of the prompt's tags")
    embeddings: tuple[EmbeddingPlan, ...] = Field(default=(), description="whose words stand in the prompts")
    regions: tuple[RegionWords, ...] = Field(default=(), description="words of the Plan's regions, in their order")


class InitPlan(Data):
    """The picture an img2img, inpaint or outpaint starts from."""

    image: Sha256
    resize_mode: ResizeMode = "stretch"
    initial_noise_multiplier: float = 1.0
    colour_correction: bool = False


class MaskPlan(Data):
    """What is repainted and how it is blended."""

    mask: Sha256
    blur_px: int = Field(default=4, ge=0, le=64)
    inverted: bool = False
    fill: MaskFill = "original"
    only_masked: bool = False
    padding_px: int = Field(default=32, ge=0, le=512)
    keep_size: bool = Field(default=True, description="the result has the size of the picture, not of the pass")
    soft: SoftInpainting | None = None


class OutpaintPlan(Data):
    """How far each side grows and how it is blended."""

    margins: Margins
    feather_px: int = Field(default=16, ge=0, le=256)
    fill: MaskFill = "fill"


class ImagePromptPlan(Data):
    """An image prompt with its picture found."""

    image: Sha256
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


class Plan(Data):
    """Everything that decides one picture."""

    version: int = PLAN_VERSION
    kind: PlanKind
    seeds: SeedPlan
    passes: tuple[PassPlan, ...] = Field(min_length=1)
    vae: ModelRef | None = None
    init: InitPlan | None = None
    mask: MaskPlan | None = None
    outpaint: OutpaintPlan | None = None
    words: WordsPlan | None = Field(default=None, description="what the picture showed before, and how it changes")
    drag: DragPlan | None = None
    retouch: RetouchPlan | None = Field(default=None, description="what is done to the painted picture, in order")
    controls: tuple[ControlPlan, ...] = ()
    regions: tuple[RegionPlan, ...] = ()
    region_engine: RegionEngine = "attention"
    image_prompts: tuple[ImagePromptPlan, ...] = ()
    image_mix: ImageMix = "tokens"
    precision: Precision = "auto"
    quality: Quality = Field(default="exact", description="as asked for; each pass says what it leaves out")
    output: Output = Output()
    parent: str | None = None
    notes: tuple[str, ...] = Field(default=(), description="what planning changed and why, for the person")

    @property
    def base(self) -> PassPlan:
        """The first pass."""
        return self.passes[0]

    @property
    def painting(self) -> tuple[PassPlan, ...]:
        """The passes that paint the picture, without those that a retouch has for its details."""
        return tuple(one for one in self.passes if one.kind != "detail")

    @property
    def size(self) -> SizePx:
        """Size of the painted picture (of the last pass that paints all of it)."""
        return self.painting[-1].size

    def digest(self) -> str:
        """sha256 of the canonical JSON: equal Plans have equal digests."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
