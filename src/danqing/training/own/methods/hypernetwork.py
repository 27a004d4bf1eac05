"""A hypernetwork in AUTOMATIC1111's format: small nets before the keys and values of every attention.

For every width that attentions of the denoiser read there is a pair of nets; what an attention reads becomes
x + net(x). The objective is the denoiser's own, the nets are hooked in as they are when a picture is painted
(adapters/hypernet.py), first values and dropout are A1111's defaults ("Normal": weights of deviation 0.01, biases 0).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from danqing.adapters.hooks import RowWeights
from danqing.adapters.hypernet import (
    ActingHypernet,
    HypernetModule,
    HypernetShape,
    Hypernetwork,
    hypernets_acting,
    write_hypernetwork,
)
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import HypernetworkRequest
from danqing.training.own.context import Context
from danqing.training.own.methods.base import CardFacts, Settings
from danqing.training.own.methods.diffusion import DiffusionMethod, family_settings
from danqing.training.own.networks.metadata import BASE_VERSION, base_version
from danqing.training.own.seeds import torch_of

DEFAULTS = {
    "danqing": Settings(steps=250, batch=8, learning_rate=2e-3),
    "sdxl": Settings(steps=3000, batch=1, learning_rate=1e-5),
    "*": Settings(steps=3000, batch=2, learning_rate=1e-5),
}
"""By family of the model; A1111 suggests 1e-5."""
DROPOUT = 0.3
FIRST_DEVIATION = 0.01
SIDES = ("keys", "values")


class LearntNet(HypernetModule):
    """A net that stays in float32 and is computed in the format of what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        """For x [b, t, width]."""
        with torch.autocast(x.device.type, dtype=x.dtype, enabled=x.dtype is not torch.float32):
            return self.linear(x).to(x.dtype)

    def ready(self, like: Tensor) -> HypernetModule:
        """Itself: what is learnt keeps its format."""
        del like
        return self


class EveryRow(RowWeights):
    """One strength in every row of every batch."""

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """As many as the layer is called with."""
        return self.weights.to(x.device).expand(len(x)), None


@dataclass(frozen=True)
class ActingAlways(ActingHypernet):
    """A hypernetwork that acts alike whatever the batch is."""

    def strengths(self) -> RowWeights:
        """One for all."""
        return EveryRow(self.weights)


class HypernetworkMethod(DiffusionMethod):
    """Nets for every width of the model, beside the frozen model."""

    request: HypernetworkRequest  # type: ignore[assignment]
    hypernet: Hypernetwork
    nets: nn.ModuleDict

    @classmethod
    def open(cls, request: HypernetworkRequest, context: Context) -> Self:
        """Model, set and fresh nets, acting from now on."""
        shape = shape_of(request)
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.add_nets(shape)
        method.show(folder)
        return method

    def add_nets(self, shape: HypernetShape) -> None:
        """Make the nets and put them before the attentions, for as long as this method is there."""
        unet, device = self.opened.unet, self.opened.device
        self.nets = nn.ModuleDict()
        pairs: dict[int, tuple[HypernetModule, HypernetModule]] = {}
        for width in attention_widths(unet):
            made = [LearntNet(list(shape.build(width).linear)) for _ in SIDES]
            for side, net in zip(SIDES, made, strict=True):
                reset(net, torch_of(self.request.seed, f"hypernetwork {side}", width))
                self.nets[f"{width} {side}"] = net.to(device)
            pairs[width] = (made[0], made[1])
        self.hypernet = Hypernetwork(shape, pairs)
        self._acting = ExitStack()
        self._acting.enter_context(hypernets_acting(unet, [ActingAlways(self.hypernet, torch.ones(1))]))

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """All nets."""
        return [(list(self.nets.parameters()), 1.0)]

    def modules(self) -> dict[str, nn.Module]:
        """The nets."""
        return {"nets": self.nets}

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.pt` as A1111 writes it."""
        info = self.opened.info
        about: dict[str, Any] = {
            "name": name,
            "step": step,
            "weight_initialization": "Normal",
            "sd_checkpoint": info.sha256[:10],
            "sd_checkpoint_name": info.name,
            BASE_VERSION: base_version(info.family),  # A1111 passes over it
        }
        path = folder / f"{name}.pt"
        kept = {
            width: tuple(_plain(net, self.hypernet.shape, width) for net in pair)
            for width, pair in self.hypernet.nets.items()
        }
        write_hypernetwork(path, Hypernetwork(self.hypernet.shape, kept, about))  # type: ignore[arg-type]
        return [path]

    def card(self) -> CardFacts:
        """How its nets are built, and how it is called."""
        facts, shape = super().card(), self.hypernet.shape
        name, trigger = self.request.name, self.made.trigger
        more = {
            "layer structure": ", ".join(f"{factor:g}" for factor in shape.layer_structure),
            "activation": shape.activation or "linear",
            "layer norm": "yes" if shape.layer_norm else "no",
            "dropout": ", ".join(f"{rate:g}" for rate in shape.dropout) or "none",
            "widths": ", ".join(map(str, self.hypernet.nets)),
        }
        usage = (
            f"Write `<hypernet:{name}:1>` into the prompt{f' and the word `{trigger}`' if trigger else ''}; the number "
            "is its strength. The file goes into `models/hypernetworks`, here and in AUTOMATIC1111; it fits models of "
            "the same widths. diffusers has no loader for hypernetworks."
        )
        return CardFacts("hypernetwork", {**facts.facts, **more}, usage, facts.licence_note)


def shape_of(request: HypernetworkRequest) -> HypernetShape:
    """How A1111 would build the nets.

    Raises:
        InvalidRequestError: They would not begin and end with the width itself.
    """
    structure = request.layer_structure
    if structure[0] != 1 or structure[-1] != 1 or min(structure) <= 0:
        raise InvalidRequestError(
            "a hypernetwork's layers begin and end with the width itself",
            field="layer_structure",
            value=list(structure),
            allowed="multiples of the width, 1 first and last, for example 1, 2, 1",
            next_step="write 1 at both ends",
        )
    # As A1111 does with its switches "use dropout" and "last layer dropout".
    dropout = (0.0, *[DROPOUT] * (len(structure) - 2), 0.0) if request.dropout else ()
    activation = None if request.activation == "linear" else request.activation
    return HypernetShape(structure, activation, request.layer_norm, dropout)


def attention_widths(unet: nn.Module) -> list[int]:
    """What the keys and values of all attentions are made from: the width of text states, and of each level."""
    attentions = [module for module in unet.modules() if hasattr(module, "to_k") and hasattr(module, "to_v")]
    return sorted({int(getattr(one, name).in_features) for one in attentions for name in ("to_k", "to_v")})


@torch.no_grad()
def reset(net: nn.Module, generator: torch.Generator) -> None:
    """First values, as A1111's "Normal" sets them, of linear layers and layer norms alike."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * FIRST_DEVIATION)
            layer.bias.zero_()


def _plain(net: HypernetModule, shape: HypernetShape, width: int) -> HypernetModule:
    """A copy on the CPU."""
    copy = shape.build(width)
    copy.load_state_dict({name: value.detach().float().cpu() for name, value in net.state_dict().items()})
    return copy
