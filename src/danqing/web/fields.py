"""The controls of the Paint page as data: what kind, which range, which section, for which mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.noise import NOISE_SOURCES
from danqing.spec.registry.samplers import SAMPLERS
from danqing.spec.registry.schedules import SCHEDULES
from danqing.spec.registry.upscalers import UPSCALERS
from danqing.spec.shortcuts import QUALITIES
from danqing.web.form import Form
from danqing.web.i18n import say

Kind = Literal["slider", "number", "text", "check", "radio", "choice"]
INITS = ("img2img", "inpaint", "outpaint", "drag", "words", "retouch")


@dataclass(frozen=True)
class Control:
    """One control of a folded section.

    Attributes:
        name: Field of `Form`; its words are `f.<name>` and `f.<name>.tip`.
        kind: Which component.
        low: Smallest value of a slider.
        high: Largest value of a slider.
        step: Step of a slider or number.
        options: Values of a choice; each is named by `o.<name>.<value>` unless `labels` gives its name.
        labels: Names that are the same in every language (samplers, formats).
        modes: The kinds of request it matters for; empty means all.
        needs: The check box that must be ticked for it to show.
        half: Whether two of them share a row.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    options: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    needs: str = ""
    half: bool = False

    @property
    def default(self) -> Any:
        """What an untouched form holds."""
        return getattr(Form(), self.name)

    @property
    def is_optional_number(self) -> bool:
        """Whether it is a number that may be left empty, for the model or sampler to choose."""
        return self.kind == "number" and self.default is None

    def label(self, language: str) -> str:
        """Its name in this language."""
        return say(language, f"f.{self.name}")

    def tip(self, language: str) -> str:
        """One plain sentence: what it does and a good range."""
        return say(language, f"f.{self.name}.tip")

    def choices(self, language: str) -> list[tuple[str, str]]:
        """(shown, value) of each option."""
        if self.labels:
            return [
                (label or say(language, f"o.{self.name}.{value or 'none'}"), value)
                for label, value in zip(self.labels, self.options, strict=True)
            ]
        return [(say(language, f"o.{self.name}.{value or 'none'}"), value) for value in self.options]


def _slider(name: str, low: float, high: float, step: float, **more: Any) -> Control:
    return Control(name, "slider", low, high, step, **more)


_INPAINT = ("inpaint",)
_OUTPAINT = ("outpaint",)
_DRAG = ("drag",)
_FITTED = ("img2img", "inpaint", "outpaint")
_REPAINTED = (*_FITTED, "drag")
_PAINTED = ("txt2img", *_FITTED, "words")
_FILLS = ("original", "fill", "latent_noise", "latent_nothing")
_SAMPLER_NAMES = tuple(info.name for info in SAMPLERS)
_SCHEDULE_NAMES = tuple(info.name for info in SCHEDULES if info.key != "automatic")
_PRECISIONS = {
    "auto": "",
    "float32": "float32 (fp32)",
    "bfloat16": "bfloat16 (bf16)",
    "float16": "float16 (fp16)",
    "float8": "float8 (fp8)",
    "int8": "int8",
    "nf4": "nf4 (4 bit)",
}
_UPSCALER_NAMES = tuple(info.name for info in UPSCALERS)

