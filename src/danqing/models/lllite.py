"""A loaded ControlNet-LLLite (kohya): small networks that change what attentions of the UNet read, each by the map.

Before a layer that reads x its input becomes x + strength · up(relu(mid([c, relu(down(x))]))), where c is what
convolutions made of the map at the layer's grid. c is the same in every step of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from danqing.models.control_files import describe_control
from danqing.models.families.parts import owned
from danqing.models.lllite_shapes import PREFIX, convolutions, stride_of
from danqing.models.once import OncePerMap
from danqing.models.precision import Precision
from danqing.models.singlefile.weights import Weights
from danqing.spec.model import ControlNetInfo

REMEMBERED_MAPS = 8

Embeddings = Mapping[str, Tensor]
"""What the layers read of a map: layer → [1, rows, columns, c]."""


class LLLiteModule(nn.Module):
    """What acts before one layer.

    Args:
        shapes: Part → shape of its weight, as `lllite_shapes.Layers` has them.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.stride = stride_of(shapes)
        steps = [shapes[part] for part in convolutions(shapes)]
        self.steps = nn.ModuleList(nn.Conv2d(one[1], one[0], kernel_size=one[2], stride=one[2]) for one in steps)
        self.down, self.mid, self.up = (
            nn.Linear(shapes[part][1], shapes[part][0]) for part in ("down.0", "mid.0", "up.0")
        )

    def embed(self, shown: Tensor) -> Tensor:
        """A map [1, 3, H, W] in [−1, 1] at the layer's grid, [1, rows, columns, c]."""
        down, right = (-side % self.stride for side in shown.shape[-2:])
        if down or right:
            # A UNet rounds odd sides up too.
            shown = pad(shown, (0, right, 0, down), mode="replicate")
        for index, step in enumerate(self.steps):
            shown = step(torch.relu(shown) if index else shown)
        return shown.permute(0, 2, 3, 1).contiguous()

    def added(self, x: Tensor, embedding: Tensor) -> Tensor:
        """What is added to the layer's input [b, tokens, width], not weighted; `embedding` is [b, tokens, c]."""
        low = torch.relu(self.down(x.to(embedding.dtype)))
        found: Tensor = self.up(torch.relu(self.mid(torch.cat([embedding, low], dim=-1))))
        return found.to(x.dtype)


@dataclass
class LoadedLLLite:
    """A ControlNet-LLLite on its device.

    Attributes:
        info: What the catalogue knows of it.
        precision: Its number formats.
        modules: By the name of the layer they act before, in LDM's or diffusers' names with `_` for `.`.
    """

    info: ControlNetInfo
    precision: Precision
    modules: nn.ModuleDict
    _known: OncePerMap[Embeddings] = field(default_factory=lambda: OncePerMap[Embeddings](REMEMBERED_MAPS))

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.modules.parameters())

    def layers(self) -> dict[str, LLLiteModule]:
        """The modules by layer."""
        return {name: cast("LLLiteModule", module) for name, module in self.modules.items()}

    def embeddings(self, hint: Tensor) -> Embeddings:
        """What the layers read of a map; computed once for each map, alone, so that no company changes it.

        Args:
            hint: The control map in [0, 1] (−1 where a hole is, which is shown as black), [1, 3, H, W].
        """
        return self._known.get(hint, self._computed)

    @torch.inference_mode()
    def _computed(self, hint: Tensor) -> Embeddings:
        shown = (hint.clamp_min(0.0) * 2.0 - 1.0).to(next(self.modules.parameters()))
        return {name: module.embed(shown) for name, module in self.layers().items()}


def load_lllite(info: ControlNetInfo, precision: Precision, device: torch.device) -> LoadedLLLite:
    """Load a ControlNet-LLLite; arguments as for `load_controlnet`.

    Raises:
        BadFileError: The file is damaged or incomplete.
        UnsupportedError: It acts elsewhere than before linear layers of a UNet.
    """
    path = Path(info.path)
    found = describe_control(path)
    weights = Weights(path)
    modules = nn.ModuleDict()
    for layer, shapes in found.config["layers"].items():
        module = LLLiteModule(shapes)
        parts = {"down": "down.0", "mid": "mid.0", "up": "up.0"}
        parts |= {f"steps.{at}": part for at, part in enumerate(convolutions(shapes))}
        module.load_state_dict(
            {
                f"{own}.{kind}": weights[f"{PREFIX}{layer}.{part}.{kind}"]
                for own, part in parts.items()
                for kind in ("weight", "bias")
            }
        )
        modules[layer] = module
    ready: nn.ModuleDict = owned(modules.to(device, precision.denoiser))
    return LoadedLLLite(info, precision, ready.eval().requires_grad_(requires_grad=False))
