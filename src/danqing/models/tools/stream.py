"""Tensors of a file one at a time, and a safetensors file written so: memory holds one tensor, not a model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from danqing.models.headers import read_header
from danqing.spec.errors import BadFileError, ConflictError, InvalidRequestError, UnsupportedError
from danqing.spec.files import TensorInfo

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}
"""Number formats that weights can be written in."""
_CODES: Mapping[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT_BYTES = 8


class Source:
    """A file's tensors, read when asked for.

    Args:
        path: `.safetensors`, or a torch file (`.ckpt`, `.pt`, `.pth`, `.bin`), which is opened with weights_only.

    Raises:
        BadFileError: It is damaged, or a pickle that asks for code.
        UnsupportedError: It is GGUF.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = read_header(path)
        if header.format == "gguf":
            raise UnsupportedError(
                f"{path.name} is GGUF, whose packed weights cannot be worked on",
                value=str(path),
                next_step="use the file that it was made from",
            )
        self.metadata = dict(header.metadata)
        self.infos: dict[str, TensorInfo] = header.tensors
        self._mapped: dict[str, Tensor] | None = None
        self._file: Any = None
        try:
            if header.format == "safetensors":
                self._file = safe_open(path, framework="pt")
            else:
                self._mapped = _flat(_load_pickle(path))
                self.infos = {
                    name: TensorInfo(str(one.dtype).removeprefix("torch."), tuple(one.shape))
                    for name, one in self._mapped.items()
                }
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise BadFileError(
                f"{path.name} cannot be read: {error}", value=str(path), next_step="copy the file again"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self.infos

    def names(self) -> list[str]:
        """Every tensor's name, in order."""
        return sorted(self.infos)

    def get(self, name: str) -> Tensor:
        """One tensor, in the file's own number format."""
        if self._mapped is not None:
            return self._mapped[name]
        found: Tensor = self._file.get_tensor(name)
        return found


def _load_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # Files older than torch's zip format cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True)


def _flat(data: Any) -> dict[str, Tensor]:
    """The state dict of a training checkpoint, or the dictionary itself."""
    if isinstance(data, dict):
        inner = cast("dict[str, Any]", data)
        inner = cast("dict[str, Any]", inner.get("state_dict", inner))
        return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    return {}


@dataclass(frozen=True)
class Entry:
    """A tensor to be written: its name, number format and shape."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Of its numbers."""
        count = 1
        for side in self.shape:
            count *= side
        return count * self.dtype.itemsize


@dataclass
class Writer:
    """A safetensors file in the making, under a temporary name until it is whole.

    Attributes:
        path: Where it shall be.
        entries: What comes, in order.
        metadata: The header's own words.
        overwrite: Whether a file that is there may be replaced.
        progress: Called with the share that is done, 0 to 1.
    """

    path: Path
    entries: list[Entry]
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    overwrite: bool = False
    progress: Callable[[float], None] | None = None

    def write(self, produce: Callable[[str], Tensor]) -> int:
        """Write every entry as `produce` gives it; the file's size in bytes.

        Raises:
            ConflictError: The file is there.
            InvalidRequestError: Its name has another ending, or nothing is left to write.
        """
        check_target(self.path, overwrite=self.overwrite)
        if not self.entries:
            raise InvalidRequestError("nothing would be left in the file", field="OUT", value=str(self.path))
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        total = sum(entry.size_bytes for entry in self.entries)
        done = 0
        try:
            with temporary.open("wb") as file:
                file.write(_header(self.entries, self.metadata))
                for entry in self.entries:
                    tensor = produce(entry.name).to(entry.dtype).contiguous()
                    if tuple(tensor.shape) != entry.shape:
                        raise BadFileError(
                            f"{entry.name} came out with another shape",
                            value=tuple(tensor.shape),
                            allowed=str(entry.shape),
                        )
                    file.write(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
                    done += entry.size_bytes
                    if self.progress is not None:
                        self.progress(done / total if total else 1.0)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        return self.path.stat().st_size


def check_target(path: Path, *, overwrite: bool) -> None:
    """Whether a file may be written here.

    Raises:
        InvalidRequestError: Its ending is not `.safetensors`, or its folder is not there.
        ConflictError: It is there already.
    """
    if path.suffix != ".safetensors":
        raise InvalidRequestError(
            "weights are written as safetensors only", field="OUT", value=str(path), allowed="a name in .safetensors"
        )
    if not path.parent.is_dir():
        raise InvalidRequestError(
            "there is no such folder", field="OUT", value=str(path.parent), next_step="make it first"
        )
    if path.exists() and not overwrite:
        raise ConflictError(
            "the file is there already",
            field="OUT",
            value=str(path),
            next_step="choose another name, or add --overwrite",
        )


def _header(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.size_bytes],
        }
        offset += entry.size_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def torch_dtype(info: TensorInfo) -> torch.dtype:
    """PyTorch's name for a tensor's number format.

    Raises:
        UnsupportedError: PyTorch has none, or safetensors cannot hold it.
    """
    found = getattr(torch, info.dtype, None)
    if not isinstance(found, torch.dtype) or found not in _CODES:
        raise UnsupportedError("weights in this number format cannot be worked on", value=info.dtype)
    return found


def named_dtype(name: str | None) -> torch.dtype | None:
    """The number format that a person names; None for None (*keep*).

    Raises:
        InvalidRequestError: It is none of `DTYPES`.
    """
    if name is None:
        return None
    short = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn"}.get(name, name)
    if short not in DTYPES:
        raise InvalidRequestError(
            "there is no such number format",
            field="--to",
            value=name,
            allowed=", ".join(("fp32, fp16, bf16, fp8", *DTYPES)),
        )
    return DTYPES[short]
