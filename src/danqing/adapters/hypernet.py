"""Hypernetworks in A1111's format: for every width a pair of small nets before the keys and values of attention.

What an attention reads becomes x + net(x) · strength, with one net for the keys and one for the values, chosen by the
width of x; text states are one width, the tokens of each level of the UNet others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danqing.adapters.hooks import RowWeights, add_rows, uncompiled
from danqing.adapters.network_file import load_pickle
from danqing.spec.errors import BadFileError, UnsupportedError

_ALIASES: dict[str, type[nn.Module]] = {
    "linear": nn.Identity, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "swish": nn.Hardswish,
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip
_OLD_NAMES = {"linear1.": "linear.0.", "linear2.": "linear.1."}
_DROPOUT = 0.3


@dataclass(frozen=True)
class HypernetShape:
    """How the nets of a hypernetwork are built.

    Attributes:
        layer_structure: Widths of the layers as multiples of the net's own.
        activation: A1111's name; None for none.
        layer_norm: Whether each layer is normalised.
        dropout: A rate behind each entry of `layer_structure`; only training uses it, but it counts in tensor names.
        activate_output: Whether the last layer has the activation too.
    """

    layer_structure: tuple[float, ...] = (1, 2, 1)
    activation: str | None = None
    layer_norm: bool = False
    dropout: tuple[float, ...] = ()
    activate_output: bool = False

    def build(self, width: int) -> HypernetModule:
        """A net of this shape for one width."""
        layers: list[nn.Module] = []
        last = len(self.layer_structure) - 2
        for i in range(last + 1):
            inside, out = (int(width * factor) for factor in self.layer_structure[i : i + 2])
            layers.append(nn.Linear(inside, out))
            if self.activation not in (None, "linear") and (i < last or self.activate_output):
                layers.append(_activation(str(self.activation)))
            if self.layer_norm:
                layers.append(nn.LayerNorm(out))
            if i + 1 < len(self.dropout) and self.dropout[i + 1] > 0:
                layers.append(nn.Dropout(self.dropout[i + 1]))
        return HypernetModule(layers)


class HypernetModule(nn.Module):
    """One net: its answer is what is added to its input at strength 1.

    Args:
        layers: In order.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.linear = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """For x [b, t, width]."""
        return self.linear(x)

    def ready(self, like: Tensor) -> HypernetModule:
        """Itself, in the format and on the device of what it is given."""
        return self.to(like.device, like.dtype)


@dataclass
class Hypernetwork:
    """A hypernetwork.

    Attributes:
        shape: How its nets are built.
        nets: Width → nets for keys and values.
        about: What the file says besides: name, step, sd_checkpoint, …
    """

    shape: HypernetShape
    nets: dict[int, tuple[HypernetModule, HypernetModule]]
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        modules = [net for pair in self.nets.values() for net in pair]
        return sum(p.numel() * p.element_size() for net in modules for p in net.parameters())

    def to(self, like: Tensor) -> Hypernetwork:
        """On the device and in the number format of a tensor; self where it is there already."""
        for pair in self.nets.values():
            for net in pair:
                net.to(like.device, like.dtype)
        return self


@dataclass(frozen=True)
class ActingHypernet:
    """A hypernetwork in a batch.

    Attributes:
        hypernet: Which.
        weights: Its strength in each row [b].
    """

    hypernet: Hypernetwork
    weights: Tensor

    def strengths(self) -> RowWeights:
        """As layers ask for them."""
        return RowWeights(self.weights)


def read_hypernetwork(path: Path) -> Hypernetwork:
    """A hypernetwork from A1111's file.

    Raises:
        BadFileError: It is damaged, or its nets are not built as it says.
        UnsupportedError: It has an activation that PyTorch does not know.
    """
    data = load_pickle(path)
    shape = _shape(data, path)
    nets: dict[int, tuple[HypernetModule, HypernetModule]] = {}
    for width, pair in data.items():
        if not isinstance(width, int):
            continue
        try:
            states = [_renamed(state) for state in pair]
            key, value = (_loaded(shape.build(width), state) for state in states)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise BadFileError(
                f"the nets for width {width} are not built as {path.name} says: {str(error).splitlines()[0]}",
                value=str(shape.layer_structure),
                next_step="copy the file again",
            ) from error
        nets[width] = (key, value)
    if not nets:
        raise BadFileError(
            f"{path.name} holds no hypernetwork",
            value=", ".join(str(key) for key in list(data)[:6]),
            allowed="a pair of nets under each width (320, 640, 768, 1280 for Stable Diffusion 1.x)",
        )
    about = {str(key): value for key, value in data.items() if not isinstance(key, int)}
    return Hypernetwork(shape, nets, about)


