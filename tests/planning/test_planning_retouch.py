"""The steps of a retouch resolved: detectors, files, sizes, passes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from danqing.models.catalog import Catalog
from danqing.planning import plan
from danqing.planning.detectors import chosen_detector
from danqing.spec.errors import DanqingError, InvalidRequestError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.plan import Plan
from danqing.spec.registry.detectors import DETECTORS, match_detector
from danqing.spec.request import parse_request

IMAGE = "sha256:" + "a" * 64
SIZE = SizePx(width_px=300, height_px=200)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("retouch-models")
    for name in ("adetailer/face_yolov8n.onnx", "adetailer/hand_yolov8n.pt", "adetailer/person.onnx"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return Catalog(folder)


def planned(catalog: Catalog, *steps: dict[str, Any], **fields: Any) -> Plan:
    data = {"kind": "retouch", "image": IMAGE, "steps": steps, "seed": 3, **fields}

    return plan(parse_request(data), catalog, image_size=SIZE)[0]


def fails(catalog: Catalog, *steps: dict[str, Any], **fields: Any) -> DanqingError:
    with pytest.raises(DanqingError) as caught:
        planned(catalog, *steps, **fields)
    assert caught.value.next_step
    return caught.value


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("face", "mediapipe_face", ""),
        ("Hands", "mediapipe_hand", ""),
        ("mediapipe_face_mesh_eyes_only", "mediapipe_eyes", ""),
        ("subject", "subject", ""),
        ("apple", "words", "apple"),
        ("word:face", "words", "face"),
        ("face_yolov8n.pt", "yolo", ""),
        ("FACE_yolov8n", "yolo", ""),
        ("person", "yolo", ""),
        ("words", "words", "words"),
    ],
)
def test_what_a_name_means(catalog: Catalog, name: str, key: str, words: str):
    chosen = chosen_detector(name, catalog, "steps.0.detect")
    assert (chosen.info.key, chosen.words) == (key, words)
    assert (chosen.file is not None) == (key == "yolo")


def test_detector_files_that_are_not_there_or_not_read(catalog: Catalog):
    with pytest.raises(UnsupportedError, match="pickled program") as caught:
        chosen_detector("hand_yolov8n.pt", catalog, "steps.0.detect")
    assert "format=onnx" in (caught.value.next_step or "")
    with pytest.raises(NotFoundError) as missing:
        chosen_detector("eyes_yolov8n.pt", catalog, "steps.0.detect")
    assert "face_yolov8n" in str(missing.value.allowed)
    with pytest.raises(InvalidRequestError):
        chosen_detector("word: ", catalog, "steps.0.detect")


def test_names_of_detectors_are_unique():
    for info in DETECTORS:
        assert all(match_detector(name) is info for name in (info.key, info.name, *info.aliases))


def test_a_detail_inherits_what_it_leaves_open(catalog: Catalog):
    one = planned(
        catalog,
        {"kind": "detail", "detect": "apple", "prompt": "a green [PROMPT][SEP][SKIP][SEP]pear", "steps": 9},
        {"kind": "detail", "detect": "apple", "negative_prompt": "worm", "sampler": "DDIM", "guidance_scale": 2},
        prompt="apple",
        negative_prompt="text",
        sampling={"sampler": "Euler", "steps": 6},
    )
    assert one.retouch is not None
    assert [step.passes for step in one.retouch.steps] == [(1, None, 2), (3,)]
    first, second, third = one.passes[1:]
    assert (first.kind, first.text.prompt, first.text.negative_prompt) == ("detail", "a green apple", "text")
    assert (first.sampling.sampler, first.sampling.steps, first.strength) == ("euler", 9, 0.4)
    assert second.text.prompt == "pear"
    assert (third.text.prompt, third.text.negative_prompt, third.guidance_scale) == ("apple", "worm", 2)
    assert (third.sampling.sampler, third.sampling.steps) == ("ddim", 6)
    assert first.size == one.base.size
    assert one.size == one.base.size


def test_the_size_of_a_detail_can_be_chosen(catalog: Catalog):
    one = planned(catalog, {"kind": "detail", "detect": "apple", "width_px": 250, "height_px": 130})
    assert str(one.passes[1].size) == "248x128"
    assert any("rounded" in note for note in one.notes)


def test_upscaling_names_what_does_it(catalog: Catalog):
    one = planned(catalog, {"kind": "upscale"}, {"kind": "upscale", "upscaler": "lanczos", "width_px": 700})
    assert one.retouch is not None
    first, second = one.retouch.steps
    assert first.file is not None
    assert (first.tool, second.tool, second.file) == ("danqing-draw-x4", "lanczos", None)
    assert one.passes == one.painting


def test_tiles_have_the_models_size_and_a_quarter_of_overlap(catalog: Catalog):
    one = planned(catalog, {"kind": "upscale", "scale": 4, "tiled": {}})
    native = catalog.find(None).defaults.size_px
    assert one.passes[1].size.width_px == native
    assert one.passes[1].strength == 0.3
    assert one.passes[1].size_hints.target == one.passes[1].size


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"kind": "upscale", "upscaler": "4x-no"}, "steps.0.upscaler"),
        ({"kind": "upscale", "scale": 8, "width_px": 16_000, "height_px": 16_000}, "steps.0.width_px"),
        ({"kind": "upscale", "tiled": {"tile_px": 128, "overlap_px": 100}}, "steps.0.tiled.overlap_px"),
        ({"kind": "upscale", "width_px": 5000, "tiled": {}}, "steps.0.tiled.mode"),
        ({"kind": "upscale", "tiled": {"model": "nothing"}}, "model"),
        ({"kind": "detail", "min_area": 0.5, "max_area": 0.2}, "steps.0.min_area"),
        ({"kind": "detail", "detect": "x_yolov8n.pt"}, "steps.0.detect"),
        ({"kind": "detail", "sampler": "no such"}, "sampler"),
        ({"kind": "restore_faces"}, "steps.0.model"),
        ({"kind": "restore_faces", "model": "GFPGANv9"}, "steps.0.model"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(catalog: Catalog, step: dict[str, Any], field: str):
    assert str(fails(catalog, step).field).endswith(field)


def test_a_missing_restorer_says_what_where_from_and_where_to(catalog: Catalog):
    error = fails(catalog, {"kind": "restore_faces"})
    assert isinstance(error, MissingWeightsError)
    assert all(word in (error.next_step or "") for word in ("GFPGANv1.4.pth", "TencentARC", "models/GFPGAN"))


@pytest.mark.parametrize(
    "fields",
    [
        {"hires": {"scale": 2}},
        {"refiner": {"model": "danqing-mini"}},
        {"regions": [{"prompt": "x", "box": {"left_px": 0, "top_px": 0, "right_px": 9, "bottom_px": 9}}]},
    ],
)
def test_what_a_retouch_does_not_use_is_refused(catalog: Catalog, fields: dict[str, Any]):
    assert fails(catalog, {"kind": "cutout"}, **fields).field == next(iter(fields))


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([], "steps"),
        ([{"kind": "paint"}], "steps.0"),
        ([{}], "steps.0"),
        ([{"kind": "cutout", "background": "red"}], "steps.0.background"),
        ([{"kind": "cutout"}, {"kind": "detail", "strength": 2}], "steps.1.strength"),
        ([{"kind": "cutout"}] * 17, "steps"),
    ],
)
def test_steps_that_are_none(steps: list[dict[str, Any]], field: str):
    with pytest.raises(InvalidRequestError) as caught:
        parse_request({"kind": "retouch", "image": IMAGE, "steps": steps})
    assert caught.value.field == field
    if field == "steps.0" and steps:
        assert caught.value.allowed == "detail, restore_faces, upscale, cutout"


def test_a_finish_is_told_by_its_own_name(catalog: Catalog):
    request = parse_request({"prompt": "x", "finish": [{"kind": "upscale", "upscaler": "4x-no"}]})
    with pytest.raises(InvalidRequestError) as caught:
        plan(request, catalog)
    assert caught.value.field == "finish.0.upscaler"


def test_jpeg_is_told_to_be_opaque(catalog: Catalog):
    assert any("JPEG" in note for note in planned(catalog, {"kind": "cutout"}, output={"format": "jpeg"}).notes)
    assert planned(catalog, {"kind": "cutout"}).notes == ()
