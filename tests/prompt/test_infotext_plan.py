"""Infotexts of Plans: one picture, every default resolved."""

import pytest

from danqing.prompt.infotext import request_from_infotext, to_infotext
from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.geometry import Margins, SizePx
from danqing.spec.model import ModelRef
from danqing.spec.painting import Guidance, SoftInpainting
from danqing.spec.plan import (
    InitPlan,
    MaskPlan,
    OutpaintPlan,
    PassPlan,
    Plan,
    RefinerPlan,
    SamplingPlan,
    SeedPlan,
    TextPlan,
)

MODEL = ModelRef(name="danqing-mini", sha256="ab" * 32, family="sd1")
OTHER = ModelRef(name="other", sha256="cd" * 32, family="sd1")


def a_pass(**changes):
    fields = {
        "kind": "base",
        "model": MODEL,
        "size": SizePx(width_px=512, height_px=640),
        "text": TextPlan(prompt="a [cat:dog:.5]", negative_prompt="blurry,\nugly", clip_skip=2),
        "sampling": SamplingPlan(sampler="dpmpp_2m", schedule="karras", steps=20, sigma_max=14.6),
        "guidance": Guidance(rescale=0.3),
        "guidance_scale": 6.5,
    }
    return PassPlan(**{**fields, **changes})


def hires(**changes):
    return a_pass(**{"kind": "hires", "size": SizePx(width_px=1024, height_px=1280), "strength": 0.5, **changes})


PLANS = {
    "plain": Plan(kind="txt2img", seeds=SeedPlan(seed=7), passes=(a_pass(),)),
    "seeds": Plan(
        kind="txt2img",
        seeds=SeedPlan(
            seed=2**64 - 1,
            variation_seed=9,
            variation_strength=0.25,
            resize_from=SizePx(width_px=512, height_px=512),
            source="nv",
            eta_noise_seed_delta=31337,
        ),
        passes=(a_pass(refiner=RefinerPlan(model=OTHER, switch_step=16)),),
        vae=OTHER,
    ),
    "hires": Plan(kind="txt2img", seeds=SeedPlan(seed=7), passes=(a_pass(), hires(upscaler="latent"))),
    "hires with its own of everything": Plan(
        kind="txt2img",
        seeds=SeedPlan(seed=7),
        passes=(
            a_pass(),
            hires(
                upscaler="4x-somebody's model",
                model=OTHER,
                size=SizePx(width_px=1000, height_px=1280),
                text=TextPlan(prompt="finer: a, b", negative_prompt="noise", clip_skip=2),
                sampling=SamplingPlan(sampler="euler_a", schedule="normal", steps=9),
                guidance_scale=4.0,
            ),
        ),
    ),
    "img2img": Plan(
        kind="img2img",
        seeds=SeedPlan(seed=7),
        passes=(a_pass(strength=0.6, exact_steps=True), hires(upscaler="lanczos")),
        init=InitPlan(image="12" * 32, resize_mode="crop", colour_correction=True),
    ),
    "inpaint": Plan(
        kind="inpaint",
        seeds=SeedPlan(seed=7),
        passes=(a_pass(strength=1.0),),
        init=InitPlan(image="12" * 32, initial_noise_multiplier=1.1),
        mask=MaskPlan(
            mask="34" * 32,
            blur_px=8,
            inverted=True,
            fill="latent_noise",
            only_masked=True,
            padding_px=64,
            soft=SoftInpainting(mask_influence=0.2),
        ),
    ),
    "outpaint": Plan(
        kind="outpaint",
        seeds=SeedPlan(seed=7),
        passes=(a_pass(strength=1.0),),
        init=InitPlan(image="12" * 32),
        outpaint=OutpaintPlan(margins=Margins(left_px=64), feather_px=32),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_s_infotext_gives_its_request(name):
    plan = PLANS[name]
    text = to_infotext(plan)
    read = request_from_infotext(text)
    assert read.request == request_of_plan(plan)
    assert read.request.kind == plan.kind
    assert read.notes == ()
    assert "Model hash: ababababab, Model: danqing-mini" in text


def test_hashes_and_extra_pairs():
    text = to_infotext(PLANS["seeds"], extra={"Lora hashes": "ink: 0123456789ab, oil: cd"}, version="Danqing test")
    assert "VAE hash: cdcdcdcdcd, VAE: other" in text
    assert text.endswith('Lora hashes: "ink: 0123456789ab, oil: cd", Version: Danqing test')
    assert dict(request_from_infotext(text).rest) == {"Lora hashes": "ink: 0123456789ab, oil: cd"}


def test_the_hires_pass_says_only_what_differs():
    text = to_infotext(PLANS["hires"])
    assert "Hires upscale: 2, Hires upscaler: Latent" in text
    assert "Denoising strength: 0.5" in text
    for key in ("Hires steps", "Hires prompt", "Hires sampler", "Hires CFG Scale", "Hires checkpoint", "Hires resize"):
        assert key not in text
