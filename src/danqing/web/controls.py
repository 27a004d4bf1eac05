"""What the cards of the form offer: kinds of control map, the ControlNet for each, whether pictures can be prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from danqing.planning.controls import check_fits
from danqing.planning.image_prompts import misfits
from danqing.spec.control import is_inpaint_annotator
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.model import ControlNetInfo, ModelInfo
from danqing.spec.registry.annotator_types import AnnotatorInfo, ParameterInfo
from danqing.spec.registry.annotators import LEARNED, find_annotator
from danqing.studio.annotating import is_ready

if TYPE_CHECKING:
    from danqing.studio.service import Studio

MAX_UNITS = 3
KINDS: dict[str, tuple[str, ...]] = {
    "line": ("canny", "lineart_xdog", "softedge_dog", "scribble_canny", "draw_sketch", "mlsd_lsd"),
    "block": ("seg_superpixels", "depth_relief", "normal_relief"),
    "pose": ("draw_pose",),
    "detail": ("tile_resample",),
    "own": ("none",),
}
"""Group → annotators named in the page's languages (`c.kind.<key>`); installed networks follow in their group."""
DRAWN: dict[str, tuple[str, str]] = {"draw_pose": ("pose", "openpose"), "draw_sketch": ("sketch", "scribble_canny")}
"""Kinds whose map a person draws on the page → what is drawn, and the annotator whose ControlNet reads it."""
_STEPS = 200


def offers(studio: Studio, model: ModelInfo) -> dict[str, Any]:
    """What the cards can choose from for a base model.

    Returns:
        `kinds`: key, group, name (None: it has words of its own), the annotator of its units, the ControlNet that
        suits it best (None: there is none), `draw` (`pose` or `sketch` where such a map can be drawn by hand), `drawn`
        (whether it always is) and `params` (the annotator's settings); `models`: the names of every ControlNet that
        fits; `likes`: whether there is an image adapter for the model; `base`: the model's name.
    """
    nets = fitting(studio.controlnets(), model)
    kinds = [(group, key, None) for group, keys in KINDS.items() for key in keys]
    learned = [(_group(info), info.key, info.name) for info in LEARNED if is_ready(studio, info.key)]
    return {
        "kinds": [
            {"key": key, "group": group, "name": name, **_kind(nets, key)}
            for group, key, name in sorted(kinds + learned, key=lambda kind: list(KINDS).index(kind[0]))
        ],
        "models": [net.name for net in nets],
        "likes": any(not misfits(adapter, model) for adapter in studio.catalog.image_adapters()),
        "base": model.name,
    }


def _kind(nets: Sequence[ControlNetInfo], key: str) -> dict[str, Any]:
    if key in DRAWN:
        draw, like = DRAWN[key]
        return {"annotator": "none", "model": best(nets, like), "draw": draw, "drawn": True, "params": []}
    info = find_annotator(key)
    draw = "pose" if info.control_class == "pose" else "sketch" if key.startswith("scribble") else None
    settings = [_setting(item) for item in info.parameters]
    return {"annotator": key, "model": best(nets, key), "draw": draw, "drawn": False, "params": settings}


def _setting(item: ParameterInfo) -> dict[str, Any]:
    """A setting as the page shows it; `step` is a round number, at most a two-hundredth of its range or 1."""
    fine = (item.high - item.low) / _STEPS
    step = 0.0 if item.choices else 1.0 if item.whole or fine >= 1 else 10.0 ** math.floor(math.log10(fine))
    names = ("key", "name", "hint", "low", "high", "default", "choices")
    return {name: getattr(item, name) for name in names} | {"step": step}


def fitting(nets: Sequence[ControlNetInfo], model: ModelInfo) -> list[ControlNetInfo]:
    """Those that can guide this model, the ones trained for it first."""
    found = [net for net in nets if _fits(net, model) and not _only_inpaints(net)]
    return sorted(found, key=lambda net: net.base != model.name)


def best(nets: Sequence[ControlNetInfo], annotator: str) -> str | None:
    """The ControlNet for this kind of map: trained with it, or with its class, or named after either."""
    info = find_annotator(annotator)
    if info.key == "none":
        return nets[0].name if nets else None
    ranked = [(rank, net) for net in nets if (rank := _rank(net, info)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1].name if ranked else None


def _only_inpaints(net: ControlNetInfo) -> bool:
    return bool(net.annotators) and all(is_inpaint_annotator(name) for name in net.annotators)


def _rank(net: ControlNetInfo, info: AnnotatorInfo) -> int | None:
    """Smaller is better; None where the network does not suit."""
    if info.key in net.annotators:
        return net.annotators.index(info.key)
    if any(_class(name) == info.control_class for name in net.annotators):
        return 100
    words = (info.key.split("_", maxsplit=1)[0], info.control_class)
    return 200 if not net.annotators and any(word in net.name.lower() for word in words) else None


def _class(annotator: str) -> str | None:
    try:
        return find_annotator(annotator).control_class
    except InvalidRequestError:  # `inpaint_only` is no annotator
        return None


def _group(info: AnnotatorInfo) -> str:
    return info.control_class if info.control_class in KINDS else "own"


def _fits(net: ControlNetInfo, model: ModelInfo) -> bool:
    try:
        check_fits(net, model)
    except UnsupportedError:
        return False
    return True
