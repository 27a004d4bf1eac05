"""What each Midjourney flag means here: an effect, or a reason why it is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from danqing.spec.errors import PromptSyntaxError


@dataclass(frozen=True, slots=True)
class Effects:
    """What the flags ask for, in neutral terms; None where a flag was not given.

    Attributes:
        negative: Things to avoid (`--no`), as a negative prompt.
        aspect: Width to height (`--ar`).
        width_px: Picture width (`--width`, versions 1 and 2).
        height_px: Picture height (`--height`).
        seed: Seed of the noise (`--seed`).
        guidance_factor: Factor on the model's own guidance scale (`--stylize`): below 1 leaves the model more freedom.
        steps_factor: Factor on the number of steps (`--quality`, `--draft`).
        image_weight: Weight of the image prompts beside the text (`--iw`), 0 to 3; 1 is even.
        tile: Whether the picture's borders must match (`--tile`).
        stop_fraction: Share of the steps after which painting stops (`--stop`).
        repeat: How often the prompt is painted (`--repeat`).
    """

    negative: str = ""
    aspect: tuple[int, int] | None = None
    width_px: int | None = None
    height_px: int | None = None
    seed: int | None = None
    guidance_factor: float | None = None
    steps_factor: float | None = None
    image_weight: float | None = None
    tile: bool = False
    stop_fraction: float | None = None
    repeat: int | None = None


Answer: TypeAlias = tuple[Effects, str | None]
Reader: TypeAlias = Callable[[str, str, Effects], Answer]

MAX_ASPECT: Final = 16


def read_flag(name: str, value: str, effects: Effects) -> Answer:
    """The effects with one known flag added, and the reason if it is refused.

    Raises:
        PromptSyntaxError: The value is malformed or out of range.
    """
    return FLAGS[name](name, value, effects)


def size_for_aspect(aspect: tuple[int, int], native_px: int, multiple_px: int = 8) -> tuple[int, int]:
    """Width and height in pixels of about `native_px`² pixels with an aspect ratio.

    >>> size_for_aspect((3, 2), 512)
    (624, 416)
    """
    width, height = aspect
    scale = math.sqrt(native_px * native_px / (width * height))
    sides = (max(multiple_px, round(side * scale / multiple_px) * multiple_px) for side in (width, height))
    return next(sides), next(sides)


def guidance_factor(stylize: float) -> float:
    """Danqing's reading of `--stylize` 0 to 1000: 1.25 at 0 (literal), 1 at the default 100, 0.6 at 1000 (free)."""
    if stylize <= 100:
        return round(1.25 - 0.25 * stylize / 100, 4)
    return round(1 - 0.4 * (stylize - 100) / 900, 4)


def _bad(name: str, value: str, allowed: str) -> PromptSyntaxError:
    return PromptSyntaxError(
        f"--{name} has a value that it does not take",
        field="prompt",
        value=value,
        allowed=allowed,
        next_step=f"correct the value of --{name}, keep the prompt's text before the flags, or remove the flag",
    )


def _number(name: str, value: str, low: float, high: float) -> float:
    if not re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)", value, re.ASCII) or not low <= float(value) <= high:
        raise _bad(name, value, f"a number from {low:g} to {high:g}")
    return float(value)


def _whole(name: str, value: str, low: int, high: int) -> int:
    if not re.fullmatch(r"\d{1,20}", value, re.ASCII) or not low <= int(value) <= high:
        raise _bad(name, value, f"a whole number from {low} to {high}")
    return int(value)


def _no_value(name: str, value: str) -> None:
    if value:
        raise _bad(name, value, "no value")


def _aspect(name: str, value: str, effects: Effects) -> Answer:
    found = re.fullmatch(r"(\d{1,5})\s*[:/x]\s*(\d{1,5})", value, re.ASCII)
    if found is None or not int(found[1]) or not int(found[2]):
        raise _bad(name, value, "two whole numbers, as in 3:2")
    width, height = int(found[1]), int(found[2])
    if not 1 / MAX_ASPECT <= width / height <= MAX_ASPECT:
        raise _bad(name, value, f"a ratio between 1:{MAX_ASPECT} and {MAX_ASPECT}:1")
    return replace(effects, aspect=(width, height)), None


def _negative(name: str, value: str, effects: Effects) -> Answer:
    if not value:
        raise _bad(name, value, "what to avoid, as in --no cars, people")
    return replace(effects, negative=", ".join(filter(None, (effects.negative, value)))), None


def _quality(name: str, value: str, effects: Effects) -> Answer:
    factor = _number(name, value, 0, 4)
    if factor not in (0.25, 0.5, 1, 2, 4):
        raise _bad(name, value, ".25, .5, 1, 2 or 4")
    return replace(effects, steps_factor=factor), None


def _draft(name: str, value: str, effects: Effects) -> Answer:
    _no_value(name, value)
    return replace(effects, steps_factor=0.5), None


def _tile(name: str, value: str, effects: Effects) -> Answer:
    _no_value(name, value)
    return replace(effects, tile=True), None


