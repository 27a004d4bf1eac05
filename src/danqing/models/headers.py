"""What a file of weights says before its weights: names, shapes, number formats, the header's own words. No torch.

The format is told from the first bytes, not from the name: people rename files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from danqing.models.header_gguf import MAGIC as GGUF_MAGIC
from danqing.models.header_gguf import read_gguf
from danqing.models.header_memo import HeaderMemo, TensorTable, split
from danqing.models.header_pickle import read_legacy_pickle, read_zip_pickle
from danqing.spec.errors import BadFileError, DanqingError, NotFoundError
from danqing.spec.files import Header, TensorInfo

WEIGHT_FILE_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
"""Endings of files that may hold weights and that `read_header` can look into."""

# The safetensors library's own bound on a header.
_HEADER_LIMIT_BYTES = 100_000_000
_ZIP_MAGIC = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC = b"PK\x05\x06"
_DTYPES: dict[str, tuple[str, int]] = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F4": ("float4_e2m1fn_x2", 4),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    "C64": ("complex64", 64),
}
_NOT_WEIGHTS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the weights",
        "run `git lfs pull` in that folder, or download the file itself",
    ),
    (b"<!doctype", "is a web page, saved in place of the weights", "download it again, signed in where the site asks"),
    (b"<html", "is a web page, saved in place of the weights", "download it again, signed in where the site asks"),
    (b'{"error"', "is a server's error message, saved in place of the weights", "download it again"),
    (b"\x1f\x8b", "is a gzip archive", "unpack it and use what is inside"),
    (b"7z\xbc\xaf", "is a 7z archive", "unpack it and use what is inside"),
    (b"Rar!", "is a RAR archive", "unpack it and use what is inside"),
    (b"\x89HDF", "is an HDF5 file of Keras or TensorFlow", "look for a safetensors file of the same model"),
)


def read_header(path: Path, memo: HeaderMemo | None = None) -> Header:
    """The header of a file, reading none of its weights and executing nothing.

    Args:
        path: A safetensors, torch (zip or older) or GGUF file, whatever its ending.
        memo: Of a scan through many files: equal tables of tensors are read once.

    Raises:
        NotFoundError: There is no such file.
        BadFileError: It is damaged, cut off, no file of weights, or a pickle that asks for code.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _read(file, size, memo)
    except FileNotFoundError as error:
        raise NotFoundError("there is no such file", value=str(path), next_step="check the path") from error
    except DanqingError as error:
        raise _about(error, path) from error
    except OSError as error:
        raise BadFileError(
            f"{path.name} cannot be read: {error.strerror or error}",
            value=str(path),
            next_step="check that it is a file, and that you may read it",
        ) from error


def _read(file: BinaryIO, size: int, memo: HeaderMemo | None) -> Header:
    start = file.read(64)
    file.seek(0)
    if not start:
        raise BadFileError("is empty", next_step="the download has not begun: download it again")
    if not start.strip(b"\0"):
        raise BadFileError("begins with nothing but zeros", next_step="the download was not finished: fetch it again")
    if start.startswith(GGUF_MAGIC):
        return read_gguf(file, size)
    if start.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC)):
        return read_zip_pickle(file)
    for mark, what, remedy in _NOT_WEIGHTS:
        if start.lower().startswith(mark.lower()):
            raise BadFileError(what, next_step=remedy)
    # A pickle starts with its protocol, 0x80 and 2 … 5; a safetensors header of such a length starts with `{` at 8.
    if start[0] == 0x80 and start[8:9] != b"{":
        return read_legacy_pickle(file)
    return _read_safetensors(file, size, memo)


def _read_safetensors(file: BinaryIO, size: int, memo: HeaderMemo | None) -> Header:
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= _HEADER_LIMIT_BYTES:
        raise BadFileError(
            "is no file of weights that is known here",
            allowed="safetensors, a torch file (.ckpt, .pt, .pth, .bin) or GGUF",
            next_step="download it again, or remove it from the models folder",
        )
    if size < 8 + length:
        raise _cut_off(size, 8 + length)
    text = file.read(length)
    parts = split(text) if memo is not None else None
    known = memo.get(parts[1]) if memo is not None and parts is not None else None
    if parts is not None and known is not None:
        metadata, (tensors, end) = parts[0], known
    else:
        metadata, tensors, end = _parsed(text)
        if memo is not None and parts is not None:
            memo.put(parts[1], tensors, end)
    if 8 + length + end > size:
        raise _cut_off(size, 8 + length + end)
    return Header("safetensors", tensors, metadata)


def _parsed(text: bytes) -> tuple[dict[str, str], TensorTable, int]:
    """(metadata, tensors, length of the weights in bytes) of a safetensors header."""
    try:
        data: Any = orjson.loads(text)
        entries = dict(cast("dict[str, Any]", data))
        words: Any = entries.pop("__metadata__", None) or {}
        metadata = {str(key): value if isinstance(value, str) else str(value) for key, value in words.items()}
        return metadata, *_tensors(entries)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadFileError(
            f"has a damaged safetensors header: {error}",
            next_step="download or copy it again; compare its sha256 with the publisher's",
        ) from error


def _tensors(entries: dict[str, Any]) -> tuple[TensorTable, int]:
    """Tensor by name, and the length of the data in bytes."""
    known: dict[tuple[str, tuple[int, ...]], tuple[TensorInfo, int]] = {}
    tensors = TensorTable()
    end = 0
    for name, entry in entries.items():
        key = (entry["dtype"], tuple(entry["shape"]))
        begin, stop = entry["data_offsets"]
        if key not in known:
            known[key] = _tensor(*key)
        tensors[name], length = known[key]
        if stop - begin != length and length >= 0:
            raise ValueError(f"{name} has {stop - begin} bytes where its shape needs {length}")
        end = max(end, stop)
    return tensors, end


def _tensor(dtype: Any, shape: tuple[Any, ...]) -> tuple[TensorInfo, int]:
    """The tensor and its length in bytes; -1 where the number format is not known."""
    if not isinstance(dtype, str) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{dtype!r} {list(shape)} is no number format and shape")
    name, bits = _DTYPES.get(dtype, (dtype.lower(), -1))
    return TensorInfo(name, shape), math.prod(shape) * bits // 8 if bits > 0 else -1


def _cut_off(size: int, needed: int) -> BadFileError:
    return BadFileError(
        "is cut off: its header promises more than there is",
        value=f"{size:,} of {needed:,} bytes",
        next_step="the download or copy was not finished: fetch it again",
    )


def _about(error: DanqingError, path: Path) -> DanqingError:
    """The error with the file's name in front of what is wrong."""
    kind = type(error)
    return kind(
        f"{path.name} {error.message}",
        value=error.value if error.value is not None else str(path),
        allowed=error.allowed,
        next_step=error.next_step,
    )
