"""The keys of an infotext and the Request fields they stand for.

Keys are A1111's own where it or one of its well-known extensions has one; other readers ignore the rest, our own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, cast

from danqing.spec.base import Data
from danqing.spec.drag import DragTuning
from danqing.spec.errors import InvalidRequestError
from danqing.spec.painting import SizeHints
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule
from danqing.spec.registry.upscalers import find_upscaler
from danqing.spec.retouch_steps import RetouchStep


@dataclass(frozen=True, slots=True)
class Entry:
    """One key.

    Attributes:
        key: The key in the infotext.
        path: The Request field, as a path of names.
        write: Field value → text.
        read: Text → field value; raises ValueError on nonsense.
        always: Whether it is written even where the field has its default.
    """

    key: str
    path: tuple[str, ...]
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    always: bool = False


def number(value: float) -> str:
    """A number as A1111 writes it: no `.0`, otherwise every digit.

    >>> number(7.0), number(0.55)
    ('7', '0.55')
    """
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)


def _text(value: str) -> str:
    return value


def _bool(text: str) -> bool:
    if text.casefold() not in {"true", "false"}:
        raise ValueError(text)
    return text.casefold() == "true"


def _percent(value: float) -> str:
    return f"{(Decimal(repr(value)) * 100).normalize():f}"


def _from_percent(text: str) -> float:
    try:
        return float(Decimal(text) / 100)
    except InvalidOperation as error:
        raise ValueError(text) from error


def label(find: Callable[[str], Any], name: str) -> str:
    """The label of a registry entry; a name that is in no registry, such as an upscaler's file, stays as it is."""
    try:
        return str(find(name).name)
    except InvalidRequestError:
        return name


def _choice(labels: dict[str, str]) -> tuple[Callable[[str], str], Callable[[str], str]]:
    values = {label.casefold(): value for value, label in labels.items()}

    def read(text: str) -> str:
        if text.casefold() not in values:
            raise ValueError(text)
        return values[text.casefold()]

    return labels.__getitem__, read


def _toggle(off: str, on: str) -> tuple[Callable[[bool], str], Callable[[str], bool]]:
    return lambda value: on if value else off, lambda text: text.casefold() == on.casefold()


