"""Seeded noise: one stream per picture, so that a picture never depends on its neighbours in a batch.

Sources, variation seeds, seed resize and the eta noise seed delta give the numbers AUTOMATIC1111 gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.sampling.brownian import TreePath
from danqing.sampling.philox import PhiloxGenerator
from danqing.sampling.types import BrownianPath, NoiseSource
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.registry.noise import NOISE_SOURCES

Draw = Callable[[tuple[int, ...]], Tensor]
"""The next normal tensor of a stream."""

NEARLY_PARALLEL = 0.9995
SEED_LIMIT = 2**63


@dataclass(frozen=True)
class NoiseSettings:
    """Where one picture's noise comes from.

    Attributes:
        seed: The picture's seed.
        source: "cpu", "gpu" or "nv".
        variation_seed: Seed of the noise mixed in.
        variation_strength: How much of it, 0 to 1.
        resize_from: Latent (height, width) whose composition is kept; None for the picture's own.
        eta_seed_delta: Added to the seed for the noise after the first.
    """

    seed: int
    source: str = "cpu"
    variation_seed: int = 0
    variation_strength: float = 0.0
    resize_from: tuple[int, int] | None = None
    eta_seed_delta: int = 0


def stream(seed: int, source: str, device: torch.device) -> Draw:
    """A stream of normal tensors on `device`.

    Raises:
        InvalidRequestError: If the source is unknown or the seed is out of range.
        UnsupportedError: If the source is "gpu" and this machine has no such device.
    """
    if not -SEED_LIMIT <= seed < 2 * SEED_LIMIT:
        raise InvalidRequestError("the seed is out of range", field="seed", value=seed, allowed="0 to 2⁶⁴ - 1")
    if source == "nv":
        philox = PhiloxGenerator(seed)
        return lambda shape: torch.from_numpy(philox.normal(shape)).to(device)
    if source == "cpu":
        cpu = torch.Generator("cpu").manual_seed(seed)
        return lambda shape: torch.randn(shape, generator=cpu).to(device)
    if source == "gpu":
        card = _card() if device.type == "cpu" else device
        if card is None:
            raise UnsupportedError(
                "noise from the graphics card needs one, and this machine has none",
                field="noise_source",
                value=source,
                allowed="cpu, nv",
                next_step="choose NV, which gives an NVIDIA card's numbers on any machine",
            )
        own = torch.Generator(card).manual_seed(seed)
        return lambda shape: torch.randn(shape, generator=own, device=card).to(device)
    raise InvalidRequestError(
        "there is no noise source of this name",
        field="noise_source",
        value=source,
        allowed=", ".join(info.key for info in NOISE_SOURCES),
    )


def _card() -> torch.device | None:
    """The graphics card of this machine: latents between model calls live on the CPU, their noise need not."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else None


def slerp(strength: float, low: Tensor, high: Tensor) -> Tensor:
    """Spherical interpolation along dimension 1, as in AUTOMATIC1111.

    Args:
        strength: 0 gives `low`, 1 gives `high`.
        low: Noise [c, h, w].
        high: Noise [c, h, w].
    """
    unit_low = low / low.square().sum(1, keepdim=True).sqrt()
    unit_high = high / high.square().sum(1, keepdim=True).sqrt()
    dot = (unit_low * unit_high).sum(1)
    if float(dot.mean()) > NEARLY_PARALLEL:
        return torch.lerp(low, high, strength)
    omega = torch.acos(dot.clamp(-1.0, 1.0))
    sine = torch.sin(omega)
    a = (torch.sin((1.0 - strength) * omega) / sine).unsqueeze(1)
    b = (torch.sin(strength * omega) / sine).unsqueeze(1)
    return a * low + b * high


def paste_centre(target: Tensor, patch: Tensor) -> Tensor:
    """A copy of `target` [c, h, w] with `patch` [c, h', w'] in its centre, cropped where it is larger."""
    out = target.clone()
    dy, dx = (target.shape[1] - patch.shape[1]) // 2, (target.shape[2] - patch.shape[2]) // 2
    height = patch.shape[1] if dy >= 0 else patch.shape[1] + 2 * dy
    width = patch.shape[2] if dx >= 0 else patch.shape[2] + 2 * dx
    ty, tx, py, px = max(dy, 0), max(dx, 0), max(-dy, 0), max(-dx, 0)
    out[:, ty : ty + height, tx : tx + width] = patch[:, py : py + height, px : px + width]
    return out


