"""LyCORIS's ways to change a layer: LoHa, LoKr, IA3, full differences, norms, orthogonal turns (OFT, BOFT).

Yeh et al. 2023, *Navigating Text-To-Image Customization*, arXiv 2309.14859 (LoHa, LoKr); Liu et al. 2022, arXiv
2205.05638 (IA3); Qiu et al. 2023, arXiv 2306.07280 (OFT); Liu et al. 2023, arXiv 2311.06243 (BOFT).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.adapters.change import Change, differs


@dataclass
class Hadamard(Change):
    """LoHa: scale · (w1a · w1b) ∘ (w2a · w2b).

    Attributes:
        first: w1a [out, r] and w1b [r, in · …]; in Tucker form [r, out] and [r, in], around a kernel.
        second: w2a and w2b likewise.
        scale: Alpha over the rank.
        kernels: t1 and t2 [r, r, kh, kw] of the Tucker form.
    """

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    scale: float = 1.0
    kernels: tuple[Tensor, Tensor] | None = None

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        a, b = self.first
        if self.kernels is None:
            return differs(a.shape[0], b[0].numel(), weight)
        return differs(a.shape[1], b.shape[1] * self.kernels[0][0, 0].numel(), weight)

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of the weight."""
        t1, t2 = self.kernels or (None, None)
        product = _pair(*self.first, t1, weight) * _pair(*self.second, t2, weight)
        return self.scale * product.reshape(weight.shape), None

    def tensors(self) -> tuple[Tensor, ...]:
        """Its matrices."""
        return (*self.first, *self.second, *(self.kernels or ()))


@dataclass
class Kronecker(Change):
    """LoKr: scale · w1 ⊗ w2, where each may be a product of two.

    Attributes:
        first: w1 [o1, i1], or w1a [o1, r] and w1b [r, i1].
        second: w2 [o2, i2, …], or w2a [o2, r] and w2b [r, i2 · …]; [r, o2] and [r, i2] around a kernel.
        scale: Alpha over the rank; 1 where nothing is a product.
        kernel: t2 [r, r, kh, kw].
    """

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    scale: float = 1.0
    kernel: Tensor | None = None

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        out = self.first[0].shape[0]
        inside = self.first[-1].shape[1]
        if len(self.second) == 1:
            out, inside = out * self.second[0].shape[0], inside * self.second[0][0].numel()
        elif self.kernel is not None:
            out, inside = out * self.second[0].shape[1], inside * self.second[1].shape[1] * self.kernel[0, 0].numel()
        else:
            out, inside = out * self.second[0].shape[0], inside * self.second[1][0].numel()
        return differs(out, inside, weight)

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of the weight."""
        w1 = self.first[0].to(weight) if len(self.first) == 1 else _pair(*self.first, None, weight)
        w2 = self.second[0].to(weight) if len(self.second) == 1 else _pair(*self.second, self.kernel, weight)
        if weight.ndim == 4:
            w2 = w2.reshape(w2.shape[0], -1, *weight.shape[2:])
            w1 = w1.reshape(*w1.shape[:2], 1, 1)
        # torch.kron views its second matrix, whose strides an einsum leaves in any order.
        return self.scale * torch.kron(w1, w2.contiguous()).reshape(weight.shape), None

    def tensors(self) -> tuple[Tensor, ...]:
        """Its matrices."""
        return (*self.first, *self.second, *(() if self.kernel is None else (self.kernel,)))


def _pair(a: Tensor, b: Tensor, kernel: Tensor | None, like: Tensor) -> Tensor:
    """A · b, or in Tucker form the kernel between them."""
    a, b = a.to(like), b.to(like)
    if kernel is None:
        return a.flatten(1) @ b.flatten(1)
    return torch.einsum("rskl,ro,si->oikl", kernel.to(like), a, b)


@dataclass
class Scaling(Change):
    """IA3: the weight times learnt factors of its inputs or outputs.

    Attributes:
        factors: [1, in] or [out, 1], in any shape.
        on_input: Which of them.
    """

    factors: Tensor
    on_input: bool

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        there = weight.shape[1 if self.on_input else 0] if weight.ndim > 1 else 0
        count = self.factors.numel()
        side = "inputs" if self.on_input else "outputs"
        return None if count == there else f"it scales {count} {side}, the layer has {there}"

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of the weight."""
        shape = [1] * weight.ndim
        shape[1 if self.on_input else 0] = -1
        return weight * self.factors.to(weight).reshape(shape), None

    def tensors(self) -> tuple[Tensor, ...]:
        """Its factors."""
        return (self.factors,)


