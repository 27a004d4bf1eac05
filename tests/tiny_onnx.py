"""A tiny ONNX tagger, written byte by byte: the picture's mean colour times a matrix, through σ. Needs no package."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _block(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, side) for side in values.shape)
    return dims + _number(2, 1) + _block(8, name) + _block(9, values.astype("<f4").tobytes())


def _value(name: str, shape: list[int | str]) -> bytes:
    dims = b"".join(_block(1, _number(1, side) if isinstance(side, int) else _block(2, side)) for side in shape)
    return _block(1, name) + _block(2, _block(1, _number(1, 1) + _block(2, dims)))


def _node(kind: str, given: list[str], out: str, attributes: bytes = b"") -> bytes:
    return b"".join(_block(1, name) for name in given) + _block(2, out) + _block(4, kind) + attributes


def write_tagger(path: Path, matrix: np.ndarray, bias: np.ndarray, side_px: int = 16, *, channels_first: bool = False):
    """A network `[n, side, side, 3]` → σ(mean colour · matrix + bias) `[n, tags]`."""
    axes = (2, 3) if channels_first else (1, 2)
    ints = _block(5, _block(1, "axes") + b"".join(_number(8, axis) for axis in axes) + _number(20, 7))
    flat = _block(5, _block(1, "keepdims") + _number(3, 0) + _number(20, 2))
    nodes = (
        _node("ReduceMean", ["input"], "mean", ints + flat),
        _node("MatMul", ["mean", "w"], "mixed"),
        _node("Add", ["mixed", "b"], "logits"),
        _node("Sigmoid", ["logits"], "tags"),
    )
    shape: list[int | str] = ["n", 3, side_px, side_px] if channels_first else ["n", side_px, side_px, 3]
    graph = b"".join(_block(1, node) for node in nodes) + _block(2, "tagger")
    graph += _block(5, _tensor("w", matrix)) + _block(5, _tensor("b", bias))
    graph += _block(11, _value("input", shape)) + _block(12, _value("tags", ["n", matrix.shape[1]]))
    path.write_bytes(_number(1, 8) + _block(7, graph) + _block(8, _block(1, "") + _number(2, 13)))


def write_constant(path: Path, answers: dict[str, np.ndarray], side_px: int, metadata: dict[str, str]) -> Path:
    """A network `[1, 3, side, side]` that gives the same answers to every picture, as a detector's test double."""
    ints = _block(5, _block(1, "axes") + b"".join(_number(8, axis) for axis in (0, 1, 2, 3)) + _number(20, 7))
    flat = _block(5, _block(1, "keepdims") + _number(3, 0) + _number(20, 2))
    nodes = [_node("ReduceMean", ["images"], "mean", ints + flat), _node("Mul", ["mean", "zero"], "nothing")]
    nodes += [_node("Add", ["nothing", f"{name}_is"], name) for name in answers]
    graph = b"".join(_block(1, node) for node in nodes) + _block(2, "detector")
    graph += _block(5, _tensor("zero", np.zeros((), np.float32)))
    graph += b"".join(_block(5, _tensor(f"{name}_is", values)) for name, values in answers.items())
    graph += _block(11, _value("images", [1, 3, side_px, side_px]))
    graph += b"".join(_block(12, _value(name, list(values.shape))) for name, values in answers.items())
    told = b"".join(_block(14, _block(1, key) + _block(2, text)) for key, text in metadata.items())
    path.write_bytes(_number(1, 8) + _block(7, graph) + _block(8, _block(1, "") + _number(2, 13)) + told)
    return path
