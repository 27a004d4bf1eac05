"""Schedules: known levels, the promises they all keep, and the slices of picture-to-picture runs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.sampling.schedules import (
    SCHEDULES,
    FlowTable,
    ScheduleSettings,
    SigmaTable,
    dynamic_shift,
    resolve_schedule,
    sigmas,
    steps_for_strength,
)
from danqing.sampling.tables import ZERO_SNR_ALPHA
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.samplers import SAMPLERS, find_sampler
from danqing.spec.registry.schedules import SCHEDULES as INFOS

TABLE = SigmaTable.scaled_linear()
ZERO_SNR = SigmaTable.scaled_linear(zero_snr=True)
FLOW = FlowTable(shift=3.0)


def test_registry_and_implementations_are_the_same_list() -> None:
    assert [info.key for info in INFOS] == ["automatic", *SCHEDULES]
    for sampler in SAMPLERS:
        assert sampler.default_schedule in SCHEDULES


def test_stable_diffusion_table() -> None:
    assert TABLE.sigma_max == pytest.approx(14.6146, abs=1e-4)
    assert TABLE.sigma_min == pytest.approx(0.0291675, abs=1e-6)
    assert TABLE.sigma_to_t(TABLE.sigma_max) == pytest.approx(999)
    assert TABLE.t_to_sigma(999) == pytest.approx(TABLE.sigma_max)


@pytest.mark.parametrize(
    ("key", "steps", "expected"),
    [
        ("karras", 10, [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0.0]),
        ("align_your_steps", 11, [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0.0]),
        ("turbo", 4, [14.6146, 4.0817, 1.6129, 0.6932, 0.0]),
        ("turbo", 1, [14.6146, 0.0]),
        ("simple", 4, [14.6146, 4.0817, 1.6129, 0.6932, 0.0]),
        ("ddim", 2, [1.6237, 0.0413, 0.0]),
    ],
)
def test_known_levels(key: str, steps: int, expected: list[float]) -> None:
    got = sigmas(key, steps, TABLE)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=2e-3, atol=1e-4)


def test_align_your_steps_tables_and_interpolation() -> None:
    xl = sigmas("align_your_steps", 11, TABLE, settings=ScheduleSettings(align_table="sdxl"))
    assert xl[1].item() == pytest.approx(6.315)
    half = sigmas("align_your_steps", 21, TABLE)
    assert half[1].item() == pytest.approx(math.sqrt(14.6146 * 6.475), rel=1e-3)
    # another model's range is filled, not cut
    other = sigmas("align_your_steps", 11, TABLE, settings=ScheduleSettings(sigma_min=0.1, sigma_max=80.0))
    assert other[0].item() == pytest.approx(80.0)
    assert other[-2].item() == pytest.approx(0.1)


def test_kl_optimal_ends_at_the_models_lowest_level() -> None:
    got = sigmas("kl_optimal", 10, TABLE)
    assert got[0].item() == pytest.approx(TABLE.sigma_max, rel=1e-5)
    assert got[-1].item() == pytest.approx(TABLE.sigma_min, rel=1e-5)


def test_linear_quadratic_is_slow_then_fast() -> None:
    got = sigmas("linear_quadratic", 10, FlowTable()).tolist()
    assert got[:6] == pytest.approx([1.0, 0.995, 0.99, 0.985, 0.98, 0.975])
    gaps = [a - b for a, b in pairwise(got[5:])]
    assert gaps == sorted(gaps)


def test_karras_rho_and_range() -> None:
    got = sigmas("karras", 5, TABLE, settings=ScheduleSettings(rho=1.0, sigma_min=1.0, sigma_max=9.0))
    torch.testing.assert_close(got, torch.tensor([9.0, 7.0, 5.0, 3.0, 1.0, 0.0]))


def test_discarded_level() -> None:
    plain, discarding = find_sampler("heun"), find_sampler("dpm2")
    longer = sigmas("karras", 11, TABLE, plain)
    got = sigmas("karras", 10, TABLE, discarding)
    torch.testing.assert_close(got, torch.cat([longer[:-2], longer[-1:]]))


def test_automatic() -> None:
    assert resolve_schedule("Automatic", TABLE, find_sampler("DPM++ 2M")) == "karras"
    assert resolve_schedule("automatic", TABLE, find_sampler("Euler a")) == "uniform"
    assert resolve_schedule("automatic", TABLE) == "uniform"
    assert resolve_schedule("automatic", FLOW, find_sampler("DPM++ 2M")) == "simple"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 150),
    st.sampled_from(SAMPLERS),
    st.sampled_from([TABLE, ZERO_SNR, FLOW, FlowTable()]),
)
def test_promises(key: str, steps: int, sampler, table) -> None:
    got = sigmas(key, steps, table, sampler)
    assert got.shape == (steps + 1,)
    assert got.dtype == torch.float32
    assert torch.isfinite(got).all()
    assert (got[1:] < got[:-1]).all()
    assert got[0].item() <= table.sigma_max * (1 + 1e-5)
    assert got[-1].item() == 0.0 or key == "kl_optimal"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["karras", "exponential", "polyexponential", "beta", "kl_optimal", "normal", "sgm_uniform"]),
    st.integers(1, 60),
    st.floats(0.03, 0.5),
    st.floats(1.0, 14.0),
    st.floats(0.5, 9.0),
)
def test_promises_with_a_range(key: str, steps: int, low: float, high: float, rho: float) -> None:
    chosen = ScheduleSettings(rho=rho, sigma_min=low, sigma_max=high)
    if rho > 3 and key == "polyexponential":
        # so steep that levels may coincide: then it must say so, and only then
        ramp = torch.exp(torch.linspace(1, 0, steps) ** rho * (math.log(high) - math.log(low)) + math.log(low))
        if not (ramp[1:] < ramp[:-1]).all():
            with pytest.raises(InvalidRequestError, match="same noise level"):
                sigmas(key, steps, TABLE, settings=chosen)
            return
    got = sigmas(key, steps, TABLE, settings=chosen)
    assert got.shape == (steps + 1,)
    assert (got[1:] < got[:-1]).all()
    assert got[0].item() == pytest.approx(high, rel=1e-4)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_bad_steps(steps: int) -> None:
    with pytest.raises(InvalidRequestError, match="steps"):
        sigmas("karras", steps, TABLE)


@pytest.mark.parametrize(
    "chosen",
    [
        ScheduleSettings(sigma_min=5.0, sigma_max=1.0),
        ScheduleSettings(sigma_min=-1.0),
        ScheduleSettings(sigma_max=math.inf),
        ScheduleSettings(sigma_max=math.nan),
        ScheduleSettings(rho=0.0),
        ScheduleSettings(rho=math.nan),
    ],
)
def test_bad_ranges(chosen: ScheduleSettings) -> None:
    with pytest.raises(InvalidRequestError):
        sigmas("karras", 10, TABLE, settings=chosen)


def test_unknown_schedule() -> None:
    with pytest.raises(InvalidRequestError, match="did you mean 'Karras'"):
        sigmas("karas", 10, TABLE)


@given(st.floats(0.0, 999.0))
def test_time_and_level_are_inverse(t: float) -> None:
    assert TABLE.sigma_to_t(TABLE.t_to_sigma(t)) == pytest.approx(t, abs=1e-6)
    assert FLOW.sigma_to_t(FLOW.t_to_sigma(t)) == pytest.approx(t, abs=1e-6)


def test_levels_outside_the_table_are_held() -> None:
    assert TABLE.sigma_to_t(0.0) == 0.0
    assert TABLE.sigma_to_t(100.0) == 999.0
    assert FLOW.model_time(0.5) == 500.0
    assert FLOW.sigma_min < 0.01


def test_zero_terminal_snr() -> None:
    assert TABLE.sigma_max < 15
    table = SigmaTable.from_alphas_cumprod([0.99, 0.5, 0.0])
    assert table.sigma_max == pytest.approx(((1 - ZERO_SNR_ALPHA) / ZERO_SNR_ALPHA) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("alphas", [[0.5, 0.9], [1.2, 0.5], [0.5], [[0.9, 0.5]]])
def test_bad_tables(alphas: list) -> None:
    with pytest.raises(ValueError, match="alphas_cumprod"):
        SigmaTable.from_alphas_cumprod(alphas)


def test_dynamic_shift() -> None:
    assert dynamic_shift(256) == pytest.approx(math.exp(0.5))
    assert dynamic_shift(4096) == pytest.approx(math.exp(1.15))
    assert dynamic_shift(4096, exponential=False) == pytest.approx(1.15)


def test_strength_in_both_ways() -> None:
    # AUTOMATIC1111: t_enc = int(min(strength, 0.999) · steps), run from level steps - t_enc - 1
    for strength in (0.0, 0.3, 0.75, 1.0):
        plan = steps_for_strength(20, strength)
        assert (plan.total, plan.run) == (20, int(min(strength, 0.999) * 20) + 1)
    exact = steps_for_strength(20, 0.5, exact=True)
    assert (exact.total, exact.run) == (40, 20)
    assert steps_for_strength(1, 1.0).skip == 0


@given(st.integers(1, 150), st.floats(0.0, 1.0), st.booleans())
def test_strength_always_gives_a_run(steps: int, strength: float, exact: bool) -> None:
    plan = steps_for_strength(steps, strength, exact=exact)
    assert 1 <= plan.run <= plan.total <= 1000
    assert plan.run <= steps
    assert plan.skip >= 0


@pytest.mark.parametrize("strength", [math.nan, -0.1, 1.5, math.inf])
def test_bad_strength(strength: float) -> None:
    with pytest.raises(InvalidRequestError, match="strength"):
        steps_for_strength(20, strength)
