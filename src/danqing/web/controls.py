"""What the cards of the form offer: kinds of control map, the ControlNet for each, whether pictures can be prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from danqing.planning.image_prompts import misfits
from danqing.spec.model import ControlNetInfo, ModelInfo
from danqing.spec.registry.annotator_types import AnnotatorInfo, ParameterInfo
from danqing.spec.registry.annotators import LEARNED, find_annotator
from danqing.spec.registry.control_filters import CONTROL_FILTERS
from danqing.studio.annotating import is_ready
from danqing.studio.controlling import best, fitting, networks_for

if TYPE_CHECKING:
    from danqing.studio.service import Studio

MAX_UNITS = 3
KINDS: dict[str, tuple[str, ...]] = {
    "line": (
        "canny",
        "lineart_xdog",
        "lineart_standard",
        "softedge_dog",
        "scribble_canny",
        "scribble_xdog",
        "draw_sketch",
        "mlsd_lsd",
        "threshold",
        "invert",
    ),
    "block": ("seg_superpixels", "depth_relief", "normal_relief", "normal_from_depth"),
    "pose": ("draw_pose",),
    "detail": ("tile_resample", "blur_gaussian", "grayscale", "t2ia_color_grid"),
    "own": ("none", "shuffle"),
}
"""Group → annotators named in the page's languages (`c.kind.<key>`); installed networks follow in their group."""
DRAWN: dict[str, tuple[str, str]] = {"draw_pose": ("pose", "openpose"), "draw_sketch": ("sketch", "scribble_canny")}
"""Kinds whose map a person draws on the page → what is drawn, and the annotator whose ControlNet reads it."""
_STEPS = 200
_ROUNDING = 1e-6


def offers(studio: Studio, model: ModelInfo) -> dict[str, Any]:
    """What the cards can choose from for a base model.

    Returns:
        `kinds`: key, group, name (None: it has words of its own), the annotator of its units, the ControlNet that
        suits it best (None: there is none), `draw` (`pose` or `sketch` where such a map can be drawn by hand), `drawn`
        (whether it always is) and `params` (the annotator's settings); `types`: the control types of A1111 that
        narrow them (`_types`); `models`: the names of every ControlNet that fits; `likes`: whether there is an image
        adapter for the model; `base`: the model's name; `distilled`: whether the model is told its guidance;
        `upscalers`: the files that enlarge.
    """
    nets = fitting(studio.controlnets(), model)
    kinds = [(group, key, None) for group, keys in KINDS.items() for key in keys]
    learned = [(_group(info), info.key, info.name) for info in LEARNED if is_ready(studio, info.key)]
    ordered = sorted(kinds + learned, key=lambda kind: list(KINDS).index(kind[0]))
    return {
        "kinds": [{"key": key, "group": group, "name": name, **_kind(nets, key)} for group, key, name in ordered],
        "types": _types(nets, [key for _, key, _ in ordered]),
        "models": [net.name for net in nets],
        "likes": any(not misfits(adapter, model) for adapter in studio.catalog.image_adapters()),
        "base": model.name,
        "distilled": model.defaults.distilled_guidance is not None,
        "upscalers": [file.name for file in studio.upscalers()],
    }


def _types(nets: Sequence[ControlNetInfo], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The control types that have a kind of map here or a network.

    Returns:
        Of each: `key` (named by `c.type.<key>`), `maps` (what a union ControlNet can be told), `kinds` (the best one
        first) and `models` (those that follow such maps, the best one first).
    """
    found: list[dict[str, Any]] = []
    for info in CONTROL_FILTERS:
        kinds = [key for key in keys if info.takes(DRAWN[key][1] if key in DRAWN else key)]
        order = info.annotators
        kinds.sort(key=lambda key, order=order: (key == "none", order.index(key) if key in order else len(order)))
        models = networks_for(info, nets)
        if models or kinds != ["none"]:
            found.append({"key": info.key, "maps": list(info.types), "kinds": kinds, "models": models})
    return found


def _kind(nets: Sequence[ControlNetInfo], key: str) -> dict[str, Any]:
    if key in DRAWN:
        draw, like = DRAWN[key]
        return {"annotator": "none", "model": best(nets, like), "draw": draw, "drawn": True, "params": []}
    info = find_annotator(key)
    body = info.control_class == "pose" and key != "mediapipe_face"  # a figure's joints are no face
    draw = "pose" if body else "sketch" if key.startswith("scribble") else None
    settings = [_setting(item) for item in info.parameters]
    return {"annotator": key, "model": best(nets, key), "draw": draw, "drawn": False, "params": settings}


def _setting(item: ParameterInfo) -> dict[str, Any]:
    """A setting as the page shows it; `step` is a round number, at most a two-hundredth of its range or 1.

    A slider counts its steps from its lower end, which is therefore brought to the next step.
    """
    fine = (item.high - item.low) / _STEPS
    step = 0.0 if item.choices else 1.0 if item.whole or fine >= 1 else 10.0 ** math.floor(math.log10(fine))
    names = ("key", "name", "hint", "low", "high", "default", "choices")
    shown = {name: getattr(item, name) for name in names} | {"step": step}
    if step:
        shown["low"] = round(math.ceil(item.low / step - _ROUNDING) * step, 9)
    return shown


def _group(info: AnnotatorInfo) -> str:
    return info.control_class if info.control_class in KINDS else "own"
