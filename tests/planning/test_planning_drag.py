"""Drags resolved, written into pictures and read back."""

from __future__ import annotations

from typing import Any

import pytest

from danqing.prompt.infotext import request_from_infotext, to_infotext
from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.drag import DragRequest
from easel import Easel, photo

POINT = {"from_x_px": 24, "from_y_px": 24, "to_x_px": 36, "to_y_px": 30}


def planned(easel: Easel, **more: Any) -> Any:
    return easel.plans(kind="drag", image=easel.picture(photo(64, 64)), points=[POINT], **more)[0]


def test_published_numbers_fill_what_is_unset(easel: Easel):
    tuning = planned(easel, mode="quality", method="gooddrag", width_px=512, height_px=512).drag.tuning
    assert (tuning.rate, tuning.supervision_radius, tuning.tracking_radius) == (0.02, 4, 12)
    assert (tuning.drag_steps, tuning.tracks, tuning.keep) == (7, 10, 0.1)
    assert (tuning.identity_rank, tuning.identity_steps, tuning.identity_rate) == (16, 80, 5e-4)
    tuning = planned(easel, mode="quality", method="dragdiffusion", width_px=512, height_px=512).drag.tuning
    assert (tuning.rate, tuning.supervision_radius, tuning.tracking_radius, tuning.iterations) == (0.01, 1, 3, 80)


def test_radii_shrink_with_small_pictures_unless_they_are_given(easel: Easel):
    tuning = planned(easel, mode="quality", method="gooddrag").drag.tuning
    assert (tuning.supervision_radius, tuning.tracking_radius) == (1, 2)
    tuning = planned(easel, mode="quality", method="gooddrag", tuning={"tracking_radius": 9}).drag.tuning
    assert (tuning.supervision_radius, tuning.tracking_radius) == (1, 9)


def test_the_mode_decides_on_the_pass(easel: Easel):
    quality = planned(easel, mode="quality", precision="auto").base
    assert (quality.sampling.sampler, quality.sampling.steps) == ("ddim", 50)
    assert (quality.guidance_scale, quality.strength) == (1.0, 0.7)
    assert planned(easel, mode="quality", precision="auto").precision == "float32"
    fast = planned(easel, repair=0.4, precision="auto")
    assert (fast.base.strength, fast.base.guidance_scale, fast.precision) == (0.4, 1.0, "auto")
    noted = planned(easel, mode="quality", sampling={"sampler": "Euler"})
    assert any("DDIM" in note for note in noted.notes)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"repair": 0.0, "radius_px": 5, "mask_feather_px": 2},
        {"mode": "quality", "method": "dragdiffusion", "strength": 0.6, "tuning": {"identity": False, "keep": 0.3}},
        {"mode": "quality", "method": "pulled"},
    ],
)
def test_a_plan_gives_its_request_back_also_through_the_infotext(easel: Easel, more: dict[str, Any]):
    plan = planned(easel, **more)
    request = request_of_plan(plan)
    assert isinstance(request, DragRequest)
    again = easel.plans(**request.model_dump())[0]
    assert again.drag == plan.drag
    assert again.base == plan.base
    read = request_from_infotext(to_infotext(plan)).request
    assert isinstance(read, DragRequest)
    back = easel.plans(**read.model_dump())[0]
    assert back.drag == plan.drag
    assert back.base.strength == plan.base.strength
