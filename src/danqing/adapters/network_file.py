"""LoRA, LyCORIS and embedding files read: every layer's change, and the words that they bring along."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from danqing.adapters.change import Change
from danqing.adapters.lora import LowRank, WithMagnitude
from danqing.adapters.lycoris import Difference, Hadamard, Kronecker, Scaling, Turn
from danqing.adapters.transformer_names import to_diffusers
from danqing.models.headers import read_header
from danqing.models.network_keys import SECOND_TEXT, TEXT, UNET, EmbeddingKey, read_key
from danqing.spec.errors import BadFileError, UnsupportedError

METADATA_KEY = "lora_adapter_metadata"
"""Under which diffusers keeps PEFT's configuration in a LoRA file's header."""
_METADATA_PARTS = {UNET: ("unet.", "transformer."), TEXT: ("text_encoder.",), SECOND_TEXT: ("text_encoder_2.",)}

Numbers = dict[str, Tensor]


@dataclass
class NetworkWeights:
    """What a LoRA or LyCORIS file holds.

    Attributes:
        name: For messages.
        layers: (part, flat name of the layer) → its change; a number for a name in cloneofsimo's layout.
        embeddings: Word → vectors [n, width] by encoder (`clip_l`, `clip_g`, or "").
    """

    name: str
    layers: dict[tuple[str, str], Change] = field(default_factory=dict[tuple[str, str], Change])
    embeddings: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])

    @property
    def size_bytes(self) -> int:
        """Bytes of all its numbers."""
        tensors = [tensor for change in self.layers.values() for tensor in change.tensors()]
        tensors += [tensor for vectors in self.embeddings.values() for tensor in vectors.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def reduced(self, rank: int) -> NetworkWeights:
        """With low-rank changes brought down to a rank; others stay as they are."""
        layers = {
            key: change.reduced(rank) if isinstance(change, LowRank) else change for key, change in self.layers.items()
        }
        return NetworkWeights(self.name, layers, self.embeddings)


def read_network(path: Path) -> NetworkWeights:
    """A LoRA or LyCORIS file.

    Raises:
        BadFileError: It is damaged, or half of a layer's change is missing.
        UnsupportedError: It changes layers in a way that is not known here.
    """
    numbers: dict[tuple[str, str], Numbers] = {}
    found = NetworkWeights(path.stem)
    for key, tensor in read_tensors(path).items():
        what = read_key(key, tuple(tensor.shape))
        if what is None:
            raise UnsupportedError(
                f"{path.name} holds something that is no change of a layer",
                field="prompt",
                value=key,
                allowed="LoRA and LyCORIS in the layouts of kohya, diffusers, PEFT, LyCORIS and cloneofsimo",
                next_step="use a file that one of these trainers or `danqing` wrote",
            )
        if isinstance(what, EmbeddingKey):
            found.embeddings.setdefault(what.name, {})[what.encoder] = torch.atleast_2d(tensor.float())
        else:
            numbers.setdefault((what.part, what.layer), {})[what.number] = tensor
    scales = _Scales(path)
    for (part, layer), own in numbers.items():
        where = f"{path.name}, {layer}"
        for name, numbers_of in to_diffusers(layer, own, where) if part == UNET else ((layer, own),):
            found.layers[part, name] = _change(numbers_of, scales.of(part, layer, own), where)
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a pickled state dict, which is read without running anything.

    Raises:
        BadFileError: It cannot be read.
    """
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise BadFileError(
                f"{path.name} cannot be read: {error}", value=str(path), next_step="copy the file again"
            ) from error
    data = load_pickle(path)
    state: Any = data.get("state_dict", data)
    if not isinstance(state, dict):
        raise BadFileError(f"{path.name} holds no tensors by name", value=str(path))
    items = cast("dict[Any, Any]", state).items()
    return {str(key): value for key, value in items if isinstance(value, Tensor)}


def load_pickle(path: Path) -> dict[Any, Any]:
    """A file that torch.save wrote, without running anything in it.

    Raises:
        BadFileError: It is damaged, asks for code, or holds no dictionary.
    """
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadFileError(
            f"{path.name} cannot be read, or asks to run code, which is never done: {first}",
            value=str(path),
            next_step="copy the file again, or look for it as a safetensors file",
        ) from error
    if not isinstance(data, dict):
        raise BadFileError(f"{path.name} holds a {type(data).__name__}, not tensors by name", value=str(path))
    return cast("dict[Any, Any]", data)


