"""Prediction types and guidance: pure functions checked by hand and by their laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danqing.sampling.guidance import (
    GuidanceSettings,
    clip_dynamically,
    combine,
    combine_alone,
    guide,
    image_and_text,
    mimic,
    needs_uncond,
    perturbed_attention,
    rescale_denoised,
)
from danqing.sampling.prediction import (
    Prediction,
    consistency_boundary,
    denoised_from,
    network_input,
    output_from,
)

SHAPE = (2, 4, 8, 8)


def some(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("sigma", [0.03, 0.5, 1.0, 14.6])
def test_perfect_answers_give_back_the_picture(prediction: Prediction, sigma: float) -> None:
    if prediction is Prediction.FLOW:
        sigma = min(sigma, 1.0)
    x0, noise = some(1), some(2)
    root = math.sqrt(sigma**2 + 1)
    a, b = 1 / root, sigma / root
    x = x0 + sigma * noise
    answers = {Prediction.EPSILON: noise, Prediction.V: a * noise - b * x0, Prediction.SAMPLE: x0}
    if prediction is Prediction.FLOW:
        x, answer = (1 - sigma) * x0 + sigma * noise, noise - x0
    else:
        answer = answers[prediction]
    torch.testing.assert_close(denoised_from(prediction, x, answer, sigma), x0, rtol=1e-4, atol=3e-5)
    torch.testing.assert_close(output_from(prediction, x, x0, sigma), answer, rtol=1e-3, atol=1e-3)


def test_network_input_has_unit_spread_and_rows_have_their_own_level() -> None:
    x = torch.cat([some(1)[:1] * 101**0.5, some(2)[:1] * 2**0.5])
    shown = network_input(Prediction.EPSILON, x, torch.tensor([10.0, 1.0]))
    torch.testing.assert_close(shown, torch.cat([some(1)[:1], some(2)[:1]]))
    both = denoised_from(Prediction.V, x, some(3), torch.tensor([10.0, 1.0]))
    torch.testing.assert_close(both[1:], denoised_from(Prediction.V, x[1:], some(3)[1:], 1.0))


def test_half_precision_answers_are_combined_in_float32() -> None:
    got = denoised_from(Prediction.EPSILON, some(1), some(2).half(), 14.6)
    assert got.dtype == torch.float32


def test_consistency_boundary() -> None:
    x, d = some(1), some(2)
    torch.testing.assert_close(consistency_boundary(x, d, 0.0, 0.0), x)
    torch.testing.assert_close(consistency_boundary(x, d, 14.6, 999.0), d, rtol=1e-5, atol=1e-5)


def test_combine_is_the_formula_for_any_number_of_parts() -> None:
    u, a, b = some(1), some(2), some(3)
    got = combine(u, [a, b], [1.0, -0.4], 7.5)
    torch.testing.assert_close(got, u + 7.5 * (a - u) - 0.4 * 7.5 * (b - u))
    torch.testing.assert_close(combine(u, [a], [1.0], 1.0), a)
    torch.testing.assert_close(combine(u, [a], [1.0], 0.0), u)
    torch.testing.assert_close(combine_alone([a, b], [1.0, 0.5]), a + 0.5 * (b - a))
    with pytest.raises(ValueError, match="zip"):
        combine(u, [a, b], [1.0], 7.0)


@given(st.floats(0.0, 30.0))
def test_rows_do_not_mix(scale: float) -> None:
    chosen = GuidanceSettings(scale, rescale=0.7, threshold_percentile=0.98, mimic_scale=5.0)
    x, u, c = some(1, 3.0), some(2), some(3)
    together = guide(chosen, u, [c], [1.0], (x, 2.0))
    alone = torch.cat([guide(chosen, u[i : i + 1], [c[i : i + 1]], [1.0], (x[i : i + 1], 2.0)) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_rescale_gives_the_velocity_the_spread_of_the_prompts() -> None:
    x, u, c = some(1, 3.0), some(2), some(3)
    guided = combine(u, [c], [1.0], 12.0)
    torch.testing.assert_close(rescale_denoised(guided, c, (x, 2.0), 0.0), guided, rtol=1e-4, atol=1e-4)
    full = rescale_denoised(guided, c, (x, 2.0), 1.0)
    root = math.sqrt(5.0)

    def velocity(d: torch.Tensor) -> torch.Tensor:
        return output_from(Prediction.V, x, d, 2.0)

    torch.testing.assert_close(velocity(full)[0].std(), velocity(c)[0].std(), rtol=1e-4, atol=1e-4)
    assert velocity(guided)[0].std() > velocity(c)[0].std()
    assert root > 0


def test_thresholding_brings_outliers_back_and_leaves_the_tame_alone() -> None:
    x0 = torch.zeros(1, 1, 10, 10)
    x0[..., 0, 0], x0[..., 0, 1] = 50.0, 0.5
    limit = torch.ones(1, 1, 1, 1)
    got = clip_dynamically(x0, 0.9, limit)
    assert got.max().item() == pytest.approx(1.0)
    assert got[0, 0, 0, 1].item() == pytest.approx(0.5)


def test_mimic_has_the_range_of_the_gentle_scale() -> None:
    u, c = some(1), some(2)
    strong, gentle = combine(u, [c], [1.0], 20.0), combine(u, [c], [1.0], 5.0)
    got = mimic(strong, gentle, 1.0)
    around = got - got.mean(dim=(-2, -1), keepdim=True)
    wanted = gentle - gentle.mean(dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(around.abs().amax((-2, -1)), wanted.abs().amax((-2, -1)), rtol=1e-4, atol=1e-4)
    assert torch.isfinite(mimic(torch.zeros(SHAPE), torch.zeros(SHAPE), 0.9)).all()


def test_pag_and_image_guidance() -> None:
    g, c, p = some(1), some(2), some(3)
    torch.testing.assert_close(perturbed_attention(g, c, p, 3.0), g + 3 * (c - p))
    torch.testing.assert_close(image_and_text((g, c, p), 1.0, 1.0), g)
    torch.testing.assert_close(image_and_text((g, c, p), 7.0, 1.5), p + 7 * (g - c) + 1.5 * (c - p))


def test_when_the_negative_prompt_is_needed() -> None:
    plain = GuidanceSettings(7.0)
    assert needs_uncond(plain, 14.6, 0, 20)
    assert not needs_uncond(GuidanceSettings(1.0), 14.6, 0, 20)
    assert needs_uncond(GuidanceSettings(1.0), 14.6, 0, 20, [1.0, 0.5])
    assert needs_uncond(GuidanceSettings(1.0, always_uncond=True), 14.6, 0, 20)
    early = GuidanceSettings(7.0, skip_early=0.25)
    assert [needs_uncond(early, 5.0, i, 20) for i in (0, 5, 6, 19)] == [False, False, True, True]
    ngms = GuidanceSettings(7.0, s_min_uncond=2.0)
    assert [needs_uncond(ngms, 1.0, i, 20) for i in (2, 3)] == [True, False]
    assert needs_uncond(ngms, 3.0, 3, 20)
    assert not needs_uncond(GuidanceSettings(7.0, s_min_uncond=2.0, every_step=True), 1.0, 2, 20)
    window = GuidanceSettings(7.0, sigma_start=5.0, sigma_end=0.3)
    assert [needs_uncond(window, s, 0, 20) for s in (14.0, 5.0, 0.3)] == [False, True, False]
