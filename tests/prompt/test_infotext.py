"""Infotext both ways."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.prompt.infotext import parse_infotext, request_from_infotext, to_infotext
from danqing.prompt.infotext_fields import ENTRIES
from danqing.prompt.infotext_text import Infotext, format_text, parse_pairs, parse_text
from danqing.spec.painting import Img2ImgRequest, InpaintRequest, OutpaintRequest, Txt2ImgRequest
from danqing.spec.registry.samplers import SAMPLERS
from danqing.spec.registry.schedules import SCHEDULES
from danqing.spec.registry.upscalers import UPSCALERS
from danqing.spec.request import REQUEST, parse_request

A1111 = """girl with an artist's beret, (detailed:1.2)
second line
Negative prompt: ugly, fat,
lowres
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 965400086, Size: 512x768, Model hash: 45dee52b, \
Model: v1-5, Denoising strength: 0.55, Clip skip: 2, Hires upscale: 2, Hires steps: 12, Hires upscaler: Latent, \
Hires prompt: "a, b: c", Lora hashes: "ink: 0123456789ab, oil: cdef", Version: v1.6.0"""


def test_a_text_of_a1111():
    read = request_from_infotext(A1111)
    request = read.request
    assert request.prompt == "girl with an artist's beret, (detailed:1.2)\nsecond line"
    assert request.negative_prompt == "ugly, fat,\nlowres"
    assert (request.sampling.sampler, request.sampling.schedule) == ("DPM++ 2M", "Karras")
    assert (request.sampling.steps, request.guidance.scale, request.seed) == (20, 7.5, 965400086)
    assert (request.width_px, request.height_px, request.model, request.clip_skip) == (512, 768, "v1-5", 2)
    assert request.hires is not None
    assert (request.hires.scale, request.hires.steps, request.hires.strength) == (2.0, 12, 0.55)
    assert (request.hires.upscaler, request.hires.prompt) == ("Latent", "a, b: c")
    assert request.noise == "nv"
    assert read.rest == {"Lora hashes": "ink: 0123456789ab, oil: cdef"}
    assert read.notes == ()


def test_old_first_pass_size_and_odd_values():
    read = request_from_infotext(
        "x\nSteps: 30, Sampler: Euler a, CFG scale: 11, Seed: 1, Size: 1024x1024, Model hash: 81761151, "
        "Denoising strength: 0.7, First pass size: 512x512, ENSD: 31337, RNG: CPU"
    )
    assert read.request.hires is not None
    assert (read.request.width_px, read.request.hires.width_px, read.request.hires.scale) == (512, 1024, None)
    assert (read.request.model, read.request.noise, read.request.eta_noise_seed_delta) == ("81761151", "cpu", 31337)


def test_bad_values_are_left_out_and_noted():
    read = request_from_infotext(
        "x\nSteps: 99999, Sampler: Warp Drive, CFG scale: many, Seed: -5, Size: 9x9, Hires upscaler: Latent, "
        "Clip skip: 99"
    )
    assert read.request == Txt2ImgRequest(prompt="x", noise="nv", hires=read.request.hires)
    assert len(read.notes) >= 5
    assert any("Warp Drive" in note for note in read.notes)


def test_a_picture_made_from_another_is_said_to_be():
    read = request_from_infotext("x\nSteps: 20, Sampler: Euler, Denoising strength: 0.4, Mask blur: 4, Seed: 3")
    assert isinstance(read.request, Txt2ImgRequest)
    assert "another one" in read.notes[0]


@pytest.mark.parametrize("text", ["", "just words", "a: b, c", "\n\n", "Negative prompt: x", "\x00", "Steps: 20"])
def test_texts_without_pairs_are_prompts(text):
    assert parse_infotext(text).fields == {}


def test_civitai_hashes_and_templates():
    read = parse_infotext(
        'a\nSteps: 1, Seed: 2, Hashes: {"model": "abc", "lora:x": "def"}, Size: 8x8\n'
        "Template: {a|b}\nNegative Template: c"
    )
    assert json.loads(read.fields["Hashes"]) == {"model": "abc", "lora:x": "def"}
    assert (read.fields["Size"], read.fields["Template"], read.fields["Negative Template"]) == ("8x8", "{a|b}", "c")
    assert read.prompt == "a"


def test_what_a1111_would_read():
    request = parse_request(
        {
            "prompt": "a cat",
            "seed": 5,
            "width_px": 512,
            "height_px": 640,
            "sampling": {"sampler": "euler_a", "steps": 20},
        }
    )
    text = to_infotext(request)
    assert text.startswith("a cat\nSteps: 20, Sampler: Euler a, Seed: 5, Size: 512x640, ")
    assert "Version: Danqing " in text


def numbers(low, high):
    return st.floats(low, high, allow_nan=False).map(lambda value: round(value, 4) or low)


texts = st.one_of(
    st.text(max_size=60), st.sampled_from(["a, b\nSteps: 1, Seed: 2, Size: 3x4", " x ", "Negative prompt: y", "a\r\nb"])
)
sampler_names = st.sampled_from([info.name for info in SAMPLERS])
schedule_names = st.sampled_from([info.name for info in SCHEDULES])
maybe = lambda strategy: st.none() | strategy  # noqa: E731
sides = st.integers(16, 4096)
sampling = st.fixed_dictionaries(
    {},
    optional={
        "sampler": sampler_names,
        "schedule": schedule_names,
        "steps": st.integers(1, 500),
        "eta": numbers(0, 10),
        "s_churn": numbers(0, 100),
        "s_tmin": numbers(0, 1000),
        "s_tmax": numbers(0, 10_000),
        "s_noise": numbers(0, 10),
        "sigma_min": numbers(0.0001, 1000),
        "sigma_max": numbers(0.0001, 10_000),
        "rho": numbers(0.0001, 100),
    },
)
guidance = st.fixed_dictionaries(
    {},
    optional={
        "scale": numbers(0, 100),
        "distilled": numbers(0, 100),
        "rescale": numbers(0, 1),
        "threshold": st.fixed_dictionaries({"mimic_scale": numbers(0, 100), "percentile": numbers(0.0001, 1)}),
        "pag_scale": numbers(0, 100),
        "skip_early": numbers(0, 1),
        "s_min_uncond": numbers(0, 100),
    },
)
shortcuts = st.fixed_dictionaries(
    {},
    optional={
        "cache_interval": st.integers(1, 10),
        "cache_branch": st.integers(0, 16),
        "guidance_window": st.tuples(numbers(0, 0.5), numbers(0.50001, 1)),
        "token_merging": numbers(0, 0.75),
    },
)
hires = st.fixed_dictionaries(
    {"upscaler": st.sampled_from([info.name for info in UPSCALERS])},
    optional={
        "scale": maybe(numbers(1, 8)),
        "width_px": sides,
        "height_px": sides,
        "steps": st.integers(1, 500),
        "strength": numbers(0, 1),
        "prompt": texts,
        "negative_prompt": texts,
        "sampler": sampler_names,
        "schedule": schedule_names,
        "guidance_scale": numbers(0, 100),
        "model": st.text(min_size=1, max_size=30),
    },
)
shared = {
    "prompt": texts,
    "negative_prompt": texts,
    "styles": st.lists(st.text(max_size=10), max_size=3),
    "syntax": st.sampled_from(["a1111", "midjourney"]),
    "emphasis": st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    "clip_skip": st.integers(1, 12),
    "model": st.text(min_size=1, max_size=30),
    "vae": st.text(min_size=1, max_size=30).filter(lambda name: name.casefold() not in {"automatic", "none"}),
    "width_px": sides,
    "height_px": sides,
    "count": st.integers(1, 64),
    "seed": st.integers(0, 2**64 - 1),
    "variation": st.fixed_dictionaries({"strength": numbers(0, 1)}, optional={"seed": st.integers(0, 2**64 - 1)}),
    "seed_resize": st.fixed_dictionaries({"width_px": sides, "height_px": sides}),
    "noise": st.sampled_from(["cpu", "gpu", "nv"]),
    "eta_noise_seed_delta": st.integers(0, 2**32 - 1),
    "sampling": sampling,
    "guidance": guidance,
    "hires": hires,
    "refiner": st.fixed_dictionaries({"model": st.text(min_size=1, max_size=30), "switch_at": numbers(0.0001, 1)}),
    "precision": st.sampled_from(["auto", "float32", "bfloat16", "float16"]),
    "quality": st.sampled_from(["exact", "fast", "draft"]),
    "shortcuts": shortcuts,
    "output": st.fixed_dictionaries(
        {"format": st.sampled_from(["png", "jpeg", "webp"]), "quality": st.integers(1, 100)}
    ),
    "parent": st.from_regex(r"[0-9a-z]{1,20}", fullmatch=True),
}
picture = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
from_picture = {
    **shared,
    "strength": numbers(0, 1),
    "resize_mode": st.sampled_from(["stretch", "crop", "fill", "latent"]),
    "exact_steps": st.booleans(),
    "initial_noise_multiplier": numbers(0, 1.5),
    "colour_correction": st.booleans(),
}
fills = st.sampled_from(["original", "fill", "latent_noise", "latent_nothing"])
soft = st.fixed_dictionaries(
    {},
    optional={
        "schedule_bias": numbers(0, 8),
        "preservation_strength": numbers(0, 8),
        "transition_contrast_boost": numbers(1, 32),
        "mask_influence": numbers(0, 1),
        "difference_threshold": numbers(0, 8),
        "difference_contrast": numbers(0, 8),
    },
)
requests = st.one_of(
    st.fixed_dictionaries({"kind": st.just("txt2img")}, optional=shared),
    st.fixed_dictionaries({"kind": st.just("img2img"), "image": picture}, optional=from_picture),
    st.fixed_dictionaries(
        {"kind": st.just("inpaint"), "image": picture, "mask": picture},
        optional={
            **from_picture,
            "mask_blur_px": st.integers(0, 64),
            "mask_inverted": st.booleans(),
            "fill": fills,
            "only_masked": st.booleans(),
            "padding_px": st.integers(0, 512),
            "soft": soft,
        },
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("outpaint"),
            "image": picture,
            "margins": st.fixed_dictionaries(
                {}, optional={f"{side}_px": st.integers(0, 4096) for side in ("left", "right", "top", "bottom")}
            ),
        },
        optional={**from_picture, "fill": fills, "feather_px": st.integers(0, 256)},
    ),
)


@settings(max_examples=150, deadline=None)
@given(requests)
def test_every_request_survives_its_infotext(data):
    request = parse_request(data)
    read = request_from_infotext(to_infotext(request))
    assert read.request == request
    assert read.notes == ()


def test_every_field_of_every_request_has_a_key():
    covered = {entry.path for entry in ENTRIES}
    elsewhere = {"controls", "prompt", "negative_prompt", "kind", "width_px", "height_px", "seed_resize"}
    nested = {"sampling", "guidance", "hires", "refiner", "output", "variation", "soft", "margins", "threshold"}
    nested |= {"shortcuts"}

    def check(model, prefix):
        for name, field in model.model_fields.items():
            path = (*prefix, name)
            inner = [
                kind
                for kind in getattr(field.annotation, "__args__", (field.annotation,))
                if hasattr(kind, "model_fields")
            ]
            if name in nested:
                assert inner, path
                check(inner[0], path)
            elif name not in elsewhere:
                assert path in covered, path

    for model in (Txt2ImgRequest, Img2ImgRequest, InpaintRequest, OutpaintRequest):
        check(model, ())


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.dictionaries(st.from_regex(r"[A-Z][a-z]{2,8}", fullmatch=True), st.text(), min_size=3))
def test_format_and_parse_are_inverse(prompt, negative, fields):
    assert parse_text(format_text(Infotext(prompt, negative, fields))) == Infotext(prompt, negative, fields)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from([*',:"{}[]\\ ', "Steps", "1", "\n", "Size: 1x2"])).map("".join)))
def test_nothing_makes_reading_fail(text):
    parse_infotext(text)
    assert REQUEST.validate_python(request_from_infotext(text).request.model_dump())


def test_hostile_texts_are_quick():
    for text in ['a: "' * 100_000, "x, " * 200_000, "a: [" * 100_000, "a: {" * 100_000, "ab" * 400_000]:
        parse_infotext(text)
    assert parse_pairs("") == {}
