"""Muon: its orthogonal steps, and training with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from danqing.spec.errors import InvalidRequestError
from danqing.training.builtin.config import StageConfig
from danqing.training.builtin.loop import make_optimizer
from danqing.training.builtin.muon import Muon, orthogonalize

STAGE = StageConfig(batch=4, lr=3e-3, max_samples=100, decay_samples=50, optimizer="muon")


@pytest.mark.parametrize(("rows", "columns"), [(96, 96), (96, 864), (300, 100), (128, 200)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_singular_values_become_about_one_and_their_directions_stay(rows: int, columns: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(3)
    u = torch.linalg.qr(torch.randn(rows, min(rows, columns), generator=generator))[0]
    v = torch.linalg.qr(torch.randn(columns, min(rows, columns), generator=generator))[0]
    values = torch.linspace(0.2, 1.0, min(rows, columns))
    found = orthogonalize(u @ torch.diag(values) @ v.T, dtype)
    inner = u.T @ found @ v
    assert torch.all((inner.diagonal() > 0.6) & (inner.diagonal() < 1.3))
    off = inner - torch.diag(inner.diagonal())
    assert float(off.abs().max()) < (1e-4 if dtype is torch.float32 else 0.06)


@pytest.mark.parametrize("shape", [(224, 2016), (128, 1152), (192, 192)])
def test_no_direction_of_an_ill_conditioned_matrix_explodes(shape: tuple[int, int]):
    """Gradients have singular values over many orders of magnitude; rounding must not inflate small ones."""
    generator = torch.Generator().manual_seed(2)
    u = torch.linalg.qr(torch.randn(shape[0], shape[0], generator=generator))[0]
    v = torch.linalg.qr(torch.randn(shape[1], shape[0], generator=generator))[0]
    values = torch.logspace(0, -6, shape[0])
    found = orthogonalize(u @ torch.diag(values) @ v.T)
    assert float(torch.linalg.matrix_norm(found, 2)) < 1.5


def test_groups_kernels_for_muon_the_rest_for_adam():
    layers = nn.ModuleList([nn.Conv2d(8, 128, 3), nn.Conv2d(128, 96, 3), nn.Linear(96, 200), nn.Conv2d(128, 8, 3)])
    optimizer = make_optimizer([(list(layers.parameters()), 1.0)], STAGE)
    assert isinstance(optimizer, Muon)
    kinds = {id(p): group["matrix"] for group in optimizer.param_groups for p in group["params"]}
    assert [kinds[id(layer.weight)] for layer in layers] == [False, True, True, False]
    assert not any(kinds[id(layer.bias)] for layer in layers)


def test_it_learns_and_resumes_bit_for_bit():
    torch.manual_seed(5)
    x = torch.randn(64, 100)
    target = torch.tanh(x @ torch.randn(100, 100) / 10)

    def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(6)
        model = nn.Sequential(nn.Linear(100, 128), nn.Tanh(), nn.Linear(128, 100))
        return model, make_optimizer([(list(model.parameters()), 1.0)], STAGE)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> float:
        loss = torch.zeros(())
        for _ in range(count):
            loss = (model(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    whole, optimizer = model_and_optimizer()
    first = steps(whole, optimizer, 1)
    kept_model = {k: v.clone() for k, v in whole.state_dict().items()}
    kept = dict(optimizer.state_dict())
    kept["state"] = {
        k: {name: v.clone() if isinstance(v, torch.Tensor) else v for name, v in s.items()}
        for k, s in kept["state"].items()
    }
    last = steps(whole, optimizer, 60)
    assert last < 0.5 * first
    again, second = model_and_optimizer()
    again.load_state_dict(kept_model)
    second.load_state_dict(kept)
    steps(again, second, 60)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_an_optimiser_that_is_not_known_is_refused():
    with pytest.raises(InvalidRequestError, match="optimiser"):
        make_optimizer([([nn.Parameter(torch.zeros(2))], 1.0)], StageConfig(4, 1e-3, 10, 5, optimizer="sgd"))
