"""Request + catalogue → Plans: pure, with every default resolved."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.planning import plan
from danqing.planning.words import PromptLibrary
from danqing.prompt.styles import Style
from danqing.sampling.schedules import steps_for_strength
from danqing.spec.errors import InvalidRequestError, NotFoundError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelDefaults, ModelInfo
from danqing.spec.network import NetworkInfo
from danqing.spec.plan import Plan
from danqing.spec.request import parse_request
from danqing.spec.upscale import UpscalerFile

SHA = "sha256:" + "a" * 64
MASK = "sha256:" + "b" * 64


def model(name: str, **changes: Any) -> ModelInfo:
    defaults = ModelDefaults(sampler="DPM++ 2M", schedule="karras", steps=12, guidance_scale=5.0, size_px=512)
    plain = {"name": name, "family": "sd1", "path": name, "sha256": name[0] * 64, "defaults": defaults}
    return ModelInfo(**{**plain, **changes})


class Shelf:
    """A catalogue of three models."""

    models = (model("a-base"), model("b-other"), model("c-wide", latent_channels=16))

    def find(self, name: str | None) -> ModelInfo:
        for info in self.models:
            if info.name == (name or "a-base"):
                return info
        raise NotFoundError("there is no such model", field="model", value=name)

    def find_vae(self, name: str) -> ModelInfo:
        return self.find(name)

    def embeddings(self) -> list[NetworkInfo]:
        return []

    def upscalers(self) -> list[UpscalerFile]:
        return [UpscalerFile(name="4x-draw", path="4x-draw.pth", sha256="u" * 64)]

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        return next((file for file in self.upscalers() if name in (file.name, file.sha256)), None)


class Colours:
    """A wildcard of many lines."""

    def names(self) -> list[str]:
        return ["colour"]

    def values(self, name: str, /) -> list[str]:
        return [f"colour{i}" for i in range(50)]


LIBRARY = PromptLibrary({"ink": Style("ink", "{prompt}, ink wash", "photo")}, Colours())


def plans(
    picture: tuple[int, int] | None = None, mask_size: tuple[int, int] | None = None, **data: Any
) -> tuple[Plan, ...]:
    library = data.pop("library", None)
    rng_seed = data.pop("rng_seed", 1)
    return plan(
        parse_request({"prompt": "a cat", **data}),
        Shelf(),
        image_size=SizePx(width_px=picture[0], height_px=picture[1]) if picture else None,
        mask_size=SizePx(width_px=mask_size[0], height_px=mask_size[1]) if mask_size else None,
        rng_seed=rng_seed,
        library=library,
    )


def one(picture: tuple[int, int] | None = None, mask_size: tuple[int, int] | None = None, **data: Any) -> Plan:
    (only,) = plans(picture, mask_size, **data)
    return only


IMG2IMG = {"kind": "img2img", "image": SHA}
INPAINT = {"kind": "inpaint", "image": SHA, "mask": MASK}
OUTPAINT = {"kind": "outpaint", "image": SHA}


# --- purity and round trips -------------------------------------------------------------------------------------------

REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.sampled_from(["", "a cat", "a [b:c:0.5] AND d", "(x:1.2)", "丹青"]),
        "count": st.integers(1, 4),
        "seed": st.integers(0, 2**64 - 1),
        "width_px": st.integers(16, 1024),
        "height_px": st.integers(16, 1024),
        "variation": st.fixed_dictionaries({"strength": st.floats(0, 1)}),
        "hires": st.fixed_dictionaries({}, optional={"scale": st.floats(1, 3), "strength": st.floats(0, 1)}),
        "refiner": st.fixed_dictionaries({"model": st.just("b-other")}, optional={"switch_at": st.floats(0.01, 1)}),
        "sampling": st.fixed_dictionaries({}, optional={"steps": st.integers(1, 60)}),
    },
)


@settings(deadline=None, max_examples=80)
@given(data=REQUESTS, rng_seed=st.integers(0, 2**32))
def test_the_same_input_gives_the_same_plans_and_they_survive_json(data: dict[str, Any], rng_seed: int):
    first, second = (plans(**data, rng_seed=rng_seed) for _ in range(2))
    assert first == second
    assert [p.digest() for p in first] == [p.digest() for p in second]
    assert len(first) == data.get("count", 1)
    for each in first:
        assert Plan.model_validate_json(each.model_dump_json()) == each
        assert Plan.model_validate(json.loads(each.model_dump_json())).digest() == each.digest()
        assert each.size.width_px % 8 == 0
        assert each.size.height_px % 8 == 0
        if each.base.refiner is not None:
            assert 1 <= each.base.refiner.switch_step <= each.base.sampling.steps


def test_without_a_seed_one_is_drawn():
    assert one(rng_seed=1).seeds.seed != one(rng_seed=2).seeds.seed
    assert one(rng_seed=None).seeds.seed <= 2**32 - 1


def test_a_models_own_defaults_fill_what_is_open():
    base = one().base
    assert (base.sampling.sampler, base.sampling.schedule, base.sampling.steps) == ("dpmpp_2m", "karras", 12)
    assert base.guidance_scale == 5.0
    assert str(base.size) == "512x512"
    assert base.strength is None


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "picture", "size"),
    [
        ({}, None, "512x512"),
        ({"width_px": 640}, None, "640x640"),
        ({"height_px": 384}, None, "384x384"),
        ({"width_px": 640, "height_px": 384}, None, "640x384"),
        ({"width_px": 333, "height_px": 777}, None, "336x776"),
        ({"width_px": 16, "height_px": 16}, None, "16x16"),
        ({}, (700, 500), "704x496"),
        ({"width_px": 350}, (700, 500), "352x248"),
        ({"height_px": 250}, (700, 500), "352x248"),
        ({}, (4000, 4000), "1024x1024"),
        ({}, (30, 17), "32x16"),
    ],
)
def test_sizes(asked: dict[str, int], picture: tuple[int, int] | None, size: str):
    made = one(picture, **asked, **(IMG2IMG if picture else {}))
    assert str(made.base.size) == size


def test_rounding_and_shrinking_are_noted():
    assert one().notes == ()
    assert "rounded to 336x776" in one(width_px=333, height_px=777).notes[0]
    assert "painted at 1024x1024" in one((4000, 4000), **IMG2IMG).notes[0]


def test_a_size_that_follows_from_the_picture_may_be_too_large():
    with pytest.raises(InvalidRequestError, match="cannot be painted"):
        one((2000, 100), width_px=None, height_px=300, **IMG2IMG)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_seeds_count_up():
    made = plans(seed=10, count=3)
    assert [p.seeds.seed for p in made] == [10, 11, 12]
    assert [p.seeds.variation_seed for p in made] == [0, 0, 0]


def test_with_a_variation_the_variation_seed_counts_up():
    made = plans(seed=10, count=3, variation={"seed": 50, "strength": 0.3})
    assert [p.seeds.seed for p in made] == [10, 10, 10]
    assert [p.seeds.variation_seed for p in made] == [50, 51, 52]


def test_seeds_wrap_at_the_end():
    assert [p.seeds.seed for p in plans(seed=2**64 - 1, count=2)] == [2**64 - 1, 0]


def test_seed_resize_is_rounded_to_the_grid():
    assert str(one(seed_resize={"width_px": 500, "height_px": 300}).seeds.resize_from) == "496x304"


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"),
        ("Euler a", "euler_a", "uniform"),
        ("k_euler_a", "euler_a", "uniform"),
        ("LMS Karras", "lms", "karras"),
        ("dpm++ 2m", "dpmpp_2m", "karras"),
    ],
)
def test_legacy_sampler_names(name: str, sampler: str, schedule: str):
    sampling = one(sampling={"sampler": name}).base.sampling
    assert (sampling.sampler, sampling.schedule) == (sampler, schedule)


def test_a_schedule_of_its_own_wins():
    assert one(sampling={"sampler": "DPM++ 2M Karras", "schedule": "beta"}).base.sampling.schedule == "beta"


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("sampler", {"sampling": {"sampler": "Watercolour"}}),
        ("schedule", {"sampling": {"schedule": "tomorrow"}}),
        ("hires.upscaler", {"hires": {"upscaler": "Magnifier 9000"}}),
        ("model", {"model": "nowhere"}),
    ],
)
def test_unknown_names_are_refused(field: str, data: dict[str, Any]):
    with pytest.raises((InvalidRequestError, NotFoundError)) as caught:
        one(**data)
    assert caught.value.field == field


# --- hires ------------------------------------------------------------------------------------------------------------


def test_hires_sizes_words_and_inheritance():
    made = one(width_px=512, height_px=384, hires={"scale": 1.5}, negative_prompt="blur", seed=1)
    base, hires = made.passes
    assert str(hires.size) == "768x576"
    assert made.size == hires.size
    assert hires.text == base.text
    assert hires.sampling == base.sampling
    assert hires.guidance_scale == base.guidance_scale
    assert (hires.kind, hires.strength, hires.upscaler, hires.exact_steps) == ("hires", 0.6, "latent", True)


def test_hires_with_a_size_of_its_own():
    assert str(one(hires={"width_px": 1024, "height_px": 768}).size) == "1024x768"
    assert str(one(width_px=512, height_px=256, hires={"width_px": 1024}).size) == "1024x512"


def test_hires_with_its_own_words_sampler_and_model():
    hires = {"prompt": "a dog", "negative_prompt": "", "sampler": "Euler", "steps": 5, "model": "b-other"}
    made = one(negative_prompt="blur", hires={**hires, "guidance_scale": 2.0}).passes[1]
    assert (made.text.prompt, made.text.negative_prompt) == ("a dog", "")
    assert (made.sampling.sampler, made.sampling.schedule, made.sampling.steps) == ("euler", "uniform", 5)
    assert (made.model.name, made.guidance_scale) == ("b-other", 2.0)


def test_hires_runs_exactly_its_steps():
    """A1111: with hires steps n and strength s, int(n / s) steps are planned and exactly n are run."""
    for steps, strength in ((10, 0.5), (15, 0.35), (1, 0.05), (7, 1.0)):
        found = steps_for_strength(steps, strength, exact=True)
        assert found.run == steps
        assert found.total == min(int(steps / min(strength, 0.999)), 1000)


def test_hires_too_large_is_refused():
    with pytest.raises(InvalidRequestError, match="cannot be painted"):
        one(width_px=2048, height_px=2048, hires={"scale": 4})


def test_hires_follows_the_picture_that_inpainting_hands_on():
    """Only-masked inpainting paints a square and pastes it back into a picture of another shape."""
    made = one((700, 500), (700, 500), **INPAINT, only_masked=True, hires={"scale": 2.0})
    assert str(made.base.size) == "512x512"
    assert str(made.size) == "1400x1000"
    grown = one((100, 50), **OUTPAINT, margins={"left_px": 3}, hires={"scale": 2.0})
    assert str(grown.base.size) == "104x56"
    assert str(grown.size) == "208x96"


# --- refiner ----------------------------------------------------------------------------------------------------------


def test_the_refiner_switches_at_its_share_of_the_steps():
    refiner = one(sampling={"steps": 20}, refiner={"model": "b-other", "switch_at": 0.8}).base.refiner
    assert refiner is not None
    assert (refiner.model.name, refiner.switch_step) == ("b-other", 16)
    assert one(sampling={"steps": 2}, refiner={"model": "b-other", "switch_at": 0.1}).base.refiner.switch_step == 1
    assert one(refiner={"model": "b-other", "switch_at": 1.0}).base.refiner is None


def test_a_refiner_of_another_kind_is_refused():
    with pytest.raises(UnsupportedError, match="another kind") as caught:
        one(refiner={"model": "c-wide"})
    assert caught.value.field == "refiner.model"


# --- pictures and masks -----------------------------------------------------------------------------------------------


def test_a_picture_must_be_there_and_be_resolved():
    with pytest.raises(InvalidRequestError, match="init picture is missing"):
        one(**IMG2IMG)
    with pytest.raises(InvalidRequestError, match="resolved"):
        one((64, 64), kind="img2img", image="record:abc")


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(InvalidRequestError, match="differ in size") as caught:
        one((64, 64), (32, 64), **INPAINT)
    assert (caught.value.field, caught.value.value, caught.value.allowed) == ("mask", "32x64", "64x64")


def test_an_inpaint_keeps_its_size_unless_told():
    assert one((700, 500), (700, 500), **INPAINT).mask.keep_size
    assert not one((700, 500), (700, 500), **INPAINT, width_px=512).mask.keep_size
    assert str(one((700, 500), (700, 500), **INPAINT, only_masked=True).base.size) == "512x512"


def test_outpaint_margins():
    made = one((100, 50), **OUTPAINT, margins={"left_px": 30, "bottom_px": 7})
    assert str(made.base.size) == "136x64"
    assert made.base.strength == 1.0
    with pytest.raises(InvalidRequestError, match="no side"):
        one((100, 50), **OUTPAINT, margins={})
    with pytest.raises(InvalidRequestError, match="cannot be painted"):
        one((100, 50), **OUTPAINT, margins={"left_px": 4090})


# --- words ------------------------------------------------------------------------------------------------------------


def test_midjourney_flags():
    prompt = "a fox in snow --ar 3:2 --seed 42 --no trees, people --repeat 3"
    made = plans(prompt=prompt, syntax="midjourney", negative_prompt="blur")
    assert [p.seeds.seed for p in made] == [42, 43, 44]
    assert {p.base.text.prompt for p in made} == {"a fox in snow"}
    assert {p.base.text.negative_prompt for p in made} == {"blur, trees, people"}
    width, height = made[0].base.size.width_px, made[0].base.size.height_px
    assert width / height == pytest.approx(1.5, abs=0.05)
    assert width * height == pytest.approx(512 * 512, rel=0.05)


def test_every_prompt_of_a_permutation_has_its_own_aspect():
    made = plans(prompt="a {red, blue} bird --ar {2:1, 1:1}", syntax="midjourney")
    assert [p.base.text.prompt for p in made] == ["a red bird", "a red bird", "a blue bird", "a blue bird"]
    assert [p.base.size.width_px > p.base.size.height_px for p in made] == [True, False, True, False]


def test_a_request_wins_over_midjourneys_flags():
    made = one(prompt="a fox --ar 3:2 --seed 42", syntax="midjourney", width_px=256, seed=7)
    assert (str(made.base.size), made.seeds.seed) == ("256x256", 7)


def test_what_midjourney_asks_for_in_vain_is_noted():
    notes = one(prompt="a fox --hd", syntax="midjourney").notes
    assert any("--hd" in note for note in notes)
    with pytest.raises(InvalidRequestError, match="no flag --nonsense"):
        one(prompt="a fox --nonsense", syntax="midjourney")


def test_stylize_changes_the_guidance_unless_it_is_given():
    free = one(prompt="a fox --stylize 1000", syntax="midjourney").base.guidance_scale
    assert free == pytest.approx(5.0 * 0.6)
    assert one(prompt="a --stylize 1000", syntax="midjourney", guidance={"scale": 9}).base.guidance_scale == 9


def test_styles_and_wildcards_come_from_the_library():
    request = {"prompt": "cat __colour__", "styles": ["ink"], "library": LIBRARY}
    made = [p.base.text for p in plans(**request, seed=5, count=6)]
    assert all(text.prompt.startswith("cat colour") and text.prompt.endswith(", ink wash") for text in made)
    assert {text.negative_prompt for text in made} == {"photo"}
    assert len({text.prompt for text in made}) > 1, "each picture draws its own"
    assert plans(**request, seed=7)[0].base.text == made[2], "from seed + i, so that each can be painted again alone"
    with pytest.raises(NotFoundError, match="style"):
        one(styles=["ink"])


def test_tags_of_no_known_kind_are_noted():
    assert any("wibble:ink" in note for note in one(prompt="a cat <wibble:ink:0.8>").notes)


def test_a_vae_of_its_own():
    assert one(vae="b-other").vae.name == "b-other"
    assert one().vae is None