COMPOSITION = (
    Control("drag_mode", "radio", options=("fast", "quality"), modes=_DRAG),
    _slider("repair", 0, 1, 0.05, modes=_DRAG),
    _slider("strength", 0, 1, 0.01, modes=_REPAINTED),
    Control("only_masked", "check", modes=_INPAINT),
    _slider("padding_px", 0, 256, 4, modes=_INPAINT, needs="only_masked"),
    _slider("mask_blur_px", 0, 64, 1, modes=_INPAINT),
    Control("fill", "choice", options=_FILLS, modes=_INPAINT),
    Control("mask_inverted", "check", modes=_INPAINT),
    Control("soft", "check", modes=_INPAINT),
    _slider("soft_schedule_bias", 0, 8, 0.1, modes=_INPAINT, needs="soft"),
    _slider("soft_preservation", 0, 8, 0.05, modes=_INPAINT, needs="soft"),
    _slider("soft_contrast", 1, 32, 0.5, modes=_INPAINT, needs="soft"),
    _slider("soft_mask_influence", 0, 1, 0.05, modes=_INPAINT, needs="soft"),
    _slider("soft_difference_threshold", 0, 8, 0.25, modes=_INPAINT, needs="soft"),
    _slider("soft_difference_contrast", 0, 8, 0.25, modes=_INPAINT, needs="soft"),
    Control("left_px", "number", step=8, modes=_OUTPAINT, half=True),
    Control("right_px", "number", step=8, modes=_OUTPAINT, half=True),
    Control("top_px", "number", step=8, modes=_OUTPAINT, half=True),
    Control("bottom_px", "number", step=8, modes=_OUTPAINT, half=True),
    _slider("feather_px", 0, 128, 1, modes=_OUTPAINT),
    Control("outpaint_fill", "choice", options=_FILLS, modes=_OUTPAINT),
    Control("resize_mode", "choice", options=("stretch", "crop", "fill", "latent"), modes=_FITTED),
    Control("colour_correction", "check", modes=_FITTED),
)
MODEL = (
    Control("model", "choice"),
    Control("vae", "text"),
    Control("syntax", "choice", options=("a1111", "midjourney"), labels=("AUTOMATIC1111", "Midjourney")),
    Control("emphasis", "choice", options=("Original", "No norm", "Ignore", "None")),
    _slider("clip_skip", 1, 12, 1),
    Control("precision", "choice", options=tuple(_PRECISIONS), labels=tuple(_PRECISIONS.values())),
)
SAMPLING = (
    Control("sampler", "choice", options=("", *_SAMPLER_NAMES), labels=("", *_SAMPLER_NAMES)),
    Control("schedule", "choice", options=("", *_SCHEDULE_NAMES), labels=("", *_SCHEDULE_NAMES)),
    _slider("steps", 1, 150, 1),
    Control("paint_quality", "radio", options=tuple(QUALITIES)),
    _slider("cfg", 0, 30, 0.5),
    Control("distilled", "number", step=0.5, needs="distilled"),
    Control("seed", "text"),
    _slider("variation_strength", 0, 1, 0.01),
    Control("variation_seed", "text"),
    Control("noise", "choice", options=tuple(i.key for i in NOISE_SOURCES)),
    Control("eta", "number", step=0.1),
    _slider("rescale", 0, 1, 0.05),
    _slider("pag_scale", 0, 10, 0.5),
)
FINISH = (
    Control("hires", "check", modes=_PAINTED),
    _slider("hires_scale", 1, 4, 0.25, modes=_PAINTED, needs="hires"),
    Control(
        "hires_upscaler",
        "choice",
        options=tuple(info.key for info in UPSCALERS),
        labels=_UPSCALER_NAMES,
        modes=_PAINTED,
        needs="hires",
    ),
    _slider("hires_strength", 0, 1, 0.01, modes=_PAINTED, needs="hires"),
    Control("hires_steps", "number", step=1, modes=_PAINTED, needs="hires"),
    Control("hires_prompt", "text", modes=_PAINTED, needs="hires"),
    Control("format", "radio", options=("png", "jpeg", "webp"), labels=("PNG", "JPEG", "WebP")),
    _slider("quality", 1, 100, 1),
)
SECTIONS: dict[str, tuple[Control, ...]] = {
    "composition": COMPOSITION,
    "model": MODEL,
    "sampling": SAMPLING,
    "finish": FINISH,
}
CONTROLS: dict[str, Control] = {control.name: control for section in SECTIONS.values() for control in section}


WORDS = (
    "source_prompt",
    "as_painted",
    "technique",
    "inversion",
    "alignment",
    "weights",
    "cross_share",
    "self_share",
    "local",
    "local_threshold",
    "edit_threshold",
    "skip",
)
"""What the stage's JavaScript asks of a change of words."""
_ON_CARDS = frozenset({"mode", "image", "mask", "controls", "image_prompts", "image_mix", "regions", "region_engine"})
_COMPOSED = _ON_CARDS | {"points", "retouch_steps", *WORDS}


def section_of(name: str) -> str | None:
    """The fold that holds a control; None for what always shows.

    >>> section_of("steps"), section_of("controls.0.weight"), section_of("prompt")
    ('sampling', 'composition', None)
    """
    card = name.partition(".")[0]
    if card in _COMPOSED or card == "finish":
        return "finish" if card == "finish" else "composition"
    return next((key for key, controls in SECTIONS.items() if any(c.name == name for c in controls)), None)


RATIOS: dict[str, tuple[int, int]] = {
    "1:1": (1, 1),
    "3:4": (3, 4),
    "4:3": (4, 3),
    "9:16": (9, 16),
    "16:9": (16, 9),
}


def size_of_ratio(ratio: str, native_px: int) -> tuple[int, int]:
    """Width and height of about `native_px`² pixels in this ratio, in multiples of 16 px.

    >>> size_of_ratio("1:1", 512)
    (512, 512)
    >>> size_of_ratio("16:9", 128)
    (176, 96)
    """
    across, down = RATIOS[ratio]
    width = native_px * (across / down) ** 0.5
    height = native_px * (down / across) ** 0.5
    return max(64, round(width / 16) * 16), max(64, round(height / 16) * 16)


def fit_size(width_px: int, height_px: int, native_px: int) -> tuple[int, int]:
    """The size to paint a picture of this shape at: its own, unless it holds more pixels than the model likes.

    >>> fit_size(1024, 512, 512)
    (720, 368)
    >>> fit_size(100, 60, 128)
    (96, 64)
    """
    scale = min(1.0, (native_px**2 / (width_px * height_px)) ** 0.5)
    return max(64, round(width_px * scale / 16) * 16), max(64, round(height_px * scale / 16) * 16)


def label(find: Callable[[str], Any], name: str) -> str:
    """The label that a choice lists for any spelling of it; the spelling itself where it is unknown.

    Args:
        find: A registry's `find_…`.
        name: What stands in a Request or Plan; may be empty.
    """
    if not name:
        return ""
    try:
        return str(find(name).name)
    except InvalidRequestError:
        return name
