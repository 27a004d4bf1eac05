"""What dragging asks of a loaded model, a step at a time: estimates of several rows, features, gradients.

Latents are in variance-exploding scaling, as everywhere; gradients act on the variance-preserving latent x/√(1 + σ²),
for which the learning rates were published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from danqing.adapters.hooks import uncompiled
from danqing.adapters.identity import IdentityLora
from danqing.adapters.shared_attention import sharing
from danqing.engine.calls import SizeNumbers
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.text import TextState
from danqing.pipelines import drag_points
from danqing.pipelines.drag_points import Points
from danqing.sampling.prediction import Prediction, output_from


@dataclass(frozen=True)
class Words:
    """What a row reads.

    Attributes:
        text: Of the prompt.
        sizes: What SDXL is told besides; None for models that read no pooled text.
    """

    text: TextState
    sizes: SizeNumbers | None = None


@dataclass(frozen=True)
class Row:
    """A noisy latent [1, c, h, w] and the words it is read with."""

    x: Tensor
    words: Words


def preserving(x: Tensor, sigma: float) -> Tensor:
    """A variance-exploding latent in variance-preserving scaling."""
    return x / math.sqrt(1.0 + sigma * sigma)


def exploding(x: Tensor, sigma: float) -> Tensor:
    """A variance-preserving latent in variance-exploding scaling."""
    return x * math.sqrt(1.0 + sigma * sigma)


def step_to(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """A step of DDIM (arXiv 2010.02502) without noise, up or down: Euler's in σ."""
    return x + (sigma_next - sigma) * (x - denoised) / sigma


def acting(model: StableDiffusion, identity: IdentityLora | None) -> AbstractContextManager[None]:
    """Inside, the picture's own LoRA acts, where there is one."""
    return nullcontext() if identity is None else identity.acting(model.unet)


def estimates(
    model: StableDiffusion, rows: Sequence[Row], sigma: float, sources: Sequence[int] | None = None
) -> list[Tensor]:
    """D(x, σ) of each row [1, c, h, w].

    Args:
        model: The loaded model.
        rows: Latents of one shape, words of one length.
        sigma: Their noise level.
        sources: Whose self-attention keys and values each row reads; its own if unset.
    """
    with torch.inference_mode(), sharing(model.unet, sources or range(len(rows))):
        found = _estimate(model, rows, sigma)
    return [one.clone() for one in found.split(1)]


def pairs(model: StableDiffusion, rows: Sequence[tuple[Row, Row]], sigma: float) -> list[tuple[Tensor, Tensor]]:
    """D(x, σ) of rows that each read keys and values of an original beside them: (original, edit) of each pair.

    Pairs with texts of one length share a batch.
    """
    if len({len(words.words.text.states) for pair in rows for words in pair}) > 1:
        return [pairs(model, [pair], sigma)[0] for pair in rows]
    flat = [row for pair in rows for row in pair]
    found = estimates(model, flat, sigma, [index - index % 2 for index in range(len(flat))])
    return list(zip(found[::2], found[1::2], strict=True))


@dataclass(frozen=True)
class Sight:
    """What the UNet makes of a latent.

    Attributes:
        denoised: D(x, σ) [1, c, h, w].
        features: Of the second-to-last up block on the map that points are followed on [1, d, H, W].
    """

    denoised: Tensor
    features: Tensor


def look(model: StableDiffusion, row: Row, sigma: float, size: tuple[int, int]) -> Sight:
    """Estimate and features of a row, without gradients; `size` is the feature map's height and width."""
    with torch.no_grad():
        return _look(model, row, sigma, size)


@dataclass(frozen=True)
class Hold:
    """What shall stay as it is outside the mask.

    Attributes:
        previous: What the original's latent becomes in the next step, variance preserving [1, c, h, w].
        sigma_next: The noise level it has then.
        outside: 1 where nothing may change [1, 1, h, w].
        weight: λ.
    """

    previous: Tensor
    sigma_next: float
    outside: Tensor
    weight: float


@dataclass(frozen=True)
class Pulling:
    """How features are pulled.

    Attributes:
        radius: Of the patch around a handle.
        reach: How far ahead a patch is pulled at most: DragDiffusion's 1, GoodDrag's β of 4.
        original: Features of the original that patches shall become; None takes those of the latent as it is now.
    """

    radius: int
    reach: float
    original: Tensor | None = None