def initial_noise(settings: NoiseSettings, shape: tuple[int, ...], device: torch.device | None = None) -> Tensor:
    """A picture's first noise, with variation and resize: [c, h, w].

    Args:
        settings: Seed, source, variation, resize.
        shape: (c, h, w).
        device: Where to put it; the CPU by default.
    """
    place = device or torch.device("cpu")
    return _first(settings, shape, place, stream(settings.seed, settings.source, place))


def _first(settings: NoiseSettings, shape: tuple[int, ...], device: torch.device, own: Draw) -> Tensor:
    small = shape if settings.resize_from is None else (shape[0], *settings.resize_from)
    resized = small != shape
    noise = stream(settings.seed, settings.source, device)(small) if resized else own(shape)
    if settings.variation_strength != 0:
        other = stream(settings.variation_seed, settings.source, device)(small)
        noise = slerp(settings.variation_strength, noise, other)
    return paste_centre(own(shape), noise) if resized else noise


class PictureNoise:
    """The noise of one picture; every tensor has a batch of one.

    Args:
        settings: Seed, source, variation, resize, delta.
        device: Where the noise goes.
    """

    def __init__(self, settings: NoiseSettings, device: torch.device | None = None) -> None:
        self.settings = settings
        self.device = device or torch.device("cpu")
        self._draw = stream(settings.seed, settings.source, self.device)

    def initial(self, shape: tuple[int, ...]) -> Tensor:
        """The first noise [1, c, h, w]."""
        noise = _first(self.settings, shape[1:], self.device, self._draw)
        if self.settings.eta_seed_delta:
            seed = self.settings.seed + self.settings.eta_seed_delta
            self._draw = stream(seed, self.settings.source, self.device)
        return noise.unsqueeze(0)

    def next(self, shape: tuple[int, ...]) -> Tensor:
        """The following noise [1, c, h, w]."""
        return self._draw(shape[1:]).unsqueeze(0)

    def brownian(self, shape: tuple[int, ...], sigma_min: float, sigma_max: float) -> BrownianPath:
        """A Brownian path [1, c, h, w] from the picture's own seed."""

        def draw(seed: int, size: tuple[int, ...]) -> Tensor:
            return stream(seed, self.settings.source, self.device)(size)

        example = torch.zeros((1, *shape[1:]), device=self.device)
        return TreePath(example, [self.settings.seed], sigma_min, sigma_max, draw)

    def rows(self) -> list[NoiseSource]:
        """This one alone."""
        return [self]


class _BatchPath:
    def __init__(self, paths: Sequence[BrownianPath]) -> None:
        self._paths = paths

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        return torch.cat([path.between(sigma, sigma_next) for path in self._paths])


class BatchNoise:
    """The noise of several pictures; row i is exactly what picture i would get alone.

    Args:
        settings: One per picture.
        device: Where the noise goes.
    """

    def __init__(self, settings: Sequence[NoiseSettings], device: torch.device | None = None) -> None:
        self._pictures = [PictureNoise(one, device) for one in settings]

    def initial(self, shape: tuple[int, ...]) -> Tensor:
        """The first noise of each picture [b, c, h, w]."""
        return torch.cat([picture.initial(shape) for picture in self._pictures])

    def next(self, shape: tuple[int, ...]) -> Tensor:
        """The following noise of each picture [b, c, h, w]."""
        return torch.cat([picture.next(shape) for picture in self._pictures])

    def brownian(self, shape: tuple[int, ...], sigma_min: float, sigma_max: float) -> BrownianPath:
        """A Brownian path for each picture [b, c, h, w]."""
        return _BatchPath([picture.brownian(shape, sigma_min, sigma_max) for picture in self._pictures])

    def rows(self) -> list[NoiseSource]:
        """One source per picture, sharing this one's state."""
        return list(self._pictures)
