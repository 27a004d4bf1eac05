"""Generators, discriminators and critics of DCGAN and WGAN-GP, and what they are judged by."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from danqing.training.own.seeds import torch_of

SLOPE = 0.2
SPREAD = 0.02
"""Standard deviation of fresh weights (Radford et al. 2015, §4)."""
_SETTLING = 4
_SETTLING_BATCH = 64


def _halvings(size_px: int) -> int:
    """Layers that double the side, between 4 × 4 and the last one's half."""
    return int(math.log2(size_px)) - 3


class Generator(nn.Sequential):
    """Noise to pictures by transposed 4×4 convolutions with batch norm and ReLU, tanh at the end (Radford et al. 2015).

    Five convolutions for 64 px: 1 → 4 → 8 → 16 → 32 → 64; four for 32 px.

    Args:
        latent_dim: Numbers of noise.
        width: Channels at half of the picture's side; they double with each halving of it.
        size_px: Side of the pictures.
    """

    def __init__(self, latent_dim: int, width: int, size_px: int) -> None:
        steps = _halvings(size_px)
        channels = width * 2**steps
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, channels, 4, 1, 0, bias=False)]
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        for _ in range(steps):
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False)]
            channels //= 2
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.ConvTranspose2d(channels, 3, 4, 2, 1), nn.Tanh()]
        super().__init__(*layers)
        self.latent_dim, self.width, self.size_px = latent_dim, width, size_px

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """What pictures are made of, from N(0, 1): `[count, latent_dim, 1, 1]` on the CPU."""
        return torch.randn(count, self.latent_dim, 1, 1, generator=generator)


class Discriminator(nn.Sequential):
    """Pictures to one number by strided 4×4 convolutions and LeakyReLU; as many as the generator has.

    Args:
        width: Channels at half of the picture's side.
        size_px: Side of the pictures.
        batch_norm: As DCGAN has it; a critic whose gradient is penalised for each picture must do without it.
    """

    def __init__(self, width: int, size_px: int, *, batch_norm: bool = True) -> None:
        channels = width
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for _ in range(_halvings(size_px)):
            layers.append(nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=not batch_norm))
            channels *= 2
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.LeakyReLU(SLOPE))
        layers += [nn.Conv2d(channels, 1, 4, 1, 0), nn.Flatten(0)]
        super().__init__(*layers)


def convolutions(network: nn.Module) -> int:
    """How many convolutions, transposed or not, a network has."""
    return sum(isinstance(one, nn.Conv2d | nn.ConvTranspose2d) for one in network.modules())


@torch.no_grad()
def fresh_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Convolutions N(0, .02), batch norm N(1, .02), every offset 0 (Radford et al. 2015, §4), in place."""
    for one in network.modules():
        if isinstance(one, nn.Conv2d | nn.ConvTranspose2d):
            one.weight.copy_(SPREAD * torch.randn(one.weight.shape, generator=generator))
        elif isinstance(one, nn.BatchNorm2d):
            one.weight.copy_(1.0 + SPREAD * torch.randn(one.weight.shape, generator=generator))
        else:
            continue
        if one.bias is not None:
            one.bias.zero_()


def discriminator_loss(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """−log D(x) − log(1 − D(G(z))), of logits `[n]` (Goodfellow et al. 2014, eq. 1).

    Args:
        real: Of training pictures.
        fake: Of painted ones.
        smoothing: The belief asked for in training pictures is 1 less this (Salimans et al. 2016, arXiv 1606.03498).
    """
    wanted = (1.0 - smoothing) * functional.softplus(-real) + smoothing * functional.softplus(real)
    return wanted.mean() + functional.softplus(fake).mean()


def shifted(pictures: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each picture moved by its own random number of whole px, differentiably; its edge goes on where it is missing.

    Zhao et al. 2020 (arXiv 2006.10738), translation; the paper fills with black, which on white paper would be a frame.

    Args:
        pictures: `[n, c, s, s]`.
        share: Of the side, at most so far each way.
        generator: On the CPU.
    """
    count, side = len(pictures), pictures.shape[-1]
    most = round(share * side)
    if most == 0:
        return pictures
    moves = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    rows, columns = ((torch.arange(side) + moves).clamp(0, side - 1)).to(pictures.device)
    which = torch.arange(count, device=pictures.device)[:, None, None]
    moved = pictures.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def generator_loss(fake: Tensor) -> Tensor:
    """−log D(G(z)), of logits `[n]`: the form whose gradient does not vanish (Goodfellow et al. 2014, §3)."""
    return functional.softplus(-fake).mean()


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E[C(G(z))] − E[C(x)], of scores `[n]`; less it is the estimate of Wasserstein's distance."""
    return fake.mean() - real.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, shares: Tensor) -> Tensor:
    """E[(|∇C(x̂)| − 1)²] at x̂ on the lines between real and painted pictures (Gulrajani et al. 2017, eq. 3).

    Args:
        critic: Scores `[n]` of pictures.
        real: `[n, …]`.
        fake: Alike.
        shares: Of the real picture in each x̂, `[n]`, from 0 to 1.
    """
    weights = shares.to(real).view(-1, *[1] * (real.ndim - 1))
    between = (weights * real + (1.0 - weights) * fake).requires_grad_(requires_grad=True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1.0).square().mean()


@torch.no_grad()
def settled(generator: Generator, seed: int) -> Generator:
    """A copy whose batch norms have the exact means and variances of its weights, for painting one picture at a time.

    Running averages follow weights that are gone, and belong to the trained weights, not to averaged ones.
    """
    own = copy.deepcopy(generator).float()
    for one in own.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.reset_running_stats()
            one.momentum = None
    own.train()
    place = next(own.parameters()).device
    for number in range(_SETTLING):
        own(own.noise(_SETTLING_BATCH, torch_of(seed, "settle", number)).to(place))
    return own.eval().requires_grad_(requires_grad=False)
