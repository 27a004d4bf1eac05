"""The same numbers as k-diffusion driven by AUTOMATIC1111, from a file (golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gaussian_world import drive

from danqing.sampling.noise import BatchNoise, NoiseSettings
from danqing.sampling.schedules import ScheduleSettings, SigmaTable, sigmas
from danqing.sampling.types import SamplerOptions
from danqing.spec.registry.samplers import SAMPLERS

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("kdiffusion.json").read_text(encoding="utf-8"))
RANGE = {"sigma_min": 0.0292, "sigma_max": 14.6146}


def key_of(case: str) -> str:
    return max((info.key for info in SAMPLERS if case.startswith(info.key)), key=len)


@pytest.mark.parametrize("case", sorted(GOLDEN["results"]))
def test_sampler_equals_k_diffusion(case: str) -> None:
    expected = torch.tensor(GOLDEN["results"][case], dtype=torch.float64).reshape(-1, 1, 2, 2)
    levels = sigmas("karras", GOLDEN["steps"], SigmaTable.scaled_linear(), settings=ScheduleSettings(**RANGE))
    noise = BatchNoise([NoiseSettings(seed) for seed in GOLDEN["seeds"][: len(expected)]])
    x = noise.initial(tuple(expected.shape)).double() * levels[0].double()
    options = {name: value for name, value in GOLDEN["options"][case].items() if name != "solver_type"}
    got, _ = drive(key_of(case), x, levels, SamplerOptions(**options), noise=noise)
    torch.testing.assert_close(got, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("key", "rho"), [("karras", None), ("exponential", None), ("polyexponential", 0.7)])
def test_schedule_equals_k_diffusion(key: str, rho: float | None) -> None:
    got = sigmas(key, 10, SigmaTable.scaled_linear(), settings=ScheduleSettings(rho=rho, **RANGE))
    torch.testing.assert_close(got, torch.tensor(GOLDEN["sigmas"][key]), rtol=0, atol=0)
