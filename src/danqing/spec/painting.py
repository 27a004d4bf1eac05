"""What the kinds of painting share, and the four plain kinds: from words, from a picture, inside it, around it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX, Data, PictureRef, Seed
from danqing.spec.control import MAX_CONTROLS, ControlUnit
from danqing.spec.geometry import Margins, SizePx
from danqing.spec.image_prompt import MAX_IMAGE_PROMPTS, ImageMix, ImagePrompt
from danqing.spec.region import MAX_REGIONS, Region, RegionEngine
from danqing.spec.retouch_steps import MAX_RETOUCH_STEPS, RetouchStep
from danqing.spec.shortcuts import Quality, Shortcuts

PromptText = Annotated[str, Field(max_length=20_000)]
SideLengthPx = Annotated[int, Field(ge=MIN_SIDE_PX, le=MAX_SIDE_PX)]
PromptSyntax = Literal["a1111", "midjourney"]
Emphasis = Literal["Original", "No norm", "Ignore", "None"]
NoiseSourceName = Literal["cpu", "gpu", "nv"]
ResizeMode = Literal["stretch", "crop", "fill", "latent"]
MaskFill = Literal["original", "fill", "latent_noise", "latent_nothing"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "float8", "int8", "nf4"]
MAX_STEPS = 500


class Sampling(Data):
    """Sampler, schedule and their numbers."""

    sampler: str | None = Field(
        default=None, max_length=64, description="A1111's label or key; the model's own if unset"
    )
    schedule: str | None = Field(default=None, max_length=64, description="sigma schedule; automatic if unset")
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="sampling steps; the model's own if unset")
    eta: float | None = Field(default=None, ge=0, le=10, description="noise multiplier of ancestral samplers")
    s_churn: float = Field(default=0.0, ge=0, le=100)
    s_tmin: float = Field(default=0.0, ge=0, le=1000)
    s_tmax: float | None = Field(default=None, ge=0, le=10_000, description="no upper bound if unset")
    s_noise: float = Field(default=1.0, ge=0, le=10)
    sigma_min: float | None = Field(
        default=None, gt=0, le=1000, description="override of the schedule's smallest sigma"
    )
    sigma_max: float | None = Field(default=None, gt=0, le=10_000, description="override of its largest")
    rho: float | None = Field(default=None, gt=0, le=100, description="shape of Karras and polyexponential schedules")


class DynamicThreshold(Data):
    """Dynamic thresholding: a high guidance scale without burnt colours (Imagen, arXiv 2205.11487, §2.3)."""

    mimic_scale: float = Field(default=7.0, ge=0, le=100)
    percentile: float = Field(default=0.995, gt=0, le=1)


class Guidance(Data):
    """Classifier-free guidance and its relatives."""

    scale: float | None = Field(default=None, ge=0, le=100, description="CFG scale; the model's own if unset")
    distilled: float | None = Field(
        default=None, ge=0, le=100, description="what FLUX dev is told of its guidance; the model's own if unset"
    )
    rescale: float = Field(default=0.0, ge=0, le=1, description="φ of CFG rescale (arXiv 2305.08891)")
    threshold: DynamicThreshold | None = None
    pag_scale: float = Field(default=0.0, ge=0, le=100, description="perturbed-attention guidance (arXiv 2403.17377)")
    skip_early: float = Field(default=0.0, ge=0, le=1, description="share of the first steps painted without guidance")
    s_min_uncond: float = Field(
        default=0.0, ge=0, le=100, description="below this sigma every other step skips guidance"
    )


class Variation(Data):
    """A second seed mixed into the first by spherical interpolation."""

    seed: Seed | None = Field(default=None, description="random if unset")
    strength: float = Field(ge=0, le=1)


class Hires(Data):
    """A second pass: upscale the first picture, then denoise it again."""

    scale: float | None = Field(default=2.0, ge=1, le=8)
    width_px: SideLengthPx | None = Field(default=None, description="wins over `scale`")
    height_px: SideLengthPx | None = None
    upscaler: str = Field(default="latent", max_length=128, description="a latent mode or a pixel upscaler")
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="as the first pass if unset")
    strength: float = Field(default=0.6, ge=0, le=1, description="denoising strength")
    prompt: PromptText | None = Field(default=None, description="as the first pass if unset")
    negative_prompt: PromptText | None = None
    sampler: str | None = Field(default=None, max_length=64)
    schedule: str | None = Field(default=None, max_length=64)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    model: str | None = Field(default=None, max_length=256)


class Refiner(Data):
    """A second model that takes over for the last steps."""

    model: str = Field(max_length=256)
    switch_at: float = Field(default=0.8, gt=0, le=1, description="share of the steps after which it takes over")


class SizeHints(Data):
    """What SDXL is told of a picture's size and crop besides words (arXiv 2307.01952, section 2.2)."""

    original: SizePx | None = Field(default=None, description="pretended size before any crop; the pass's if unset")
    crop_top_px: int = Field(default=0, ge=0, le=MAX_SIDE_PX)
    crop_left_px: int = Field(default=0, ge=0, le=MAX_SIDE_PX)
    target: SizePx | None = Field(default=None, description="the pass's size if unset")
    aesthetic_score: float = Field(default=6.0, ge=0, le=10, description="the refiner reads it in place of a target")
    negative_original: SizePx | None = Field(default=None, description="for the negative prompt; as above if unset")
    negative_target: SizePx | None = Field(default=None, description="for the negative prompt; as above if unset")
    negative_aesthetic_score: float = Field(default=2.5, ge=0, le=10)


