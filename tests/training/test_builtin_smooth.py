"""The stage that smooths the autoencoder's latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset, build
from danqing.training.builtin.smooth import neighbor_correlation, smooth_loss, smooth_vae
from danqing.training.builtin.vae import build_vae

pytestmark = pytest.mark.usefixtures("one_thread")


class Encoder:
    """Stands in for an autoencoder: its latents are what `make` gives."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def encode(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: self.make(len(x))))


@pytest.fixture
def drawings(config: TrainConfig, packages: tuple[Path, Any]) -> Dataset:
    return build(config.data, packages[0])


def test_correlation_of_neighbours_is_one_for_rows_and_nothing_for_noise(drawings: Dataset) -> None:
    generator = torch.Generator().manual_seed(0)
    many = Dataset(drawings.pictures, np.repeat(drawings.rgba[:1], 64, 0))
    rows = Encoder(lambda n: torch.randn(n, 4, 8, 1, generator=generator).expand(n, 4, 8, 8))
    noise = Encoder(lambda n: torch.randn(n, 4, 8, 8, generator=generator))
    assert neighbor_correlation(rows, many, torch.device("cpu")) == pytest.approx(1.0, abs=0.02)  # type: ignore[arg-type]
    assert abs(neighbor_correlation(noise, many, torch.device("cpu"))) < 0.03  # type: ignore[arg-type]


def test_the_stage_lowers_its_loss_and_resumes_bit_for_bit(
    config: TrainConfig,
    drawings: Dataset,
    tmp_path: Path,
    interrupt_after: Callable[[int | None], None],
) -> None:
    stage = dataclasses.replace(config.smooth.stage, max_samples=160, decay_samples=80)
    longer = dataclasses.replace(config, smooth=dataclasses.replace(config.smooth, stage=stage))
    torch.manual_seed(1)
    start = build_vae(config.vae).state_dict()

    def fresh() -> Any:
        vae = build_vae(config.vae)
        vae.load_state_dict(start)
        return vae

    def equivariance(vae: Any) -> float:
        with torch.no_grad():
            return float(np.mean([smooth_loss(vae, drawings, longer, 1000 + i)[2].item() for i in range(8)]))

    whole = smooth_vae(fresh(), longer, (drawings, drawings), tmp_path / "whole")
    assert equivariance(whole) < 0.9 * equivariance(fresh())
    interrupt_after(7)
    smooth_vae(fresh(), longer, (drawings, drawings), tmp_path / "parts")
    interrupt_after(None)
    again = smooth_vae(fresh(), longer, (drawings, drawings), tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
