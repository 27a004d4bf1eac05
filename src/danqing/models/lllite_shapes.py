"""ControlNet-LLLite files by kohya (sd-scripts, `control_net_lllite.py`) from the shapes of their tensors. No torch.

For each layer of the UNet that it acts before: `lllite_unet_<layer>.conditioning1.N` (convolutions without overlap that
bring the map to the layer's grid), `down.0`, `mid.0` and `up.0` (linear), each with weight and bias.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from danqing.models.singlefile.shapes import Shapes
from danqing.spec.errors import BadFileError, UnsupportedError

PREFIX = "lllite_unet_"
LATENT_SCALE = 8
"""Picture pixels per latent pixel of the models it is made for."""
_NAME = re.compile(PREFIX + r"([^.]+)\.(conditioning1\.\d+|down\.0|mid\.0|up\.0)\.(weight|bias)")
_LINEAR = ("down.0", "mid.0", "up.0")

Layers = dict[str, dict[str, tuple[int, ...]]]
"""Layer → part (`conditioning1.0`, `down.0`, …) → shape of its weight."""


def lllite_config(tensors: Shapes) -> dict[str, Any]:
    """What a file holds.

    Args:
        tensors: All of its tensors.

    Returns:
        `layers` (as `Layers`), `block_widths` (of the UNet's levels, 0 for one that it does not act in) and
        `conditioning_channels`.

    Raises:
        BadFileError: It is incomplete, or its shapes do not fit each other.
        UnsupportedError: It is for no UNet, or acts before convolutions.
    """
    layers: Layers = {}
    biases: set[str] = set()
    for name, info in tensors.items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise UnsupportedError(
                "a ControlNet-LLLite file holds what this version does not know",
                value=name,
                allowed="lllite_unet_….conditioning1, down, mid and up: ControlNet-LLLite for SDXL",
                next_step="use one that was made for SDXL by sd-scripts",
            )
        if found[3] == "bias":
            biases.add(f"{found[1]}.{found[2]}")
        else:
            layers.setdefault(found[1], {})[found[2]] = info.shape
    widths: dict[int, int] = {}
    for layer, parts in layers.items():
        _check(layer, parts, biases)
        if "attn" in layer:
            widths[level_of(parts)] = parts["down.0"][1]
    if not widths:
        raise BadFileError("a ControlNet-LLLite acts in no attention", value=next(iter(layers), ""))
    first = next(iter(layers.values()))["conditioning1.0"]
    return {
        "layers": layers,
        "block_widths": tuple(widths.get(level, 0) for level in range(max(widths) + 1)),
        "conditioning_channels": first[1],
    }


def convolutions(parts: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The parts that read the map, in order.

    >>> convolutions({"conditioning1.2": (), "down.0": (), "conditioning1.0": ()})
    ['conditioning1.0', 'conditioning1.2']
    """
    found = [part for part in parts if part.startswith("conditioning1.")]
    return sorted(found, key=lambda part: int(part.rpartition(".")[2]))


def stride_of(parts: Mapping[str, tuple[int, ...]]) -> int:
    """Pixels of the map for each place of the layer's grid; no convolution overlaps."""
    return math.prod(parts[part][-1] for part in convolutions(parts))


def level_of(parts: Mapping[str, tuple[int, ...]]) -> int:
    """Which level of the UNet has the layer's grid, 0 for the finest."""
    return int(math.log2(stride_of(parts) / LATENT_SCALE))


def _check(layer: str, parts: Mapping[str, tuple[int, ...]], biases: set[str]) -> None:
    steps = convolutions(parts)
    lost = [one for one in (*_LINEAR, "conditioning1.0") if one not in parts]
    lost += [one for one in parts if f"{layer}.{one}" not in biases]
    if lost:
        raise BadFileError(
            "a ControlNet-LLLite file is incomplete",
            value=f"{PREFIX}{layer}.{lost[0]}",
            next_step="download the file again",
        )
    down, mid, up = (parts[one] for one in _LINEAR)
    if any(len(shape) != 2 for shape in (down, mid, up)):
        raise UnsupportedError(
            "this ControlNet-LLLite acts before convolutions, which this version does not run",
            value=f"{PREFIX}{layer}",
            allowed="ControlNet-LLLite of attentions alone, as sd-scripts makes them",
            next_step="use another one for the same kind of map",
        )
    shapes = [parts[one] for one in steps]
    square = all(len(shape) == 4 and shape[2] == shape[3] for shape in shapes)
    joined = square and all(one[0] == other[1] for one, other in itertools.pairwise(shapes))
    fits = joined and mid == (down[0], down[0] + shapes[-1][0]) and up == (down[1], down[0])
    stride = stride_of(parts) if joined else 0
    if not fits or stride < LATENT_SCALE or stride & (stride - 1):
        raise BadFileError(
            "the shapes of a ControlNet-LLLite do not fit each other", value=f"{PREFIX}{layer}: {dict(parts)}"
        )
