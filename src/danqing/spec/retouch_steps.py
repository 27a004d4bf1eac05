"""The steps of a retouch, a tagged union by `kind`: details, faces, size, background; what planning makes of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from danqing.spec.base import MAX_SCALE, MAX_SIDE_PX, MAX_UPSCALED_SIDE_PX, MIN_SIDE_PX, Data
from danqing.spec.model import ModelRef

MAX_RETOUCH_STEPS = 16
MAX_THINGS = 64
SEPARATOR, SKIPPED, WHOLE_PROMPT = "[SEP]", "[SKIP]", "[PROMPT]"
"""Words of a detail's prompt with a meaning of their own, as in ADetailer."""

StepText = Annotated[str, Field(max_length=20_000)]
SortBy = Literal["sureness", "left_to_right", "centre_to_edge", "largest"]
KeepBy = Literal["area", "confidence"]
MergeMode = Literal["none", "merge", "merge_invert"]
TileMode = Literal["windows", "tiles"]
CutoutMethod = Literal["auto", "plain", "u2netp", "grabcut"]


class Repainting(Data):
    """How a step paints; what is left open follows the Request, then the model."""

    prompt: StepText | None = Field(default=None, description="as the Request's if unset")
    negative_prompt: StepText | None = Field(default=None, description="as the Request's if unset")
    steps: int | None = Field(default=None, ge=1, le=500, description="sampling steps")
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    sampler: str | None = Field(default=None, max_length=64)
    schedule: str | None = Field(default=None, max_length=64)
    model: str | None = Field(default=None, max_length=256)


class DetailStep(Repainting):
    """Find things, paint each again at high resolution, paste it back with soft edges (what ADetailer does)."""

    kind: Literal["detail"] = "detail"
    detect: str = Field(
        default="face",
        min_length=1,
        max_length=256,
        description="face, hand, person, subject, a YOLO file of models/adetailer, or any words (`apple`, `word:face`)",
    )
    classes: tuple[str, ...] = Field(default=(), max_length=80, description="of a YOLO file: only these; all if empty")
    confidence: float = Field(default=0.3, ge=0, le=1, description="how sure the detector must be")
    min_area: float = Field(default=0.0, ge=0, le=1, description="smallest share of the picture that counts")
    max_area: float = Field(default=1.0, ge=0, le=1, description="largest share of the picture that counts")
    max_count: int | None = Field(default=None, ge=1, le=MAX_THINGS, description="no more than so many things")
    keep: KeepBy = Field(default="area", description="which are kept where there are more: the largest or the surest")
    sort: SortBy = Field(default="sureness", description="in which order they are painted, and matched with [SEP]")
    outline: bool = Field(default=True, description="the thing's own outline where the detector knows it; else its box")
    offset_x_px: int = Field(default=0, ge=-1024, le=1024, description="moves the mask to the right")
    offset_y_px: int = Field(default=0, ge=-1024, le=1024, description="moves the mask down")
    dilate_px: int = Field(default=4, ge=-256, le=256, description="grows the mask; below 0 shrinks it")
    merge: MergeMode = Field(default="none", description="all things as one mask; `merge_invert` all but them")
    blur_px: int = Field(default=4, ge=0, le=64, description="soft edge of the mask")
    padding_px: int = Field(default=32, ge=0, le=512, description="context around the mask")
    strength: float = Field(default=0.4, ge=0, le=1, description="denoising strength")
    width_px: int | None = Field(
        default=None, ge=MIN_SIDE_PX, le=MAX_SIDE_PX, description="at which size a thing is painted; the Request's"
    )
    height_px: int | None = Field(default=None, ge=MIN_SIDE_PX, le=MAX_SIDE_PX)


class RestoreFacesStep(Data):
    """Restore faces by a network made for them (GFPGAN, RestoreFormer, CodeFormer)."""

    kind: Literal["restore_faces"] = "restore_faces"
    model: str | None = Field(default=None, max_length=128, description="name of its file; the first there is if unset")
    visibility: float = Field(default=1.0, ge=0, le=1, description="share of the restored face in the result")
    fidelity: float = Field(default=0.5, ge=0, le=1, description="CodeFormer's weight: 0 most beautiful, 1 most alike")
    confidence: float = Field(default=0.5, ge=0, le=1, description="how sure the detector of faces must be")
    max_count: int | None = Field(default=None, ge=1, le=MAX_THINGS, description="the largest so many faces")


class TiledDiffusion(Repainting):
    """Paint an enlarged picture again part by part, so that it gets detail and memory does not grow with it."""

    mode: TileMode = Field(
        default="windows",
        description="`windows` averages overlapping windows at every step (MultiDiffusion); "
        "`tiles` paints one tile after the other (Ultimate SD Upscale)",
    )
    strength: float = Field(default=0.3, ge=0, le=1, description="denoising strength")
    tile_px: int | None = Field(default=None, ge=64, le=2048, description="side of a tile; the model's native size")
    overlap_px: int | None = Field(default=None, ge=0, le=1024, description="shared by neighbours; a quarter of a tile")


class UpscaleStep(Data):
    """Make the picture larger."""

    kind: Literal["upscale"] = "upscale"
    scale: float = Field(default=2.0, ge=1, le=MAX_SCALE, description="how many times larger")
    width_px: int | None = Field(default=None, ge=1, le=MAX_UPSCALED_SIDE_PX, description="wins over `scale`")
    height_px: int | None = Field(default=None, ge=1, le=MAX_UPSCALED_SIDE_PX, description="as `width_px`")
    upscaler: str | None = Field(
        default=None,
        max_length=128,
        description="a file's name, Lanczos, Bicubic, Nearest or Latent; the built-in network if unset",
    )
    tiled: TiledDiffusion | None = Field(default=None, description="paint it again in tiles after that")


class CutoutStep(Data):
    """Make the background transparent."""

    kind: Literal["cutout"] = "cutout"
    method: CutoutMethod = Field(
        default="auto",
        description="`plain` for backgrounds of one colour or a gradient, `u2netp` the small U²-Net, `grabcut` for "
        "others without a network; `auto` takes the first that fits",
    )
    grow_px: int = Field(default=0, ge=-64, le=64, description="grows the subject; below 0 eats its edge")
    trim: bool = Field(default=False, description="cut the picture to the subject")
    background: str | None = Field(
        default=None, pattern=r"^#[0-9a-fA-F]{6}$", description="a colour behind the subject; transparent if unset"
    )


RetouchStep = Annotated[
    DetailStep | RestoreFacesStep | UpscaleStep | CutoutStep,
    Field(discriminator="kind"),
]
STEP_MODELS = (DetailStep, RestoreFacesStep, UpscaleStep, CutoutStep)


class RetouchStepPlan(Data):
    """A step with everything filled in."""

    step: RetouchStep
    tool: str = Field(default="", description="key of a detector or an upscaler, or the name of `file`")
    file: ModelRef | None = Field(default=None, description="detector, restorer or upscaler, where it is a file")
    words: str = Field(default="", description="what a detector of words looks for")
    passes: tuple[int | None, ...] = Field(
        default=(), description="which of the Plan's passes paint it, one for each [SEP] part; None skips a thing"
    )


class RetouchPlan(Data):
    """The steps of a retouch, in order."""

    steps: tuple[RetouchStepPlan, ...] = Field(min_length=1)
