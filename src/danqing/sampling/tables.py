"""The noise levels a model was trained on, and the map between its time and σ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ZERO_SNR_ALPHA = 4.8973451890853435e-08
"""ᾱ used in place of 0 at the last step of a zero-terminal-SNR table, so that σ is finite (≈ 4518.8)."""

TRAINED_STEPS = 1000


class NoiseTable(Protocol):
    """What schedules need to know of a model."""

    @property
    def flow(self) -> bool:
        """Whether x = (1 − σ)·x₀ + σ·n."""
        ...

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """Levels in ascending order [T]."""
        ...

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        ...

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        ...

    def sigma_to_t(self, sigma: float) -> float:
        """Position in the table, 0 to T − 1, fractional between entries."""
        ...

    def t_to_sigma(self, t: float) -> float:
        """The level at a position."""
        ...

    def model_time(self, sigma: float) -> float:
        """What the network is told for this level."""
        ...


@dataclass(frozen=True)
class SigmaTable:
    """Levels of a discrete-time diffusion model (ε, v or x₀ prediction), σ = √((1 − ᾱ)/ᾱ).

    Attributes:
        values: The levels in ascending order.
    """

    values: tuple[float, ...]
    flow: bool = False

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Tensor | Sequence[float]) -> SigmaTable:
        """The table of a model's ᾱ [T]; a last ᾱ of 0 (zero terminal SNR) is made finite.

        Raises:
            ValueError: If ᾱ is not strictly descending within (0, 1].
        """
        alphas = torch.as_tensor(alphas_cumprod, dtype=torch.float32).clone()
        shaped = alphas.ndim == 1 and len(alphas) > 1
        if shaped and 0 <= float(alphas[-1]) < ZERO_SNR_ALPHA:
            alphas[-1] = ZERO_SNR_ALPHA
        sigmas = ((1 - alphas) / alphas) ** 0.5
        if not shaped or not bool((sigmas[1:] > sigmas[:-1]).all()) or not float(sigmas[0]) > 0:
            raise ValueError("alphas_cumprod must be one-dimensional and fall strictly inside 0 to 1")
        return cls(tuple(cast(list[float], sigmas.double().tolist())))

    @classmethod
    def scaled_linear(
        cls, beta_start: float = 0.00085, beta_end: float = 0.012, *, zero_snr: bool = False
    ) -> SigmaTable:
        """The table of Stable Diffusion 1, 2 and XL."""
        ends = beta_start**0.5, beta_end**0.5
        betas = torch.linspace(ends[0], ends[1], TRAINED_STEPS, dtype=torch.float64) ** 2
        alphas = torch.cumprod(1.0 - betas, dim=0)
        return cls.from_alphas_cumprod(rescale_zero_snr(alphas) if zero_snr else alphas)

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """Levels in ascending order [T]."""
        return self._levels

    @cached_property
    def _levels(self) -> NDArray[np.float64]:
        return np.asarray(self.values, dtype=np.float64)

    @cached_property
    def log_sigmas(self) -> NDArray[np.float64]:
        """Their logarithms [T]."""
        return np.log(self.sigmas)

    @cached_property
    def _index(self) -> NDArray[np.float64]:
        return np.arange(len(self.values), dtype=np.float64)

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return self.values[0]

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        return self.values[-1]

    def sigma_to_t(self, sigma: float) -> float:
        """Position of σ by linear interpolation in log σ, held inside the table."""
        if sigma <= 0:
            return 0.0
        return float(np.interp(math.log(sigma), self.log_sigmas, self._index))

    def t_to_sigma(self, t: float) -> float:
        """Level at a position by linear interpolation in log σ, held inside the table."""
        return math.exp(float(np.interp(t, self._index, self.log_sigmas)))

    def model_time(self, sigma: float) -> float:
        """The time step the network is told."""
        return self.sigma_to_t(sigma)

    def earlier_sigma(self, sigma: float, fraction: float) -> float:
        """The level at a fraction of the time step of σ, rounded down as TCD does."""
        if sigma <= 0:
            return 0.0
        return self.t_to_sigma(math.floor(fraction * round(self.sigma_to_t(sigma), 6)))


def rescale_zero_snr(alphas_cumprod: Tensor) -> Tensor:
    """ᾱ shifted and scaled so that the last is 0 (Lin et al. 2023, arXiv:2305.08891, algorithm 1).

    Args:
        alphas_cumprod: ᾱ [T].
    """
    root = alphas_cumprod.sqrt()
    first, last = root[0].clone(), root[-1].clone()
    return ((root - last) * (first / (first - last))) ** 2


def shifted(t: float, shift: float) -> float:
    """Flow time moved towards noise (Esser et al. 2024, arXiv:2403.03206, eq. 23).

    >>> shifted(0.5, 3.0)
    0.75
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


