"""What a base model can be controlled with: networks that fit, the best for a kind of map, A1111's control types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from danqing.planning.controls import check_fits
from danqing.spec.control import is_inpaint_annotator
from danqing.spec.errors import InvalidRequestError, NotFoundError, UnsupportedError
from danqing.spec.model import ControlNetInfo, ModelInfo
from danqing.spec.registry.annotator_types import AnnotatorInfo
from danqing.spec.registry.annotators import ANNOTATORS, find_annotator
from danqing.spec.registry.control_filters import CONTROL_FILTERS, ControlFilter
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.studio.annotating import is_ready

if TYPE_CHECKING:
    from danqing.studio.service import Studio


@dataclass(frozen=True)
class ControlChoice:
    """What one control type narrows a unit to.

    Attributes:
        info: The control type; None for all of them.
        annotators: Those that can run here and make such maps, the best one first.
        networks: Those that fit the model and follow such maps, the best one first.
    """

    info: ControlFilter | None
    annotators: tuple[str, ...]
    networks: tuple[str, ...]

    @property
    def annotator(self) -> str:
        """The one to begin with; `none` where the map must be brought."""
        return next((name for name in self.annotators if name not in ("none", "invert")), "none")

    @property
    def network(self) -> str | None:
        """The one to begin with; None where none fits."""
        return self.networks[0] if self.networks else None


def base_model(studio: Studio, name: str | None) -> ModelInfo:
    """The model of this name; the built-in one, or else the first, for None.

    Raises:
        NotFoundError: There is no such model, or none at all.
    """
    models = studio.models()
    wanted = (name or BUILTIN_MODEL).strip().lower()
    found = next((info for info in models if info.name.lower() == wanted), None)
    if found is None and not name:
        found = next(iter(models), None)
    if found is None:
        raise NotFoundError(
            "there is no such model",
            field="model",
            value=name,
            allowed=", ".join(info.name for info in models),
            next_step="list the models to see which are installed",
        )
    return found


def control_choices(studio: Studio, model: ModelInfo) -> list[ControlChoice]:
    """What every control type offers for a base model, all of them together first."""
    nets = sorted((net for net in studio.controlnets() if _fits(net, model)), key=lambda net: net.base != model.name)
    ready = [info.key for info in ANNOTATORS if is_ready(studio, info.key)]
    everything = ControlChoice(None, tuple(ready), tuple(net.name for net in nets))
    return [everything, *(_choice(info, ready, nets) for info in CONTROL_FILTERS)]


def networks_for(info: ControlFilter, nets: Sequence[ControlNetInfo]) -> list[str]:
    """The networks that follow a control type's maps, the one for its best annotator first."""
    found = [net for net in nets if _follows(net, info)]
    first = best(found, info.annotators[0]) if info.annotators else None
    return [net.name for net in sorted(found, key=lambda net: net.name != first)]


def _choice(info: ControlFilter, ready: Iterable[str], nets: Sequence[ControlNetInfo]) -> ControlChoice:
    order = info.annotators
    making = [name for name in ready if info.takes(name)]
    making += [name for name in order if is_inpaint_annotator(name)]
    making.sort(key=lambda name: order.index(name) if name in order else len(order))
    return ControlChoice(info, tuple(making), tuple(networks_for(info, nets)))


def _follows(net: ControlNetInfo, info: ControlFilter) -> bool:
    if info.adapters:
        return net.kind == "t2i_adapter"
    return info.follows((net.control_type, *net.control_types), net.annotators)


def fitting(nets: Sequence[ControlNetInfo], model: ModelInfo) -> list[ControlNetInfo]:
    """Those that can guide this model, the ones trained for it first."""
    found = [net for net in nets if _fits(net, model) and not _only_inpaints(net)]
    return sorted(found, key=lambda net: net.base != model.name)


def best(nets: Sequence[ControlNetInfo], annotator: str) -> str | None:
    """The ControlNet for this kind of map: trained with it, or with its class, or named after either."""
    if is_inpaint_annotator(annotator):
        return nets[0].name if nets else None
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


def _fits(net: ControlNetInfo, model: ModelInfo) -> bool:
    try:
        check_fits(net, model)
    except UnsupportedError:
        return False
    return True