class SoftInpainting(Data):
    """Blend original and new latents step by step instead of at a hard mask (A1111's soft inpainting)."""

    schedule_bias: float = Field(default=1.0, ge=0, le=8)
    preservation_strength: float = Field(default=0.5, ge=0, le=8)
    transition_contrast_boost: float = Field(default=4.0, ge=1, le=32)
    mask_influence: float = Field(default=0.0, ge=0, le=1)
    difference_threshold: float = Field(default=0.5, ge=0, le=8)
    difference_contrast: float = Field(default=2.0, ge=0, le=8)


class Output(Data):
    """How the pictures are written."""

    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = Field(default=92, ge=1, le=100, description="JPEG and WebP only")


class PaintRequest(Data):
    """What every kind of painting shares."""

    prompt: PromptText = ""
    negative_prompt: PromptText = ""
    styles: tuple[str, ...] = Field(default=(), max_length=32, description="names from styles.csv, applied in order")
    syntax: PromptSyntax = "a1111"
    emphasis: Emphasis = "Original"
    clip_skip: int = Field(default=1, ge=1, le=12, description="1 uses the last layer of the text encoder")
    model: str | None = Field(default=None, max_length=256, description="name, title, stem or hash; built-in if unset")
    vae: str | None = Field(default=None, max_length=256, description="the model's own if unset")
    width_px: SideLengthPx | None = Field(default=None, description="the model's native size if unset")
    height_px: SideLengthPx | None = None
    count: int = Field(default=1, ge=1, le=64, description="pictures; each has its own seed")
    seed: Seed | None = Field(default=None, description="of the first picture; random if unset")
    variation: Variation | None = None
    seed_resize: SizePx | None = Field(default=None, description="paint as if the noise had been this size")
    noise: NoiseSourceName = "cpu"
    eta_noise_seed_delta: int = Field(default=0, ge=0, le=2**32 - 1, description="ENSD")
    sampling: Sampling = Sampling()
    guidance: Guidance = Guidance()
    hires: Hires | None = None
    refiner: Refiner | None = None
    size_hints: SizeHints = SizeHints()
    controls: tuple[ControlUnit, ...] = Field(
        default=(), max_length=MAX_CONTROLS, description="ControlNet units; their effects add up"
    )
    regions: tuple[Region, ...] = Field(
        default=(), max_length=MAX_REGIONS, description="boxes or masks with words of their own"
    )
    region_engine: RegionEngine | None = Field(
        default=None, description="how regions are painted; the one that fits the model if unset"
    )
    image_prompts: tuple[ImagePrompt, ...] = Field(
        default=(), max_length=MAX_IMAGE_PROMPTS, description="pictures to paint like (IP-Adapter)"
    )
    image_mix: ImageMix = Field(
        default="tokens",
        description="several image prompts: `tokens` shows all of them side by side, `average` their mean (a blend)",
    )
    image_adapter: str | None = Field(
        default=None, max_length=256, description="name, stem or hash of an IP-Adapter; the one that fits if unset"
    )
    finish: tuple[RetouchStep, ...] = Field(
        default=(), max_length=MAX_RETOUCH_STEPS, description="retouching of the finished picture, step by step"
    )
    precision: Precision = "auto"
    quality: Quality = Field(default="exact", description="`exact`, or what work is left out for speed")
    shortcuts: Shortcuts = Field(default=Shortcuts(), description="single numbers in place of those of the quality")
    output: Output = Output()
    parent: str | None = Field(default=None, max_length=64, description="the Record this one revises")


class Txt2ImgRequest(PaintRequest):
    """Words to pictures."""

    kind: Literal["txt2img"] = "txt2img"


class InitRequest(PaintRequest):
    """What the kinds that start from a picture share."""

    image: PictureRef
    strength: float = Field(default=0.75, ge=0, le=1, description="denoising strength: 0 keeps the picture")
    resize_mode: ResizeMode = "stretch"
    exact_steps: bool = Field(default=False, description="do exactly `steps` steps instead of steps × strength")
    initial_noise_multiplier: float = Field(default=1.0, ge=0, le=1.5)
    colour_correction: bool = Field(default=False, description="match the colours of the init picture")


class Img2ImgRequest(InitRequest):
    """Words and a picture to pictures."""

    kind: Literal["img2img"] = "img2img"


class InpaintRequest(InitRequest):
    """Repaint the masked part of a picture."""

    kind: Literal["inpaint"] = "inpaint"
    mask: PictureRef = Field(description="white is repainted; the size of the picture")
    mask_blur_px: int = Field(default=4, ge=0, le=64)
    mask_inverted: bool = False
    fill: MaskFill = "original"
    only_masked: bool = Field(default=False, description="crop to the mask, paint at full size, paste back")
    padding_px: int = Field(default=32, ge=0, le=512, description="context around the mask when only_masked")
    soft: SoftInpainting | None = None


class OutpaintRequest(InitRequest):
    """Extend a picture on any side."""

    kind: Literal["outpaint"] = "outpaint"
    margins: Margins
    strength: float = Field(default=1.0, ge=0, le=1)
    fill: MaskFill = "fill"
    feather_px: int = Field(default=16, ge=0, le=256, description="how far the new paint blends into the old")