def dynamic_shift(tokens: int, *, at_256: float = 0.5, at_4096: float = 1.15, exponential: bool = True) -> float:
    """The shift for a picture of this many tokens, as FLUX and Qwen-Image choose it.

    Args:
        tokens: Length of the picture's token sequence.
        at_256: μ for 256 tokens.
        at_4096: μ for 4096 tokens.
        exponential: Whether the shift is exp(μ) or μ itself.
    """
    return SizeShift(at_256, at_4096, exponential=exponential).at(tokens)


@dataclass(frozen=True)
class SizeShift:
    """How the shift of a flow model grows with the picture: μ is linear in its tokens, the shift is exp(μ).

    Attributes:
        low: μ for `low_tokens`.
        high: μ for `high_tokens`.
        low_tokens: Of a small picture.
        high_tokens: Of a large one.
        exponential: Whether the shift is exp(μ) or μ itself.
    """

    low: float = 0.5
    high: float = 1.15
    low_tokens: int = 256
    high_tokens: int = 4096
    exponential: bool = True

    def at(self, tokens: int) -> float:
        """The shift for a picture of this many tokens."""
        mu = self.low + (self.high - self.low) * (tokens - self.low_tokens) / (self.high_tokens - self.low_tokens)
        return math.exp(mu) if self.exponential else mu


@dataclass(frozen=True)
class FlowTable:
    """Levels of a flow-matching model: σ is the shifted time itself.

    Attributes:
        shift: How far times are moved towards noise; 1 for not at all.
        multiplier: What the network's time is σ times of.
        steps: Entries in the table.
        by_size: How the shift depends on the picture's size, where it does; `for_tokens` then gives the table to use.
    """

    shift: float = 1.0
    multiplier: float = 1000.0
    steps: int = TRAINED_STEPS
    flow: bool = True
    by_size: SizeShift | None = None

    def for_tokens(self, tokens: int) -> FlowTable:
        """The table for a picture of this many tokens."""
        return self if self.by_size is None else replace(self, shift=self.by_size.at(tokens), by_size=None)

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """Levels in ascending order [T]."""
        return self._levels

    @cached_property
    def _levels(self) -> NDArray[np.float64]:
        return np.asarray([shifted((i + 1) / self.steps, self.shift) for i in range(self.steps)])

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return shifted(1.0 / self.steps, self.shift)

    @property
    def sigma_max(self) -> float:
        """The highest level, 1."""
        return 1.0

    def sigma_to_t(self, sigma: float) -> float:
        """Position of σ, the shift undone; below the table it may be negative, down to -1 at σ = 0."""
        return self.steps * sigma / (self.shift - (self.shift - 1.0) * sigma) - 1.0

    def t_to_sigma(self, t: float) -> float:
        """Level at a position."""
        return shifted((t + 1.0) / self.steps, self.shift)

    def model_time(self, sigma: float) -> float:
        """The time the network is told."""
        return sigma * self.multiplier
