"""With ControlNets and a real small model in float32: a Session's result does not depend on who shares its batch."""

from __future__ import annotations

import pytest
import torch
from engine_sessions import check_arrivals, distance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.engine.calls import Denoise
from danqing.spec.plan import Plan
from easel import Easel, box_mask, photo

TOLERANCE = 1e-5


def crowd(easel: Easel) -> list[Plan]:
    """Pictures that differ in words and in all of a unit; one ControlNet, two, and none."""
    plans: list[Plan] = []
    left = easel.picture(box_mask(64, 64, (0, 0, 32, 64)))
    for i in range(9):
        picture = easel.picture(photo(64, 64, seed=i))
        unit = {
            "model": "live",
            "image": picture,
            "annotator": ("canny", "none", "scribble_xdog")[i % 3],
            "weight": (1.0, 0.4, 1.6)[i % 3],
            "mode": ("balanced", "prompt", "control")[i % 3],
            "start": 0.25 if i == 4 else 0.0,
            "end": 0.5 if i == 1 else 1.0,
        }
        controls = [unit, {"model": "other", "image": picture}] if i in (6, 7) else [unit]
        if i == 2:
            controls[0] = {**unit, "mask": left}
        words = ("the red cat", "a dog AND a cat", "blue dog, " + "cat, " * 45)[i % 3]
        guidance = {"scale": 1.0 if i == 3 else 5.0, "pag_scale": 2.0 if i == 5 else 0.0}
        sampling = {"sampler": ("euler", "dpmpp_2m", "heun")[i % 3], "steps": 3 + i % 3}
        fields = {"prompt": words, "seed": i, "guidance": guidance, "sampling": sampling}
        plans += easel.plans(**fields, controls=[] if i == 8 else controls)
    return plans


@pytest.fixture(scope="module")
def plans(control_easel: Easel) -> list[Plan]:
    return crowd(control_easel)


@pytest.fixture(scope="module")
def lone(control_easel: Easel, plans: list[Plan]) -> list[torch.Tensor]:
    return [control_easel.latents([one])[0] for one in plans]


def test_alone_and_among_companions(control_easel: Easel, plans: list[Plan], lone: list[torch.Tensor]):
    together = control_easel.latents(plans)
    batches = [calls for calls in control_easel.executor.ran if isinstance(calls[0], Denoise)]
    for calls in batches:
        assert len({call.control_set for call in calls if isinstance(call, Denoise)}) == 1
    shared = [calls for calls in batches if len(calls) >= 4 and len(calls[0].control_set) == 1]
    assert shared, "units of one ControlNet never shared a batch"
    assert any(len({call.controls[0].weight for call in calls}) > 1 for calls in shared)
    assert any(len(calls) == 2 and len(calls[0].control_set) == 2 for calls in batches)
    for index, (ours, theirs) in enumerate(zip(together, lone, strict=True)):
        assert distance(ours, theirs) <= TOLERANCE, index


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_of_arrival_and_any_cancellation(
    control_easel: Easel, plans: list[Plan], lone: list[torch.Tensor], data: st.DataObject
):
    check_arrivals(control_easel, plans, lone, data, TOLERANCE)
