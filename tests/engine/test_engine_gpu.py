"""On a CUDA device: the invariant in float32, and that half precision paints the same thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from easel import Easel, numbers

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu_easel(tiny_sd: Path) -> Easel:
    torch.backends.cudnn.allow_tf32 = False
    return Easel(tiny_sd, torch.device("cuda"))


def test_a_picture_does_not_depend_on_its_companions(gpu_easel: Easel):
    plans = [*gpu_easel.plans(count=4), *gpu_easel.plans(prompt="blue dog", sampling={"sampler": "heun", "steps": 4})]
    together = gpu_easel.latents(plans)
    for ours, one in zip(together, plans, strict=True):
        alone = gpu_easel.latents([one])[0]
        assert float((ours - alone).abs().max() / alone.abs().max()) <= 1e-5


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "auto"])
def test_half_precision_paints_nearly_the_same(gpu_easel: Easel, precision: str):
    calm = {"model": "tiny-v", "guidance": {"scale": 2.0}, "sampling": {"steps": 4}}
    exact = gpu_easel.pixels(**calm)
    half = numbers(gpu_easel.one(**{**calm, "precision": precision}))
    assert np.abs(exact - half).mean() < 8


def test_the_device_agrees_with_the_cpu(gpu_easel: Easel, easel: Easel):
    calm = {"model": "tiny-v", "guidance": {"scale": 2.0}, "sampling": {"steps": 4}}
    assert np.abs(gpu_easel.pixels(**calm) - easel.pixels(**calm)).max() <= 2
