"""With a real small model in float32: what a Session paints does not depend on who shares its batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_sessions import check_arrivals, distance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.engine.calls import Denoise
from danqing.spec.plan import Plan
from easel import Easel

TOLERANCE = 1e-5
SAMPLERS = ("euler", "euler_a", "dpmpp_2m", "heun", "dpmpp_sde", "unipc")


def crowd(easel: Easel) -> list[Plan]:
    """Eight pictures that differ in all that may share a batch: words, seed, sampler, steps, guidance."""
    plans: list[Plan] = []
    for i in range(8):
        words = ("the red cat", "blue dog", "a (cat:1.4) AND a dog", "[red:blue:3] " + "cat, " * 45)[i % 4]
        guidance = {"scale": (7.0, 1.0, 4.0)[i % 3], "pag_scale": 2.0 if i == 5 else 0.0}
        sampling = {"sampler": SAMPLERS[i % len(SAMPLERS)], "steps": 3 + i % 4}
        plans += easel.plans(prompt=words, seed=100 + i, sampling=sampling, guidance=guidance)
    return plans


@pytest.fixture(scope="module")
def plans(easel: Easel) -> list[Plan]:
    return crowd(easel)


@pytest.fixture(scope="module")
def lone(easel: Easel, plans: list[Plan]) -> list[torch.Tensor]:
    return [easel.latents([one])[0] for one in plans]


def test_alone_and_among_seven_companions(easel: Easel, plans: list[Plan], lone: list[torch.Tensor]):
    together = easel.latents(plans)
    rows = [sum(len(c.contexts) for c in calls) for calls in easel.executor.ran if isinstance(calls[0], Denoise)]
    assert max(rows) >= 12, f"nothing was batched: {rows}"
    for index, (ours, theirs) in enumerate(zip(together, lone, strict=True)):
        assert distance(ours, theirs) <= TOLERANCE, index


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_of_arrival_and_any_cancellation(
    easel: Easel, plans: list[Plan], lone: list[torch.Tensor], data: st.DataObject
):
    check_arrivals(easel, plans, lone, data, TOLERANCE)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_small_batches_give_the_same(easel: Easel, plans: list[Plan], lone: list[torch.Tensor], rows: int):
    easel.executor.batch_rows = rows
    try:
        together = easel.latents(plans[:4])
    finally:
        easel.executor.batch_rows = None
    for ours, theirs in zip(together, lone, strict=False):
        assert distance(ours, theirs) <= TOLERANCE


def test_out_of_memory_on_the_real_executor_halves_and_gives_the_same(
    easel: Easel, plans: list[Plan], lone: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    refused: list[int] = []
    real = easel.model().unet.forward

    def small_device(sample: torch.Tensor, *rest: Any, **named: Any) -> Any:
        if len(sample) > 3:
            refused.append(len(sample))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(sample, *rest, **named)

    monkeypatch.setattr(easel.model().unet, "forward", small_device)
    together = easel.latents(plans[:4])
    assert refused, "the group was never too large"
    for ours, theirs in zip(together, lone, strict=False):
        assert distance(ours, theirs) <= TOLERANCE
