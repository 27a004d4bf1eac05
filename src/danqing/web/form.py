"""What stands in the form ↔ Request: pure functions.

A Form is flat: one value for each control of the Paint page, as the browser holds it. Fields of a Request that have no
control (a refiner, σ limits, …) travel in `Form.kept`, so that a Request read from a picture comes out whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from danqing.spec.drag import DragRequest, DragTuning
from danqing.spec.errors import InvalidRequestError
from danqing.spec.painting import SizeHints
from danqing.spec.request import Request, parse_request
from danqing.spec.shortcuts import Shortcuts

MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Form:
    """One value for each control; an empty text, `None` or -1 leaves the choice to the model."""

    mode: str = "txt2img"
    prompt: str = ""
    negative_prompt: str = ""
    styles: tuple[str, ...] = ()
    width_px: int | None = None
    height_px: int | None = None
    count: int | None = 1
    image: str = ""
    strength: float = 0.75
    resize_mode: str = "stretch"
    colour_correction: bool = False
    mask: str = ""
    mask_blur_px: int = 4
    mask_inverted: bool = False
    fill: str = "original"
    only_masked: bool = False
    padding_px: int = 32
    soft: bool = False
    soft_schedule_bias: float = 1.0
    soft_preservation: float = 0.5
    soft_contrast: float = 4.0
    soft_mask_influence: float = 0.0
    soft_difference_threshold: float = 0.5
    soft_difference_contrast: float = 2.0
    left_px: int | None = 0
    right_px: int | None = 0
    top_px: int | None = 0
    bottom_px: int | None = 0
    feather_px: int = 16
    outpaint_fill: str = "fill"
    model: str = ""
    vae: str = ""
    syntax: str = "a1111"
    emphasis: str = "Original"
    clip_skip: int = 1
    precision: str = "auto"
    sampler: str = ""
    schedule: str = ""
    steps: int | None = None
    paint_quality: str = "exact"
    cfg: float | None = None
    distilled: float | None = None
    rescale: float = 0.0
    pag_scale: float = 0.0
    eta: float | None = None
    seed: str = ""
    variation_strength: float = 0.0
    variation_seed: str = ""
    noise: str = "cpu"
    hires: bool = False
    hires_scale: float | None = 2.0
    hires_upscaler: str = "latent"
    hires_steps: int | None = None
    hires_strength: float = 0.6
    hires_prompt: str = ""
    format: str = "png"
    quality: int = 92
    controls: tuple[Mapping[str, Any], ...] = ()
    image_prompts: tuple[Mapping[str, Any], ...] = ()
    image_mix: str = "tokens"
    regions: tuple[Mapping[str, Any], ...] = ()
    region_engine: str = ""
    points: tuple[Mapping[str, Any], ...] = ()
    drag_mode: str = "fast"
    repair: float = 0.3
    source_prompt: str = ""
    as_painted: bool = True
    technique: str = "prompt_to_prompt"
    inversion: str = ""
    alignment: str = ""
    weights: tuple[Mapping[str, Any], ...] = ()
    cross_share: float | None = 0.4
    self_share: float | None = 0.6
    local: tuple[Mapping[str, Any], ...] = ()
    retouch_steps: tuple[Mapping[str, Any], ...] = ()
    finish: tuple[Mapping[str, Any], ...] = ()
    local_threshold: float | None = 0.3
    edit_threshold: float | None = 0.9
    skip: float | None = 0.15
    kept: Mapping[str, Any] = field(default_factory=dict[str, Any])


NAMES: tuple[str, ...] = tuple(f.name for f in fields(Form) if f.name != "kept")
_COMMON = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "styles": "styles",
    "width_px": "width_px",
    "height_px": "height_px",
    "count": "count",
    "model": "model",
    "vae": "vae",
    "syntax": "syntax",
    "emphasis": "emphasis",
    "clip_skip": "clip_skip",
    "precision": "precision",
    "sampler": "sampling.sampler",
    "schedule": "sampling.schedule",
    "steps": "sampling.steps",
    "paint_quality": "quality",
    "eta": "sampling.eta",
    "cfg": "guidance.scale",
    "distilled": "guidance.distilled",
    "rescale": "guidance.rescale",
    "pag_scale": "guidance.pag_scale",
    "seed": "seed",
    "noise": "noise",
    "format": "output.format",
    "quality": "output.quality",
    "controls": "controls",
    "image_prompts": "image_prompts",
    "image_mix": "image_mix",
    "regions": "regions",
    "region_engine": "region_engine",
    "finish": "finish",
}
_VARIATION = {"variation_strength": "variation.strength", "variation_seed": "variation.seed"}
_HIRES = {
    "hires_scale": "hires.scale",
    "hires_upscaler": "hires.upscaler",
    "hires_steps": "hires.steps",
    "hires_strength": "hires.strength",
    "hires_prompt": "hires.prompt",
}
_INIT = {name: name for name in ("image", "strength", "resize_mode", "colour_correction")}
_INPAINT = {
    "mask": "mask",
    "mask_blur_px": "mask_blur_px",
    "mask_inverted": "mask_inverted",
    "fill": "fill",
    "only_masked": "only_masked",
    "padding_px": "padding_px",
}
_SOFT = {
    "soft_schedule_bias": "soft.schedule_bias",
    "soft_preservation": "soft.preservation_strength",
    "soft_contrast": "soft.transition_contrast_boost",
    "soft_mask_influence": "soft.mask_influence",
    "soft_difference_threshold": "soft.difference_threshold",
    "soft_difference_contrast": "soft.difference_contrast",
}
_OUTPAINT = {
    "left_px": "margins.left_px",
    "right_px": "margins.right_px",
    "top_px": "margins.top_px",
    "bottom_px": "margins.bottom_px",
    "feather_px": "feather_px",
    "outpaint_fill": "fill",
}
_DRAG = {"points": "points", "mask": "mask", "drag_mode": "mode", "repair": "repair"}
_EDIT = ("source_prompt", "technique", "inversion", "alignment", "weights", "cross_share", "self_share", "local")
_WORDS = {name: name for name in ("image", *_EDIT, "local_threshold", "edit_threshold", "skip")}
_OF_THE_CHANGE = frozenset({*_WORDS, "prompt", "styles", "count", "finish", "format", "quality"})
"""What is asked of a change of words in any case; all else is the picture's own where `as_painted` says so."""
_KEPT: dict[str, Any] = {
    "seed_resize": None,
    "eta_noise_seed_delta": 0,
    "refiner": None,
    "image_adapter": None,
    "size_hints": SizeHints().model_dump(),
    "shortcuts": Shortcuts().model_dump(),
    "parent": None,
    "sampling.s_churn": 0.0,
    "sampling.s_tmin": 0.0,
    "sampling.s_tmax": None,
    "sampling.s_noise": 1.0,
    "sampling.sigma_min": None,
    "sampling.sigma_max": None,
    "sampling.rho": None,
    "guidance.threshold": None,
    "guidance.skip_early": 0.0,
    "guidance.s_min_uncond": 0.0,
}
_KEPT_INIT: dict[str, Any] = {"exact_steps": False, "initial_noise_multiplier": 1.0}
_KEPT_HIRES: dict[str, Any] = {
    "hires.width_px": None,
    "hires.height_px": None,
    "hires.negative_prompt": None,
    "hires.sampler": None,
    "hires.schedule": None,
    "hires.guidance_scale": None,
    "hires.model": None,
}
_KEPT_DRAG: dict[str, Any] = {
    "method": DragRequest.model_fields["method"].default,
    "radius_px": None,
    "mask_feather_px": 6,
    "tuning": DragTuning().model_dump(),
}
KEPT_PATHS = frozenset({*_KEPT, *_KEPT_INIT, *_KEPT_HIRES, *_KEPT_DRAG})
_EMPTY_IS_NONE = frozenset(
    {"model", "vae", "sampler", "schedule", "hires_prompt", "region_engine", "inversion", "alignment"}
)
_SEEDS = frozenset({"seed", "variation_seed"})
_MARGINS = frozenset({"left_px", "right_px", "top_px", "bottom_px"})


