"""Parity with diffusers' schedulers, where one exists: same levels, same noise, same answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from gaussian_world import Scripted, drive, ideal
from torch import Tensor

from danqing.sampling.guidance import rescale
from danqing.sampling.schedules import FlowTable, SigmaTable, sigmas
from danqing.sampling.tables import rescale_zero_snr
from danqing.sampling.types import SamplerOptions

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (2, 3, 4, 5)
TABLE = SigmaTable.scaled_linear()
# diffusers rounds its levels and several coefficients to float32
CLOSE = {"rtol": 2e-4, "atol": 2e-4}


def first_noise() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def scheduler(name: str, steps: int, **config: Any) -> Any:
    made = getattr(diffusers, name)(num_train_timesteps=1000, **BETAS, **config)
    made.set_timesteps(steps)
    return made


def distinct(values: Tensor) -> Tensor:
    """Levels without the repetitions of two-call schedulers."""
    return torch.tensor(list(dict.fromkeys(values.double().tolist())), dtype=torch.float64)


def run_exploding(made: Any, levels: Callable[[int], float], generator: torch.Generator) -> Tensor:
    """diffusers' own loop for the schedulers that keep x = x₀ + σ·n."""
    x = first_noise() * levels(0)
    for i, t in enumerate(made.timesteps):
        sigma = levels(i)
        made.scale_model_input(x, t)
        eps = (x - ideal(x, sigma)) / sigma
        extra = {"generator": generator} if "generator" in made.step.__code__.co_varnames else {}
        x = made.step(eps, t, x, **extra).prev_sample
    return x


def run_preserving(made: Any, levels: list[float], **extra: Any) -> Tensor:
    """diffusers' own loop for the schedulers that keep x/√(1 + σ²); the answer is scaled back."""
    x = first_noise() * levels[0] / (1 + levels[0] ** 2) ** 0.5
    for i, t in enumerate(made.timesteps):
        ve = x * (1 + levels[i] ** 2) ** 0.5
        eps = (ve - ideal(ve, levels[i])) / levels[i]
        x = made.step(eps, t, x, **extra).prev_sample
    last = levels[len(made.timesteps)]
    return x * (1 + last**2) ** 0.5


def alike(key: str, expected: Tensor, levels: Tensor, options: SamplerOptions | None = None) -> None:
    noise = Scripted(torch.Generator().manual_seed(1))
    got, _ = drive(key, first_noise() * levels[0], levels, options, noise=noise)
    torch.testing.assert_close(got, expected.double(), **CLOSE)


@pytest.mark.parametrize(
    ("key", "name", "config"),
    [
        ("euler", "EulerDiscreteScheduler", {}),
        ("euler", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("euler_a", "EulerAncestralDiscreteScheduler", {}),
        ("heun", "HeunDiscreteScheduler", {"use_karras_sigmas": True}),
        ("lms", "LMSDiscreteScheduler", {"use_karras_sigmas": True}),
        ("dpm2", "KDPM2DiscreteScheduler", {"use_karras_sigmas": True}),
        ("dpm2_a", "KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": True}),
    ],
)
def test_exploding(key: str, name: str, config: dict[str, Any]) -> None:
    made = scheduler(name, 9, **config)
    levels = distinct(made.sigmas)
    order = []
    for i in range(len(made.timesteps)):
        between = name.startswith("KDPM2") and i % 2
        at = i - 1 if between and "Ancestral" in name else i
        order.append(float(made.sigmas_interpol[at] if between else made.sigmas[i]))
    expected = run_exploding(made, order.__getitem__, torch.Generator().manual_seed(1))
    alike(key, expected, levels)


@pytest.mark.parametrize(
    ("key", "name", "config", "options"),
    [
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {"solver_order": 2}, SamplerOptions()),
        ("dpmpp_3m_sde", "DPMSolverMultistepScheduler", {"solver_order": 3}, SamplerOptions(eta=0.0)),
        ("deis", "DEISMultistepScheduler", {"solver_order": 2}, SamplerOptions(order=2)),
        ("deis", "DEISMultistepScheduler", {"solver_order": 3}, SamplerOptions(order=3)),
        (
            "unipc",
            "UniPCMultistepScheduler",
            {"solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero"},
            SamplerOptions(order=2, variant="bh2"),
        ),
    ],
)
def test_preserving_multistep(key: str, name: str, config: dict[str, Any], options: SamplerOptions) -> None:
    # below 15 steps diffusers lowers the order at the end
    made = scheduler(name, 16, use_karras_sigmas=True, **config)
    levels = [float(s) for s in made.sigmas]
    alike(key, run_preserving(made, levels), torch.tensor(levels, dtype=torch.float64), options)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_of_order_three(variant: str) -> None:
    made = scheduler(
        "UniPCMultistepScheduler",
        16,
        use_karras_sigmas=True,
        solver_order=3,
        solver_type=variant,
        lower_order_final=False,
    )
    # its step to 0 is not a number in diffusers; stop before it
    made.timesteps = made.timesteps[:14]
    levels = [float(s) for s in made.sigmas[:15]]
    options = SamplerOptions(variant=variant, lower_order_final=False)
    alike("unipc", run_preserving(made, levels), torch.tensor(levels, dtype=torch.float64), options)


