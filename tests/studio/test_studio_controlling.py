"""What a base model can be controlled with, and what a control type of A1111 means for a union ControlNet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from danqing.planning.controls import plan_controls
from danqing.spec.control import ControlUnit
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.model import ControlNetInfo, ForeignParts, ModelDefaults, ModelInfo
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.registry.control_filters import find_control_filter
from danqing.studio.controlling import base_model, control_choices, networks_for
from danqing.studio.precisions import precisions_for

MODEL = ModelInfo(name="base", family="sdxl", path="base.safetensors", sha256="0" * 64)
UNION = ControlNetInfo(
    name="union", path="", sha256="1" * 64, kind="union", family="sdxl", control_types=("canny", "normal", "depth")
)
CANNY = ControlNetInfo(name="a_canny", path="", sha256="2" * 64, control_type="canny", annotators=("canny",))
OPEN = ControlNetInfo(name="my_own", path="", sha256="3" * 64)
OTHER = CANNY.model_copy(update={"name": "sd15_canny", "family": "sd1"})
T2I = CANNY.model_copy(update={"name": "t2i_sketch", "kind": "t2i_adapter", "control_type": "scribble"})


def studio(tmp_path, *models, device="cpu", nets=(UNION, CANNY, OPEN, OTHER, T2I)):
    return SimpleNamespace(
        models=lambda: list(models or (MODEL,)),
        controlnets=lambda: list(nets),
        settings=SimpleNamespace(models_path=tmp_path),
        workers=lambda: [SimpleNamespace(device=device, versions=None)],
    )


def test_each_type_offers_the_networks_that_follow_it_and_fit(tmp_path):
    found = {choice.info.name if choice.info else "All": choice for choice in control_choices(studio(tmp_path), MODEL)}
    assert set(found["All"].networks) == {"union", "a_canny", "my_own", "t2i_sketch"}
    assert found["Canny"].networks == ("a_canny", "union")  # the one trained with the best annotator first
    assert found["NormalMap"].networks == ("union",)
    assert found["Scribble/Sketch"].networks == ("t2i_sketch",)
    assert found["T2I-Adapter"].networks == ("t2i_sketch",)
    assert found["Shuffle"].network is None
    assert found["Depth"].annotator == "depth_relief"  # what needs weights is not here
    assert "inpaint_only" in found["Inpaint"].annotators


def test_a_network_that_says_nothing_is_told_by_its_annotators():
    line = OPEN.model_copy(update={"annotators": ("lineart_xdog", "canny")})
    assert networks_for(find_control_filter("lineart"), [line]) == ["my_own"]
    assert networks_for(find_control_filter("tile"), [line]) == []


@pytest.mark.parametrize(("said", "key"), [("NormalMap", "normal"), ("Canny", "canny"), ("depth", "depth")])
def test_a_union_network_takes_the_labels_of_the_extension(said, key):
    unit = ControlUnit(model="union", image=f"sha256:{'a' * 64}", control_type=said)
    catalog = SimpleNamespace(find_controlnet=lambda _: UNION)
    (planned,) = plan_controls(Txt2ImgRequest(controls=(unit,)), catalog, [("base", MODEL)])
    assert planned.control_type == key


def test_a_union_network_refuses_what_it_does_not_know():
    unit = ControlUnit(model="union", image=f"sha256:{'a' * 64}", control_type="T2I-Adapter")
    catalog = SimpleNamespace(find_controlnet=lambda _: UNION)
    with pytest.raises(InvalidRequestError) as caught:
        plan_controls(Txt2ImgRequest(controls=(unit,)), catalog, [("base", MODEL)])
    assert caught.value.field == "controls.0.control_type"


def test_the_base_model_by_name_or_the_first(tmp_path):
    here = studio(tmp_path, MODEL, MODEL.model_copy(update={"name": "danqing-mini"}))
    assert base_model(here, None).name == "danqing-mini"
    assert base_model(here, "BASE").name == "base"
    assert base_model(studio(tmp_path), None).name == "base"
    with pytest.raises(NotFoundError):
        base_model(here, "nobody")


def test_only_formats_that_can_be_had_are_offered(tmp_path, monkeypatch):
    monkeypatch.setattr("danqing.studio.precisions.find_spec", lambda name: None if name == "bitsandbytes" else True)
    assert precisions_for(studio(tmp_path), MODEL) == ("auto", "float32", "bfloat16", "float8", "int8")
    on_gpu = precisions_for(studio(tmp_path, device="cuda:0"), MODEL)
    assert on_gpu == ("auto", "float32", "bfloat16", "float16", "float8", "int8")
    unknown = precisions_for(studio(tmp_path, device="auto"), MODEL)
    assert unknown == on_gpu
    packed = MODEL.model_copy(update={"path": "flux-Q4_K.gguf", "defaults": ModelDefaults(distilled_guidance=3.5)})
    foreign = MODEL.model_copy(update={"foreign": ForeignParts(index="KandinskyPipeline")})
    for model in (packed, foreign):
        assert precisions_for(studio(tmp_path), model) == ("auto", "float32", "bfloat16")
