"""Regions with words of their own, by both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

import tiny_models
import tiny_networks
from danqing.engine.calls import Denoise
from danqing.pipelines.regions import blend, shares
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from easel import Easel, photo

ENGINES = ("attention", "latent")
LEFT = {"left_px": 0, "top_px": 0, "right_px": 32, "bottom_px": 64}
RIGHT = {"left_px": 32, "top_px": 0, "right_px": 64, "bottom_px": 64}
WHOLE = {"left_px": 0, "top_px": 0, "right_px": 64, "bottom_px": 64}
STEPS = {"sampling": {"sampler": "euler", "steps": 3}}


def region(prompt: str, box: dict[str, int], **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "box": box, "feather_px": 0, **fields}


def latent(easel: Easel, **fields: Any) -> torch.Tensor:
    return easel.latents(easel.plans(**{**STEPS, **fields}))[0]


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.fixture(scope="module")
def region_easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root: Path = tmp_path_factory.mktemp("regions")
    tiny_models.build(root / "Stable-diffusion" / "tiny", seed=1)
    easel = Easel(root)
    tiny_networks.save_lora(root / "Lora" / "ink.safetensors", easel.model(), seed=1)
    return easel


def test_one_full_region_paints_its_words_as_a_plain_prompt_by_attention(easel: Easel):
    found = latent(easel, prompt="the red cat", regions=[region("a blue dog", WHOLE)], region_engine="attention")
    assert near(found, latent(easel, prompt="a blue dog"))
    assert not near(found, latent(easel, prompt="the red cat"))


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_words_everywhere_are_the_plain_prompt(easel: Easel, engine: str):
    regions = [region("the red cat", LEFT), region("the red cat", WHOLE, weight=0.7)]
    assert near(latent(easel, regions=regions, region_engine=engine), latent(easel))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_order_of_regions_changes_nothing(easel: Easel, engine: str):
    regions = [
        region("a blue dog", LEFT),
        region("(the sea:1.3)", WHOLE, weight=0.5, negative_prompt="rain"),
        region("the moon", RIGHT, feather_px=9),
    ]
    assert torch.equal(
        latent(easel, regions=regions, region_engine=engine), latent(easel, regions=regions[::-1], region_engine=engine)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_region_changes_its_own_side_most(easel: Easel, engine: str):
    plain, found = latent(easel), latent(easel, regions=[region("a blue dog", LEFT)], region_engine=engine)
    moved = (found - plain).abs().mean((0, 1, 2))
    assert moved[:4].mean() > 1.2 * moved[4:].mean()


def test_the_latent_engine_keeps_estimates_outside_every_region(easel: Easel):
    """Bit for bit: one step from pure noise, whose estimate is all that comes out."""
    one = {"sampling": {"sampler": "euler", "steps": 1}}
    plain = latent(easel, **one)
    found = latent(easel, **one, regions=[region("a blue dog", LEFT)], region_engine="latent")
    assert torch.equal(found[..., 4:], plain[..., 4:])
    assert not torch.equal(found[..., :4], plain[..., :4])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mask_is_a_box_of_any_form(easel: Easel, engine: str):
    drawn = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(drawn).rectangle((0, 0, 31, 63), fill=255)
    by_mask = {"prompt": "a blue dog", "mask": easel.picture(drawn), "feather_px": 0}
    found = latent(easel, regions=[by_mask], region_engine=engine)
    assert torch.equal(found, latent(easel, regions=[region("a blue dog", LEFT)], region_engine=engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_negative_words_of_a_region(easel: Easel, engine: str):
    def painted(**fields: Any) -> torch.Tensor:
        return latent(easel, negative_prompt="rain", regions=[region("a dog", LEFT, **fields)], region_engine=engine)

    assert near(painted(negative_prompt="rain"), painted())
    assert not near(painted(negative_prompt="the blue sea"), painted())


def test_beside_others_as_alone(easel: Easel):
    plans = [
        easel.plans(**STEPS, seed=seed, **fields)[0]
        for seed, fields in enumerate(
            [
                {"regions": [region("a blue dog", LEFT), region("rain " * 90, RIGHT)], "region_engine": "attention"},
                {},
                {"regions": [region("a blue dog", RIGHT)], "region_engine": "latent"},
                {"regions": [region("the sea", WHOLE)], "region_engine": "attention", "guidance": {"pag_scale": 1.0}},
            ]
        )
    ]
    together = easel.latents(plans)
    for one, found in zip(plans, together, strict=True):
        alone = easel.latents([one])[0]
        assert torch.allclose(found, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


def test_every_kind_of_painting_and_pass(easel: Easel):
    picture = easel.picture(photo(64, 64))
    mask = easel.picture(Image.new("L", (64, 64), 255))
    regions = [region("a blue dog", {**WHOLE, "left_px": 16, "right_px": 96})]
    for fields in (
        {"hires": {"scale": 2.0, "strength": 0.5}},
        {"kind": "img2img", "image": picture, "strength": 0.5},
        {"kind": "inpaint", "image": picture, "mask": mask, "only_masked": True},
        {"kind": "outpaint", "image": picture, "margins": {"right_px": 32}},
    ):
        for engine in ENGINES:
            shown = easel.pixels(**STEPS, **fields, regions=regions, region_engine=engine)
            assert (shown != easel.pixels(**STEPS, **fields)).any(), fields


def test_the_hires_pass_has_regions_of_its_own_size(easel: Easel):
    easel.paint(**STEPS, hires={"scale": 2.0}, regions=[region("a dog", LEFT)], region_engine="attention")
    sides = [call.regions.shares.shape[-1] for call in easel.executor.denoised() if call.regions is not None]
    assert {8, 16} <= set(sides)


def test_a_network_of_one_region_acts_there_alone(region_easel: Easel):
    one = {"sampling": {"sampler": "euler", "steps": 1}}
    box = region("a blue dog", LEFT)
    inked = region("a blue dog<lora:ink:1>", LEFT)
    plain = latent(region_easel, **one, regions=[box], region_engine="latent")
    found = latent(region_easel, **one, regions=[inked], region_engine="latent")
    assert torch.equal(found[..., 4:], plain[..., 4:])
    assert not near(found[..., :4], plain[..., :4])
    calls: list[Denoise] = region_easel.executor.denoised()[-2:]
    assert sorted(len(call.networks) for call in calls) == [0, 1]
    with pytest.raises(UnsupportedError, match="trip through the denoiser"):
        region_easel.plans(regions=[inked], region_engine="attention")
    chosen, plain_plan = region_easel.plans(regions=[inked])[0], region_easel.plans(regions=[box])[0]
    assert (chosen.region_engine, plain_plan.region_engine) == ("latent", "attention")
    assert any("LoRA acts in one of them alone" in note for note in chosen.notes)
    assert not any("latent" in note for note in plain_plan.notes)


def test_what_makes_no_sense_is_refused(easel: Easel):
    far = {"left_px": 64, "top_px": 0, "right_px": 80, "bottom_px": 64}
    with pytest.raises(InvalidRequestError, match="beyond the picture"):
        easel.plans(width_px=64, height_px=64, regions=[region("a dog", far)])
    with pytest.raises(InvalidRequestError, match="one prompt"):
        easel.plans(regions=[region("a dog AND a cat", LEFT)])
    with pytest.raises(InvalidRequestError, match="either a box or a mask"):
        easel.plans(regions=[{"prompt": "a dog"}])


def test_shares_are_a_partition_of_unity():
    masks = [torch.rand(1, 1, 5, 7, generator=torch.Generator().manual_seed(i)) * 2 for i in range(3)]
    parts = shares(masks)
    assert torch.allclose(parts.sum(0), torch.ones(1, 5, 7))
    assert float(parts.min()) >= 0
    assert torch.equal(shares([torch.zeros(1, 1, 2, 2)])[0], torch.ones(1, 2, 2))


def test_the_mixture_is_the_published_one():
    whole, other = torch.full((1, 1, 1, 2), 3.0), torch.full((1, 1, 1, 2), 9.0)
    mask = torch.tensor([[[[0.0, 2.0]]]])
    assert blend(whole, [mask], [other]).tolist() == [[[[3.0, 7.0]]]]
