"""With ControlNets and a real small model in float32: a Session's result does not depend on who shares its batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_sessions import check_arrivals, distance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.engine.calls import Denoise
from danqing.models import precision
from danqing.spec.errors import DanqingError, InvalidRequestError, UnsupportedError
from danqing.spec.plan import Plan
from easel import Easel, box_mask, photo
from tiny_controlfiles import build_control_files

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


# --- files of every kind ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return Easel(build_control_files(tmp_path_factory.mktemp("control-files")))


def fields(easel: Easel, name: str, seed: int = 1, **changes: Any) -> dict[str, Any]:
    """A Request for the model that a file is made for."""
    unit = {"model": name, "image": easel.picture(photo(64, 64, seed=seed)), "annotator": "canny", **changes}
    model = "xl" if name.startswith("xl") else "deep" if name == "t2i_canny" else "one"
    return {"model": model, "seed": seed, "sampling": {"sampler": "euler", "steps": 3}, "controls": [unit]}


KINDS = ("line", "lora", "t2i", "t2i_canny", "xl-line", "xl-union", "xl-lora", "xl-t2i")


def test_files_of_every_kind_alone_and_among_companions(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    """In float64: the small SDXL grows float32's last bits to 2 % of the picture, also with no control at all."""
    monkeypatch.setitem(precision._DTYPES, "float32", torch.float64)
    files = Easel(build_control_files(tmp_path_factory.mktemp("exact")))
    requests = [
        fields(files, name, seed, weight=(1.0, 0.5)[seed % 2], mode=("balanced", "prompt", "control")[seed % 3])
        for name in KINDS
        for seed in (1, 2, 3)
    ]
    requests.append(fields(files, "xl-union", 4) | {"controls": [{**fields(files, "xl-union", 4)["controls"][0]}]})
    requests[-1]["controls"][0] |= {"annotator": "none", "control_type": "depth"}
    requests.append(fields(files, "t2i", 5, end=0.4, mask=files.picture(box_mask(64, 64, (0, 0, 32, 64)))))
    plans = [files.plans(**one)[0] for one in requests]
    alone = [files.latents([one])[0] for one in plans]
    together = files.latents(plans)
    shared = [calls for calls in files.executor.ran if isinstance(calls[0], Denoise) and len(calls) >= 2]
    assert {call.control_set for calls in shared for call in calls if isinstance(call, Denoise)}
    for index, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
        assert distance(ours, theirs) <= TOLERANCE, requests[index]


@pytest.mark.parametrize("name", KINDS)
def test_outside_its_window_a_unit_is_absent_bit_for_bit(files: Easel, name: str):
    """Of three steps the window after the last share holds none; weight 0 is absent too."""
    plain = files.latents([files.plans(**{**fields(files, name), "controls": []})[0]])[0]
    acting, outside, weightless = (
        files.latents([files.plans(**fields(files, name, **changes))[0]])[0]
        for changes in ({}, {"start": 0.9}, {"weight": 0.0})
    )
    assert torch.equal(outside, plain)
    assert torch.equal(weightless, plain)
    assert not torch.allclose(acting, plain, atol=1e-3)


def test_hires_reads_adapters_at_its_own_size(files: Easel):
    for name in ("t2i", "xl-union"):
        request = {**fields(files, name), "hires": {"scale": 1.5, "steps": 2}}
        painted = files.pixels(**request)
        assert painted.shape == (96, 96, 3)
        sizes = {call.controls[0].hint.shape[-1] for call in files.executor.denoised()}
        assert sizes == {64, 96}
        assert not np.array_equal(painted, files.pixels(**{**request, "controls": []}))


def test_the_annotator_tells_a_union_net_what_the_map_shows(files: Easel):
    for changes, union_id in (
        ({"annotator": "canny"}, 3),
        ({"annotator": "depth_relief", "control_type": "hed"}, 2),
        ({"annotator": "none", "control_type": "openpose"}, 0),
    ):
        (one,) = files.plans(**fields(files, "xl-union", **changes))
        assert one.controls[0].control_type is not None
        if changes["annotator"] != "depth_relief":
            files.latents([one])
            assert {call.controls[0].union_id for call in files.executor.denoised()} == {union_id}
    with pytest.raises(InvalidRequestError, match="what the map shows") as caught:
        files.plans(**fields(files, "xl-union", annotator="none"))
    assert caught.value.field == "controls.0.control_type"


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        ("xl", "line", "made for sd1, the model is sdxl"),
        ("xl", "t2i", "made for sd1"),
        ("one", "xl-t2i", "made for sdxl"),
        ("one", "xl-lora", "its levels are 32, 64, 64 wide"),
        ("one", "t2i_canny", "its levels are 32, 64, 64 wide"),
    ],
)
def test_one_for_another_model_is_refused_before_it_starts(files: Easel, model: str, name: str, said: str):
    with pytest.raises(UnsupportedError, match=said) as caught:
        files.plans(**{**fields(files, name), "model": model})
    assert isinstance(caught.value, DanqingError)
    assert caught.value.field == "controls.0.model"


def test_modes_are_a1111s_factors(files: Easel):
    """My prompt matters more fades on both rows; ControlNet matters more leaves the negative prompt alone."""
    for mode, fading, other in (("balanced", False, 1.0), ("prompt", True, 1.0), ("control", False, 0.0)):
        files.latents([files.plans(**fields(files, "line", mode=mode))[0]])
        units = [call.controls[0] for call in files.executor.denoised()]
        assert {(unit.fading, unit.rows) for unit in units} == {(fading, (1.0, other))}
