"""Changes of words through the Studio: what a picture says of itself, and whose version the result is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.plan import Plan
from danqing.spec.record import Record
from danqing.spec.request import parse_request
from danqing.store.metadata import encode_picture
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.web.form import Form, from_request, to_request
from danqing.workers.pool import FakePool
from easel import Easel

CAT, DOG = "the red cat", "the red dog"


@pytest.fixture
def studio(tmp_path: Path, easel: Easel):
    with Studio(load_settings(data_dir=tmp_path / "data"), FakePool(), catalog=easel.catalog) as studio:
        yield studio


@pytest.fixture
def source(studio: Studio) -> Record:
    fields = {"model": "tiny", "prompt": CAT, "negative_prompt": "rain", "seed": 11, "sampling": {"steps": 4}}
    job = studio.wait(studio.submit(parse_request(fields)).id, 10)
    return studio.record(job.records[0])


def plan_of(studio: Studio, **fields: Any) -> Plan:
    return studio.submit(parse_request({"kind": "words", "prompt": DOG, **fields})).plans[0]


def same_painting(plan: Plan, source: Plan) -> bool:
    # A Request made of a Plan names the guidance scale that the Plan had from its model.
    ours = plan.base.model_copy(update={"text": source.base.text, "guidance": source.base.guidance})
    return ours == source.base and plan.seeds == source.seeds


def test_a_record_is_painted_anew_from_its_plan(studio: Studio, source: Record):
    plan = plan_of(studio, image=f"record:{source.id}")
    assert plan.init is None
    assert plan.words is not None
    assert plan.words.source_prompt == CAT
    assert plan.words.inversion is None
    assert plan.base.text.prompt == DOG
    assert plan.base.text.negative_prompt == "rain"
    assert same_painting(plan, source.plan)
    assert plan.parent == source.id


def test_the_page_asks_for_that_whatever_stands_in_its_other_fields(studio: Studio, source: Record):
    form = Form(mode="words", image=f"record:{source.id}", prompt=DOG, source_prompt=CAT, steps=30, cfg=9.0, seed="5")
    plan = studio.submit(to_request(form)).plans[0]
    assert plan.init is None
    assert same_painting(plan, source.plan)
    own = studio.submit(to_request(replace(form, as_painted=False, model="tiny"))).plans[0]
    assert own.init is not None
    assert (own.base.sampling.steps, own.seeds.seed) == (30, 5)
    again = from_request(request_of_plan(plan))
    assert (again.mode, again.image, again.source_prompt, again.seed) == ("words", "", CAT, "11")
    assert same_painting(studio.submit(to_request(again)).plans[0], source.plan)


def test_so_is_a_picture_that_carries_its_plan(studio: Studio, source: Record):
    data = encode_picture(Image.new("RGB", (64, 64)), source.plan.output, plan=source.plan).data
    plan = plan_of(studio, image=f"sha256:{studio.upload(data).sha256}", cross_share=0.8)
    assert plan.words is not None
    assert plan.words.cross_share == 0.8
    assert same_painting(plan, source.plan)
    assert plan.init is None
    assert plan.parent is None


@pytest.mark.parametrize(
    "fields",
    [{"inversion": "direct"}, {"source_prompt": "a cat"}, {"seed": 3}, {"sampling": {"steps": 9}}, {"model": "other"}],
)
def test_who_asks_for_something_else_has_the_picture_inverted(studio: Studio, source: Record, fields: dict[str, Any]):
    plan = plan_of(studio, image=f"record:{source.id}", **fields)
    assert plan.init is not None
    assert plan.init.image == source.picture
    assert plan.words is not None
    assert plan.words.inversion == "direct"
    assert plan.words.source_prompt == fields.get("source_prompt", CAT)
    assert plan.base.model.name == fields.get("model", "tiny")
    assert plan.parent == source.id


def test_what_agrees_with_the_plan_contradicts_nothing(studio: Studio, source: Record):
    plan = plan_of(studio, image=f"record:{source.id}", source_prompt=CAT, seed=11, sampling={"steps": 4})
    assert plan.init is None


def test_a_strange_picture_needs_its_words(studio: Studio):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    image = f"sha256:{studio.upload(buffer.getvalue()).sha256}"
    with pytest.raises(InvalidRequestError, match="source prompt is empty"):
        plan_of(studio, image=image, model="tiny")
    plan = plan_of(studio, image=image, model="tiny", source_prompt=CAT)
    assert plan.words is not None
    assert plan.words.inversion == "direct"


def test_one_picture_is_one(studio: Studio, source: Record):
    with pytest.raises(InvalidRequestError, match="there is one of it"):
        plan_of(studio, image=f"record:{source.id}", count=2)
    with pytest.raises(NotFoundError):
        plan_of(studio, image="record:nowhere")


def test_the_edit_of_an_edit_is_inverted(studio: Studio, source: Record):
    job = studio.submit(parse_request({"kind": "words", "prompt": DOG, "image": f"record:{source.id}"}))
    edit = studio.record(studio.wait(job.id, 10).records[0])
    assert edit.parent == source.id
    plan = plan_of(studio, image=f"record:{edit.id}", prompt="a dog")
    assert plan.words is not None
    assert (plan.words.source_prompt, plan.words.inversion, plan.parent) == (DOG, "direct", edit.id)


def test_a_plan_is_asked_for_again(studio: Studio, source: Record):
    job = studio.submit(
        parse_request(
            {
                "kind": "words",
                "prompt": DOG,
                "image": f"record:{source.id}",
                "inversion": "ddim",
                "weights": [{"word": "dog", "weight": 1.5}],
                "local": [{"source": "cat", "target": "dog"}],
            }
        )
    )
    (again,) = studio.submit(request_of_plan(job.plans[0])).plans
    assert again.words == job.plans[0].words
    assert again.init == job.plans[0].init
    assert studio.wait(studio.reproduce(job.plans[0]).id, 10).plans == job.plans


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "img2img"},
        {"kind": "outpaint", "margins": {"left_px": 32}},
        {"kind": "inpaint", "mask": "@"},
        {"kind": "drag", "points": [{"from_x_px": 1, "from_y_px": 1, "to_x_px": 9, "to_y_px": 9}]},
        {"kind": "words", "prompt": DOG},
        {"kind": "retouch", "steps": [{"kind": "upscale", "scale": 2}]},
    ],
)
def test_every_edit_of_a_record_is_its_child(studio: Studio, source: Record, fields: dict[str, Any]):
    image = f"record:{source.id}"
    data = {"model": "tiny", "prompt": CAT, "image": image, **fields}
    data = {name: image if value == "@" else value for name, value in data.items()}
    job = studio.wait(studio.submit(parse_request(data)).id, 10)
    assert studio.record(job.records[0]).parent == source.id
    other = studio.wait(studio.submit(parse_request(data | {"parent": job.records[0]})).id, 10)
    assert studio.record(other.records[0]).parent == job.records[0]
