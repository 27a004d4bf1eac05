"""The registry of diffusers' pipelines against the installed diffusers, and folders of them in the catalogue."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from danqing.models.catalog import Catalog
from danqing.models.families.foreign import pipeline_class
from danqing.models.families.stepwise import Ended, Stepwise
from danqing.models.pipeline_sizes import part_sizes, place_pipeline
from danqing.models.precision import choose
from danqing.models.scan import Scanner
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.registry.foreign import FOREIGN, find_foreign, is_foreign
from danqing.spec.registry.foreign_info import ForeignInfo
from tiny_pipelines import make

PICTURES = {"image", "images", "control_image", "input_images"}


def taken(name: str) -> set[str]:
    return set(inspect.signature(getattr(diffusers, name).__call__).parameters)


@pytest.mark.parametrize("info", FOREIGN, ids=lambda info: info.index)
def test_every_class_is_there_and_takes_what_it_is_given(info: ForeignInfo):
    assert issubclass(getattr(diffusers, info.index), diffusers.DiffusionPipeline)
    names = {name for name in (info.txt2img, info.img2img, info.inpaint, info.images) if name}
    names |= {info.index} if info.enlarges else set()
    assert names, "it is good for something"
    for name in names:
        has = taken(name)
        assert pipeline_class(name) is getattr(diffusers, name)
        assert {"generator", info.steps_argument or "num_inference_steps"} <= has
        assert {info.guidance_argument or "guidance_scale", "true_cfg_scale"} & has
        assert ("prompt" in has) == info.words
    assert not info.img2img or PICTURES & taken(info.img2img)
    assert not info.img2img or ("strength" in taken(info.img2img)) == (not info.whole)
    assert not info.inpaint or {"image", "mask_image"} <= taken(info.inpaint)
    assert not info.images or info.blends or PICTURES & taken(info.images)
    assert not info.prior or issubclass(getattr(diffusers, info.prior), diffusers.DiffusionPipeline)
    assert bool(info.images) == (info.most_images > 0)


def test_classes_are_told_once_and_families_do_not_meet_those_of_the_engine():
    assert len({info.index for info in FOREIGN}) == len(FOREIGN)
    assert not any(is_foreign(family) for family in ("danqing", "sd1", "sd2", "sdxl", "sd3", "flux"))
    assert find_foreign("StableDiffusionPipeline") is None
    with pytest.raises(UnsupportedError, match="may be loaded"):
        pipeline_class("StableDiffusionPipeline")


def test_a_folder_in_the_catalogue_and_in_the_scan(tmp_path: Path):
    root = tmp_path / "Stable-diffusion"
    make(root / "mine" / "pixart", "PixArtSigmaPipeline", description="small")
    info = Catalog(tmp_path).find("mine/pixart")
    assert (info.family, info.description, info.defaults.steps, info.defaults.size_px) == ("pixart", "small", 3, 32)
    assert info.foreign is not None
    assert info.foreign.index == "PixArtSigmaPipeline"
    (found,) = Scanner().scan([root])
    assert found.identity is not None
    assert (found.identity.family, found.identity.layout) == ("pixart", "diffusers folder")
    assert "PixArt-Σ" in found.identity.why


def test_a_decoder_without_its_prior_says_what_is_missing(tmp_path: Path):
    root = tmp_path / "Stable-diffusion"
    folder = make(root / "decoder", "KandinskyV22Pipeline")
    with pytest.raises(MissingWeightsError, match="first half") as caught:
        Catalog(tmp_path).find("decoder")
    assert "KandinskyV22PriorPipeline" in str(caught.value.allowed)
    for name in ("other-prior", "decoder-prior"):
        make(root / name, "KandinskyV22PriorPipeline")
    info = Catalog(tmp_path).find("decoder")
    assert info.foreign is not None
    assert Path(str(info.foreign.prior_path)).name == "decoder-prior"
    said = json.loads((folder / "danqing.json").read_text(encoding="utf-8"))
    (folder / "danqing.json").write_text(json.dumps({**said, "prior": "other-prior"}), encoding="utf-8")
    named = Catalog(tmp_path).find("decoder")
    assert named.foreign is not None
    assert Path(str(named.foreign.prior_path)).name == "other-prior"
    (folder / "danqing.json").write_text(json.dumps({**said, "prior": "../../elsewhere"}), encoding="utf-8")
    with pytest.raises(MissingWeightsError):
        Catalog(tmp_path).find("decoder")
    (folder / "danqing.json").write_text(json.dumps({**said, "call": {"a": [1]}}), encoding="utf-8")
    with pytest.raises(BadFileError, match=r"danqing\.json"):
        Catalog(tmp_path).find("decoder")


def test_parts_wait_in_main_memory_where_there_is_too_little(tmp_path: Path):
    import torch

    make(tmp_path / "Stable-diffusion" / "pixart", "PixArtSigmaPipeline")
    sizes = part_sizes(Catalog(tmp_path).find("pixart"), choose(torch.device("cpu"), "float32"))
    assert set(sizes) == {"transformer", "text_encoder", "vae"}
    gib = 1 << 30
    large = {"transformer": 10 * gib, "text_encoder": 9 * gib}
    assert place_pipeline(large, 24 * gib, "cuda") == ""
    assert place_pipeline(large, 14 * gib, "cuda") == "model"
    assert place_pipeline(large, 8 * gib, "cuda") == "sequential"
    assert place_pipeline(large, 8 * gib, "cpu") == ""


def test_work_in_steps_keeps_its_own_randomness_and_can_be_ended():
    import torch

    def job(tick: Any) -> list[float]:
        drawn = []
        for _ in range(3):
            drawn.append(float(torch.rand(1)))
            tick()
        return drawn

    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    one, other = Stepwise(job, 5), Stepwise(job, 5)
    first = torch.rand(1)
    for work in (one, other, one, other, one, other):
        assert work.advance() is None
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    ended = one.advance()
    assert isinstance(ended, Ended)
    assert one.advance() is ended
    assert other.advance() == ended

    cleaned: list[str] = []

    def careful(tick: Any) -> None:
        try:
            tick()
            tick()
        except Exception:  # noqa: BLE001  what a library might do
            cleaned.append("swallowed")
        finally:
            cleaned.append("ended")

    work = Stepwise(careful, 0)
    assert work.advance() is None
    work.close()
    assert cleaned == ["ended"]


def test_work_that_failed_begins_again():
    tries: list[int] = []

    def job(tick: Any) -> int:
        tries.append(1)
        tick()
        if len(tries) == 1:
            raise MemoryError
        return len(tries)

    work = Stepwise(job, 0)
    assert work.advance() is None
    with pytest.raises(MemoryError):
        work.advance()
    assert work.advance() is None
    assert work.advance() == Ended(2)
