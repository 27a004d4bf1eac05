"""What a pass leaves out: a quality's numbers, the person's own, what its model can; LoRA and models for few steps."""

from __future__ import annotations

from typing import Any

import pytest
from test_planning_plan import SHA, Shelf, model

from danqing.planning import plan
from danqing.planning.shortcuts import FEW_STEPS
from danqing.prompt.infotext import request_from_infotext, to_infotext
from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelDefaults, ModelInfo
from danqing.spec.network import NetworkInfo
from danqing.spec.plan import Plan
from danqing.spec.registry.few_steps import find_few_steps
from danqing.spec.request import parse_request
from danqing.spec.shortcuts import QUALITIES, ShortcutsPlan

LIGHTNING = find_few_steps("xl_lightning_8step")
ENOUGH = {"steps": 20}


class Files(Shelf):
    """Three more models, and LoRA of which some are for few steps."""

    models = (
        *Shelf.models,
        model("d-flux", family="flux"),
        model("g-qwen", family="qwen_image"),
        model("e-xl_lightning_8step", defaults=ModelDefaults(**({} if LIGHTNING is None else LIGHTNING.defaults))),
        model("f-xl_lightning_8step"),
    )

    def find(self, name: str | None) -> ModelInfo:
        return next((info for info in self.models if info.sha256 == name), None) or super().find(name)

    def find_network(self, name: str, kind: str) -> NetworkInfo:
        assert kind == "lora"
        alias = "lcm-lora-sdv1-5" if name == "renamed" else None
        return NetworkInfo(name=name, path=name, sha256=f"{len(name):x}" * 64, kind="lora", alias=alias)

    def network_hash(self, info: NetworkInfo) -> str:
        return info.sha256[:12]


def planned(**fields: Any) -> Plan:
    data = {"prompt": "a cat", "seed": 1, "sampling": ENOUGH, **fields}
    request = parse_request(data)
    size = SizePx(width_px=512, height_px=512) if "image" in data else None
    return plan(request, Files(), image_size=size, mask_size=size if "mask" in data else None)[0]


def left(**fields: Any) -> ShortcutsPlan:
    return planned(**fields).base.shortcuts


def test_nothing_is_left_out_unless_it_is_asked_for():
    assert left() == ShortcutsPlan() == QUALITIES["exact"]
    assert planned().quality == "exact"


@pytest.mark.parametrize("quality", ["fast", "draft"])
def test_a_quality_stands_for_numbers_and_each_can_be_another(quality: Any):
    assert left(quality=quality) == QUALITIES[quality] != ShortcutsPlan()
    own = left(quality=quality, shortcuts={"cache_interval": 5, "guidance_window": [0.1, 0.6]})
    assert own == QUALITIES[quality].model_copy(update={"cache_interval": 5, "guidance_window": (0.1, 0.6)})
    assert left(shortcuts={"token_merging": 0.4}).token_merging == 0.4
    image = {"kind": "img2img", "image": SHA, "strength": 0.75}
    assert left(quality=quality, **image) == QUALITIES[quality]


def test_few_steps_leave_nothing_out_unless_a_number_is_given():
    few = {"steps": FEW_STEPS - 1}
    assert left(quality="draft", sampling=few) == ShortcutsPlan()
    assert any("too few" in note for note in planned(quality="draft", sampling=few).notes)
    assert left(quality="draft", sampling=few, shortcuts={"cache_interval": 2}) == ShortcutsPlan(cache_interval=2)
    image = {"kind": "img2img", "image": SHA, "strength": 0.3}
    assert left(quality="draft", **image) == ShortcutsPlan(), "20 × 0.3 steps"
    assert left(quality="draft", exact_steps=True, **image) == QUALITIES["draft"]


def test_every_pass_decides_for_itself():
    both = planned(quality="draft", hires={"scale": 2.0, "steps": 6})
    assert [one.shortcuts for one in both.passes] == [QUALITIES["draft"], ShortcutsPlan()]


def test_a_transformer_merges_no_tokens():
    found = planned(quality="draft", model="d-flux", shortcuts={"token_merging": 0.5})
    assert found.base.shortcuts == QUALITIES["draft"]
    assert any("transformer" in note for note in found.notes)
    assert planned(quality="draft", model="d-flux").notes == ()


def test_blocks_that_are_not_known_are_all_computed():
    found = planned(quality="draft", model="g-qwen")
    assert found.base.shortcuts == ShortcutsPlan(guidance_window=QUALITIES["draft"].guidance_window)
    assert any("all computed" in note for note in found.notes)