@dataclass
class Difference(Change):
    """A whole difference of weight or bias; for norms too.

    Attributes:
        weight_diff: Like the weight; None leaves it.
        bias_diff: [out]; None leaves it.
    """

    weight_diff: Tensor | None
    bias_diff: Tensor | None = None

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        if self.weight_diff is not None and self.weight_diff.numel() != weight.numel():
            return f"it changes {list(self.weight_diff.shape)} numbers, the layer has {list(weight.shape)}"
        if self.bias_diff is not None and self.bias_diff.numel() != weight.shape[0]:
            return f"it changes a bias of {self.bias_diff.numel()} numbers, the layer has {weight.shape[0]} outputs"
        return None

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of weight and bias."""
        added = None if self.weight_diff is None else self.weight_diff.to(weight).reshape(weight.shape)
        return added, None if self.bias_diff is None else self.bias_diff.to(weight).flatten()

    def tensors(self) -> tuple[Tensor, ...]:
        """What is there."""
        return tuple(tensor for tensor in (self.weight_diff, self.bias_diff) if tensor is not None)


@dataclass
class Turn(Change):
    """OFT: the outputs turned in blocks by R = (I + Q)(I − Q)⁻¹ with Q = B − Bᵀ; BOFT does so in butterfly order.

    Attributes:
        blocks: B [blocks, size, size], or [levels, blocks, size, size] for BOFT.
        limit: The constraint on ‖Q‖, times the number of outputs; 0 for none.
        rescale: A factor for each output.
        ready: Whether the blocks are R itself (files of LyCORIS's first versions).
    """

    blocks: Tensor
    limit: float = 0.0
    rescale: Tensor | None = None
    ready: bool = False

    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight."""
        turned = self.blocks.shape[-3] * self.blocks.shape[-1]
        return None if turned == weight.shape[0] else f"it turns {turned} outputs, the layer has {weight.shape[0]}"

    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The change of the weight."""
        turns = self._turns(weight)
        turned = _turned(weight, turns) if turns.ndim == 3 else _butterfly(weight, turns)
        if self.rescale is not None:
            turned = turned * self.rescale.to(weight).reshape(-1, *[1] * (weight.ndim - 1))
        return turned - weight, None

    def _turns(self, weight: Tensor) -> Tensor:
        blocks = self.blocks.to(weight)
        if self.ready:
            return blocks
        skew = blocks - blocks.transpose(-1, -2)
        bound = self.limit * weight.shape[0]
        norm = skew.norm() + 1e-8
        if 0 < bound < float(norm):
            skew = skew * bound / norm
        eye = torch.eye(skew.shape[-1]).to(skew)
        return (eye + skew) @ torch.linalg.inv(eye - skew)

    def tensors(self) -> tuple[Tensor, ...]:
        """Its blocks."""
        return (self.blocks,) if self.rescale is None else (self.blocks, self.rescale)


def _turned(weight: Tensor, turns: Tensor) -> Tensor:
    """Each block of outputs times the transpose of its turn."""
    grouped = weight.unflatten(0, (turns.shape[0], turns.shape[1]))
    return torch.einsum("knm,kn...->km...", turns, grouped).flatten(0, 1)


def _butterfly(weight: Tensor, levels: Tensor) -> Tensor:
    """One turn after the other, each between outputs that lie twice as far apart."""
    half = levels.shape[-1] // 2
    for level, turns in enumerate(levels):
        apart = 2**level * half
        mixed = weight.unflatten(0, (-1, 2, apart)).transpose(1, 2).flatten(0, 2)
        grouped = mixed.unflatten(0, (turns.shape[0], turns.shape[1]))
        mixed = torch.einsum("bij,bj...->bi...", turns, grouped).flatten(0, 1)
        weight = mixed.unflatten(0, (-1, apart, 2)).transpose(1, 2).flatten(0, 2)
    return weight
