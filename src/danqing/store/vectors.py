"""Vectors as bytes, and what is done with them without torch: cosine, probability."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danqing.spec.errors import BadFileError

Vectors = NDArray[np.float32]
_STORED = np.dtype("<f2")  # an error of 5e-4 at most in a cosine, for half the bytes


def pack(vector: NDArray[Any]) -> bytes:
    """A vector `[dim]` as little-endian float16."""
    return np.ascontiguousarray(vector, dtype=_STORED).tobytes()


def unpack(packed: Sequence[bytes], dim: int) -> Vectors:
    """Unit vectors `[n, dim]` from what `pack` gave; all of them must have this width.

    >>> unpack([pack(np.array([3.0, 4.0]))], 2).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if any(len(data) != dim * _STORED.itemsize for data in packed):
        raise BadFileError(
            "an embedding in the database has another width",
            value=sorted({len(data) for data in packed}),
            allowed=f"{dim * _STORED.itemsize} bytes",
            next_step="restore the database from a backup",
        )
    return unit(np.frombuffer(b"".join(packed), _STORED).reshape(len(packed), dim))


def to_text(vectors: NDArray[Any]) -> str:
    """Vectors `[n, dim]` as base64 of little-endian float32, for a JSON line."""
    return base64.b64encode(np.ascontiguousarray(vectors, dtype="<f4").tobytes()).decode()


def from_text(text: str, dim: int) -> Vectors:
    """Vectors `[n, dim]` from what `to_text` gave.

    Raises:
        BadFileError: It is something else.
    """
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
        found = data.reshape(-1, dim).astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise BadFileError("embeddings that cannot be read", value=text[:40], allowed="base64 of float32") from error
    if not np.isfinite(found).all():
        raise BadFileError("embeddings that are not finite", allowed="finite numbers")
    return found


def unit(vectors: NDArray[Any]) -> Vectors:
    """Each row divided by its length, in float64: squares of very small numbers vanish in float32. Zeros stay."""
    x = vectors.astype(np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return (x / np.where(length > 0, length, 1.0)).astype(np.float32)


def sigmoid(logits: NDArray[Any]) -> Vectors:
    """1 / (1 + e^-x) without overflow.

    >>> sigmoid(np.array([0.0, -1000.0])).tolist()[0]
    0.5
    """
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))).astype(np.float32)
