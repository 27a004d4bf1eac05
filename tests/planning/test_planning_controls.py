"""ControlNet units of a Request: what they become in the Plan, and what is refused with which reason."""

from __future__ import annotations

from typing import Any

import pytest

from danqing.planning import plan
from danqing.planning.controls import check_fits
from danqing.spec.errors import DanqingError, InvalidRequestError, NotFoundError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ControlNetInfo, ModelInfo
from danqing.spec.network import NetworkInfo
from danqing.spec.plan import ControlPlan, Plan
from danqing.spec.request import parse_request

SHA = "sha256:" + "a" * 64
SD1: dict[str, Any] = {"context_width": 768, "block_widths": (320, 640, 1280, 1280), "layers_per_block": (2, 2, 2, 2)}


def model(name: str, **changes: Any) -> ModelInfo:
    plain = {"name": name, "family": "sd1", "path": name, "sha256": name[0] * 64, **SD1}
    return ModelInfo(**{**plain, **changes})


def net(name: str, **changes: Any) -> ControlNetInfo:
    return ControlNetInfo(**{"name": name, "path": name, "sha256": name[0] * 64, **SD1, **changes})


class Shelf:
    """Two models and some ControlNets."""

    models = (model("base"), model("sd2", family="sd2", context_width=1024))
    nets = (net("canny"), net("shuffle", global_pool=True))

    def find(self, name: str | None) -> ModelInfo:
        return next(info for info in self.models if info.name == (name or "base"))

    def embeddings(self) -> list[NetworkInfo]:
        return []

    def find_controlnet(self, name: str) -> ControlNetInfo:
        for info in self.nets:
            if info.name == name:
                return info
        raise NotFoundError("there is no such ControlNet", field="controls.model", value=name)


def planned(*units: dict[str, Any], **fields: Any) -> Plan:
    size = SizePx(width_px=512, height_px=512) if "image" in fields else None
    return plan(parse_request({"controls": units, **fields}), Shelf(), image_size=size, mask_size=size, rng_seed=0)[0]


def only(unit: dict[str, Any], **fields: Any) -> ControlPlan:
    (control,) = planned(unit, **fields).controls
    return control


def test_everything_is_filled_in():
    control = only(
        {"model": "canny", "image": SHA, "annotator": "Canny", "params": {"threshold_a": "50"}, "weight": 0.5}
    )
    assert control.model.model_dump() == {"name": "canny", "sha256": "c" * 64, "family": "controlnet"}
    assert (control.image, control.annotator, control.weight) == ("a" * 64, "canny", 0.5)
    assert control.params == {"low_threshold": 50.0, "high_threshold": 200.0}
    assert not control.cond_only
    assert Plan.model_validate_json(planned({"model": "canny", "image": SHA}).model_dump_json()).controls


def test_which_units_act_on_the_prompt_alone():
    assert only({"model": "canny", "image": SHA, "mode": "control"}).cond_only
    assert not only({"model": "canny", "image": SHA, "mode": "prompt"}).cond_only
    assert only({"model": "shuffle", "image": SHA}).cond_only


def test_one_without_a_picture_follows_the_init_picture():
    assert only({"model": "canny"}, kind="img2img", image=SHA).image is None
    inpaint = {"kind": "inpaint", "image": SHA, "mask": SHA}
    assert only({"model": "canny", "annotator": "Inpaint only"}, **inpaint).annotator == "inpaint_only"


REFUSED: list[tuple[dict[str, Any], dict[str, Any], type[DanqingError], str, str]] = [
    ({"model": "nope", "image": SHA}, {}, NotFoundError, "model", "no such ControlNet"),
    ({"model": "canny"}, {}, InvalidRequestError, "image", "no picture to follow"),
    ({"model": "canny", "image": SHA, "annotator": "kanny"}, {}, InvalidRequestError, "annotator", "canny"),
    (
        {"model": "canny", "image": SHA, "annotator": "canny", "params": {"x": 1}},
        {},
        InvalidRequestError,
        "params.x",
        "low",
    ),
    ({"model": "canny", "image": SHA, "params": {"x": 1}}, {}, InvalidRequestError, "params.x", "no settings"),
    ({"model": "canny", "image": SHA, "annotator": "inpaint"}, {}, InvalidRequestError, "annotator", "repainted"),
    ({"model": "canny", "image": "record:x"}, {}, InvalidRequestError, "image", "resolved"),
    ({"model": "shuffle", "image": SHA, "mask": SHA}, {}, UnsupportedError, "mask", "cannot be masked"),
    ({"model": "canny", "image": SHA}, {"model": "sd2"}, UnsupportedError, "model", "text states 768 wide"),
    ({"model": "canny", "image": SHA}, {"hires": {"model": "sd2"}}, UnsupportedError, "model", "1024"),
    ({"model": "canny", "image": SHA}, {"refiner": {"model": "sd2"}}, UnsupportedError, "model", "1024"),
]


@pytest.mark.parametrize(("unit", "fields", "kind", "field", "said"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_painted(
    unit: dict[str, Any], fields: dict[str, Any], kind: type[DanqingError], field: str, said: str
):
    with pytest.raises(kind) as caught:
        planned({"model": "canny", "image": SHA}, unit, **fields) if not fields else planned(unit, **fields)
    assert caught.value.field == f"controls.{0 if fields else 1}.{field}"
    assert said in str(caught.value)


def test_a_unit_is_held_against_the_passes_it_acts_in():
    unit = {"model": "canny", "image": SHA, "passes": "base"}
    assert planned(unit, hires={"model": "sd2"}).controls


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block_widths": (320, 640)}, "its levels are 320, 640 wide, the model's 320, 640, 1280, 1280"),
        ({"layers_per_block": (1, 1, 1, 1)}, "its levels have 1, 1, 1, 1 layers"),
        ({"in_channels": 8}, "takes 8 latent channels, the model has 4"),
        ({"hint_scale": 16}, "shrinks its map 16 times"),
        ({"context_width": 2048, "in_channels": 16}, "2048 wide, the model's are 768; it takes 16"),
    ],
)
def test_every_difference_is_named(changes: dict[str, Any], said: str):
    with pytest.raises(UnsupportedError) as caught:
        check_fits(net("odd", **changes), model("base"))
    assert said in str(caught.value)
    assert caught.value.next_step


def test_what_fits():
    check_fits(net("plain", context_width=None), model("base"))
    check_fits(net("nine", in_channels=9), model("base", unet_in_channels=9))
    check_fits(net("four"), model("base", unet_in_channels=9))
    check_fits(net("any"), model("base", context_width=0, block_widths=(), layers_per_block=()))
