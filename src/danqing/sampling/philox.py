"""The Philox 4x32-10 counter-based generator, giving the numbers `torch.randn` gives on an NVIDIA card.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), and the
Box–Muller form of cuRAND. AUTOMATIC1111 calls this source "NV".
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
# cuRAND's float32 constants, kept at float32 precision
_TO_UNIT = float(np.float32(2.3283064e-10))
_TO_CIRCLE = float(np.float32(2.3283064e-10 * 6.2831855))

Words = NDArray[np.uint32]


def philox(counter: tuple[Words, Words, Words, Words], seed: int) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox on four vectors of 32-bit counters, each [n].

    Args:
        counter: The four words of every counter.
        seed: 64-bit key.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = np.uint32(seed & 0xFFFFFFFF), np.uint32((seed >> 32) & 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            p0 = c0.astype(np.uint64) * _MULTIPLIERS[0]
            p1 = c2.astype(np.uint64) * _MULTIPLIERS[1]
            c0, c1, c2, c3 = (
                (p1 >> _SHIFT).astype(np.uint32) ^ c1 ^ k0,
                (p1 & _LOW).astype(np.uint32),
                (p0 >> _SHIFT).astype(np.uint32) ^ c3 ^ k1,
                (p0 & _LOW).astype(np.uint32),
            )
            k0, k1 = np.uint32(k0 + _WEYL[0]), np.uint32(k1 + _WEYL[1])
    return c0, c1, c2, c3


class PhiloxGenerator:
    """A stream of normal tensors from one seed; the n-th call uses offset n.

    Args:
        seed: 64-bit seed.

    >>> [round(float(v), 5) for v in PhiloxGenerator(0).normal((4,))]
    [-0.92466, -0.42534, -2.64385, 0.14518]
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed % 2**64
        self._offset = 0

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard normal numbers of this shape."""
        count = prod(shape)
        zeros = np.zeros(count, dtype=np.uint32)
        offset = np.full(count, self._offset, dtype=np.uint32)
        index = np.arange(count, dtype=np.uint32)
        self._offset += 1
        first, second, _, _ = philox((offset, zeros, index, zeros), self._seed)
        radius = np.sqrt(-2.0 * np.log(first * _TO_UNIT + _TO_UNIT / 2))
        angle = second * _TO_CIRCLE + _TO_CIRCLE / 2
        return (radius * np.sin(angle)).astype(np.float32).reshape(shape)