def pull_loss(features: Tensor, points: Points, pulling: Pulling) -> Tensor:
    """Motion supervision: how far the features ahead of each handle are from those that shall come to lie there."""
    total = features.new_zeros(())
    for start, now, target in points.under_way():
        distance = math.dist(now, target)
        stride = min(pulling.reach, distance) / distance
        ahead = ((target[0] - now[0]) * stride, (target[1] - now[1]) * stride)
        if pulling.original is None:
            wanted, place = features.detach(), now
        else:
            wanted, place = pulling.original, start
        patch, moved = drag_points.patches(place, now, ahead, pulling.radius, features.shape[-2:])
        wanted = drag_points.sample(wanted, patch).detach()
        found = drag_points.sample(features, moved)
        total = total + (2 * pulling.radius + 1) ** 2 * functional.l1_loss(found, wanted)
    return total


def hold_loss(x: Tensor, denoised: Tensor, sigma: float, hold: Hold) -> Tensor:
    """The mask term: how far the next latent moves outside the mask; x is variance exploding."""
    following = preserving(step_to(x, denoised, sigma, hold.sigma_next), hold.sigma_next)
    return hold.weight * ((following - hold.previous) * hold.outside).abs().sum()


@dataclass
class Latent:
    """A latent that is being optimised.

    Attributes:
        value: Variance preserving [1, c, h, w].
        optimizer: Adam over it.
    """

    value: Tensor
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, x: Tensor, sigma: float, rate: float) -> Latent:
        """From a variance-exploding one."""
        value = preserving(x, sigma).clone().requires_grad_(True)
        return cls(value, torch.optim.Adam([value], lr=rate))

    def descend(self, model: StableDiffusion, words: Words, sigma: float, goal: Goal) -> float:
        """One step of Adam; the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            x = exploding(self.value, sigma)
            seen = _look(model, Row(x, words), sigma, goal.size)
            loss = pull_loss(seen.features, goal.points, goal.pulling)
            if goal.hold.weight > 0:
                loss = loss + hold_loss(x, seen.denoised, sigma, goal.hold)
            loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def exploding(self, sigma: float) -> Tensor:
        """As samplers have it."""
        return exploding(self.value.detach().clone(), sigma)


@dataclass(frozen=True)
class Goal:
    """What one step of optimisation strives for.

    Attributes:
        points: Where the handles are now, and where they shall go.
        pulling: How they are pulled.
        hold: What shall stay.
        size: Height and width of the feature map.
    """

    points: Points
    pulling: Pulling
    hold: Hold
    size: tuple[int, int]


def learn(
    model: StableDiffusion, identity: IdentityLora, optimizer: Any, row: Row, clean: tuple[Tensor, float]
) -> float:
    """One step of the identity LoRA; the loss before it.

    Args:
        model: The loaded model.
        identity: What learns.
        optimizer: Over its matrices.
        row: The picture's latent with noise.
        clean: Without it [1, c, h, w], and the noise level.
    """
    optimizer.zero_grad(set_to_none=True)
    prediction = Prediction(model.info.prediction)
    with torch.enable_grad(), identity.acting(model.unet):
        denoised = _estimate(model, [row], clean[1])
        loss = functional.mse_loss(
            output_from(prediction, row.x, denoised, clean[1]), output_from(prediction, row.x, clean[0], clean[1])
        )
        loss.backward()
    optimizer.step()
    return float(loss.detach())


def _estimate(model: StableDiffusion, rows: Sequence[Row], sigma: float) -> Tensor:
    return model.estimate(
        torch.cat([row.x for row in rows]),
        torch.full((len(rows),), sigma),
        torch.stack([row.words.text.states for row in rows]),
        None,
        perturbed=False,
        added=_added(rows),
    )


def _added(rows: Sequence[Row]) -> Added | None:
    pooled = [row.words.text.pooled for row in rows if row.words.text.pooled is not None]
    if not pooled:
        return None
    numbers = [astuple(row.words.sizes) for row in rows if row.words.sizes is not None]
    return Added(torch.stack(pooled), torch.tensor(numbers, dtype=torch.float32))


def _look(model: StableDiffusion, row: Row, sigma: float, size: tuple[int, int]) -> Sight:
    with _features(model) as kept:
        denoised = _estimate(model, [row], sigma)
    features = functional.interpolate(kept[-1].float(), size, mode="bilinear", align_corners=False)
    return Sight(denoised, features.to(denoised.device))


@contextmanager
def _features(model: StableDiffusion) -> Iterator[list[Tensor]]:
    """Inside, answers of the second-to-last up block are kept: the third of Stable Diffusion's four."""
    blocks: list[Any] = list(model.unet.up_blocks)
    kept: list[Tensor] = []
    handle = blocks[max(0, len(blocks) - 2)].register_forward_hook(lambda _m, _i, output: kept.append(output))
    with uncompiled(model.unet):
        try:
            yield kept
        finally:
            handle.remove()
