"""The form and the Request say the same thing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.spec.control import ControlUnit
from danqing.spec.drag import DragPoint, DragRequest, DragTuning
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx, Margins, SizePx
from danqing.spec.image_prompt import ImagePrompt
from danqing.spec.painting import (
    DynamicThreshold,
    Guidance,
    Hires,
    Img2ImgRequest,
    InpaintRequest,
    OutpaintRequest,
    Output,
    Refiner,
    Sampling,
    SizeHints,
    SoftInpainting,
    Txt2ImgRequest,
    Variation,
)
from danqing.spec.region import Region
from danqing.spec.retouch import RetouchRequest
from danqing.spec.retouch_steps import CutoutStep, DetailStep, RestoreFacesStep, TiledDiffusion, UpscaleStep
from danqing.spec.shortcuts import Shortcuts
from danqing.spec.words_edit import LocalWords, WordsRequest, WordWeight
from danqing.web.form import NAMES, Form, field_of, from_request, to_request

SEED = st.integers(0, 2**64 - 1)
SIDE = st.integers(16, 4096)
TEXT = st.text(max_size=20)
NAME = st.text(min_size=1, max_size=20)  # an empty name means "not set", which the page writes as no name


def unit(low=0.0, high=1.0):
    return st.floats(low, high, allow_nan=False)


def maybe(strategy):
    return st.none() | strategy


SAMPLING = st.builds(
    Sampling,
    sampler=maybe(NAME),
    schedule=maybe(NAME),
    steps=maybe(st.integers(1, 500)),
    eta=maybe(unit(0, 10)),
    s_churn=unit(0, 100),
    s_tmax=maybe(unit(0, 100)),
    sigma_min=maybe(unit(0.01, 100)),
    rho=maybe(unit(0.1, 100)),
)
GUIDANCE = st.builds(
    Guidance,
    scale=maybe(unit(0, 100)),
    distilled=maybe(unit(0, 100)),
    rescale=unit(),
    threshold=maybe(st.builds(DynamicThreshold, mimic_scale=unit(0, 100))),
    pag_scale=unit(0, 100),
    skip_early=unit(),
)
HIRES = st.builds(
    Hires,
    scale=maybe(unit(1, 8)),
    width_px=maybe(SIDE),
    upscaler=NAME,
    steps=maybe(st.integers(1, 500)),
    strength=unit(),
    prompt=maybe(NAME),
    negative_prompt=maybe(TEXT),
    sampler=maybe(NAME),
    guidance_scale=maybe(unit(0, 100)),
)
REFERENCE = st.sampled_from(["record:abc", "sha256:" + "0f" * 32])
CONTROL = st.builds(
    ControlUnit,
    model=NAME,
    image=maybe(REFERENCE),
    mask=maybe(REFERENCE),
    annotator=st.sampled_from(["canny", "none"]),
    control_type=st.sampled_from([None, "canny"]),
    params=st.sampled_from([{}, {"low_threshold": 50.0}, {"colors": "mean"}]),
    resolution_px=maybe(st.integers(64, 2048)),
    pixel_perfect=st.booleans(),
    weight=unit(0, 2),
    start=unit(0, 0.4),
    end=unit(0.5, 1),
    mode=st.sampled_from(["balanced", "prompt", "control"]),
    resize_mode=st.sampled_from(["stretch", "crop", "fill"]),
    passes=st.sampled_from(["both", "base", "hires"]),
)
LIKE = st.builds(ImagePrompt, image=REFERENCE, weight=unit(0, 2), start=unit(0, 0.4), end=unit(0.5, 1))
WORDS = {"prompt": NAME, "negative_prompt": maybe(TEXT), "weight": unit(0.1, 4), "feather_px": st.integers(0, 256)}
LOW, HIGH = st.integers(0, 100), st.integers(101, 500)
BOX = st.builds(BoxPx, left_px=LOW, top_px=LOW, right_px=HIGH, bottom_px=HIGH)
REGION = st.builds(Region, **WORDS, box=BOX) | st.builds(Region, **WORDS, mask=REFERENCE)
DETAIL = {"detect": NAME, "confidence": unit(), "prompt": maybe(TEXT), "strength": unit(), "sort": st.just("largest")}
STEP = (
    st.builds(DetailStep, **DETAIL, classes=st.lists(NAME, max_size=2).map(tuple))
    | st.builds(RestoreFacesStep, visibility=unit(), model=maybe(NAME))
    | st.builds(UpscaleStep, scale=unit(1, 4), tiled=maybe(st.builds(TiledDiffusion, tile_px=maybe(st.just(128)))))
    | st.builds(CutoutStep, trim=st.booleans(), background=st.sampled_from([None, "#ff00aa"]))
)
COMMON = {
    "prompt": TEXT,
    "negative_prompt": TEXT,
    "styles": st.lists(NAME, max_size=3).map(tuple),
    "syntax": st.sampled_from(["a1111", "midjourney"]),
    "emphasis": st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    "clip_skip": st.integers(1, 12),
    "model": maybe(NAME),
    "vae": maybe(NAME),
    "width_px": maybe(SIDE),
    "height_px": maybe(SIDE),
    "count": st.integers(1, 64),
    "seed": maybe(SEED),
    "variation": maybe(st.builds(Variation, seed=maybe(SEED), strength=unit(0.01, 1))),
    "seed_resize": maybe(st.builds(SizePx, width_px=SIDE, height_px=SIDE)),
    "noise": st.sampled_from(["cpu", "gpu", "nv"]),
    "eta_noise_seed_delta": st.integers(0, 2**32 - 1),
    "sampling": SAMPLING,
    "guidance": GUIDANCE,
    "hires": maybe(HIRES),
    "refiner": maybe(st.builds(Refiner, model=NAME, switch_at=unit(0.01, 1))),
    "controls": st.lists(CONTROL, max_size=2).map(tuple),
    "image_prompts": st.lists(LIKE, max_size=2).map(tuple),
    "image_mix": st.sampled_from(["tokens", "average"]),
    "image_adapter": maybe(NAME),
    "regions": st.lists(REGION, max_size=2).map(tuple),
    "region_engine": st.sampled_from([None, "attention", "latent"]),
    "precision": st.sampled_from(["auto", "float32", "float8", "nf4"]),
    "quality": st.sampled_from(["exact", "fast", "draft"]),
    "shortcuts": st.builds(Shortcuts, cache_interval=maybe(st.integers(1, 10)), token_merging=maybe(unit(0, 0.75))),
    "size_hints": st.builds(
        SizeHints, crop_top_px=SIDE, target=maybe(st.builds(SizePx, width_px=SIDE, height_px=SIDE))
    ),
    "output": st.builds(Output, format=st.sampled_from(["png", "jpeg", "webp"]), quality=st.integers(1, 100)),
    "parent": maybe(NAME),
    "finish": st.lists(STEP, max_size=2).map(tuple),
}
FILL = st.sampled_from(["original", "fill", "latent_noise", "latent_nothing"])
INIT = {
    **COMMON,
    "image": REFERENCE,
    "strength": unit(),
    "resize_mode": st.sampled_from(["stretch", "crop", "fill", "latent"]),
    "exact_steps": st.booleans(),
    "initial_noise_multiplier": unit(0, 1.5),
    "colour_correction": st.booleans(),
}
SOFT = st.builds(
    SoftInpainting,
    schedule_bias=unit(0, 8),
    transition_contrast_boost=unit(1, 32),
    mask_influence=unit(),
)
PIXELS = st.integers(0, 64)
POINT = st.builds(DragPoint, from_x_px=PIXELS, from_y_px=PIXELS, to_x_px=PIXELS, to_y_px=PIXELS)
CHANGE = {
    "image": maybe(REFERENCE),
    "prompt": TEXT,
    "source_prompt": TEXT,
    "technique": st.sampled_from(["prompt_to_prompt", "ledits"]),
    "inversion": st.sampled_from([None, "direct", "null_text"]),
    "alignment": st.sampled_from([None, "replace", "refine"]),
    "weights": st.lists(st.builds(WordWeight, word=NAME, weight=unit(-10, 10)), max_size=2).map(tuple),
    "cross_share": unit(),
    "self_share": unit(),
    "local": st.lists(st.builds(LocalWords, source=NAME, target=NAME), max_size=2).map(tuple),
    "local_threshold": unit(0.1, 0.9),
    "edit_threshold": unit(0.1, 0.9),
    "skip": unit(0, 0.9),
}
REQUESTS = st.one_of(
    st.builds(RetouchRequest, **INIT, steps=st.lists(STEP, min_size=1, max_size=3).map(tuple)),
    st.builds(WordsRequest, **{**COMMON, **CHANGE}),
    st.builds(WordsRequest, **CHANGE, negative_prompt=TEXT, count=st.integers(1, 4), parent=maybe(NAME)),
    st.builds(Txt2ImgRequest, **COMMON),
    st.builds(Img2ImgRequest, **INIT),
    st.builds(
        InpaintRequest,
        **INIT,
        mask=REFERENCE,
        mask_blur_px=PIXELS,
        mask_inverted=st.booleans(),
        fill=FILL,
        only_masked=st.booleans(),
        padding_px=PIXELS,
        soft=maybe(SOFT),
    ),
    st.builds(
        OutpaintRequest,
        **INIT,
        margins=st.builds(Margins, left_px=PIXELS, right_px=PIXELS, top_px=PIXELS, bottom_px=PIXELS),
        fill=FILL,
        feather_px=PIXELS,
    ),
    st.builds(
        DragRequest,
        **INIT,
        points=st.lists(POINT, min_size=1, max_size=3).map(tuple),
        mask=maybe(REFERENCE),
        mode=st.sampled_from(["fast", "quality"]),
        repair=unit(),
        method=st.sampled_from(["pulled", "dragdiffusion", "gooddrag"]),
        radius_px=maybe(st.integers(1, 64)),
        mask_feather_px=PIXELS,
        tuning=st.builds(DragTuning, tracks=st.integers(1, 9), rate=maybe(unit(0.1, 0.5))),
    ),
)


DOUBTFUL = {"kind": "detail", "confidence": 2}
COARSE = {"kind": "upscale", "tiled": {"tile_px": 9}}
OF_A_CHANGE = frozenset({*CHANGE, "image_mix"})
PULL = {"from_x_px": 1, "from_y_px": 2, "to_x_px": 3, "to_y_px": 4}


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_a_request_goes_through_the_form_unchanged(request_):
    assert to_request(from_request(request_)) == request_


def test_a_change_of_words_leaves_to_the_picture_what_is_its_own():
    """Whatever stands in the form's other fields: named in the Request, it would forbid an exact replay."""
    form = Form(mode="words", image="record:1", prompt="a dog", steps=33, seed="5", model="x", kept={"eta_noise": 1})
    assert to_request(form).model_fields_set <= {*OF_A_CHANGE, "kind", "styles", "count", "output", "finish"}
    assert to_request(form).sampling.steps is None
    own = to_request(Form(**{**vars(form), "as_painted": False, "kept": {}}))
    assert (own.sampling.steps, own.seed, own.model) == (33, 5, "x")
    painted = to_request(Form(**{**vars(form), "image": "", "source_prompt": "a cat", "kept": {}}))
    assert (painted.image, painted.seed) == (None, 5)


