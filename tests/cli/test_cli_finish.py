"""`danqing paint --finish`: steps that are done after the last pass."""

from __future__ import annotations

import pytest

from danqing.spec.retouch_steps import CutoutStep, DetailStep, UpscaleStep


def test_steps_reach_the_request_in_their_order(danqing, studio):
    answer = danqing(
        "paint", "two cats", "--finish", "detail face,strength=0.5,classes=cat+dog:a smile --no teeth",
        "--finish", '{"kind": "upscale", "scale": 2, "tiled": {"strength": 0.2}}', "--finish", "cutout",
        "--finish", "Upscale 300x200,by=Lanczos", "--finish", "restore-faces",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    detail, tiled, cutout, lanczos, faces = studio.jobs()[0].request.finish
    assert detail == DetailStep(
        detect="face", strength=0.5, classes=("cat", "dog"), prompt="a smile", negative_prompt="teeth"
    )
    assert (tiled.scale, tiled.tiled.strength) == (2, 0.2)
    assert cutout == CutoutStep()
    assert lanczos == UpscaleStep(width_px=300, height_px=200, upscaler="Lanczos")
    assert faces.kind == "restore_faces"


@pytest.mark.parametrize(
    ("typed", "words", "value"),
    [
        ("sharpen", "no such step", "sharpen"),
        ("", "no such step", ""),
        ("upscale big", "cannot be read", "upscale big"),
        ("detail face,glow=1", "cannot be read", "detail face,glow=1"),
        ('{"kind": "upscale"', "no JSON", '{"kind": "upscale"'),
        ('{"scale": 2}', "does not say what it is", '{"scale": 2}'),
    ],
)
def test_what_cannot_be_read_is_told_with_an_example(danqing, studio, typed, words, value):
    answer = danqing("paint", "a cat", "--finish", typed, "--json")
    assert (answer.code, answer.error["field"], answer.error["value"]) == (2, "--finish", value)
    assert words in answer.error["message"]
    assert "--finish" in answer.error["next_step"]
    assert "--detail" not in answer.error["next_step"]
    assert studio.jobs() == []


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ("detail face,strength=2", "--finish (step 2): strength"),
        ("upscale 2,tiled,overlap=-1", "--finish (step 2): overlap_px"),
        ('{"kind": "cutout", "colour": "red"}', "--finish (step 2): colour"),
    ],
)
def test_a_wrong_value_names_the_step(danqing, studio, typed, field):
    answer = danqing("paint", "a cat", "--finish", "cutout", "--finish", typed, "--json")
    assert (answer.code, answer.error["field"]) == (2, field)
    assert studio.jobs() == []
