"""Requests to upscale resolved, and upscaler files in hires passes."""

from __future__ import annotations

import pytest

from danqing.planning.upscaling import chosen_upscaler, plan_upscale
from danqing.spec.errors import InvalidRequestError
from danqing.spec.upscale import BUILTIN_UPSCALER, UpscaleRequest, UpscalerFile

IMAGE = "sha256:" + "a" * 64


class Files:
    def __init__(self, *names: str) -> None:
        self.files = [UpscalerFile(name=name, path=name, sha256=name[0] * 64) for name in names]

    def upscalers(self) -> list[UpscalerFile]:
        return self.files

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        return next((file for file in self.files if file.name.lower() == name.lower()), None)


def resolved(size: tuple[int, int] = (100, 60), files: Files | None = None, **fields: object):
    return plan_upscale(UpscaleRequest(image=IMAGE, **fields), files or Files("4x-draw"), size)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (400, 240)),
        ({"scale": 1.5}, (150, 90)),
        ({"width_px": 250}, (250, 150)),
        ({"height_px": 30}, (50, 30)),
        ({"width_px": 128, "height_px": 128}, (128, 128)),
    ],
)
def test_sizes(fields: dict[str, float], size: tuple[int, int]):
    plan = resolved(upscaler="4x-draw", **fields)
    assert (plan.width_px, plan.height_px) == size
    assert plan.file is not None
    assert (plan.upscaler, plan.file.name, plan.image) == ("4x-draw", "4x-draw", "a" * 64)


def test_the_built_in_network_is_the_default_and_lanczos_stands_in_for_it():
    own = resolved(files=Files(BUILTIN_UPSCALER))
    assert (own.upscaler, own.notes) == (BUILTIN_UPSCALER, ())
    without = resolved()
    assert (without.upscaler, without.file) == ("lanczos", None)
    assert BUILTIN_UPSCALER in without.notes[0]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"upscaler": "4x-drow"}, "upscaler", "no such upscaler"),
        ({"upscaler": "Latent"}, "upscaler", "hires pass only"),
        ({"scale": 8, "upscaler": "Lanczos"}, "scale", "too large"),
        ({"width_px": 9000, "upscaler": "Lanczos"}, "width_px", "too large"),
    ],
)
def test_refusals(fields: dict[str, object], field: str, words: str):
    with pytest.raises(InvalidRequestError, match=words) as caught:
        resolved((4000, 4000), **fields)
    assert caught.value.field == field
    assert caught.value.allowed


def test_the_list_names_the_files_too():
    with pytest.raises(InvalidRequestError) as caught:
        chosen_upscaler("4x-drow", Files("4x-draw"), "hires.upscaler")
    assert "Latent, " in str(caught.value.allowed)
    assert "4x-draw" in str(caught.value.allowed)
    assert "did you mean 4x-draw" in str(caught.value.next_step)
