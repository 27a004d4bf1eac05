"""What the cards of the form offer: kinds of control map, the ControlNet for each, whether pictures can be prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from danqing.planning.controls import check_fits
from danqing.planning.image_prompts import misfits
from danqing.spec.control import is_inpaint_annotator
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.model import ControlNetInfo, ModelInfo
from danqing.spec.registry.annotator_types import AnnotatorInfo
from danqing.spec.registry.annotators import LEARNED, find_annotator
from danqing.studio.annotating import is_ready

if TYPE_CHECKING:
    from danqing.studio.service import Studio

MAX_UNITS = 3
KINDS: dict[str, tuple[str, ...]] = {
    "line": ("canny", "lineart_xdog", "softedge_dog", "scribble_canny", "mlsd_lsd"),
    "block": ("seg_superpixels", "depth_relief", "normal_relief"),
    "detail": ("tile_resample",),
    "own": ("none",),
}
"""Group → annotators named in the page's languages (`c.kind.<key>`); installed networks follow in their group."""


def offers(studio: Studio, model: ModelInfo) -> dict[str, Any]:
    """What the cards can choose from for a base model.

    Returns:
        `kinds`: key, group, name (None: it has words of its own) and the ControlNet that suits it best (None: there is
        none); `models`: the names of every ControlNet that fits; `likes`: whether there is an image adapter for the
        model; `base`: the model's name.
    """
    nets = fitting(studio.controlnets(), model)
    kinds = [(group, key, None) for group, keys in KINDS.items() for key in keys]
    learned = [(_group(info), info.key, info.name) for info in LEARNED if is_ready(studio, info.key)]
    return {
        "kinds": [
            {"key": key, "group": group, "name": name, "model": best(nets, key)}
            for group, key, name in sorted(kinds + learned, key=lambda kind: list(KINDS).index(kind[0]))
        ],
        "models": [net.name for net in nets],
        "likes": any(not misfits(adapter, model) for adapter in studio.catalog.image_adapters()),
        "base": model.name,
    }


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