def test_the_default_form_is_the_default_request():
    assert to_request(Form()) == Txt2ImgRequest()


def test_every_request_field_is_either_shown_or_kept():
    leaves = {"prompt", "sampling.steps", "guidance.scale", "variation.strength", "hires.scale", "soft.mask_influence"}
    assert {field_of(leaf) for leaf in leaves} <= set(NAMES)


@pytest.mark.parametrize("seed", ["1.5", "x", str(2**64), "-2", "１２"])
def test_a_bad_seed_is_refused_with_its_field(seed):
    with pytest.raises(InvalidRequestError) as caught:
        to_request(Form(seed=seed))
    assert caught.value.field == "seed"


@pytest.mark.parametrize("seed", ["", " -1 "])
def test_no_seed_means_a_random_one(seed):
    assert to_request(Form(seed=seed)).seed is None


@pytest.mark.parametrize(
    ("form", "control"),
    [
        (Form(steps=0), "steps"),
        (Form(width_px=3), "width_px"),
        (Form(count=99), "count"),
        (Form(cfg=1000.0), "cfg"),
        (Form(mode="img2img"), "image"),
        (Form(mode="inpaint", image="record:1"), "mask"),
        (Form(mode="outpaint", image="record:1", left_px=-1), "left_px"),
        (Form(hires=True, hires_scale=99), "hires_scale"),
        (Form(format="gif"), "format"),
        (Form(steps=1.5), "steps"),
        (Form(controls=({"model": "line", "weight": 3},)), "controls.0.weight"),
        (Form(controls=({"model": "line", "start": 0.5, "end": 0.5},)), "controls.0"),
        (Form(image_prompts=({"image": "record:1"}, {"image": "x"})), "image_prompts.1.image"),
        (Form(regions=({"prompt": "", "mask": "record:1"},)), "regions.0.prompt"),
        (Form(regions=({"prompt": "a", "mask": "record:1"}, {"prompt": "b"})), "regions.1"),
        (Form(regions=({"prompt": "a", "mask": "record:1", "weight": 9},)), "regions.0.weight"),
        (Form(region_engine="magic"), "region_engine"),
        (Form(mode="words", weights=({"word": "a", "weight": 11},)), "weights.0.weight"),
        (Form(mode="words", local=({"source": "a", "target": "b"}, {"source": ""})), "local.1.source"),
        (Form(mode="words", inversion="magic"), "inversion"),
        (Form(mode="retouch", image="record:1"), "retouch_steps"),
        (Form(mode="retouch", image="record:1", retouch_steps=(DOUBTFUL,)), "retouch_steps.0.confidence"),
        (Form(mode="retouch", image="record:1", retouch_steps=(COARSE,)), "retouch_steps.0.tiled"),
        (Form(finish=({"kind": "cutout"}, {"kind": "cutout", "background": "red"})), "finish.1.background"),
        (Form(mode="words", cross_share=2), "cross_share"),
        (Form(mode="drag", image="record:1"), "points"),
        (Form(mode="drag", image="record:1", points=({"from_x_px": -1},)), "points"),
        (Form(mode="drag", image="record:1", points=(PULL,), drag_mode="slow"), "drag_mode"),
    ],
)
def test_bad_values_name_their_control(form, control):
    with pytest.raises(InvalidRequestError) as caught:
        to_request(form)
    assert field_of(caught.value.field) == control
