"""Errors of a Request in the words of the command line."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

from danqing.spec.errors import DanqingError

OPTION_OF_FIELD = {
    "prompt": "BRIEF",
    "negative_prompt": "--negative",
    "styles": "--style",
    "width_px": "--width or --size",
    "height_px": "--height or --size",
    "schedule": "--scheduler",
    "guidance.scale": "--cfg",
    "guidance.rescale": "--cfg-rescale",
    "hires.scale": "--hires",
    "hires.upscaler": "--hires-upscaler",
    "hires.steps": "--hires-steps",
    "hires.strength": "--hires-strength",
    "variation.seed": "--variation-seed",
    "variation.strength": "--variation-strength",
    "image": "--init",
    "resize_mode": "--resize",
    "mask_blur_px": "--mask-blur",
    "padding_px": "--padding",
    "feather_px": "--feather",
    "output.format": "--format",
    "clip_skip": "--clip-skip",
    "shortcuts": "--shortcuts",
    "margins": "--expand",
    "finish": "--finish",
    "controls": "--control",
    "regions": "--region",
    "region_engine": "--region-engine",
    "image_prompts": "--image-prompt",
    "image_mix": "--image-mix",
    "image_adapter": "--image-adapter",
    "project": "--project",
    "x": "--x",
    "y": "--y",
    "z": "--z",
    "request.count": "--count",
}
_SAME_NAME = frozenset({"model", "vae", "syntax", "count", "seed", "noise", "strength", "mask", "fill", "quality"})


def in_option_words() -> AbstractContextManager[None]:
    """Name the option instead of the Request's field in errors raised inside."""
    return naming(option_of)


@contextmanager
def naming(option: Callable[[str], str]) -> Generator[None, None, None]:
    """In it, fields of errors are named by `option`; what is an option already stays as it is."""
    try:
        yield
    except DanqingError as error:
        if error.field is not None:
            error.field = option(error.field) or None
        raise


def option_of(field: str) -> str:
    """The option that sets a field of the Request.

    >>> option_of("sampling.steps"), option_of("width_px"), option_of("margins.left_px")
    ('--steps', '--width or --size', '--expand')
    """
    if field.startswith("--"):
        return field
    if field.startswith("finish."):
        _, place, *name = field.split(".")
        inside = ".".join(part for part in name if part != "tiled")
        return f"--finish (step {int(place) + 1}){': ' if inside else ''}{inside}" if place.isdecimal() else "--finish"
    short = field.removeprefix("sampling.")
    if short in _SAME_NAME or short in {"sampler", "steps", "eta"}:
        return f"--{short}"
    for name, option in OPTION_OF_FIELD.items():
        if short == name or short.startswith(f"{name}."):
            return option
    return field
