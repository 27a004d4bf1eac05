"""The names and shapes inside a torch pickle, without torch and without running it.

A pickle is a little program. `pickle_stubs` knows the opcodes that torch.save writes, and the *names* of the classes
that weights need; it builds stubs that remember shapes, imports nothing and calls nothing. A file that names anything
else is refused, with that name: it is either no file of weights or an attack.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from danqing.models.pickle_stubs import Stub, Tensor, interpret
from danqing.spec.errors import BadFileError
from danqing.spec.files import Header, TensorInfo

_PICKLE_LIMIT_BYTES = 64_000_000
_SCALAR_LIMIT = 10_000
_TEXT_LIMIT_CHARS = 100_000
_DEPTH_LIMIT = 32
_NODE_LIMIT = 400_000
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001


def read_zip_pickle(file: BinaryIO) -> Header:
    """The header of torch's zip format (PyTorch 1.6 and later).

    Raises:
        BadFileError: It is damaged, no torch file, or asks for code.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            data = _main_pickle(archive)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError, RuntimeError) as error:
        raise BadFileError(
            f"is a damaged or cut-off torch file: {error}",
            next_step="the download or copy was not finished: fetch it again",
        ) from error
    return _header(interpret(io.BytesIO(data)))


def _main_pickle(archive: zipfile.ZipFile) -> bytes:
    names = archive.namelist()
    found = [name for name in names if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)]
    if not found:
        raise BadFileError(
            "is a zip archive without weights",
            value=", ".join(names[:4]) or "empty",
            allowed="a file written by torch.save, with data.pkl inside",
            next_step="unpack it and use what is inside",
        )
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise BadFileError(
            "is a TorchScript program, which is not run here",
            allowed="a file of weights alone",
            next_step="look for a safetensors file of the same model",
        )
    info = archive.getinfo(found[0])
    if info.file_size > _PICKLE_LIMIT_BYTES:
        raise BadFileError(
            "has an index far larger than any model's",
            value=f"{info.file_size:,} bytes",
            allowed=f"at most {_PICKLE_LIMIT_BYTES:,} bytes",
            next_step="do not trust this file",
        )
    with archive.open(info) as stream:
        return stream.read(_PICKLE_LIMIT_BYTES)


def read_legacy_pickle(file: BinaryIO) -> Header:
    """The header of torch's older format: magic number, version, machine, object, storages.

    Raises:
        BadFileError: It is damaged, no torch file, or asks for code.
    """
    # The weights come after the fourth pickle, so a bounded beginning is enough.
    stream = io.BytesIO(file.read(_PICKLE_LIMIT_BYTES))
    first = interpret(stream)
    if first != _MAGIC_NUMBER:
        return _header(first)
    version = interpret(stream)
    if version != _PROTOCOL_VERSION:
        raise BadFileError("is a torch file of a version that is not known", value=str(version)[:80])
    interpret(stream)
    return _header(interpret(stream))


def _header(root: Any) -> Header:
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for name, item in _walk(root):
        if isinstance(item, Tensor):
            tensors[name] = item.info
        elif len(metadata) < _SCALAR_LIMIT:
            metadata[name] = item
    return Header("pickle", tensors, metadata)


def _walk(root: Any) -> Iterator[tuple[str, Tensor | str]]:
    """(dotted name, tensor or scalar as text) of everything in nested dictionaries and lists."""
    waiting: list[tuple[str, Any, int]] = [("", root, 0)]
    seen = 0
    while waiting:
        name, item, depth = waiting.pop()
        seen += 1
        # A few bytes of pickle can stand for endless dictionaries inside each other.
        if depth > _DEPTH_LIMIT or seen + len(waiting) > _NODE_LIMIT:
            raise BadFileError(
                "has dictionaries nested or repeated far beyond any model's", next_step="do not trust this file"
            )
        if isinstance(item, Stub):
            item = item.content()
        if isinstance(item, Tensor):
            yield name or "tensor", item
        elif isinstance(item, (dict, list, tuple)):
            inner = cast("dict[Any, Any] | list[Any] | tuple[Any, ...]", item)
            words = _list_text(inner)
            if words is not None:
                yield name, words
            else:
                waiting += [(f"{name}.{key}" if name else str(key), one, depth + 1) for key, one in _pairs(inner)]
        elif isinstance(item, (str, int, float)):
            yield name, _text(item)


def _pairs(inner: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> list[tuple[str | int, Any]]:
    """What is inside, in the order in which a stack must hold it to come out as it went in."""
    pairs = list(inner.items() if isinstance(inner, dict) else enumerate(inner))
    return [(key, item) for key, item in reversed(pairs) if isinstance(key, (str, int))]


def _list_text(inner: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> str | None:
    """A list of nothing but words and numbers, as JSON."""
    plain = not isinstance(inner, dict) and 0 < len(inner) <= _SCALAR_LIMIT
    if not plain or not all(isinstance(one, (str, int, float)) for one in inner):
        return None
    return json.dumps([_text(one) if isinstance(one, str) else one for one in inner])[:_TEXT_LIMIT_CHARS]


def _text(item: str | float) -> str:
    if isinstance(item, int) and item.bit_length() > 256:
        return "a very long number"
    return str(item)[:_TEXT_LIMIT_CHARS]