def to_request(form: Form) -> Request:
    """The Request this form asks for.

    Raises:
        InvalidRequestError: A value is not allowed; `field` is the Request's field (see `field_of`).
    """
    data: dict[str, Any] = {"kind": form.mode}
    for name, path in _paths(form).items():
        value = _outgoing(name, getattr(form, name))
        if (name in ("image", "mask") and not value) or _is_left(form, name):
            continue
        _put(data, path, value)
    for path, value in form.kept.items():
        if path in _kept_defaults(form.mode, hires=form.hires) and (path == "parent" or not _follows(form)):
            _put(data, path, value)
    return parse_request(data)


def from_request(request: Request) -> Form:
    """The form that asks for this Request.

    `to_request(from_request(r)) == r` for every Request whose optional texts are not empty and whose variation, if
    any, has a strength above 0 (both mean the same as leaving them out).
    """
    data: dict[str, Any] = request.model_dump()
    form = Form(mode=request.kind, hires=request.hires is not None, soft=data.get("soft") is not None)
    if data.get("variation") and data["variation"]["strength"] > 0:
        form = _replaced(form, {"variation_strength": data["variation"]["strength"]})
    values = {name: _incoming(name, _get(data, path)) for name, path in _paths(form).items()}
    kept: dict[str, Any] = {}
    for path, default in _kept_defaults(request.kind, hires=form.hires).items():
        value = _get(data, path)
        if value != default:
            kept[path] = value
    return _followed(_replaced(form, {**values, "kept": kept}))


