"""A ControlNet in one region alone, by both engines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from danqing.spec.errors import DanqingError, NotFoundError
from easel import Easel, photo

ENGINES = ("attention", "latent")
LEFT = {"left_px": 0, "top_px": 0, "right_px": 32, "bottom_px": 64}
RIGHT = {"left_px": 32, "top_px": 0, "right_px": 64, "bottom_px": 64}
WHOLE = {"left_px": 0, "top_px": 0, "right_px": 64, "bottom_px": 64}
STEPS = {"sampling": {"sampler": "euler", "steps": 3}}
ONE = {"sampling": {"sampler": "euler", "steps": 1}}


def region(prompt: str, box: dict[str, int], **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "box": box, "feather_px": 0, **fields}


def latent(easel: Easel, **fields: Any) -> torch.Tensor:
    return easel.latents(easel.plans(**{**STEPS, **fields}))[0]


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.fixture
def unit(control_easel: Easel) -> dict[str, Any]:
    return {"model": "live", "image": control_easel.picture(photo())}


def test_of_a_full_region_it_is_the_plain_unit_by_attention(control_easel: Easel, unit: dict[str, Any]):
    """With the same words, which the ControlNet reads too."""
    words = "a blue dog"
    regions = [region(words, WHOLE, control=unit)]
    found = latent(control_easel, prompt=words, regions=regions, region_engine="attention")
    assert near(found, latent(control_easel, prompt=words, controls=[unit]))
    assert not near(found, latent(control_easel, prompt=words))


@pytest.mark.parametrize("mode", ["balanced", "control"])
def test_of_a_full_region_half_the_estimate_is_the_plain_units_by_the_latent_engine(
    control_easel: Easel, unit: dict[str, Any], mode: str
):
    """Weight 1 is half and half; from pure noise and with one step the estimates are all that comes out."""
    steered = unit | {"mode": mode}
    prompt, other = "the red cat", "a blue dog"
    found = latent(
        control_easel, **ONE, prompt=prompt, regions=[region(other, WHOLE, control=steered)], region_engine="latent"
    )
    plain = latent(control_easel, **ONE, prompt=prompt)
    controlled = latent(control_easel, **ONE, prompt=other, controls=[steered])
    assert near(found, (plain + controlled) / 2)
    assert not near(controlled, latent(control_easel, **ONE, prompt=other))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_order_of_controlled_regions_changes_no_bit(control_easel: Easel, unit: dict[str, Any], engine: str):
    regions = [
        region("a blue dog", LEFT, control=unit),
        region("the sea", RIGHT, control=unit | {"weight": 0.5, "image": control_easel.picture(photo(seed=9))}),
        region("the moon", WHOLE, weight=0.5, control=unit | {"model": "other", "end": 0.5}),
    ]
    one, other = (latent(control_easel, regions=each, region_engine=engine) for each in (regions, regions[::-1]))
    assert torch.equal(one, other)


def test_outside_the_region_estimates_stay_bit_for_bit_by_the_latent_engine(control_easel: Easel, unit: dict[str, Any]):
    """Compared in batches of one size: the last bit of a matrix product depends on how many rows it has."""
    box = region("a blue dog", LEFT)
    denying = box | {"negative_prompt": "rain"}
    for more in ({}, {"controls": [unit | {"model": "other"}]}):
        for mode, same in (("control", [box]), ("control", []), ("balanced", [denying])):
            fields = {**ONE, **more, "region_engine": "latent"}
            plain = latent(control_easel, **fields, regions=same)
            found = latent(control_easel, **fields, regions=[box | {"control": unit | {"mode": mode}}])
            assert torch.equal(found[..., 4:], plain[..., 4:])
            assert not near(found[..., :4], plain[..., :4])


def test_residuals_are_weighted_by_the_region(control_easel: Easel, unit: dict[str, Any]):
    """The same as a plain unit whose mask is the region's, times the unit's own."""
    drawn = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(drawn).rectangle((0, 0, 31, 63), fill=255)
    half, words = control_easel.picture(drawn), "a blue dog"
    left = latent(control_easel, regions=[region(words, LEFT, control=unit)], region_engine="attention")
    masked = latent(
        control_easel, controls=[unit | {"mask": half}], regions=[region(words, LEFT)], region_engine="attention"
    )
    assert torch.equal(left, masked)
    nowhere = region(words, RIGHT, control=unit | {"mask": half})
    uncontrolled = latent(control_easel, regions=[region(words, RIGHT)], region_engine="attention")
    assert near(latent(control_easel, regions=[nowhere], region_engine="attention"), uncontrolled)


@pytest.mark.parametrize("engine", ENGINES)
def test_hires_and_the_part_that_is_repainted_have_maps_of_their_own(control_easel: Easel, engine: str):
    picture = control_easel.picture(photo(96, 64))
    mask = control_easel.picture(Image.new("L", (96, 64), 255))
    box = region("a dog", {**WHOLE, "right_px": 48}, control={"model": "live", "annotator": "canny"})
    for fields in (
        {"kind": "img2img", "image": picture, "strength": 0.6, "hires": {"scale": 2.0, "strength": 0.5}},
        {"kind": "inpaint", "image": picture, "mask": mask, "only_masked": True},
    ):
        plain = {name: value for name, value in box.items() if name != "control"}
        shown = control_easel.pixels(**STEPS, **fields, regions=[box], region_engine=engine)
        assert (shown != control_easel.pixels(**STEPS, **fields, regions=[plain], region_engine=engine)).any(), fields


def test_beside_others_as_alone(control_easel: Easel, unit: dict[str, Any]):
    plans = [
        control_easel.plans(**STEPS, seed=seed, region_engine=engine, **fields)[0]
        for seed, (engine, fields) in enumerate(
            [
                ("latent", {"regions": [region("a blue dog", LEFT, control=unit), region("the sea", RIGHT)]}),
                ("attention", {"regions": [region("rain", RIGHT, control=unit)]}),
                ("attention", {"controls": [unit]}),
            ]
        )
    ]
    together = control_easel.latents(plans)
    for one, found in zip(plans, together, strict=True):
        alone = control_easel.latents([one])[0]
        assert torch.allclose(found, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


def test_a_plan_tells_its_regions_unit_and_mistakes_name_it(control_easel: Easel, unit: dict[str, Any]):
    from danqing.prompt.infotext_plan import request_of_plan

    asked = region("a dog", LEFT, control=unit | {"weight": 0.7})
    plan = control_easel.plans(regions=[asked])[0]
    assert plan.regions[0].control is not None
    told = request_of_plan(plan).regions[0].control
    assert told is not None
    assert (told.model, told.weight, told.image) == ("sets/live", 0.7, unit["image"])
    with pytest.raises(NotFoundError) as nothing:
        control_easel.plans(regions=[region("a cat", RIGHT), region("a dog", LEFT, control=unit | {"model": "no"})])
    assert (nothing.value.field or "").startswith("regions.1.control")
    with pytest.raises(DanqingError) as blank:
        control_easel.plans(regions=[region("a dog", LEFT, control={"model": "live"})])
    assert blank.value.field == "regions.0.control.image"
