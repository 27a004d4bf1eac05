"""FLUX.1 fill, kontext, canny and depth in one file: painted by diffusers' own pipeline as their folders are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from danqing.models import precision
from danqing.models.catalog import Catalog
from danqing.models.pipeline_sizes import part_sizes
from danqing.models.singlefile.facts import CLIP_TOKENIZER
from danqing.models.t5 import read_tokenizer
from danqing.spec.errors import MissingWeightsError, UnsupportedError
from easel import Easel, box_mask, numbers, photo
from tiny_transformers import TinyTransformer, make_flux

SEED, STEPS = 7, 2
SIDE = 32
SIZE = {"height": SIDE, "width": SIDE}
ABOUT = {"defaults": {"size_px": SIDE, "steps": STEPS}}
SHORT = {"max_sequence_length": 16}
NO_RESIZE = {"_auto_resize": False}
KINDS = {
    "flux1-fill-dev": ("FluxFillPipeline", 384, SHORT),
    "flux1-dev-kontext": ("FluxKontextPipeline", 64, {**SHORT, **NO_RESIZE}),
    "flux1-depth-dev": ("FluxControlPipeline", 128, SHORT),
}


def twin(tiny: TinyTransformer, folder: Path, pipeline: str, about: dict[str, Any]) -> None:
    """The same model as diffusers itself saves it."""
    tiny.save_folder(folder / "raw")
    tokenizer = read_tokenizer(folder / "raw" / "tokenizer_2")
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    shutil.rmtree(folder / "raw")
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")  # noqa: S106
    shift = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    getattr(diffusers, pipeline)(
        scheduler=shift,
        vae=tiny.vae,
        text_encoder=tiny.clips[0],
        tokenizer=CLIPTokenizer.from_pretrained(CLIP_TOKENIZER, local_files_only=True),
        text_encoder_2=tiny.t5,
        tokenizer_2=words,
        transformer=tiny.transformer,
    ).save_pretrained(folder)
    (folder / "danqing.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    """Each kind as a folder, as a transformer's file with companions, and fill as a whole checkpoint."""
    root = tmp_path_factory.mktemp("flux-pictures")
    companions = make_flux("dev")
    companions.save_companions(root)
    for name, (pipeline, channels, call) in KINDS.items():
        tiny = replace(companions, transformer=make_flux("dev", in_channels=channels).transformer)
        tiny.about = {**ABOUT, "call": call}
        twin(tiny, root / "Stable-diffusion" / f"{name}-folder", pipeline, tiny.about)
        tiny.save_file(root / "diffusion_models" / f"{name}.safetensors")
        if channels == 384:
            whole = root / "Stable-diffusion" / "whole-fill.safetensors"
            tiny.save_file(whole, prefix="model.diffusion_model.", whole=True)
    return Easel(root)


