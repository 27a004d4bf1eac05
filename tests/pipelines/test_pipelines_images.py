"""From a picture to a picture: img2img, inpaint, outpaint, hires."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine.calls import EncodeImage
from danqing.pipelines import pixels
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import SizePx
from danqing.spec.registry.upscalers import UPSCALERS, find_upscaler
from easel import Easel, box_mask, numbers, photo

FILLS = ("original", "fill", "latent_noise", "latent_nothing")
MODES = ("stretch", "crop", "fill", "latent")
BOX = (20, 16, 44, 40)


def init(easel: Easel, image: Image.Image | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": "img2img", "image": easel.picture(image or photo()), "sampling": {"steps": 4}, **fields}


# --- img2img ----------------------------------------------------------------------------------------------------------


def test_strength_0_gives_the_picture_back(easel: Easel):
    source = photo()
    assert np.array_equal(easel.pixels(**init(easel, source, strength=0.0)), numbers(source))
    assert easel.executor.denoised() == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strength", [0.0, 0.6])
@pytest.mark.parametrize("target", [(64, 64), (40, 88)])
def test_every_resize_mode_gives_the_size_asked_for(easel: Easel, mode: str, strength: float, target: tuple[int, int]):
    source = photo(90, 50)
    fields = init(easel, source, strength=strength, resize_mode=mode, width_px=target[0], height_px=target[1])
    picture = easel.one(**fields)
    assert picture.size == target
    assert easel.one(**fields).tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", ["stretch", "crop", "fill"])
@pytest.mark.parametrize(("source", "target"), [((90, 50), (64, 64)), ((33, 71), (64, 40)), ((64, 64), (64, 64))])
def test_resize_modes_on_pixels(mode: str, source: tuple[int, int], target: tuple[int, int]):
    image = pixels.resize(photo(*source), SizePx(width_px=target[0], height_px=target[1]), mode)
    mask = pixels.resize_mask(
        box_mask(*source, (11, 19, 30, 36)), SizePx(width_px=target[0], height_px=target[1]), mode
    )
    assert image.size == target
    assert mask.size == target
    assert mask.mode == "L"
    assert mask.getextrema()[1] > 128, "the mask moves with its picture"


def test_fill_keeps_the_whole_picture_and_carries_its_edges():
    out = numbers(pixels.resize(Image.new("RGB", (64, 32), (10, 200, 30)), SizePx(width_px=64, height_px=64), "fill"))
    assert (out == (10, 200, 30)).all()


def test_a_stronger_repaint_is_further_from_the_picture(easel: Easel):
    source = photo()
    key = easel.key("tiny-v")
    kept = easel.model("tiny-v").encode_image(pixels.to_tensor(source))
    distances = []
    for strength in (0.1, 0.5, 1.0):
        easel.one(**init(easel, source, strength=strength, model="tiny-v", sampling={"steps": 10}))
        first = easel.executor.denoised()[0]
        assert first.model == key
        distances.append(float((first.x - kept).std()))
    assert distances == sorted(distances)


def test_exact_steps_and_plain_ones(easel: Easel):
    easel.one(**init(easel, strength=0.5, sampling={"steps": 8}))
    assert len(easel.executor.denoised()) == 5  # A1111: int(0.5 · 8) + 1
    easel.one(**init(easel, strength=0.5, sampling={"steps": 8}, exact_steps=True))
    assert len(easel.executor.denoised()) == 8


def test_initial_noise_multiplier_scales_the_noise(easel: Easel):
    easel.one(**init(easel, strength=0.5))
    plain = easel.executor.denoised()[0].x
    easel.one(**init(easel, strength=0.5, initial_noise_multiplier=0.0))
    clean = easel.executor.denoised()[0].x
    easel.one(**init(easel, strength=0.5, initial_noise_multiplier=0.5))
    half = easel.executor.denoised()[0].x
    assert torch.allclose(half - clean, (plain - clean) * 0.5, atol=1e-4)


def test_colour_correction_brings_the_colours_back(easel: Easel):
    source = photo()
    plain = easel.pixels(**init(easel, source, strength=0.9))
    corrected = easel.pixels(**init(easel, source, strength=0.9, colour_correction=True))
    wanted = numbers(source).mean((0, 1))
    assert np.abs(corrected.mean((0, 1)) - wanted).max() < np.abs(plain.mean((0, 1)) - wanted).max()


def test_transparent_pictures_lie_on_white(easel: Easel):
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert (easel.pixels(**init(easel, clear, strength=0.0)) == 255).all()


# --- inpaint ----------------------------------------------------------------------------------------------------------


def inpaint(easel: Easel, size: tuple[int, int] = (64, 64), **fields: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The picture, the blurred mask (what may change), and the request."""
    source, mask = photo(*size), box_mask(*size, BOX)
    shown = Image.eval(mask, lambda value: 255 - value) if fields.get("mask_inverted") else mask
    blurred = pixels.blur(shown, fields.get("mask_blur_px", 4))
    data = {"kind": "inpaint", "image": easel.picture(source), "mask": easel.picture(mask), "strength": 0.8}
    return numbers(source), np.asarray(blurred), {**data, "sampling": {"steps": 4}, **fields}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (75, 61)])