def test_a_change_of_words_is_always_exact():
    found = planned(kind="words", source_prompt="a dog", quality="fast")
    assert found.base.shortcuts == ShortcutsPlan()
    assert any("always exact" in note for note in found.notes)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"quality": "best"}, "quality"),
        ({"shortcuts": {"cache_interval": 0}}, "shortcuts.cache_interval"),
        ({"shortcuts": {"cache_branch": -1}}, "shortcuts.cache_branch"),
        ({"shortcuts": {"token_merging": 0.9}}, "shortcuts.token_merging"),
        ({"shortcuts": {"guidance_window": [0.5, 1.2]}}, "shortcuts.guidance_window"),
        ({"shortcuts": {"guidance_window": [0.7, 0.2]}}, "shortcuts"),
    ],
)
def test_numbers_that_make_no_sense_are_named(fields: dict[str, Any], field: str):
    with pytest.raises(InvalidRequestError) as caught:
        planned(**fields)
    assert str(caught.value.field).startswith(field)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"quality": "fast"},
        {"quality": "draft", "sampling": {"steps": 5}},
        {"quality": "fast", "shortcuts": {"cache_interval": 4, "guidance_window": (0.0, 0.5)}},
        {"shortcuts": {"token_merging": 0.25, "cache_interval": 2, "cache_branch": 3}},
    ],
)
def test_a_plan_repeats_through_json_and_infotext(fields: dict[str, Any]):
    one = planned(**fields)
    assert Plan.model_validate_json(one.model_dump_json()) == one
    request = request_of_plan(one)
    assert request.quality == fields.get("quality", "exact")
    again = plan(request, Files())[0]
    assert [part.shortcuts for part in again.passes] == [part.shortcuts for part in one.passes]
    read = request_from_infotext(to_infotext(one))
    assert read.request.shortcuts == request.shortcuts
    assert read.request.quality == request.quality
    assert plan(read.request, Files())[0].base.shortcuts == one.base.shortcuts


def test_an_old_plan_left_nothing_out():
    data = planned(quality="exact").model_dump(mode="json")
    del data["quality"]
    del data["passes"][0]["shortcuts"]
    assert Plan.model_validate(data) == planned()


# --- few steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "steps", "scale"),
    [
        ("lcm-lora-sdv1-5", "lcm", 6, 1.5),
        ("LCM_LoRA_Weights_SD15", "lcm", 6, 1.5),
        ("TCD-SD15-LoRA", "tcd", 4, 1.0),
        ("sdxl_lightning_2step_lora", "lightning", 2, 1.0),
        ("juggernautXL_v9Rdphoto2Lightning", "lightning", 4, 1.0),
        ("Hyper-SDXL-8steps-lora", "hyper", 8, 1.0),
        ("Hyper-SD15-12steps-CFG-lora", "hyper", 12, 5.0),
        ("folder/hyper_sd_1step", "hyper", 1, 1.0),
    ],
)
def test_files_for_few_steps_are_known_by_their_names(name: str, key: str, steps: int, scale: float):
    found = find_few_steps(name)
    assert found is not None
    assert (found.key, found.steps, found.guidance_scale) == (key, steps, scale)


@pytest.mark.parametrize(
    "name", ["lightning storm", "hyperrealistic_v3", "hyper detail", "balcmoor", "tcdx", "8steps", "xl detail", ""]
)
def test_other_files_are_not(name: str):
    assert find_few_steps(name) is None


@pytest.mark.parametrize("name", ["lcm-lora", "renamed"])
def test_a_lora_for_few_steps_fills_what_is_open_and_says_so(name: str):
    found = planned(prompt=f"a cat <lora:{name}:1>", sampling={})
    own = found.base.sampling
    assert (own.sampler, own.schedule, own.steps, found.base.guidance_scale) == ("lcm", "sgm_uniform", 6, 1.5)
    assert any(name in note and "6 steps, LCM" in note and "guidance 1.5" in note for note in found.notes)


def test_what_the_person_says_stays():
    found = planned(prompt="a cat <lora:lcm-lora:1>", sampling={"steps": 30, "sampler": "Euler"}, guidance={"scale": 4})
    assert (found.base.sampling.sampler, found.base.sampling.steps, found.base.guidance_scale) == ("euler", 30, 4)
    assert [note for note in found.notes if "lcm-lora" in note] == [
        "lcm-lora is made for about 6 steps (LCM), 30 are asked for"
    ]
    half = planned(prompt="a cat <lora:lcm-lora:1>", sampling={"steps": 8})
    assert (half.base.sampling.sampler, half.base.sampling.steps, half.base.guidance_scale) == ("lcm", 8, 1.5)
    off = planned(prompt="a cat <lora:lcm-lora:0>", sampling={})
    assert (off.base.sampling.steps, off.base.guidance_scale) == (12, 5.0)
    assert planned(prompt="a cat <lora:ink:1>", sampling={}).notes == ()


def test_a_hires_pass_follows_its_lora():
    found = planned(prompt="a cat <lora:lcm-lora:1>", sampling={}, hires={"scale": 2.0})
    assert [one.guidance_scale for one in found.passes] == [1.5, 1.5]
    assert [one.sampling.sampler for one in found.passes] == ["lcm", "lcm"]


def test_a_checkpoint_says_what_it_likes_unless_its_owner_said_otherwise():
    assert any("Lightning" in note for note in planned(model="e-xl_lightning_8step", sampling={}).notes)
    assert planned(model="f-xl_lightning_8step", sampling={}).notes == ()