def theirs(studio: Easel, name: str, **options: Any) -> Image.Image:
    """What diffusers paints with the folder."""
    place = studio.models_dir / "Stable-diffusion" / f"{name}-folder"
    pipeline = getattr(diffusers, KINDS[name][0]).from_pretrained(place, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    found = pipeline(
        generator=torch.Generator().manual_seed(SEED), num_inference_steps=STEPS, **SIZE, **KINDS[name][2], **options
    ).images[0]
    return found.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def same(one: Image.Image, *others: Image.Image) -> bool:
    assert numbers(one).std() > 1
    return all(np.array_equal(numbers(one), numbers(other)) for other in others)


def test_the_catalogue_names_the_pipeline_and_what_told_it(studio: Easel):
    assert studio.catalog.problems() == {}
    found = {name: studio.catalog.find(name) for name in KINDS}
    assert [info.foreign.index if info.foreign else "" for info in found.values()] == [one[0] for one in KINDS.values()]
    assert [info.variant for info in found.values()] == ["fill", "kontext", "depth"]
    assert [info.defaults.guidance_scale for info in found.values()] == [30.0, 3.5, 30.0]
    assert found["flux1-fill-dev"].description == "FLUX.1 fill"
    assert "taken from the file's name" in found["flux1-dev-kontext"].description
    assert {info.name for info in studio.catalog.list() if info.family == "flux-fill"} == {
        "flux1-fill-dev.safetensors",
        "flux1-fill-dev-folder",
        "whole-fill.safetensors",
    }


def test_the_fill_files_paint_the_folders_picture(studio: Easel):
    image, mask = photo(SIDE, SIDE), box_mask(SIDE, SIDE, (8, 8, 24, 24))
    asked = {"kind": "inpaint", "image": studio.picture(image), "mask": studio.picture(mask), "mask_blur_px": 0}
    names = ("flux1-fill-dev-folder", "flux1-fill-dev", "whole-fill")
    painted = [studio.one(model=name, prompt="a cat", strength=1.0, **asked) for name in names]
    own = theirs(
        studio, "flux1-fill-dev", prompt="a cat", image=image, mask_image=mask, guidance_scale=30.0, strength=1.0
    )
    assert same(Image.composite(own, image, mask), *painted)


@pytest.mark.parametrize("shown", [True, False])
def test_the_kontext_file_paints_the_folders_picture(studio: Easel, shown: bool):
    image = photo(SIDE, SIDE)
    asked: dict[str, Any] = {"kind": "img2img", "image": studio.picture(image)} if shown else {}
    painted = [studio.one(model=f"flux1-dev-kontext{end}", prompt="a cat", **asked) for end in ("-folder", "")]
    given: dict[str, Any] = {"image": image} if shown else {}
    own = theirs(studio, "flux1-dev-kontext", prompt="a cat", guidance_scale=3.5, max_area=SIDE**2, **given)
    assert same(own, *painted)


def test_the_depth_file_paints_the_folders_picture(studio: Easel):
    depth = photo(SIDE, SIDE, seed=3)
    asked: dict[str, Any] = {"kind": "img2img", "image": studio.picture(depth)}
    painted = [studio.one(model=f"flux1-depth-dev{end}", prompt="a cat", **asked) for end in ("-folder", "")]
    own = theirs(studio, "flux1-depth-dev", prompt="a cat", guidance_scale=30.0, control_image=depth)
    assert same(own, *painted)
    assert not same(painted[1], studio.one(model="flux1-depth-dev", prompt="a house", **asked))


def test_what_a_file_is_asked_for_is_checked_as_a_folder_is(studio: Easel):
    with pytest.raises(UnsupportedError, match="cannot do txt2img"):
        studio.plans(model="flux1-fill-dev", prompt="a cat")
    with pytest.raises(UnsupportedError, match="sampler of its own"):
        studio.plans(model="flux1-dev-kontext", prompt="a cat", sampling={"sampler": "Euler"})


def test_the_sizes_of_a_files_parts_are_known(studio: Easel):
    cpu = precision.choose(torch.device("cpu"), "float32")
    whole, alone = (sum(part_sizes(studio.catalog.find(n), cpu).values()) for n in ("whole-fill", "flux1-fill-dev"))
    loaded = studio.loader.foreign(studio.plans(model="flux1-dev-kontext")[0].base.model, "float32")
    assert alone == whole
    kontext = sum(part_sizes(loaded.info, cpu).values())
    # The header counts T5's words once more, or once less, than the module does.
    assert abs(kontext - loaded.size_bytes) < loaded.size_bytes * 0.05


def test_a_word_beside_the_file_decides_over_its_name(tmp_path: Path):
    home = tmp_path / "diffusion_models"
    make_flux("dev").save_file(home / "renamed.safetensors", variant="kontext")
    make_flux("dev").save_file(home / "flux1-dev-kontext.safetensors", variant="dev")
    make_flux("dev", in_channels=128).save_file(home / "mine.safetensors")
    make_flux("dev", in_channels=128).save_file(home / "wrong.safetensors", variant="fill")
    make_flux("dev", in_channels=96).save_file(home / "strange.safetensors")
    catalog = Catalog(tmp_path)
    assert [catalog.find(name).family for name in ("renamed", "flux1-dev-kontext", "mine")] == [
        "flux-kontext",
        "flux",
        "flux-control",
    ]
    assert "renamed.danqing.json" in catalog.find("renamed").description
    assert "same shapes" in catalog.find("mine").description
    for name in ("wrong", "strange"):
        with pytest.raises(UnsupportedError, match="no kind of FLUX"):
            catalog.find(name)


def test_what_is_missing_is_named(tmp_path: Path):
    make_flux("dev", in_channels=384).save_file(tmp_path / "unet" / "flux1-fill-dev.safetensors")
    studio = Easel(tmp_path)
    image, mask = photo(SIDE, SIDE), box_mask(SIDE, SIDE, (8, 8, 24, 24))
    with pytest.raises(MissingWeightsError, match="CLIP-L"):
        studio.one(
            model="flux1-fill-dev",
            kind="inpaint",
            image=studio.picture(image),
            mask=studio.picture(mask),
            prompt="a cat",
        )