def test_outside_the_blurred_mask_every_pixel_stays(
    easel: Easel, fill: str, inverted: bool, only_masked: bool, size: tuple[int, int]
):
    fields = {"fill": fill, "mask_inverted": inverted, "only_masked": only_masked, "mask_blur_px": 2, "padding_px": 8}
    source, mask, data = inpaint(easel, size, **fields)
    painted = easel.pixels(**data)
    assert painted.shape == source.shape
    assert np.array_equal(painted[mask == 0], source[mask == 0])
    assert np.abs(painted - source)[mask == 255].mean() > 1


@pytest.mark.parametrize("only_masked", [False, True])
def test_soft_inpainting_changes_nothing_outside_the_mask(easel: Easel, only_masked: bool):
    source, mask, data = inpaint(easel, (70, 64), soft={}, only_masked=only_masked, mask_blur_px=2)
    painted = easel.pixels(**data)
    assert np.array_equal(painted[mask == 0], source[mask == 0])
    assert np.abs(painted - source)[mask == 255].mean() > 0.5


def test_soft_inpainting_at_a_size_of_its_own_has_the_size_asked_for(easel: Easel):
    """There the paste mask follows how far the latents moved: pixels beyond the mask may change, the size holds."""
    _, _, data = inpaint(easel, soft={}, width_px=48, height_px=40)
    assert easel.one(**data).size == (48, 40)


@pytest.mark.parametrize("size", [(64, 64), (75, 61)])
def test_soft_edges_are_blended_once(easel: Easel, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]):
    """new·m + old·(1 − m), at the picture's own resolution: seen by painting red."""
    source, mask, data = inpaint(easel, size, mask_blur_px=4)
    painted_size = easel.plans(**data)[0].base.size
    red = Image.new("RGB", (painted_size.width_px, painted_size.height_px), (255, 0, 0))
    monkeypatch.setattr(pixels, "to_image", lambda _: red)
    share = mask[..., None] / 255.0
    wanted = np.array([255, 0, 0]) * share + source * (1.0 - share)
    assert np.abs(easel.pixels(**data) - wanted).max() <= 1.0


def test_colour_correction_stays_inside_the_mask(easel: Easel):
    source, mask, data = inpaint(easel, colour_correction=True)
    painted = easel.pixels(**data)
    assert np.array_equal(painted[mask == 0], source[mask == 0])
    assert not np.array_equal(painted, easel.pixels(**{**data, "colour_correction": False}))


def test_an_explicit_size_paints_at_that_size(easel: Easel):
    _, _, data = inpaint(easel, (75, 61), width_px=64, height_px=48)
    assert easel.one(**data).size == (64, 48)


def test_an_empty_mask_and_strength_0_give_the_picture_back(easel: Easel):
    source, _, data = inpaint(easel, (75, 61))
    assert np.array_equal(easel.pixels(**{**data, "strength": 0.0}), source)
    empty = easel.picture(Image.new("L", (75, 61), 0))
    assert np.array_equal(easel.pixels(**{**data, "mask": empty, "only_masked": True}), source)


def test_a_transparent_mask_is_read_by_its_opacity(easel: Easel):
    """White strokes on nothing, as a drawing canvas gives them."""
    source, mask, data = inpaint(easel)
    strokes = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    strokes.paste((255, 255, 255, 255), BOX)
    painted = easel.pixels(**{**data, "mask": easel.picture(strokes)})
    assert np.array_equal(painted, easel.pixels(**data))
    assert np.array_equal(painted[mask == 0], source[mask == 0])


def test_a_mask_of_another_size_is_refused_by_the_pipeline_too(easel: Easel):
    _, _, data = inpaint(easel)
    (one,) = easel.plans(**data)
    other = easel.pictures.add(box_mask(32, 32, (0, 0, 9, 9)))
    broken = one.model_copy(update={"mask": one.mask.model_copy(update={"mask": other})})
    with pytest.raises(InvalidRequestError, match="differ in size"):
        easel.paint_plans([broken])


def test_fill_modes_begin_differently(easel: Easel):
    firsts = []
    for fill in FILLS:
        _, _, data = inpaint(easel, fill=fill)
        easel.one(**data)
        firsts.append(easel.executor.denoised()[0].x)
    for i, a in enumerate(firsts):
        for b in firsts[i + 1 :]:
            assert float((a - b).abs().max()) > 1e-3


def test_kept_latents_are_held_at_every_step(easel: Easel):
    source, _, data = inpaint(easel, mask_blur_px=0, model="tiny-v", sampling={"sampler": "euler", "steps": 4})
    easel.one(**data)
    calls = easel.executor.denoised()
    latent = easel.model("tiny-v").encode_image(pixels.to_tensor(Image.fromarray(source.astype(np.uint8))))
    noise = (calls[0].x - latent) / calls[0].sigma
    for call in calls:
        # Far from the mask x is the kept latent plus its own noise at every level.
        assert torch.allclose(call.x[..., 0, :], (latent + noise * call.sigma)[..., 0, :], atol=2e-3)


