"""From a suggestion on a Record to Requests that carry it out, the most local first. No torch."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from danqing.spec.base import MIN_SIDE_PX
from danqing.spec.errors import DanqingError
from danqing.spec.geometry import BoxPx
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Img2ImgRequest, InpaintRequest, Txt2ImgRequest
from danqing.spec.record import Record
from danqing.spec.refine import RefineWay
from danqing.spec.region import MAX_REGIONS, Region
from danqing.spec.request import Request
from danqing.spec.review import Suggestion
from danqing.studio.reproduction import request_of_plan

EMPHASIS = 1.3
_LOCAL_SHARE = 0.6
"""Boxes larger than this share of the picture are no local change: the whole is painted again first."""
_CROP_SHARE = 0.3
_CROPPED_FROM_PX = 256
_FAULT_STRENGTH = 0.35
_COMMON = (
    "negative_prompt",
    "model",
    "vae",
    "seed",
    "noise",
    "sampling",
    "guidance",
    "clip_skip",
    "emphasis",
    "precision",
    "output",
)


@dataclass(frozen=True)
class Attempt:
    """One way to carry a suggestion out."""

    way: RefineWay
    request: Request


@dataclass(frozen=True)
class Easel:
    """What revising needs of a studio.

    Attributes:
        models: Every model that can be named.
        keep: Stores a picture and gives its reference.
    """

    models: Sequence[ModelInfo]
    keep: Callable[[bytes], str]


def attempts(record: Record, suggestion: Suggestion, brief: str, easel: Easel) -> list[Attempt]:
    """Requests that carry out a suggestion, each with the Record's seed and as its parent; the most local first.

    A Record painted from words can be painted again with regions or weighted words; any other only over its picture.
    """
    base = _request(record)
    prompt = base.prompt if base is not None and base.prompt else brief
    again = base if isinstance(base, Txt2ImgRequest) else None
    common = {} if base is None else {name: getattr(base, name) for name in _COMMON}
    over = _Over(record, suggestion, prompt, common, easel)
    box = suggestion.box
    if box is None:
        if suggestion.prompt == brief:  # a fault of the pixels: the same picture, cleaned
            return [over.img2img(_FAULT_STRENGTH)]
        whole = [] if again is None else [_emphasised(again, suggestion, record)]
        return [*whole, over.img2img(_strength(suggestion))]
    local = [over.inpaint(box)] if _fits(box, record) else []
    regional = [] if again is None else _regional(again, suggestion, box, record)
    whole = [] if again is None else [_emphasised(again, suggestion, record)]
    share = box.width_px * box.height_px / (record.width_px * record.height_px)
    return [*local, *regional, *whole] if share <= _LOCAL_SHARE else [*regional, *local, *whole]


def emphasise(prompt: str, words: str) -> str:
    """The prompt with these words weighted where they stand in it, else added at its end.

    >>> emphasise("red apple, 3d", "red apple"), emphasise("a cat", "a hat")
    ('(red apple:1.3), 3d', 'a cat, (a hat:1.3)')
    """
    weighted = f"({_flat(words)}:{EMPHASIS:g})"
    place = prompt.lower().find(words.lower())
    if place < 0 or len(prompt.lower()) != len(prompt):
        return f"{prompt}, {weighted}" if prompt.strip() else weighted
    depth = prompt.count("(", 0, place) - prompt.count(")", 0, place)
    if depth > 0:  # it is weighted already
        return f"{prompt}, {weighted}"
    return f"{prompt[:place]}{weighted}{prompt[place + len(words) :]}"


@dataclass(frozen=True)
class _Over:
    """Requests that paint over the Record's picture."""

    record: Record
    suggestion: Suggestion
    prompt: str
    common: dict[str, Any]
    easel: Easel

    def img2img(self, strength: float) -> Attempt:
        """The whole picture again over itself."""
        prompt = self.prompt
        if strength != _FAULT_STRENGTH:
            prompt = emphasise(prompt, self.suggestion.prompt)
        request = Img2ImgRequest(
            **self.common, prompt=prompt, image=f"record:{self.record.id}", strength=strength, parent=self.record.id
        )
        return Attempt("img2img", request)

    def inpaint(self, box: BoxPx) -> Attempt:
        """The box alone, by the model's inpainting sibling where there is one."""
        share = box.width_px * box.height_px / (self.record.width_px * self.record.height_px)
        cropped = share <= _CROP_SHARE and min(self.record.width_px, self.record.height_px) >= _CROPPED_FROM_PX
        request = InpaintRequest(
            **self.common | {"model": self._inpainting_model()},
            prompt=_words_for_place(self.prompt, self.suggestion),
            image=f"record:{self.record.id}",
            mask=self.easel.keep(mask_png(box, self.record.width_px, self.record.height_px)),
            strength=_strength(self.suggestion),
            only_masked=cropped,
            parent=self.record.id,
        )
        return Attempt("inpaint", request)

    def _inpainting_model(self) -> str | None:
        name = self.common.get("model")
        own = next((one for one in self.easel.models if one.name == name), None)
        if own is None or own.is_inpainting:
            return name
        siblings = [one.name for one in self.easel.models if one.is_inpainting and one.base_path == own.path]
        return siblings[0] if siblings else name


