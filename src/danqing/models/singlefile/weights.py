"""The tensors of a file by name, each read once: safetensors through a memory map, pickles with `weights_only`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from danqing.spec.errors import BadFileError

_SCALES = ("scale_weight", "weight_scale")
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class _Harmless:
    """Stands for a class that old checkpoints name beside their weights (as a key in a training record)."""


class Weights(Mapping[str, Tensor]):
    """The tensors of a file; float8 weights with a scale beside them (ComfyUI saves them so) come out in float32.

    Args:
        path: A `.safetensors` file, or a pickle that torch saved.

    Raises:
        BadFileError: It cannot be read, or holds more than weights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None
        self._tensors: dict[str, Tensor] = {}
        if _is_pickle(path):
            self._tensors = _unpickle(path)
            self._names = list(self._tensors)
        else:
            try:
                self._file = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise _unreadable(path, error) from error
            self._names = list(self._file.keys())
        self._known = frozenset(self._names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._known:
            raise KeyError(name)
        tensor = self._raw(name)
        if tensor.dtype not in _FP8:
            return tensor
        stem = name.removesuffix("weight")
        scale = next((stem + one for one in _SCALES if stem + one in self._known), None)
        if scale is None or stem == name:
            return tensor
        return tensor.to(torch.float32) * self._raw(scale).to(torch.float32)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if not name.endswith(_SCALES))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def below(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors whose names begin with one of these, under their whole names."""
        return {name: self[name] for name in self if name.startswith(prefixes)}

    def _raw(self, name: str) -> Tensor:
        return cast("Tensor", self._file.get_tensor(name)) if self._file is not None else self._tensors[name]


def _unpickle(path: Path) -> dict[str, Tensor]:
    # Names that published checkpoints carry besides tensors. They stand for nothing here, and no code of theirs runs.
    harmless: list[Any] = [
        (_Harmless, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
        (_Harmless, "pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
        *((np._core.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise BadFileError(
            f"{path.name} holds more than weights, and is not opened for safety",
            value=path.name,
            allowed="a file of tensors alone",
            next_step="download its .safetensors version",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error
    while isinstance(data, dict) and isinstance(data.get("state_dict"), dict):
        data = data["state_dict"]
    if not isinstance(data, dict):
        raise _unreadable(path, TypeError("no dictionary of tensors"))
    return {str(name): value for name, value in data.items() if isinstance(value, Tensor)}


def _is_zip(path: Path) -> bool:
    return _begin(path).startswith(b"PK")


def _is_pickle(path: Path) -> bool:
    """Told from the first bytes: people rename files. A safetensors file begins with a length and a brace."""
    begin = _begin(path)
    return begin.startswith((b"PK", b"\x80")) and begin[8:9] != b"{"


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BadFileError:
    return BadFileError(f"{path.name} cannot be read: {error}", value=str(path), next_step="download the file again")