def test_an_inpainting_unet_is_shown_mask_and_masked_picture(easel: Easel):
    source, mask, data = inpaint(easel, model="tiny-inpaint", mask_blur_px=0)
    painted = easel.pixels(**data)
    call = easel.executor.denoised()[0]
    assert call.extra is not None
    assert call.extra.shape == (1, 5, 8, 8)
    assert set(call.extra[:, 0].unique().tolist()) == {0.0, 1.0}
    grey = pixels.to_tensor(Image.fromarray(source.astype(np.uint8))) * (1.0 - torch.from_numpy(mask / 255.0))
    masked = easel.model("tiny-inpaint").encode_image(grey.float())
    assert torch.allclose(call.extra[:, 1:], masked, atol=1e-5)
    assert np.array_equal(painted[mask == 0], source[mask == 0])


# --- outpaint ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "margins",
    [{"left_px": 16}, {"right_px": 9, "top_px": 5}, {"left_px": 3, "right_px": 7, "top_px": 11, "bottom_px": 13}],
)
@pytest.mark.parametrize("feather_px", [0, 6])
def test_outpainting_grows_and_keeps_the_old_pixels(easel: Easel, margins: dict[str, int], feather_px: int):
    source = photo(61, 47)
    fields = {"kind": "outpaint", "image": easel.picture(source), "margins": margins, "feather_px": feather_px}
    painted = easel.pixels(**fields, sampling={"steps": 3})
    left, top = margins.get("left_px", 0), margins.get("top_px", 0)
    right, bottom = margins.get("right_px", 0), margins.get("bottom_px", 0)
    assert painted.shape == (47 + top + bottom, 61 + left + right, 3)
    inner = painted[top : top + 47, left : left + 61]

    def edge(grown: int) -> int:
        return feather_px if grown else 0

    kept = (slice(edge(top), 47 - edge(bottom)), slice(edge(left), 61 - edge(right)))
    assert np.array_equal(inner[kept], numbers(source)[kept])
    assert painted.std() > 1


# --- hires ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upscaler", [info.key for info in UPSCALERS])
def test_hires_with_every_upscaler(easel: Easel, upscaler: str):
    hires = {"scale": 1.5, "upscaler": upscaler, "strength": 0.5, "steps": 3}
    picture = easel.one(hires=hires, sampling={"steps": 3})
    assert picture.size == (96, 96)
    calls = easel.executor.denoised()
    assert [tuple(call.x.shape[-2:]) for call in calls] == [(8, 8)] * 3 + [(12, 12)] * 3
    through_pixels = any(isinstance(call, EncodeImage) for batch in easel.executor.ran for call in batch)
    assert through_pixels is not find_upscaler(upscaler).latent


def test_a_hires_pass_has_its_own_words_model_steps_and_guidance(easel: Easel):
    hires = {"scale": 2.0, "prompt": "blue dog", "model": "other", "steps": 2, "guidance_scale": 1.0}
    picture = easel.one(hires={**hires, "negative_prompt": "red"}, sampling={"steps": 3})
    assert picture.size == (128, 128)
    calls = easel.executor.denoised()
    assert [call.model.model.name for call in calls] == ["tiny"] * 3 + ["other"] * 2
    assert [len(call.contexts) for call in calls] == [2] * 3 + [1] * 2
    other = easel.model("other").encode_text(["blue dog"], "Original", 1)[0]
    assert torch.equal(calls[-1].contexts[0], other)


def test_hires_strength_0_only_enlarges(easel: Easel):
    picture = easel.one(hires={"scale": 2.0, "strength": 0.0, "upscaler": "nearest"}, sampling={"steps": 3})
    assert picture.size == (128, 128)
    assert {tuple(call.x.shape[-2:]) for call in easel.executor.denoised()} == {(8, 8)}


@pytest.mark.parametrize("kind", ["img2img", "inpaint", "outpaint"])
def test_hires_after_every_kind(easel: Easel, kind: str):
    source = photo(88, 56)
    extra = {
        "img2img": {},
        "inpaint": {"mask": easel.picture(box_mask(88, 56, BOX)), "only_masked": True},
        "outpaint": {"margins": {"left_px": 8}},
    }[kind]
    fields = {"kind": kind, "image": easel.picture(source), "strength": 0.5, **extra}
    picture = easel.one(**fields, sampling={"steps": 2}, hires={"scale": 2.0, "upscaler": "lanczos", "steps": 2})
    assert picture.size == ((88 + (8 if kind == "outpaint" else 0)) * 2, 112), "the picture keeps its shape"


def test_hires_and_refiner_and_count_go_together(easel: Easel):
    fields = {
        "hires": {"scale": 1.5, "steps": 2},
        "refiner": {"model": "other", "switch_at": 0.5},
        "variation": {"seed": 3, "strength": 0.2},
        "count": 2,
        "sampling": {"steps": 4},
    }
    together = easel.paint(**fields)
    assert [picture.size for picture in together] == [(96, 96)] * 2
    assert together[0].tobytes() != together[1].tobytes()
