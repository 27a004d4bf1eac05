"""Muon: momentum whose matrices are made orthogonal before each step (Jordan et al. 2024).

PyTorch's own `torch.optim.Muon` takes matrices only; three quarters of a UNet are convolution kernels. Here a kernel
[out, in, kh, kw] counts as the matrix [out, kh · kw · in], and what is no matrix is trained by AdamW in the same
object, so that one state goes into a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Jordan's quintic: it drives singular values between 0.01 and 1 to about 1 in five rounds."""
_ROUNDS = 5


@torch.no_grad()
def orthogonalize(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """About U·Vᵀ of a matrix U·S·Vᵀ [m, n], in float32, by the Newton-Schulz iteration.

    The Gram matrix is made anew from X each round. Its polynomials alone would cost less for wide matrices, but in
    bfloat16 rounding leaves it negative eigenvalues, which grow 12-fold a round: a run with them diverged.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T, dtype).T
    x = (matrix / (matrix.norm() + 1e-7)).to(dtype)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.float()


class Muon(torch.optim.Optimizer):
    """Muon for groups with `matrix`, AdamW for the others.

    Args:
        groups: Each with `params`, `weight_decay`, `lr_scale` and `matrix`.
        lr: The learning rate; a matrix's step is scaled by 0.2·√max(m, n), so that it is as long as AdamW's would be
            (Liu et al. 2025, arXiv 2502.16982) and both kinds share one rate.
        momentum: Of the matrices.
        betas: Of AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": 0.0, "matrix": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step down the gradients."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
            if group["matrix"]:
                self._step_matrices(params, group)
            else:
                self._step_adam(params, group)
        return loss

    def _step_matrices(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in params:
            grad, state = _grad(p), self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(grad, 1.0 - group["momentum"])
            ahead = grad.lerp(state["momentum"], group["momentum"])
            kernel = ahead.ndim == 4
            matrix = ahead.permute(0, 2, 3, 1).flatten(1) if kernel else ahead
            step = orthogonalize(matrix, torch.float32 if matrix.shape[0] < 8 else torch.bfloat16)
            if kernel:
                out, inner, high, wide = ahead.shape
                step = step.view(out, high, wide, inner).permute(0, 3, 1, 2)
            p.add_(step, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)

    def _step_adam(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] |= {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), "steps": 0}
        grads, states = [_grad(p) for p in params], [self.state[p] for p in params]
        first, second = group["betas"]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        torch._foreach_lerp_(means, grads, 1.0 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, grads, grads, 1.0 - second)
        for state in states:
            state["steps"] += 1
        steps = states[0]["steps"]
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1.0 - second**steps) ** 0.5)
        torch._foreach_add_(roots, 1e-8)
        torch._foreach_addcdiv_(params, means, roots, -group["lr"] / (1.0 - first**steps))


def _grad(p: nn.Parameter) -> Tensor:
    """The gradient of a parameter that has one."""
    grad = p.grad
    if grad is None:
        raise ValueError("a parameter without a gradient cannot be stepped")
    return grad
