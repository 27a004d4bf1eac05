"""Brownian paths over σ for SDE samplers, repeatable whatever the steps: torchsde's Brownian tree.

The increments equal those of k-diffusion's `BrownianTreeNoiseSampler` for the same seed and range.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchsde import BrownianTree
from torchsde._brownian import brownian_interval

RandomTensor = Callable[[int, tuple[int, ...]], Tensor]
"""Normal numbers of a shape from a seed, always the same for the same seed."""

_LOCK = threading.RLock()
_FUNCTION = "_randn"
_DIGITS = 6


@contextmanager
def _drawing_from(random: RandomTensor) -> Generator[None]:
    """Let torchsde draw from `random`; it has no argument for it, so its module function is swapped under a lock."""

    def draw(size: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
        return random(int(seed), tuple(size)).to(device=device, dtype=dtype)

    names: dict[str, Any] = brownian_interval.__dict__
    with _LOCK:
        before = names[_FUNCTION]
        names[_FUNCTION] = draw
        try:
            yield
        finally:
            names[_FUNCTION] = before


def _single(value: float) -> float:
    """The float32 nearest to a level: the tree's numbers depend on exact ends, and k-diffusion's σ are float32."""
    return float(np.float32(value))


class TreePath:
    """A Brownian path for each picture.

    Args:
        example: A tensor [1, c, h, w] of the wanted shape, dtype and device.
        seeds: One seed per picture.
        sigma_min: Low end of the range.
        sigma_max: High end of the range.
        random: Where the numbers come from.
    """

    def __init__(
        self, example: Tensor, seeds: Sequence[int], sigma_min: float, sigma_max: float, random: RandomTensor
    ) -> None:
        low, high = _single(sigma_min), _single(sigma_max)
        # torchsde keeps its ends to six digits and warns about a query beyond them
        self._low, self._high = round(low, _DIGITS), round(high, _DIGITS)
        self._shape, self._seeds, self._random = tuple(example.shape[1:]), seeds, random
        with _drawing_from(random):
            self._trees = [BrownianTree(low, example[0], high, entropy=seed) for seed in seeds]

    def _held(self, sigma: float) -> float:
        return min(max(sigma, self._low), self._high)

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment from `sigma` to `sigma_next` at unit variance: [b, c, h, w]."""
        start, end = _single(sigma), _single(sigma_next)
        low, high = min(start, end), max(start, end)
        sign = 1.0 if end > start else -1.0
        if round(self._held(low), _DIGITS) == round(self._held(high), _DIGITS):
            return self._fresh(low, high)
        with _drawing_from(self._random):
            rows = [cast(Tensor, tree(self._held(low), self._held(high))) for tree in self._trees]
        return torch.stack(rows) * (sign / (high - low) ** 0.5)

    def _fresh(self, low: float, high: float) -> Tensor:
        """Independent noise for an interval finer than the tree resolves."""
        ends = np.asarray([low, high], dtype=np.float32).view(np.uint32).tolist()
        seeds = [int(np.random.SeedSequence([seed % 2**64, *ends]).generate_state(1)[0]) for seed in self._seeds]
        return torch.stack([self._random(seed, self._shape) for seed in seeds])