@pytest.mark.parametrize(("key", "solver"), [("dpmpp_2m_sde", "midpoint"), ("dpmpp_2m_sde_heun", "heun")])
def test_sde_multistep(key: str, solver: str) -> None:
    config = {"algorithm_type": "sde-dpmsolver++", "solver_type": solver, "use_karras_sigmas": True}
    made = scheduler("DPMSolverMultistepScheduler", 12, **config)
    levels = [float(s) for s in made.sigmas]
    generator = torch.Generator().manual_seed(1)
    x = first_noise() * levels[0] / (1 + levels[0] ** 2) ** 0.5
    for i, t in enumerate(made.timesteps):
        ve = x * (1 + levels[i] ** 2) ** 0.5
        fresh = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        x = made.step((ve - ideal(ve, levels[i])) / levels[i], t, x, variance_noise=fresh).prev_sample
    alike(key, x, torch.tensor(levels, dtype=torch.float64))


def test_singlestep() -> None:
    config = {
        "solver_order": 2,
        "use_exponential_sigmas": True,
        "final_sigmas_type": "sigma_min",
        "lower_order_final": True,
    }
    made = scheduler("DPMSolverSinglestepScheduler", 12, algorithm_type="dpmsolver++", **config)
    levels = [float(s) for s in made.sigmas]
    x = first_noise() * levels[0] / (1 + levels[0] ** 2) ** 0.5
    # it spends two levels on a step; stop after five whole steps
    for i, t in enumerate(made.timesteps[:10]):
        ve = x * (1 + levels[i] ** 2) ** 0.5
        x = made.step((ve - ideal(ve, levels[i])) / levels[i], t, x).prev_sample
    expected = x * (1 + levels[10] ** 2) ** 0.5
    every_other = torch.tensor(levels[0:11:2], dtype=torch.float64)
    alike("dpmpp_2s_a", expected, every_other, SamplerOptions(eta=0.0))


def table_levels(made: Any, *, last: float = 0.0) -> list[float]:
    return [TABLE.t_to_sigma(float(t)) for t in made.timesteps] + [last]


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim(eta: float) -> None:
    made = scheduler("DDIMScheduler", 10, steps_offset=1, clip_sample=False, set_alpha_to_one=True)
    levels = table_levels(made)
    torch.testing.assert_close(torch.tensor(levels), sigmas("ddim", 10, TABLE), rtol=1e-6, atol=0)
    expected = run_preserving(made, levels, eta=eta, generator=torch.Generator().manual_seed(1))
    alike("ddim", expected, torch.tensor(levels, dtype=torch.float64), SamplerOptions(eta=eta))


def test_ddpm() -> None:
    made = scheduler("DDPMScheduler", 10, clip_sample=False, variance_type="fixed_small")
    levels = table_levels(made)
    expected = run_preserving(made, levels, generator=torch.Generator().manual_seed(1))
    alike("ddpm", expected, torch.tensor(levels, dtype=torch.float64))


def test_plms() -> None:
    made = scheduler("PNDMScheduler", 10, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=True)
    times = [float(t) for t in made.timesteps]
    levels = [TABLE.t_to_sigma(t) for t in times]
    distinct_levels = distinct(torch.tensor([*levels, 0.0], dtype=torch.float64))
    expected = run_preserving(made, [*levels, 0.0])
    alike("plms", expected, distinct_levels)


def test_lcm() -> None:
    made = scheduler("LCMScheduler", 4, clip_sample=False)
    levels = table_levels(made)
    expected = run_preserving(made, levels, generator=torch.Generator().manual_seed(1))
    alike("lcm", expected, torch.tensor(levels, dtype=torch.float64))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_tcd(eta: float) -> None:
    made = scheduler("TCDScheduler", 5)
    levels = table_levels(made, last=TABLE.sigma_min)
    expected = run_preserving(made, levels, eta=eta, generator=torch.Generator().manual_seed(1))
    alike("tcd", expected, torch.tensor(levels, dtype=torch.float64), SamplerOptions(eta=eta))


def test_flow_euler() -> None:
    made = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    made.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    ours = sigmas("simple", 4, FlowTable(shift=3.0))
    torch.testing.assert_close(ours, made.sigmas, rtol=1e-5, atol=1e-7)


def test_schedules_equal_diffusers() -> None:
    made = scheduler("EulerDiscreteScheduler", 10, timestep_spacing="linspace")
    torch.testing.assert_close(sigmas("uniform", 10, TABLE), made.sigmas, rtol=1e-4, atol=0)
    torch.testing.assert_close(sigmas("normal", 10, TABLE), made.sigmas, rtol=1e-4, atol=0)
    karras = scheduler("EulerDiscreteScheduler", 10, use_karras_sigmas=True)
    torch.testing.assert_close(sigmas("karras", 10, TABLE), karras.sigmas, rtol=1e-4, atol=0)
    exponential = scheduler("EulerDiscreteScheduler", 10, use_exponential_sigmas=True)
    torch.testing.assert_close(sigmas("exponential", 10, TABLE), exponential.sigmas, rtol=1e-4, atol=0)
    beta = scheduler("EulerDiscreteScheduler", 10, use_beta_sigmas=True)
    torch.testing.assert_close(sigmas("beta", 10, TABLE), beta.sigmas, rtol=1e-4, atol=0)


def test_zero_terminal_snr_equals_diffusers() -> None:
    plain = scheduler("DDIMScheduler", 10).alphas_cumprod
    rescaled = scheduler("DDIMScheduler", 10, rescale_betas_zero_snr=True).alphas_cumprod
    torch.testing.assert_close(rescale_zero_snr(plain.double()).float(), rescaled, rtol=1e-3, atol=1e-6)
    assert SigmaTable.scaled_linear(zero_snr=True).sigma_max == pytest.approx(4518.76, rel=1e-4)


def test_cfg_rescale_equals_diffusers() -> None:
    guided, text = torch.randn(2, 3, 4, 4) * 3, torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(rescale(guided, text, 0.7), rescale_noise_cfg(guided, text, 0.7))