class _Scales:
    """What the file says of the factors on low-rank products."""

    def __init__(self, path: Path) -> None:
        self._config: dict[str, Any] = {}
        if path.suffix.lower() != ".safetensors":
            return
        try:
            written: Any = json.loads(read_header(path).metadata.get(METADATA_KEY, "{}"))
        except ValueError as error:
            raise BadFileError(f"the header of {path.name} cannot be read: {error}", value=str(path)) from error
        self._config = cast("dict[str, Any]", written) if isinstance(written, dict) else {}

    def of(self, part: str, layer: str, numbers: Mapping[str, Tensor]) -> float:
        """Alpha over the rank. Without alpha it is 1, as in every reader; PEFT's configuration goes before that."""
        rank = _rank(numbers)
        if rank is None:
            return 1.0
        alpha = float(numbers["alpha"]) if "alpha" in numbers else self._about(part, layer, "alpha")
        root = bool(self._about(part, layer, "rslora"))
        return 1.0 if alpha is None else float(alpha) / (rank**0.5 if root else rank)

    def _about(self, part: str, layer: str, what: str) -> Any:
        for prefix in _METADATA_PARTS.get(part, ()):
            if what == "rslora":
                if value := self._config.get(f"{prefix}use_rslora"):
                    return value
                continue
            pattern = self._config.get(f"{prefix}alpha_pattern") or {}
            for name, value in cast("dict[str, Any]", pattern).items():
                flat = name.replace(".", "_")
                if layer == flat or layer.endswith(f"_{flat}"):
                    return value
            if f"{prefix}lora_alpha" in self._config:
                return self._config[f"{prefix}lora_alpha"]
        return None


def _rank(numbers: Mapping[str, Tensor]) -> int | None:
    for name in ("down", "lokr_w2_b", "lokr_w1_b", "hada_w1_b"):
        if name in numbers:
            return int(numbers[name].shape[0])
    return None


def _change(numbers: Numbers, scale: float, where: str) -> Change:
    """The change of a layer from its numbers."""
    change = _plain_change(numbers, scale, where)
    magnitude = numbers.get("dora_scale", numbers.get("magnitude"))
    return change if magnitude is None else WithMagnitude(change, magnitude)


def _plain_change(numbers: Numbers, scale: float, where: str) -> Change:
    names = set(numbers)
    if names & {"down", "up"}:
        down, up = _need(numbers, where, "down", "up")
        return LowRank(down, up, scale, numbers.get("mid"))
    if "hada_w1_a" in names:
        w1a, w1b, w2a, w2b = _need(numbers, where, "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
        kernels = (numbers["hada_t1"], numbers["hada_t2"]) if {"hada_t1", "hada_t2"} <= names else None
        return Hadamard((w1a, w1b), (w2a, w2b), scale, kernels)
    if names & {"lokr_w1", "lokr_w1_a"}:
        first = _one_or_two(numbers, where, "lokr_w1")
        second = _one_or_two(numbers, where, "lokr_w2")
        return Kronecker(first, second, scale, numbers.get("lokr_t2"))
    if "on_input" in names:
        (factors,) = _need(numbers, where, "weight")
        return Scaling(factors, bool(numbers["on_input"].flatten()[0]))
    if names & {"oft_blocks", "oft_diag"}:
        limit = float(numbers["alpha"]) if "alpha" in names and "oft_blocks" in names else 0.0
        blocks = numbers["oft_blocks"] if "oft_blocks" in names else numbers["oft_diag"]
        return Turn(blocks, limit, numbers.get("rescale"), ready="oft_blocks" not in names)
    if names & {"diff", "diff_b", "w_norm", "b_norm"}:
        return Difference(numbers.get("diff", numbers.get("w_norm")), numbers.get("diff_b", numbers.get("b_norm")))
    raise UnsupportedError(
        f"a layer is changed in a way that is not known here ({where})", field="prompt", value=", ".join(sorted(names))
    )


def _one_or_two(numbers: Numbers, where: str, name: str) -> tuple[Tensor, ...]:
    return (numbers[name],) if name in numbers else _need(numbers, where, f"{name}_a", f"{name}_b")


def _need(numbers: Numbers, where: str, *names: str) -> tuple[Tensor, ...]:
    missing = [name for name in names if name not in numbers]
    if missing:
        raise BadFileError(
            f"half of a layer's change is missing ({where})", value=", ".join(missing), next_step="copy the file again"
        )
    return tuple(numbers[name] for name in names)
