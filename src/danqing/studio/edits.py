"""From a suggestion to the Request that carries it out: an inpainting of its place, or the whole picture again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.plan import Plan
from danqing.spec.record import Record
from danqing.spec.request import Request, parse_request
from danqing.spec.review import Said
from danqing.studio.reproduction import request_of_plan
from danqing.studio.wording import joined, wish_of

WHOLE_SHARE = 0.9
"""A place that covers so much of the picture is the whole picture."""
SMALL_SHARE = 0.25
"""A place that covers less is cropped, painted at full size and pasted back."""
REMOVAL_STRENGTH = 0.9
"""To make something go, little of it may be left to start from."""
_SMOOTH = 4  # a polygon is drawn so many times larger, then made smaller: edges without stairs
_KEPT = (
    "negative_prompt",
    "emphasis",
    "clip_skip",
    "model",
    "vae",
    "noise",
    "eta_noise_seed_delta",
    "sampling",
    "guidance",
    "size_hints",
    "precision",
    "output",
)
_OF_WHOLE = ("image_prompts", "image_mix", "image_adapter")
_SUB_PLANS = ("init", "mask", "outpaint", "drag", "words", "retouch")


@dataclass(frozen=True)
class Place:
    """Where a suggestion is, in the pixels of its picture.

    Args:
        bounds: (left, top, right, bottom), half open.
        corners: Of the polygon, if it is one.
        share: Of the picture's area that its bounds cover, 0 … 1.
    """

    bounds: tuple[int, int, int, int]
    corners: tuple[tuple[int, int], ...] | None
    share: float

    @property
    def feather_px(self) -> float:
        """Radius of the soft edge: a twelfth of the shorter side, 1 to 24 px."""
        left, top, right, bottom = self.bounds
        return min(24.0, max(1.0, min(right - left, bottom - top) / 12.0))


def fitted(said: Said, width_px: int, height_px: int) -> Said:
    """The suggestion with its box and lasso inside the picture.

    Raises:
        InvalidRequestError: It lies outside altogether.
    """
    bounds = said.bounds
    if bounds is None:
        return said
    if bounds[0] >= width_px or bounds[1] >= height_px:
        raise InvalidRequestError(
            "this place lies outside the picture",
            field="suggestions",
            value=bounds,
            allowed=f"within {width_px}×{height_px} px",
            next_step="draw it on the picture; coordinates are pixels of the full picture, not of the screen",
        )
    changes: dict[str, Any] = {}
    if said.box is not None:
        box = said.box
        changes["box"] = (
            BoxPx(
                left_px=box.left_px,
                top_px=box.top_px,
                right_px=min(box.right_px, width_px),
                bottom_px=min(box.bottom_px, height_px),
            )
            if box.left_px < width_px and box.top_px < height_px
            else None
        )
    if said.lasso is not None:
        changes["lasso"] = tuple((min(x, width_px - 1), min(y, height_px - 1)) for x, y in said.lasso)
    return said.model_copy(update=changes)


def place_of(said: Said, width_px: int, height_px: int) -> Place | None:
    """Where it is; None for the whole picture."""
    bounds = said.bounds
    if bounds is None:
        return None
    left, top, right, bottom = bounds[0], bounds[1], min(bounds[2], width_px), min(bounds[3], height_px)
    share = (right - left) * (bottom - top) / (width_px * height_px)
    if share >= WHOLE_SHARE and said.lasso is None:
        return None
    return Place((left, top, right, bottom), said.lasso, share)


def mask_png(place: Place, width_px: int, height_px: int) -> bytes:
    """The place in white on black, "L", the size of the picture, with a soft edge."""
    if place.corners is None:
        mask = Image.new("L", (width_px, height_px), 0)
        mask.paste(255, place.bounds)
    else:
        large = Image.new("1", (width_px * _SMOOTH, height_px * _SMOOTH), 0)
        corners = [((x + 0.5) * _SMOOTH, (y + 0.5) * _SMOOTH) for x, y in place.corners]
        ImageDraw.Draw(large).polygon(corners, fill=1, outline=1, width=_SMOOTH)
        mask = large.convert("L").resize((width_px, height_px), Image.Resampling.BOX)
    soft = mask.filter(ImageFilter.GaussianBlur(place.feather_px / 2))
    buffer = io.BytesIO()
    soft.save(buffer, "PNG")
    return buffer.getvalue()


def edit_request(record: Record, said: Said, place: Place | None, mask: str | None) -> Request:
    """The Request that carries a suggestion out.

    Args:
        record: The picture it is about.
        said: What was drawn and said.
        place: Where; None for the whole picture.
        mask: Reference of the mask, where there is a place.

    Raises:
        InvalidRequestError: The picture is too small or too large to paint on.
    """
    _check_size(record)
    base = _base_of(record.plan)
    wish = wish_of(said.prompt)
    data: dict[str, Any] = {key: base[key] for key in _KEPT if key in base}
    data |= {
        "prompt": joined(wish.seen, base["prompt"], whole=place is None),
        "image": f"record:{record.id}",
        "parent": record.id,
        "strength": said.strength if wish.seen or not wish.gone else max(said.strength, REMOVAL_STRENGTH),
    }
    if wish.gone:
        data["negative_prompt"] = ", ".join(filter(None, (wish.gone, base["negative_prompt"])))
    if place is None:
        data |= {key: base[key] for key in _OF_WHOLE if key in base}
        return parse_request({**data, "kind": "img2img"})
    left, top, right, bottom = place.bounds
    small = place.share < SMALL_SHARE
    data |= {
        "kind": "inpaint",
        "mask": mask,
        "mask_blur_px": 0,  # its edge is soft already
        "fill": "fill" if wish.gone and not wish.seen else "original",
        "only_masked": small,
        "padding_px": min(512, max(8, round(max(right - left, bottom - top) / 3))),
    }
    return parse_request(data)


def changed_request(request: Request, changes: dict[str, Any]) -> Request:
    """The Request with a person's changes on top.

    Raises:
        InvalidRequestError: The first thing wrong with them.
    """
    data = request.model_dump(mode="json", exclude_defaults=True) | {"kind": request.kind}
    kind = changes.get("kind", request.kind)
    if kind != request.kind:  # what only the first kind has would be refused
        known = set(Txt2ImgRequest.model_fields) | ({"image", "strength"} if kind != "txt2img" else set())
        data = {key: value for key, value in data.items() if key in known}
    return parse_request(_merged(data, changes))


def _merged(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(data)
    for key, value in changes.items():
        there = merged.get(key)
        merged[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return merged


def _base_of(plan: Plan) -> dict[str, Any]:
    """The Request of a Plan as if it had been painted from words alone: model, sampler, words, numbers."""
    gone = {name: None for name in _SUB_PLANS if name in Plan.model_fields}
    bare = plan.model_copy(update={**gone, "kind": "txt2img", "controls": (), "regions": ()})
    first = bare.base.model_copy(update={"regions": ()})
    bare = bare.model_copy(update={"passes": (first,)})
    return request_of_plan(bare).model_dump(mode="json")


def _check_size(record: Record) -> None:
    sides = (record.width_px, record.height_px)
    if min(sides) < MIN_SIDE_PX or max(sides) > MAX_SIDE_PX:
        raise InvalidRequestError(
            "this picture cannot be painted on at its size",
            field="record",
            value=f"{record.width_px}×{record.height_px} px",
            allowed=f"sides from {MIN_SIDE_PX} to {MAX_SIDE_PX} px",
            next_step="apply the suggestion to a version of another size",
        )
