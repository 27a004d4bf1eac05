"""A network file's changes on the layers of a model; what does not fit is refused with every reason."""

from __future__ import annotations

from torch import nn

from danqing.adapters.change import BoundChange, Change
from danqing.adapters.layers import Layer, is_layer
from danqing.adapters.lycoris import Difference
from danqing.adapters.module_names import (
    UnetNames,
    numbered_text_layers,
    numbered_unet_layers,
    text_names,
    unet_names,
)
from danqing.adapters.network_file import NetworkWeights
from danqing.models.network_keys import UNET
from danqing.spec.errors import UnsupportedError

Bound = dict[str, BoundChange]
"""Path of a layer → its change."""
_SHOWN = 3


def bind(weights: NetworkWeights, part: str, root: nn.Module) -> Bound:
    """The changes of one part of a model (`unet`, `te`, `te2`) by the paths of its layers.

    Args:
        weights: The file.
        part: Which of its parts.
        root: The UNet or text encoder.

    Raises:
        UnsupportedError: Layers are not there or have other shapes.
    """
    own = {layer: change for (at, layer), change in weights.layers.items() if at == part}
    if not own:
        return {}
    modules = {path: module for path, module in root.named_modules() if path}
    numbered = all(layer.isdigit() for layer in own)
    paths = _numbered(own, part, modules) if numbered else _named(part, list(modules))
    bound: Bound = {}
    lost: list[str] = []
    wrong: list[str] = []
    for layer, change in own.items():
        path = paths.get(layer)
        if path is None or not is_layer(modules[path]):
            lost.append(layer)
            continue
        place = Layer(modules[path])
        reason = _misfit(change, place)
        if reason is not None:
            wrong.append(f"{path}: {reason}")
        bound[path] = BoundChange(change, place)
    if lost or wrong:
        raise _refusal(weights.name, len(own), lost, wrong)
    return bound


def block_factors(bound: Bound, names: UnetNames, blocks: tuple[float, ...]) -> dict[str, float]:
    """The factor of each layer; those before and behind the blocks count as the text encoder's, which stands first.

    Args:
        bound: The changes.
        names: The UNet's.
        blocks: The text encoder's factor, then one for each block, or for each block with attention.

    Raises:
        UnsupportedError: There are more or fewer.
    """
    if not blocks:
        return {}
    attended, everyone = names.block_names(attended=True), names.block_names(attended=False)
    for chosen in (attended, everyone):
        if len(blocks) == len(chosen) + 1:
            factor = dict(zip(chosen, blocks[1:], strict=True))
            # Blocks that a short list leaves out are not acted on, as in sd-webui-lora-block-weight.
            return {path: _factor(names.block_of(path), factor, blocks[0]) for path in bound}
    raise UnsupportedError(
        "the block weights do not fit this model's blocks",
        field="prompt",
        value=f"lbw with {len(blocks)} numbers",
        allowed=f"{len(attended) + 1} numbers (BASE, {', '.join(attended)}) or {len(everyone) + 1} (all blocks)",
        next_step="write one number for the text encoder and one for each block",
    )


def _factor(block: str | None, factors: dict[str, float], base: float) -> float:
    return base if block is None else factors.get(block, 0.0)


def names_of(root: nn.Module) -> UnetNames:
    """The names of a UNet."""
    return unet_names(path for path, _ in root.named_modules() if path)


def _named(part: str, paths: list[str]) -> dict[str, str]:
    return unet_names(paths).paths if part == UNET else text_names(paths)


def _numbered(own: dict[str, Change], part: str, modules: dict[str, nn.Module]) -> dict[str, str]:
    """Paths by number; of the orders that were in use, the first that fits all shapes."""
    orders = numbered_unet_layers(modules) if part == UNET else [numbered_text_layers(modules)]
    tables = [{str(number): path for number, path in enumerate(order)} for order in orders]

    def fits(table: dict[str, str]) -> bool:
        return set(table) == set(own) and all(
            table[number] in modules and change.misfit(Layer(modules[table[number]]).weight) is None
            for number, change in own.items()
        )

    return next((table for table in tables if fits(table)), tables[0])


def _misfit(change: Change, place: Layer) -> str | None:
    if place.is_norm and not isinstance(change, Difference):
        return "it is a normalisation, which only differences change"
    return change.misfit(place.weight)


def _refusal(name: str, count: int, lost: list[str], wrong: list[str]) -> UnsupportedError:
    reasons: list[str] = []
    if lost:
        reasons.append(
            f"{len(lost)} of its {count} layers are not in this model ({', '.join(lost[:_SHOWN])}{_more(lost)})"
        )
    if wrong:
        reasons.append(
            f"{len(wrong)} of its {count} layers have other shapes ({'; '.join(wrong[:_SHOWN])}{_more(wrong)})"
        )
    return UnsupportedError(
        f"{name} is not made for this model: {' and '.join(reasons)}",
        field="prompt",
        value=name,
        allowed="a network that was trained for a model of this family",
        next_step="take its tag out of the prompt, or choose the model it was trained for",
    )


def _more(names: list[str]) -> str:
    return ", …" if len(names) > _SHOWN else ""