def _raw(name: str, value: str, effects: Effects) -> Answer:
    _no_value(name, value)
    # Danqing adds no house style of its own, so every picture is raw already.
    return effects, None


def _style(name: str, value: str, effects: Effects) -> Answer:
    if value.lower() == "raw":
        return _raw(name, "", effects)
    if not re.fullmatch(r"[\w-]+", value):
        raise _bad(name, value, "one word, such as raw")
    return effects, "this is a style of Midjourney's own models; describe the style in words"


def _version(name: str, value: str, effects: Effects) -> Answer:
    if not re.fullmatch(r"\d(?:\.\d+)?(?: (?:alpha|beta|raw))?", value, re.ASCII):
        raise _bad(name, value, "a version number such as 6.1")
    return effects, "Midjourney's models are not available; choose a model with the model field"


def _niji(name: str, value: str, effects: Effects) -> Answer:
    if value and not re.fullmatch(r"\d(?:\.\d+)?", value, re.ASCII):
        raise _bad(name, value, "a version number such as 6, or nothing")
    return effects, "Midjourney's anime models are not available; choose an anime model with the model field"


def _whole_field(field: str, low: int, high: int) -> Reader:
    def read(name: str, value: str, effects: Effects) -> Answer:
        changes: dict[str, Any] = {field: _whole(name, value, low, high)}
        return replace(effects, **changes), None

    return read


def _number_field(field: str, low: float, high: float, convert: Callable[[float], float] = float) -> Reader:
    def read(name: str, value: str, effects: Effects) -> Answer:
        changes: dict[str, Any] = {field: convert(_number(name, value, low, high))}
        return replace(effects, **changes), None

    return read


def _refused_number(low: float, high: float, reason: str) -> Reader:
    def read(name: str, value: str, effects: Effects) -> Answer:
        _number(name, value, low, high)
        return effects, reason

    return read


def _refused(reason: str) -> Reader:
    return lambda _name, _value, effects: (effects, reason)


_NO_REFERENCE = "reference pictures by flag need an image-prompt adapter; put the picture before the text instead"
_NO_REFERENCE_WEIGHT = "there is no reference picture for it to weigh"
_NO_PROFILE = "Midjourney's personal profiles are not available; describe the style in words"
_NO_SPEED = "there are no paid speeds here; every picture is painted as fast as the machine can"
_NO_VIDEO = "this prompt paints pictures, not videos"
_NO_UPSCALER = "Midjourney's upscalers are not available; use the hires pass"
_PUBLIC = "pictures stay on this machine; nothing is published"
_OLD = "this switch belongs to a retired Midjourney model"
_CHAOS = "every picture has its own seed already; for more variety use a variation strength or {a, b} permutations"
_WEIRD = "open models have no such control; describe what should be strange"

FLAGS: Final[Mapping[str, Reader]] = {
    **dict.fromkeys(("ar", "aspect"), _aspect),
    **dict.fromkeys(("q", "quality"), _quality),
    **dict.fromkeys(("v", "version"), _version),
    **dict.fromkeys(("s", "stylize"), _number_field("guidance_factor", 0, 1000, guidance_factor)),
    **dict.fromkeys(("c", "chaos"), _refused_number(0, 100, _CHAOS)),
    **dict.fromkeys(("width",), _whole_field("width_px", 64, 4096)),
    **dict.fromkeys(("h", "height"), _whole_field("height_px", 64, 4096)),
    **dict.fromkeys(("r", "repeat"), _whole_field("repeat", 1, 40)),
    **dict.fromkeys(("w", "weird"), _refused_number(0, 3000, _WEIRD)),
    **dict.fromkeys(("sref", "cref", "oref"), _refused(_NO_REFERENCE)),
    **dict.fromkeys(("sw", "cw", "ow", "sv"), _refused_number(0, 1000, _NO_REFERENCE_WEIGHT)),
    **dict.fromkeys(("p", "profile", "personalize"), _refused(_NO_PROFILE)),
    **dict.fromkeys(("fast", "relax", "turbo"), _refused(_NO_SPEED)),
    **dict.fromkeys(("video", "motion", "loop", "end", "bs"), _refused(_NO_VIDEO)),
    **dict.fromkeys(("upbeta", "uplight", "upanime", "hd"), _refused(_NO_UPSCALER)),
    **dict.fromkeys(("stealth", "public"), _refused(_PUBLIC)),
    **dict.fromkeys(("test", "testp", "creative", "beta", "sameseed", "vibe", "exp"), _refused(_OLD)),
    "no": _negative,
    "seed": _whole_field("seed", 0, 2**32 - 1),
    "iw": _number_field("image_weight", 0, 3),
    "stop": _number_field("stop_fraction", 10, 100, lambda percent: percent / 100),
    "tile": _tile,
    "draft": _draft,
    "raw": _raw,
    "style": _style,
    "niji": _niji,
}
"""Flag → reader. A reader returns the changed effects and, if the flag is refused, why."""
