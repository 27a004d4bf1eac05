"""The words that samplers share: how they call the model, where noise comes from, what can be set.

A sampler is a generator. It knows nothing of prompts, guidance, time steps or models: it is given a `Denoise`, and it
runs in σ. Unless an option says otherwise, x is in the variance-exploding scaling of Karras et al. (2022,
arXiv:2206.00364): x = x₀ + σ·n, and D(x, σ) is the model's estimate of x₀.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from torch import Tensor

Stepper: TypeAlias = Generator[Any, Any, Tensor]
"""A running sampler: yields whatever the denoiser yields and returns the last x."""

Denoise: TypeAlias = Callable[[Tensor, float], Stepper]
"""D(x, σ), used as `denoised = yield from denoise(x, sigma)`; x and the answer are [b, c, h, w]."""


class BrownianPath(Protocol):
    """A Brownian motion over σ, one independent path per element."""

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The motion's increment from `sigma` to `sigma_next`, scaled to unit variance: [b, c, h, w]."""
        ...


class NoiseSource(Protocol):
    """Seeded normal noise for a batch of pictures; every row depends on its own seed alone."""

    def initial(self, shape: tuple[int, ...]) -> Tensor:
        """The first noise of each picture, with its variation and resize: [b, c, h, w]."""
        ...

    def next(self, shape: tuple[int, ...]) -> Tensor:
        """The following noise of each picture: [b, c, h, w]."""
        ...

    def brownian(self, shape: tuple[int, ...], sigma_min: float, sigma_max: float) -> BrownianPath:
        """A Brownian path over [sigma_min, sigma_max] for each picture, made from its seed."""
        ...

    def rows(self) -> list[NoiseSource]:
        """One source per picture, sharing this one's state."""
        ...


@dataclass(frozen=True)
class SamplerOptions:
    """What can be set on a sampler; each reads the fields its registry entry names.

    Attributes:
        eta: Share of fresh noise: 0 none, 1 the full amount. None takes the sampler's default.
        s_churn: Noise added before a step, spread over the run (Karras et al., algorithm 2).
        s_tmin: Lowest σ at which noise is added.
        s_tmax: Highest σ at which noise is added.
        s_noise: Factor on fresh noise.
        r: Position of the middle evaluation of DPM++ SDE within its step, in log σ.
        order: Order of LMS, DEIS, UniPC or DPM adaptive; None takes the sampler's default.
        variant: UniPC's B(h): "bh1" (h) or "bh2" (eʰ − 1).
        lower_order_final: Whether UniPC falls to lower orders in its last steps.
        rtol: Relative tolerance of DPM adaptive.
        atol: Absolute tolerance of DPM adaptive.
        h_init: First step of DPM adaptive, in log σ.
        pcoeff: Proportional coefficient of its step controller.
        icoeff: Integral coefficient of its step controller.
        dcoeff: Derivative coefficient of its step controller.
        accept_safety: How small a step it may propose and still accept the current one.
        flow: Whether x = (1 − σ)·x₀ + σ·n with σ in [0, 1], as in flow-matching models.
        unconditional: For CFG++: gives the unconditional estimate that belongs to the last answer of the denoiser.
        earlier_sigma: For TCD: the σ at a fraction of the model time of another σ.
    """

    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    r: float = 0.5
    order: int | None = None
    variant: str = "bh1"
    lower_order_final: bool = True
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    pcoeff: float = 0.0
    icoeff: float = 1.0
    dcoeff: float = 0.0
    accept_safety: float = 0.81
    flow: bool = False
    unconditional: Callable[[], Tensor] | None = None
    earlier_sigma: Callable[[float, float], float] | None = None

    def eta_or(self, default: float) -> float:
        """The asked-for eta, or the sampler's default."""
        return default if self.eta is None else self.eta


class SamplerFunction(Protocol):
    """A sampler: from x at sigmas[0] to x at sigmas[-1]."""

    def __call__(
        self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions
    ) -> Stepper:
        """Start the sampler.

        Args:
            denoise: The model.
            x: Noisy latents [b, c, h, w].
            sigmas: Noise levels [n + 1], descending; the last is 0, or more for a partial run.
            noise: Where fresh noise comes from.
            options: What was set.
        """
        ...


def levels(sigmas: Tensor) -> list[float]:
    """The schedule as plain numbers, so that no step waits for a device."""
    return cast(list[float], sigmas.detach().double().cpu().tolist())