def mask_png(box: BoxPx, width_px: int, height_px: int) -> bytes:
    """A mask of this size, white inside the box."""
    mask = Image.new("L", (width_px, height_px), 0)
    ImageDraw.Draw(mask).rectangle((box.left_px, box.top_px, box.right_px - 1, box.bottom_px - 1), fill=255)
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def _request(record: Record) -> Request | None:
    """The Request of a Record's Plan; None for a kind that cannot be said as one."""
    try:
        return request_of_plan(record.plan)
    except (DanqingError, ValueError):
        return None


def _regional(base: Txt2ImgRequest, suggestion: Suggestion, box: BoxPx, record: Record) -> list[Attempt]:
    if len(base.regions) >= MAX_REGIONS:
        return []
    scale = (base.width_px or record.width_px) / record.width_px  # regions are drawn on the first pass
    place = BoxPx(
        left_px=int(box.left_px * scale),
        top_px=int(box.top_px * scale),
        right_px=max(int(box.left_px * scale) + 1, round(box.right_px * scale)),
        bottom_px=max(int(box.top_px * scale) + 1, round(box.bottom_px * scale)),
    )
    feather = min(24, max(2, min(place.width_px, place.height_px) // 8))
    region = Region(prompt=_words_for_place(base.prompt, suggestion), box=place, feather_px=feather)
    request = base.model_copy(update={"regions": (*base.regions, region), "parent": record.id, "count": 1})
    return [Attempt("regions", request)]


def _emphasised(base: Txt2ImgRequest, suggestion: Suggestion, record: Record) -> Attempt:
    prompt = emphasise(base.prompt, suggestion.prompt)
    return Attempt("emphasis", base.model_copy(update={"prompt": prompt, "parent": record.id, "count": 1}))


def _words_for_place(prompt: str, suggestion: Suggestion) -> str:
    """The words of a place: a suggestion that repeats a part of the brief keeps the rest of it (style, ground)."""
    words = suggestion.prompt
    if words.lower() in prompt.lower():
        return emphasise(prompt, words)
    return words


def _fits(box: BoxPx, record: Record) -> bool:
    return min(record.width_px, record.height_px) >= MIN_SIDE_PX and min(box.width_px, box.height_px) >= 4


def _strength(suggestion: Suggestion) -> float:
    """Denoising strength of a change: 0.5 for a slight one, 0.9 for the strongest."""
    return round(0.5 + 0.4 * suggestion.strength, 3)


def _flat(words: str) -> str:
    """Words without signs that would end a weight."""
    return re.sub(r"[()\[\]:]", " ", words).strip()