def field_of(path: str | None) -> str | None:
    """The control that a Request field belongs to: `sampling.steps` → `steps`; None where there is none.

    >>> field_of("sampling.steps")
    'steps'
    >>> field_of("margins.left_px")
    'left_px'
    >>> field_of("refiner.model") is None
    True
    >>> field_of("controls.1.params.low_threshold"), field_of("regions.0.control.params.low")
    ('controls.1.params', 'regions.0.control.params')
    >>> field_of("regions.0.box.left_px"), field_of("points.3.to_x_px"), field_of("local.0.source")
    ('regions.0.box', 'points', 'local.0.source')
    """
    if not path:
        return None
    if path.startswith(("controls.", "image_prompts.", "regions.", "weights.", "local.", "finish.")):
        return ".".join(path.split(".")[: 4 if path.startswith("regions.") and ".control." in path else 3])
    if path.partition(".")[0] == "steps":
        return f"retouch_{'.'.join(path.split('.')[:3])}"
    if path.startswith("points."):
        return "points"
    every = {**_WORDS, **_DRAG, **_OUTPAINT, **_SOFT, **_INPAINT, **_INIT, **_HIRES, **_VARIATION, **_COMMON}
    named = {target: name for name, target in every.items()}
    named |= {"soft": "soft", "hires": "hires", "variation": "variation_strength", "kind": "mode", "margins": "left_px"}
    named |= {"image_adapter": "image_prompts"}
    named |= {"sampling": "sampler", "guidance": "cfg", "output": "format", "size": "width_px"}
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        name = named.get(".".join(parts[:length]))
        if name is not None:
            return name
    return parts[0] if parts[0] in NAMES else None


def _paths(form: Form) -> dict[str, str]:
    paths = dict(_COMMON)
    if form.variation_strength:
        paths |= _VARIATION
    if form.hires:
        paths |= _HIRES
    if form.mode == "words":
        return paths | _WORDS
    if form.mode != "txt2img":
        paths |= _INIT
    if form.mode == "inpaint":
        paths |= _INPAINT | (_SOFT if form.soft else {})
    if form.mode == "outpaint":
        paths |= _OUTPAINT
    if form.mode == "drag":
        paths |= _DRAG
    if form.mode == "retouch":
        paths["retouch_steps"] = "steps"
    return paths


def _kept_defaults(mode: str, *, hires: bool) -> dict[str, Any]:
    defaults = dict(_KEPT)
    if mode not in ("txt2img", "words"):
        defaults |= _KEPT_INIT
    if mode == "drag":
        defaults |= _KEPT_DRAG
    if hires:
        defaults |= _KEPT_HIRES
    return defaults


def _follows(form: Form) -> bool:
    """Whether model, size, seed and sampling are left to the picture whose words are changed."""
    return form.mode == "words" and form.as_painted and bool(form.image)


def _is_left(form: Form, name: str) -> bool:
    """Whether the picture decides about a field: words and pictures that a person added still go along."""
    if not _follows(form) or name in _OF_THE_CHANGE or name.startswith("hires"):
        return False
    return name not in ("negative_prompt", "controls", "image_prompts", "image_mix") or not getattr(form, name)


def _followed(form: Form) -> Form:
    """The form of a change of words that follows its picture where the Request says nothing else."""
    if form.mode != "words":
        return form
    names = [name for name in _paths(form) if _is_left(_replaced(form, {"as_painted": True}), name)]
    plain = all(getattr(form, name) in (getattr(Form(), name), None, "") for name in names)
    return _replaced(form, {"as_painted": plain and not set(form.kept) - {"parent"}})


def _outgoing(name: str, value: Any) -> Any:
    if name in _SEEDS:
        return _seed(name, value)
    if name in _EMPTY_IS_NONE:
        return value or None
    if name in _MARGINS:
        return 0 if value is None else value
    if name == "count":
        return 1 if value is None else value
    return value


def _incoming(name: str, value: Any) -> Any:
    if name in _SEEDS or name in _EMPTY_IS_NONE or name in ("image", "mask"):
        return "" if value is None else str(value)
    return value


def _seed(name: str, text: Any) -> int | None:
    """A seed as text, because a browser's numbers are exact only up to 2⁵³."""
    cleaned = str(text if text is not None else "").strip()
    if cleaned in ("", "-1"):
        return None
    if cleaned.isascii() and cleaned.isdigit() and int(cleaned) <= MAX_SEED:
        return int(cleaned)
    raise InvalidRequestError(
        "the seed is not a whole number in range",
        field=name if name == "seed" else "variation.seed",
        value=cleaned,
        allowed=f"0 … {MAX_SEED}",
        next_step="write a whole number, or leave it empty for a random one",
    )


def _replaced(form: Form, values: Mapping[str, Any]) -> Form:
    return Form(**{f.name: values.get(f.name, getattr(form, f.name)) for f in fields(Form)})


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
    data[last] = value


def _get(data: dict[str, Any], path: str) -> Any:
    value: Any = data
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(part)
    return value
