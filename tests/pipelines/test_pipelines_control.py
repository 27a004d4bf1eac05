"""ControlNet units in every kind of painting: when they act, on which rows, and what they see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine.calls import ControlInput, Denoise
from danqing.spec.errors import InvalidRequestError, NotFoundError
from easel import Easel, box_mask, numbers, photo


@pytest.fixture
def picture(control_easel: Easel) -> str:
    return control_easel.picture(photo(64, 64))


def acting(easel: Easel) -> list[tuple[ControlInput, ...]]:
    return [call.controls for call in easel.executor.denoised()]


def hints(easel: Easel) -> list[torch.Tensor]:
    return [controls[0].hint for controls in acting(easel) if controls]


def test_a_zero_controlnet_changes_no_pixel_and_a_live_one_does(control_easel: Easel, picture: str):
    plain = control_easel.pixels()
    assert (control_easel.pixels(controls=[{"model": "zero", "image": picture}]) == plain).all()
    live = control_easel.pixels(controls=[{"model": "live", "image": picture}])
    assert np.abs(live - plain).mean() > 1
    assert (control_easel.pixels(controls=[{"model": "live", "image": picture, "weight": 0}]) == plain).all()
    assert not any(acting(control_easel))


@pytest.mark.parametrize(
    ("start", "end", "steps"),
    [(0.0, 1.0, range(6)), (0.0, 0.5, range(4)), (0.5, 1.0, range(3, 6)), (0.34, 0.49, ()), (0.0, 0.01, (0,))],
)
def test_the_window_is_a1111s(control_easel: Easel, picture: str, start: float, end: float, steps: Any):
    """Step i of n acts where start ≤ i/n ≤ end."""
    unit = {"model": "live", "image": picture, "start": start, "end": end}
    pixels = control_easel.pixels(controls=[unit], sampling={"sampler": "euler", "steps": 6})
    assert [bool(controls) for controls in acting(control_easel)] == [step in steps for step in range(6)]
    if not steps:
        assert (pixels == control_easel.pixels(sampling={"sampler": "euler", "steps": 6})).all()


def test_modes_say_which_rows_are_controlled(control_easel: Easel, picture: str):
    for mode, rows, fading in (
        ("balanced", (1.0, 1.0, 1.0), False),
        ("prompt", (1.0, 1.0, 1.0), True),
        ("control", (1.0, 0.0, 1.0), False),
    ):
        control_easel.paint(
            controls=[{"model": "live", "image": picture, "mode": mode}],
            guidance={"scale": 5.0, "pag_scale": 1.0},
            sampling={"steps": 1},
        )
        ((unit,),) = acting(control_easel)
        assert (unit.rows, unit.fading) == (rows, fading)


def test_two_units_of_a_and_b_paint_as_one_of_both(control_easel: Easel, picture: str):
    def unit(weight: float) -> dict[str, Any]:
        return {"model": "live", "image": picture, "weight": weight}

    whole = control_easel.latents(control_easel.plans(controls=[unit(0.75)]))[0]
    parts = control_easel.latents(control_easel.plans(controls=[unit(0.5), unit(0.25)]))[0]
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


def test_the_annotator_makes_the_hint(control_easel: Easel, picture: str):
    control_easel.paint(controls=[{"model": "live", "image": picture}])
    own = hints(control_easel)[0]
    assert own.shape == (1, 3, 64, 64)
    assert (own[0].permute(1, 2, 0).numpy() * 255 - numbers(photo(64, 64))).max() < 1e-3
    control_easel.paint(controls=[{"model": "live", "image": picture, "annotator": "canny"}])
    lines = hints(control_easel)[0]
    assert set(lines.unique().tolist()) == {0.0, 1.0}
    assert 0.01 < float(lines.mean()) < 0.5


@pytest.mark.parametrize("mode", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("annotator", ["none", "canny", "softedge_dog"])
def test_any_picture_is_brought_to_the_size_of_the_pass(control_easel: Easel, mode: str, annotator: str):
    unit = {
        "model": "live",
        "image": control_easel.picture(photo(150, 90)),
        "annotator": annotator,
        "resize_mode": mode,
        "mask": control_easel.picture(box_mask(150, 90, (0, 0, 75, 90))),
    }
    control_easel.paint(controls=[unit], width_px=80, height_px=64, sampling={"steps": 1})
    ((control,),) = acting(control_easel)
    assert control.hint.shape == (1, 3, 64, 80)
    assert control.mask is not None
    assert control.mask.shape == (1, 1, 64, 80)
    assert float(control.mask[..., :30].mean()) > 0.7 if mode != "fill" else True
    assert float(control.mask[..., 50:].mean()) < 0.05


def test_resolution_and_pixel_perfect(control_easel: Easel):
    big = control_easel.picture(photo(256, 256))
    maps = []
    for changes in ({}, {"pixel_perfect": False}, {"resolution_px": 64}, {"resolution_px": 256}):
        unit = {"model": "live", "image": big, "annotator": "canny", **changes}
        control_easel.paint(controls=[unit], sampling={"steps": 1})
        maps.append(hints(control_easel)[0])
    assert torch.equal(maps[0], maps[2])
    assert torch.equal(maps[1], maps[3])
    assert not torch.equal(maps[0], maps[1])


def test_a_picture_with_transparency_is_annotated(control_easel: Easel):
    cut_out = photo(64, 64).convert("RGBA")
    cut_out.putalpha(box_mask(64, 64, (16, 16, 48, 48)))
    for annotator in ("none", "canny", "depth_relief"):
        unit = {"model": "live", "image": control_easel.picture(cut_out), "annotator": annotator}
        control_easel.paint(controls=[unit], sampling={"steps": 1})
        assert hints(control_easel)[0].shape == (1, 3, 64, 64)


def test_img2img_follows_its_own_picture(control_easel: Easel, picture: str):
    fields = {"kind": "img2img", "image": picture, "strength": 0.5}
    plain = control_easel.pixels(**fields)
    followed = control_easel.pixels(**fields, controls=[{"model": "live"}])
    own = hints(control_easel)[0]
    named = control_easel.pixels(**fields, controls=[{"model": "live", "image": picture}])
    assert torch.allclose(own, hints(control_easel)[0], atol=1e-6)
    assert (followed == named).all()
    assert np.abs(followed - plain).mean() > 0.5
    control_easel.paint(**fields, resize_mode="latent", width_px=32, height_px=32, controls=[{"model": "live"}])
    assert hints(control_easel)[0].shape == (1, 3, 32, 32)
    with pytest.raises(InvalidRequestError, match="no picture to follow"):
        control_easel.plans(controls=[{"model": "live"}])


def test_inpaint_keeps_what_is_not_masked(control_easel: Easel, picture: str):
    mask = control_easel.picture(box_mask(64, 64, (16, 16, 48, 48)))
    fields = {"kind": "inpaint", "image": picture, "mask": mask, "mask_blur_px": 0, "strength": 1.0}
    plain = control_easel.pixels(**fields)
    live = control_easel.pixels(**fields, controls=[{"model": "live", "image": picture}])
    assert (live[:16] == numbers(photo(64, 64))[:16]).all()
    assert np.abs(live - plain)[16:48, 16:48].mean() > 0.5


def test_only_masked_cuts_the_control_picture_as_it_cuts_the_picture(control_easel: Easel):
    large = photo(128, 128)
    mask = control_easel.picture(box_mask(128, 128, (80, 80, 112, 112)))
    where = Image.new("L", (128, 128), 0)
    where.paste(255, (96, 0, 128, 128))
    fields = {
        "kind": "inpaint", "image": control_easel.picture(large), "mask": mask, "mask_blur_px": 0, "padding_px": 0,
        "only_masked": True, "width_px": 64, "height_px": 64, "strength": 1.0,
    }  # fmt: skip
    unit = {"model": "live", "image": control_easel.picture(large), "mask": control_easel.picture(where)}
    control_easel.paint(**fields, controls=[unit])
    cut = numbers(large.crop((80, 80, 112, 112)).resize((64, 64), Image.Resampling.BICUBIC))
    shown = hints(control_easel)[0][0].permute(1, 2, 0).numpy() * 255
    assert np.abs(shown - cut).mean() < 6
    region = acting(control_easel)[0][0].mask
    assert region is not None
    assert float(region[..., :30].max()) == 0.0
    assert float(region[..., 34:].min()) == 1.0


def test_inpaint_only_shows_holes(control_easel: Easel, picture: str):
    mask = control_easel.picture(box_mask(64, 64, (16, 16, 48, 48)))
    fields = {"kind": "inpaint", "image": picture, "mask": mask, "mask_blur_px": 0}
    control_easel.paint(**fields, controls=[{"model": "live", "annotator": "inpaint_only"}])
    shown = hints(control_easel)[0]
    assert (shown[..., 16:48, 16:48] == -1).all()
    assert float(shown[..., :16, :].min()) >= 0
    with pytest.raises(InvalidRequestError, match="inpaint_only"):
        control_easel.plans(controls=[{"model": "live", "annotator": "inpaint_only", "image": picture}])


def test_outpaint_and_a_canvas_that_is_rounded_up(control_easel: Easel):
    small = control_easel.picture(photo(60, 64))
    wide = control_easel.picture(photo(90, 64, seed=9))
    fields = {"kind": "outpaint", "image": small, "margins": {"right_px": 30}}
    for controls in ([{"model": "live"}], [{"model": "live", "image": wide, "annotator": "canny"}]):
        assert control_easel.one(**fields, controls=controls).size == (90, 64)
        assert hints(control_easel)[0].shape == (1, 3, 64, 96)
    control_easel.paint(**fields, controls=[{"model": "live", "annotator": "inpaint"}])
    assert (hints(control_easel)[0][..., 60:] == -1).all()


def test_hires_gets_a_map_of_its_own_size(control_easel: Easel, picture: str):
    fields = {"hires": {"scale": 2, "steps": 3}, "sampling": {"steps": 3}}
    sizes = []
    for passes in ("both", "base", "hires"):
        unit = {"model": "live", "image": picture, "annotator": "canny", "passes": passes}
        control_easel.paint(**fields, controls=[unit])
        sizes.append(sorted({hint.shape[-1] for hint in hints(control_easel)}))
    assert sizes == [[64, 128], [64], [128]]


@pytest.mark.parametrize("upscaler", ["latent", "lanczos"])
def test_hires_of_an_img2img_follows_the_picture(control_easel: Easel, picture: str, upscaler: str):
    fields = {"kind": "img2img", "image": picture, "hires": {"scale": 2, "upscaler": upscaler, "steps": 2}}
    control_easel.paint(**fields, sampling={"steps": 2}, controls=[{"model": "live"}])
    assert sorted({hint.shape[-1] for hint in hints(control_easel)}) == [64, 128]


def test_inpaint_with_hires(control_easel: Easel, picture: str):
    mask = control_easel.picture(box_mask(64, 64, (16, 16, 48, 48)))
    fields = {
        "kind": "inpaint",
        "image": picture,
        "mask": mask,
        "hires": {"scale": 2, "upscaler": "lanczos", "steps": 2},
    }
    control_easel.paint(**fields, controls=[{"model": "live", "annotator": "inpaint_only"}, {"model": "other"}])
    assert [len(call.controls) for call in control_easel.executor.denoised() if call.x.shape[-1] == 16] == [1, 1]


def test_an_inpainting_unet_takes_a_controlnet_of_four_channels(control_easel: Easel, picture: str):
    mask = control_easel.picture(box_mask(64, 64, (16, 16, 48, 48)))
    fields = {"kind": "inpaint", "image": picture, "mask": mask, "model": "tiny-inpaint"}
    plain = control_easel.pixels(**fields)
    assert (control_easel.pixels(**fields, controls=[{"model": "zero"}]) == plain).all()
    assert (control_easel.pixels(**fields, controls=[{"model": "live"}]) != plain).any()


def test_the_built_in_kind_of_model(control_easel: Easel, picture: str):
    fields = {"model": "mini", "sampling": {"steps": 3}}
    plain = control_easel.pixels(**fields)
    unit = {"model": "mini-line", "image": picture, "annotator": "canny"}
    assert np.abs(control_easel.pixels(**fields, controls=[unit]) - plain).mean() > 0.5
    assert {call.control_set for call in control_easel.executor.denoised()} == {
        (control_easel.catalog.find_controlnet("mini-line").sha256,)
    }


def test_a_refiner_is_controlled_too(control_easel: Easel, picture: str):
    unit = {"model": "live", "image": picture}
    control_easel.paint(controls=[unit], refiner={"model": "other", "switch_at": 0.5}, sampling={"steps": 4})
    calls: list[Denoise] = control_easel.executor.denoised()
    assert len({call.model.model.name for call in calls}) == 2
    assert all(call.controls for call in calls)


def test_a_controlnet_that_went_away_ends_that_picture_alone(control_easel: Easel, picture: str):
    (plan,) = control_easel.plans(controls=[{"model": "live", "image": picture}])
    gone = plan.controls[0].model.model_copy(update={"sha256": "0" * 64})
    broken = plan.model_copy(update={"controls": (plan.controls[0].model_copy(update={"model": gone}),)})
    with pytest.raises(NotFoundError, match="is not installed"):
        control_easel.paint_plans([broken])
