"""A network on a model: a trained layer beside each chosen one, acting through hooks, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danqing.adapters.layers import Layer
from danqing.models.tools.stream import Entry, Writer
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import NetworkShape
from danqing.training.own.networks.layers import KINDS, LayerShape, TrainedLayer
from danqing.training.own.seeds import torch_of

EXACT_BYTES = 32 * 2**20
"""A file up to this size keeps float32; larger ones are written in float16, as kohya's are."""
_ATTENTION = ".attentions."
_CONVOLVED = (".resnets.", ".downsamplers.", ".upsamplers.")
_TEXT = (".self_attn.", ".mlp.")


@dataclass(frozen=True)
class Chosen:
    """A layer that gets a change.

    Attributes:
        part: `unet`, `te` or `te2`.
        path: Of its module in that part.
        key: What a file calls it: `lora_unet_down_blocks_0_…`.
    """

    part: str
    path: str
    key: str
    module: nn.Module


def choose_layers(parts: Mapping[str, nn.Module], shape: NetworkShape) -> list[Chosen]:
    """The layers a network changes, as kohya's trainer chooses them.

    Linear layers and 1-px convolutions of the attentions; with `conv_rank` also the residual blocks and samplers; of
    text encoders attention and feed-forward net.

    Args:
        parts: `unet`, and text encoders `te` (and `te2`) where they are trained.
        shape: What was asked for.

    Raises:
        InvalidRequestError: No layer is left.
    """
    found: list[Chosen] = []
    two = "te2" in parts
    for part, root in parts.items():
        if part != "unet" and not shape.text_encoder:
            continue
        for path, module in root.named_modules():
            if not isinstance(module, nn.Linear | nn.Conv2d) or not _is_wanted(part, path, shape):
                continue
            key = _key(part, path, two_encoders=two)
            if not shape.blocks or any(name in path or name in key for name in shape.blocks):
                found.append(Chosen(part, path, key, module))
    if not found:
        raise InvalidRequestError(
            "no layer of the model has such a name",
            field="network.blocks",
            value=list(shape.blocks),
            allowed="parts of names such as attn2, up_blocks, mid_block",
            next_step="leave it empty to train all attentions",
        )
    return found


def _is_wanted(part: str, path: str, shape: NetworkShape) -> bool:
    dotted = f".{path}."
    if part != "unet":
        return any(name in dotted for name in _TEXT)
    if _ATTENTION in dotted:
        return True
    return bool(shape.conv_rank) and any(name in dotted for name in _CONVOLVED)


def is_wide(module: nn.Module) -> bool:
    """Whether it is a convolution wider than 1 px."""
    return isinstance(module, nn.Conv2d) and tuple(module.kernel_size) != (1, 1)


def _key(part: str, path: str, *, two_encoders: bool) -> str:
    """Kohya's name of a layer."""
    if part == "unet":
        return "lora_unet_" + path.replace(".", "_")
    bare = path.removeprefix("text_model.").replace(".", "_")
    prefix = {"te": "lora_te1" if two_encoders else "lora_te", "te2": "lora_te2"}[part]
    return f"{prefix}_text_model_{bare}"


class Network(nn.Module):
    """The changes of a model's layers, by kohya's names. They act while `attach` holds.

    Args:
        parts: The model's modules: `unet`, `te`, `te2`.
        shape: How it is built.
        seed: Of its first values.
    """

    def __init__(self, parts: Mapping[str, nn.Module], shape: NetworkShape, seed: int) -> None:
        super().__init__()
        self.shape = shape
        self.strength = 1.0
        self.chosen = choose_layers(parts, shape)
        self.layers = nn.ModuleDict()
        self._handles: list[Any] = []
        kind = KINDS[shape.kind]
        for number, one in enumerate(self.chosen):
            layer: Any = kind(Layer(one.module), self._shape_of(one))
            layer.reset(torch_of(seed, "network", number))
            self.layers[one.key] = layer

    def _shape_of(self, one: Chosen) -> LayerShape:
        asked = self.shape
        rank, alpha = asked.rank, asked.alpha
        if one.part == "unet" and is_wide(one.module):
            rank, alpha = asked.conv_rank or 0, asked.conv_alpha
        return LayerShape(rank, float(rank if alpha is None else alpha), asked.dropout, asked.lokr_factor)

    def attach(self) -> Network:
        """Act from now on."""
        if not self._handles:
            for one in self.chosen:
                layer = self.layers[one.key]
                self._handles.append(one.module.register_forward_hook(self._hook(layer)))
        return self

    def detach(self) -> None:
        """Act no more; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def at(self, strength: float) -> Iterator[None]:
        """Inside, everything acts with this strength; 0 is the bare model."""
        kept, self.strength = self.strength, strength
        try:
            yield
        finally:
            self.strength = kept

    def _hook(self, layer: nn.Module) -> Any:
        def add(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if self.strength == 0:
                return output
            added: Tensor = layer.added(inputs[0])  # type: ignore[operator]
            return output + (added if self.strength == 1.0 else added * self.strength).to(output.dtype)

        return add

    def parameters_of(self, *parts: str) -> list[nn.Parameter]:
        """What is learnt in these parts."""
        keys = [one.key for one in self.chosen if one.part in parts]
        return [value for key in keys for value in self.layers[key].parameters()]

    def state_for_file(self) -> dict[str, Tensor]:
        """Tensors in kohya's layout, on the CPU: every layer's numbers and its alpha."""
        found: dict[str, Tensor] = {}
        for one in self.chosen:
            layer = self.layers[one.key]
            if not isinstance(layer, TrainedLayer):
                raise TypeError(f"{one.key} is no trained layer")
            for name, value in layer.tensors().items():
                found[f"{one.key}.{name}"] = value.detach().float().cpu().contiguous()
            found[f"{one.key}.alpha"] = torch.tensor(float(layer.shape.alpha))
        asked = self.shape.save_precision
        total = sum(tensor.nbytes for tensor in found.values())
        exact = total <= EXACT_BYTES if asked == "auto" else asked == "float32"
        return found if exact else {name: tensor.half() for name, tensor in found.items()}


def write_network(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """A safetensors file with kohya's metadata; its `sshs_model_hash` is over the tensors, as A1111 shows it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [Entry(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in sorted(tensors.items())]
    told = {"format": "pt", **metadata, "sshs_model_hash": _hash(tensors)}
    # The library's own writer puts the header in another order each time; equal runs shall give equal files.
    Writer(path, entries, told, overwrite=True).write(lambda name: tensors[name])
    return path


def _hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and bytes in order: stays the same whatever the metadata says."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return digest.hexdigest()
