"""Low-rank changes: LoRA on linear layers and convolutions (LoCon), in Tucker form, and with magnitudes (DoRA).

LoRA: Hu et al. 2021, arXiv 2106.09685. rs-LoRA: Kalajdzievski 2023, arXiv 2312.03732. DoRA: Liu et al. 2024, arXiv
2402.09353. LoCon and its Tucker form: Yeh et al. 2023, arXiv 2309.14859.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from danqing.adapters.change import Change, differs
from danqing.adapters.layers import Layer


@dataclass
class LowRank(Change):
    """scale · up · down.

    Attributes:
        down: [rank, in] or [rank, in, kh, kw]; [rank, in, 1, 1] beside a `mid`.
        up: [out, rank] or [out, rank, 1, 1].
        scale: Alpha over the rank; over its root for rs-LoRA.
        mid: The kernel of the Tucker form [rank, rank, kh, kw].
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0
    mid: Tensor | None = None
    _ready: tuple[Tensor, ...] = field(default=(), repr=False)

    @property
    def rank(self) -> int:
        """Of the product."""
        return self.down.shape[0]

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        if self.up[0].numel() != (self.rank if self.mid is None else self.mid.shape[0]):
            return f"its two matrices have ranks {self.up[0].numel()} and {self.rank}"
        inside = self.down[0].numel()
        if self.mid is not None:
            inside *= self.mid[0, 0].numel()
        return differs(self.up.shape[0], inside, weight)

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of the weight."""
        up, down = self.up.to(weight).flatten(1), self.down.to(weight).flatten(1)
        if self.mid is None:
            return self.scale * (up @ down).reshape(weight.shape), None
        product = torch.einsum("or,rskl,si->oikl", up, self.mid.to(weight), down)
        return self.scale * product.reshape(weight.shape), None

    def quick(self, x: Tensor, layer: Layer) -> Tensor | None:
        """The two small layers one after the other."""
        if not self._ready or self._ready[0].dtype != x.dtype or self._ready[0].device != x.device:
            self._ready = self._shaped(layer.weight, x)
        if len(self._ready) == 3:
            down, mid, up = self._ready
            return functional.conv2d(layer.convolve(functional.conv2d(x, down), mid), up)
        down, up = self._ready
        if down.ndim == 2:
            return functional.linear(functional.linear(x, down), up)
        return functional.conv2d(layer.convolve(x, down), up)

    def _shaped(self, weight: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """The matrices in the layer's form: 1×1 convolutions and linear layers stand for each other in files."""
        up = (self.up.float() * self.scale).to(x)
        down = self.down.to(x)
        if weight.ndim == 2:
            return down.flatten(1), up.flatten(1)
        up = up.reshape(*up.shape[:2], 1, 1)
        if self.mid is not None:
            return down.reshape(*down.shape[:2], 1, 1), self.mid.to(x), up
        return down.reshape(down.shape[0], *weight.shape[1:]), up

    def tensors(self) -> tuple[Tensor, ...]:
        """Its matrices."""
        return (self.down, self.up) if self.mid is None else (self.down, self.up, self.mid)

    def reduced(self, rank: int) -> LowRank:
        """The nearest change of at most this rank (Eckart and Young 1936), from its small factors."""
        if rank >= self.rank or self.mid is not None:
            return self
        up_q, up_r = torch.linalg.qr(self.up.float().flatten(1))
        down_q, down_r = torch.linalg.qr(self.down.float().flatten(1).T)
        left, values, right = torch.linalg.svd(up_r @ down_r.T)
        up = (up_q @ left[:, :rank]) * values[:rank]
        down = right[:rank] @ down_q.T
        return LowRank(down.reshape(rank, *self.down.shape[1:]), up, self.scale)


@dataclass
class WithMagnitude(Change):
    """DoRA: any other change, whose sum with the weight is then given learnt lengths.

    Attributes:
        inner: The change of the direction.
        magnitude: [1, in, …] for the lengths of columns, [out, 1, …] or [out] for those of rows.
    """

    inner: Change
    magnitude: Tensor

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        if self.magnitude.numel() not in (weight.shape[0], weight.shape[1]):
            return f"it has {self.magnitude.numel()} magnitudes, the layer is {weight.shape[0]}×{weight.shape[1]}"
        return self.inner.misfit(weight)

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of the weight: the sum with its new lengths, less the weight."""
        added, bias = self.inner.delta(weight)
        merged = weight if added is None else weight + added
        rows = self.magnitude.ndim == 1 or (
            self.magnitude.shape[0] == weight.shape[0] and self.magnitude[0].numel() == 1
        )
        kept = 0 if rows else 1
        lengths = merged.transpose(0, kept).flatten(1).norm(dim=1) + torch.finfo(torch.float32).eps
        factors = self.magnitude.to(weight).flatten() / lengths
        shape = [1] * weight.ndim
        shape[kept] = -1
        return merged * factors.reshape(shape) - weight, bias

    def tensors(self) -> tuple[Tensor, ...]:
        """All its numbers."""
        return (*self.inner.tensors(), self.magnitude)