def write_hypernetwork(path: Path, hypernet: Hypernetwork) -> None:
    """Write a hypernetwork as A1111 reads it."""
    shape = hypernet.shape
    data: dict[Any, Any] = {width: (k.state_dict(), v.state_dict()) for width, (k, v) in hypernet.nets.items()}
    plain = {key: value for key, value in hypernet.about.items() if isinstance(value, (str, int, float, type(None)))}
    dropout = list(shape.dropout) or [0] * len(shape.layer_structure)
    data |= {"step": 0, "name": path.stem, "weight_initialization": "Normal", **plain}
    data |= {
        "layer_structure": list(shape.layer_structure),
        "activation_func": shape.activation or "linear",
        "is_layer_norm": shape.layer_norm,
        "activate_output": shape.activate_output,
        "use_dropout": any(dropout),
        "dropout_structure": dropout,
        "last_layer_dropout": len(dropout) > 2 and dropout[-2] > 0,
    }
    data.setdefault("sd_checkpoint", None)
    data.setdefault("sd_checkpoint_name", None)
    torch.save(data, path)


@contextmanager
def hypernets_acting(unet: nn.Module, networks: Sequence[ActingHypernet]) -> Iterator[None]:
    """The hypernetworks act before every attention's keys and values inside the block, one after the other.

    Raises:
        UnsupportedError: One has no net for any width of this model.
    """
    if not networks:
        yield
        return
    attentions = [module for module in unet.modules() if hasattr(module, "to_k") and hasattr(module, "to_v")]
    widths = {int(getattr(attn, name).in_features) for attn in attentions for name in ("to_k", "to_v")}
    for one in networks:
        if not widths & set(one.hypernet.nets):
            raise UnsupportedError(
                "the hypernetwork is not made for this model: it has nets for other widths",
                field="prompt",
                value=", ".join(map(str, one.hypernet.nets)),
                allowed=", ".join(map(str, sorted(widths))),
                next_step="take its tag out of the prompt, or choose the model it was trained for",
            )
    with ExitStack() as stack:
        stack.enter_context(uncompiled(unet))
        for attn in attentions:
            for side, name in enumerate(("to_k", "to_v")):
                handle = getattr(attn, name).register_forward_pre_hook(_changer(networks, side))
                stack.callback(handle.remove)
        yield


def _changer(networks: Sequence[ActingHypernet], side: int) -> Any:
    strengths = [one.strengths() for one in networks]

    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x: Tensor = inputs[0]
        for one, weighted in zip(networks, strengths, strict=True):
            pair = one.hypernet.nets.get(x.shape[-1])
            if pair is None:
                continue
            weights, rows = weighted.chosen(x)
            if len(weights):
                net = pair[side].ready(x)
                x = add_rows(x, net(x if rows is None else x[rows]), weights, rows)
        return (x, *inputs[1:])

    return hook


def _shape(data: dict[Any, Any], path: Path) -> HypernetShape:
    structure = tuple(data.get("layer_structure") or (1, 2, 1))
    if len(structure) < 2 or structure[0] != 1 or structure[-1] != 1 or not all(factor > 0 for factor in structure):
        raise BadFileError(
            f"the layers of {path.name} do not begin and end with the width itself",
            value=str(structure),
            allowed="1, …, 1",
        )
    dropout = data.get("dropout_structure")
    if dropout is None and data.get("use_dropout"):
        last = _DROPOUT if data.get("last_layer_dropout", False) else 0
        dropout = [0, *[_DROPOUT] * (len(structure) - 3), last, 0]
    return HypernetShape(
        layer_structure=structure,
        activation=data.get("activation_func"),
        layer_norm=bool(data.get("is_layer_norm", False)),
        dropout=tuple(dropout or ()),
        # Files from before the switch existed have the activation behind every layer.
        activate_output=bool(data.get("activate_output", True)),
    )


def _activation(name: str) -> nn.Module:
    kinds = {kind.lower(): getattr(nn.modules.activation, kind) for kind in nn.modules.activation.__all__}
    kind = _ALIASES.get(name) or kinds.get(name.lower())
    if kind is None:
        raise UnsupportedError(
            "the hypernetwork has an unknown activation",
            field="prompt",
            value=name,
            allowed=", ".join(sorted({*_ALIASES, *kinds})),
        )
    return kind()


def _renamed(state: Any) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        old = next((old for old in _OLD_NAMES if key.startswith(old)), None)
        renamed[key if old is None else key.replace(old, _OLD_NAMES[old])] = value
    return renamed


def _loaded(net: HypernetModule, state: dict[str, Tensor]) -> HypernetModule:
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)