def _names(values: Sequence[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _from_names(text: str) -> tuple[str, ...]:
    if not text.startswith("["):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    names: Any = json.loads(text)
    return tuple(str(name) for name in cast("list[Any]", names))


def _size_hints(hints: SizeHints) -> str:
    return json.dumps(hints.model_dump(exclude_defaults=True))


def _from_size_hints(text: str) -> dict[str, Any]:
    return SizeHints.model_validate_json(text).model_dump(exclude_defaults=True)


def _tuning(tuning: DragTuning) -> str:
    return json.dumps(tuning.model_dump(exclude_defaults=True))


def _from_tuning(text: str) -> dict[str, Any]:
    return DragTuning.model_validate_json(text).model_dump(exclude_defaults=True)


def _steps(steps: Sequence[RetouchStep]) -> str:
    told = [{"kind": step.kind, **step.model_dump(exclude_defaults=True)} for step in steps]
    return json.dumps(told, ensure_ascii=False)


def _window(window: tuple[float, float]) -> str:
    return " to ".join(map(number, window))


def _from_window(text: str) -> tuple[float, ...]:
    return tuple(float(share) for share in text.split(" to "))


def _items(items: Sequence[Data]) -> str:
    return json.dumps([item.model_dump(exclude_defaults=True) for item in items], ensure_ascii=False)


def _from_items(text: str) -> list[dict[str, Any]]:
    items: Any = json.loads(text)
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in cast("list[Any]", items)):
        raise ValueError(text)
    return cast("list[dict[str, Any]]", items)


_RESIZE = _choice(
    {
        "stretch": "Just resize",
        "crop": "Crop and resize",
        "fill": "Resize and fill",
        "latent": "Just resize (latent upscale)",
    }
)
_FILL = _choice(
    {
        "original": "original",
        "fill": "fill",
        "latent_noise": "latent noise",
        "latent_nothing": "latent nothing",
    }
)
_NOISE = _choice({"cpu": "CPU", "gpu": "GPU", "nv": "NV"})
_AREA = _toggle("Whole picture", "Only masked")
_MASK_MODE = _toggle("Inpaint masked", "Inpaint not masked")


def _number(key: str, *path: str) -> Entry:
    return Entry(key, path, number, float)


def _whole(key: str, *path: str) -> Entry:
    return Entry(key, path, str, int)


def _word(key: str, *path: str) -> Entry:
    return Entry(key, path, _text, _text)


def _flag(key: str, *path: str) -> Entry:
    return Entry(key, path, str, _bool)


_SOFT: Final = tuple(
    _number(f"Soft inpainting {name.replace('_', ' ')}", "soft", name)
    for name in (
        "schedule_bias",
        "preservation_strength",
        "transition_contrast_boost",
        "mask_influence",
        "difference_threshold",
        "difference_contrast",
    )
)

ENTRIES: Final[tuple[Entry, ...]] = (
    _whole("Steps", "sampling", "steps"),
    Entry("Sampler", ("sampling", "sampler"), partial(label, find_sampler), _text),
    Entry("Schedule type", ("sampling", "schedule"), partial(label, find_schedule), _text),
    _number("CFG scale", "guidance", "scale"),
    _whole("Seed", "seed"),
    _word("Model", "model"),
    _word("VAE", "vae"),
    _whole("Variation seed", "variation", "seed"),
    _number("Variation seed strength", "variation", "strength"),
    Entry("Denoising strength", ("strength",), number, float, always=True),
    _whole("Clip skip", "clip_skip"),
    _whole("ENSD", "eta_noise_seed_delta"),
    Entry("RNG", ("noise",), *_NOISE, always=True),
    Entry("Emphasis", ("emphasis",), _text, _text, always=True),
    _number("Eta", "sampling", "eta"),
    _number("Sigma churn", "sampling", "s_churn"),
    _number("Sigma tmin", "sampling", "s_tmin"),
    _number("Sigma tmax", "sampling", "s_tmax"),
    _number("Sigma noise", "sampling", "s_noise"),
    _number("Schedule max sigma", "sampling", "sigma_max"),
    _number("Schedule min sigma", "sampling", "sigma_min"),
    _number("Schedule rho", "sampling", "rho"),
    _number("Distilled CFG Scale", "guidance", "distilled"),
    _number("CFG Rescale", "guidance", "rescale"),
    Entry("Mimic scale", ("guidance", "threshold", "mimic_scale"), number, float, always=True),
    Entry("Threshold percentile", ("guidance", "threshold", "percentile"), _percent, _from_percent),
    _number("PAG Scale", "guidance", "pag_scale"),
    _number("Skip Early CFG", "guidance", "skip_early"),
    _number("NGMS", "guidance", "s_min_uncond"),
    Entry("Hires upscale", ("hires", "scale"), number, float, always=True),
    Entry("Hires upscaler", ("hires", "upscaler"), partial(label, find_upscaler), _text, always=True),
    _whole("Hires steps", "hires", "steps"),
    Entry("Hires denoising strength", ("hires", "strength"), number, float, always=True),
    _word("Hires prompt", "hires", "prompt"),
    _word("Hires negative prompt", "hires", "negative_prompt"),
    Entry("Hires sampler", ("hires", "sampler"), partial(label, find_sampler), _text),
    Entry("Hires schedule type", ("hires", "schedule"), partial(label, find_schedule), _text),
    _number("Hires CFG Scale", "hires", "guidance_scale"),
    _word("Hires checkpoint", "hires", "model"),
    Entry("Refiner", ("refiner", "model"), _text, _text, always=True),
    Entry("Refiner switch at", ("refiner", "switch_at"), number, float, always=True),
    _word("Init image", "image"),
    Entry("Resize mode", ("resize_mode",), *_RESIZE),
    _flag("Exact steps", "exact_steps"),
    _number("Noise multiplier", "initial_noise_multiplier"),
    _flag("Color correction", "colour_correction"),
    _word("Mask", "mask"),
    _whole("Mask blur", "mask_blur_px"),
    Entry("Mask mode", ("mask_inverted",), *_MASK_MODE),
    Entry("Masked content", ("fill",), *_FILL, always=True),
    Entry("Inpaint area", ("only_masked",), *_AREA),
    _whole("Masked area padding", "padding_px"),
    *_SOFT,
    *(
        Entry(f"Outpaint {side}", ("margins", f"{side}_px"), str, int, always=True)
        for side in ("left", "right", "top", "bottom")
    ),
    _whole("Outpaint feather", "feather_px"),
    Entry("Drag points", ("points",), _items, _from_items),
    Entry("Drag mode", ("mode",), _text, _text, always=True),
    _word("Drag method", "method"),
    _number("Drag repair", "repair"),
    _whole("Drag radius", "radius_px"),
    _whole("Drag feather", "mask_feather_px"),
    Entry("Drag tuning", ("tuning",), _tuning, _from_tuning),
    Entry("Retouch", ("steps",), _steps, _from_items),
    Entry("Finish", ("finish",), _steps, _from_items),
    Entry("Image prompts", ("image_prompts",), _items, _from_items),
    Entry("Regions", ("regions",), _items, _from_items),
    _word("Region engine", "region_engine"),
    _word("Image mix", "image_mix"),
    Entry("Size hints", ("size_hints",), _size_hints, _from_size_hints),
    _word("Image adapter", "image_adapter"),
    Entry("Source prompt", ("source_prompt",), _text, _text, always=True),
    _word("Words technique", "technique"),
    _word("Inversion", "inversion"),
    _word("Words alignment", "alignment"),
    Entry("Word weights", ("weights",), _items, _from_items),
    _number("Cross share", "cross_share"),
    _number("Self share", "self_share"),
    Entry("Local words", ("local",), _items, _from_items),
    _number("Local threshold", "local_threshold"),
    _number("Edit threshold", "edit_threshold"),
    _number("Skip", "skip"),
    Entry("Styles", ("styles",), _names, _from_names),
    _word("Prompt syntax", "syntax"),
    _whole("Batch count", "count"),
    _word("Precision", "precision"),
    _word("Quality", "quality"),
    _whole("Cache interval", "shortcuts", "cache_interval"),
    _whole("Cache branch", "shortcuts", "cache_branch"),
    Entry("Guidance window", ("shortcuts", "guidance_window"), _window, _from_window),
    _number("Token merging ratio", "shortcuts", "token_merging"),
    _word("Output format", "output", "format"),
    _whole("Output quality", "output", "quality"),
    _word("Parent", "parent"),
)
"""In the order they are written. Sizes are written by `danqing.prompt.infotext`, for they are two fields in one key."""
