"""Every sampler on data whose perfect model is known: N(0.7, 0.5²)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from gaussian_world import (
    MU,
    SD,
    SIGMA_MAX,
    SIGMA_MIN,
    centre,
    drive,
    ideal,
    ideal_flow,
    karras_levels,
    on_curve,
    spread,
)

from danqing.sampling.noise import NoiseSettings, PictureNoise
from danqing.sampling.parametrization import to_ve
from danqing.sampling.samplers import SAMPLERS
from danqing.sampling.types import SamplerOptions
from danqing.spec.registry.samplers import SAMPLERS as INFOS

PARTICLES = (1, 1, 250, 400)
STILL = SamplerOptions(eta=0.0)


def start(sigma: float = SIGMA_MAX) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), MU + 0.9 * sigma, dtype=torch.float64)


def error(key: str, sigmas: torch.Tensor, options: SamplerOptions = STILL) -> float:
    x0 = start(float(sigmas[0]))
    got, _ = drive(key, x0, sigmas, options)
    return abs(float(got - on_curve(x0, float(sigmas[0]), float(sigmas[-1]))))


def orders(key: str) -> list[float]:
    errors = [error(key, karras_levels(n)) for n in (10, 20, 40, 80, 160)]
    return [math.log2(a / b) for a, b in pairwise(errors)]


def test_registry_and_implementations_are_the_same_list() -> None:
    assert [info.key for info in INFOS] == list(SAMPLERS)


@pytest.mark.parametrize(("key", "expected"), [("euler", 6.94e-2), ("heun", 2.52e-2), ("dpmpp_2m", 2.10e-2)])
def test_error_at_ten_steps(key: str, expected: float) -> None:
    assert error(key, karras_levels(10)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("euler", 1),
        ("euler_a", 1),
        ("ddim", 1),
        ("ddim_cfgpp", 1),
        ("heun", 2),
        ("dpm2", 2),
        ("dpm2_a", 2),
        ("dpmpp_2m", 2),
        ("dpmpp_2s_a", 2),
        ("dpmpp_sde", 2),
        ("dpmpp_2m_sde", 2),
        ("dpmpp_2m_sde_heun", 2),
        ("dpmpp_3m_sde", 2),
        ("deis", 3),
    ],
)
def test_order_without_fresh_noise(key: str, order: int) -> None:
    assert orders(key)[-1] == pytest.approx(order, abs=0.12)


def test_lms_is_of_order_four() -> None:
    assert orders("lms")[-1] >= 3.7


def test_unipc_is_of_order_four_when_its_last_steps_are_not_lowered() -> None:
    # order 3 with the corrector gains one; warming up from order 1 keeps it below in the first steps
    full = SamplerOptions(lower_order_final=False)
    errors = [error("unipc", karras_levels(n), full) for n in (80, 160)]
    assert math.log2(errors[0] / errors[1]) > 2.7


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_is_closer_than_2m(variant: str) -> None:
    options = SamplerOptions(variant=variant)
    assert error("unipc", karras_levels(20), options) < error("dpmpp_2m", karras_levels(20))


def test_plms_on_equal_steps() -> None:
    errors = [error("plms", torch.linspace(4.0, 1.0, n + 1, dtype=torch.float64)) for n in (20, 40)]
    assert math.log2(errors[0] / errors[1]) > 2.9


def test_dpm_fast_uses_exactly_the_calls_it_is_given() -> None:
    for n in range(1, 13):
        _, calls = drive("dpm_fast", start(), karras_levels(n), STILL)
        assert calls == n
    assert error("dpm_fast", karras_levels(20)) < error("heun", karras_levels(10))


def test_dpm_adaptive_meets_its_tolerance() -> None:
    for order, rtol in ((2, 0.005), (3, 0.05), (3, 0.005)):
        options = SamplerOptions(eta=0.0, order=order, rtol=rtol, atol=rtol / 6)
        # the tolerance holds for each step, not for their sum
        assert error("dpm_adaptive", karras_levels(10), options) < 2 * rtol
    loose, tight = (
        drive("dpm_adaptive", start(), karras_levels(9), SamplerOptions(eta=0, rtol=r, atol=r / 6))[1]
        for r in (0.05, 0.005)
    )
    assert loose < tight


def test_dpm_adaptive_rows_do_not_couple() -> None:
    x = torch.stack([torch.full((1, 2, 2), 14.0), torch.full((1, 2, 2), -90.0)]).double()
    together, _ = drive("dpm_adaptive", x, karras_levels(8), STILL)
    alone = torch.cat([drive("dpm_adaptive", row, karras_levels(8), STILL)[0] for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.key)
def test_calls_per_step(info) -> None:
    if info.adaptive or info.key in {"restart", "dpm_fast"}:
        pytest.skip("its number of calls is not a multiple of its steps")
    _, calls = drive(info.key, start(), karras_levels(8))
    assert calls == 8 * info.order + (info.key == "plms")


@pytest.mark.parametrize("key", list(SAMPLERS))
def test_slices_one_step_and_rows(key: str) -> None:
    sigmas = torch.cat([karras_levels(8), torch.zeros(1, dtype=torch.float64)])
    for part in (sigmas, sigmas[3:], sigmas[:4], sigmas[-2:], sigmas[:2]):
        x = MU + torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(1)).double() * part[0]
        got, _ = drive(key, x, part)
        assert got.shape == x.shape
        assert torch.isfinite(got).all()


@pytest.mark.parametrize("key", [k for k in SAMPLERS if k not in {"lcm", "tcd", "ddpm", "restart"}])
def test_one_step_to_zero_is_the_estimate(key: str) -> None:
    sigmas = torch.tensor([SIGMA_MAX, 0.0], dtype=torch.float64)
    got, _ = drive(key, start(), sigmas, STILL)
    torch.testing.assert_close(got, ideal(start(), SIGMA_MAX))


STOCHASTIC = [
    # key, steps, options, tolerance on the standard deviation relative to SD (discretisation, falling with the steps)
    ("euler_a", 400, SamplerOptions(), 0.012),
    ("ddim", 400, SamplerOptions(eta=1.0), 0.012),
    ("ddim", 300, SamplerOptions(eta=0.5), 0.012),
    ("ddpm", 400, SamplerOptions(), 0.012),
    ("dpm2_a", 80, SamplerOptions(), 0.01),
    ("dpmpp_2s_a", 80, SamplerOptions(), 0.01),
    ("dpmpp_sde", 40, SamplerOptions(), 0.015),
    ("dpmpp_2m_sde", 60, SamplerOptions(), 0.015),
    ("dpmpp_2m_sde_heun", 60, SamplerOptions(), 0.015),
    ("dpmpp_3m_sde", 60, SamplerOptions(), 0.015),
    ("dpm_fast", 60, SamplerOptions(), 0.015),
    ("dpm_adaptive", 20, SamplerOptions(rtol=0.01, atol=0.002), 0.02),
    ("restart", 40, SamplerOptions(), 0.015),
    ("euler", 400, SamplerOptions(s_churn=10.0), 0.012),
    ("heun", 80, SamplerOptions(s_churn=10.0), 0.01),
    ("dpm2", 80, SamplerOptions(s_churn=10.0), 0.01),
]


@pytest.mark.parametrize(("key", "n", "options", "tolerance"), STOCHASTIC, ids=lambda v: str(v)[:18])
def test_mean_and_variance_over_1e5_particles(key: str, n: int, options: SamplerOptions, tolerance: float) -> None:
    noise = PictureNoise(NoiseSettings(3))
    sigmas = karras_levels(n)
    x = MU + spread(SIGMA_MAX) * noise.initial(PARTICLES)
    got, _ = drive(key, x, sigmas, options, noise=noise)
    sd = spread(SIGMA_MIN)
    # five standard errors of a sample of 1e5
    assert float(got.mean()) == pytest.approx(MU, abs=5 * sd / 1e5**0.5)
    assert float(got.std()) == pytest.approx(sd, rel=tolerance)


@pytest.mark.parametrize("flow", [False, True])
def test_lcm_is_the_recursion_it_should_be(flow: bool) -> None:
    noise = PictureNoise(NoiseSettings(5))
    sigmas = [1.0, 0.75, 0.5, 0.25, 0.0] if flow else [14.6, 3.0, 1.0, 0.3, 0.0]
    model = ideal_flow if flow else ideal
    x = centre(sigmas[0], flow=flow) + spread(sigmas[0], flow=flow) * noise.initial(PARTICLES)
    got, _ = drive("lcm", x, torch.tensor(sigmas), SamplerOptions(flow=flow), noise=noise, model=model)
    # each estimate keeps the share g of x's spread; then noise is added
    variance = spread(sigmas[0], flow=flow) ** 2
    for sigma, after in pairwise(sigmas):
        kept = 1.0 - sigma if flow else 1.0
        gain = kept * SD**2 / (kept**2 * SD**2 + sigma**2)
        variance = ((1.0 - after if flow else 1.0) * gain) ** 2 * variance + after**2
    assert float(got.mean()) == pytest.approx(MU, abs=5e-3)
    assert float(got.std()) == pytest.approx(math.sqrt(variance), rel=0.015, abs=1e-6)


def test_tcd_with_gamma_zero_is_ddim_and_with_one_is_lcm() -> None:
    sigmas = torch.tensor([14.6, 3.0, 1.0, 0.3, 0.0])
    x = start(14.6)
    torch.testing.assert_close(drive("tcd", x, sigmas, STILL)[0], drive("ddim", x, sigmas, STILL)[0], rtol=2e-2, atol=0)
    low = SamplerOptions(eta=1.0, earlier_sigma=lambda sigma, fraction: sigma * fraction)
    torch.testing.assert_close(drive("tcd", x, sigmas, low)[0], drive("lcm", x, sigmas)[0])


def test_cfgpp_takes_its_direction_from_the_unconditional() -> None:
    sigmas = torch.tensor([2.0, 1.0], dtype=torch.float64)
    x = start(2.0)
    other = torch.full_like(x, -0.3)
    got, _ = drive("ddim_cfgpp", x, sigmas, SamplerOptions(unconditional=lambda: other))
    torch.testing.assert_close(got, ideal(x, 2.0) + (x - other) / 2.0)


def test_s_noise_zero_keeps_ancestral_samplers_still() -> None:
    quiet = SamplerOptions(s_noise=0.0)
    one = drive("euler_a", start(), karras_levels(10), quiet, noise=PictureNoise(NoiseSettings(1)))[0]
    two = drive("euler_a", start(), karras_levels(10), quiet, noise=PictureNoise(NoiseSettings(2)))[0]
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def flow_error(key: str, n: int) -> float:
    sigmas = torch.linspace(0.95, 0.2, n + 1, dtype=torch.float64)
    x = torch.full((1, 1, 1, 1), 1.3, dtype=torch.float64)
    got, _ = drive(key, x, sigmas, SamplerOptions(eta=0.0, flow=True), model=ideal_flow)
    return abs(float(got - on_curve(x, 0.95, 0.2, flow=True)))


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("euler", 1),
        ("ddim", 1),
        ("euler_a", 1),
        ("heun", 2),
        ("dpm2", 2),
        ("dpmpp_2m", 2),
        ("dpmpp_2s_a", 2),
        ("lms", 2),
    ],
)
def test_flow_order(key: str, order: int) -> None:
    assert math.log2(flow_error(key, 40) / flow_error(key, 80)) > order - 0.2


@pytest.mark.parametrize("key", ["deis", "unipc", "plms", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"])
def test_flow_error_is_small(key: str) -> None:
    assert flow_error(key, 40) < flow_error("euler", 40) / 15


@pytest.mark.parametrize("info", [i for i in INFOS if i.flow and i.key not in {"lcm"}], ids=lambda info: info.key)
def test_flow_mean_and_variance(info) -> None:
    n = 40 if info.brownian else 80
    noise = PictureNoise(NoiseSettings(4))
    sigmas = torch.linspace(1.0, 0.0, n + 1)
    options = SamplerOptions(flow=True, rtol=0.01, atol=0.002)
    got, _ = drive(info.key, noise.initial(PARTICLES), sigmas, options, noise=noise, model=ideal_flow)
    assert float(got.mean()) == pytest.approx(MU, abs=0.02)
    assert float(got.std()) == pytest.approx(SD, rel=0.05)


def test_flow_and_exploding_levels_agree() -> None:
    assert to_ve(0.75) == pytest.approx(3.0)
