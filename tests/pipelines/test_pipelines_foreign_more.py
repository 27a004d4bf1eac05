"""More of diffusers' pipelines, each against diffusers called directly: one adapter drives them all."""

from __future__ import annotations

import json
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from easel import Easel, box_mask, numbers, photo
from tiny_pipelines_more import make

ROOT = "Stable-diffusion"
SEED, STEPS = 7, 2
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
NO_RESIZE = {"_auto_resize": False}
SHORT = {"max_sequence_length": 16}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    home = tmp_path_factory.mktemp("more")
    folder = home / ROOT
    few: dict[str, Any] = {"defaults": {"size_px": 32, "steps": STEPS}}
    make(folder / "kandinsky", "KandinskyPipeline", call={"prior_num_inference_steps": 2}, **few)
    make(folder / "kandinsky-prior", "KandinskyPriorPipeline", seed=1)
    make(folder / "unclip-text", "StableUnCLIPPipeline", call={"prior_num_inference_steps": 2}, **few)
    make(folder / "cascade", "StableCascadeDecoderPipeline", call={"num_inference_steps": 2}, **few)
    # As the published folder names it, which diffusers by itself no longer finds.
    index = folder / "cascade" / "model_index.json"
    told = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps({**told, "vqgan": ["wuerstchen", "PaellaVQModel"]}), encoding="utf-8")
    make(folder / "cascade-prior", "StableCascadePriorPipeline", seed=1)
    make(folder / "chroma", "ChromaPipeline", call=SHORT, **few)
    make(folder / "fill", "FluxFillPipeline", call=SHORT, **few)
    make(folder / "kontext", "FluxKontextPipeline", call={**NO_RESIZE, **SHORT}, **few)
    make(folder / "depth", "FluxControlPipeline", call=SHORT, **few)
    return Easel(home)


def load(studio: Easel, name: str, folder: str) -> Any:
    place = studio.models_dir / ROOT / folder
    found = getattr(diffusers, name).from_pretrained(place, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


def joined(studio: Easel, name: str, folder: str, decoder: str, prior: str) -> Any:
    first, second = load(studio, decoder, folder), load(studio, prior, f"{folder}-prior")
    parts = {**first.components, **{f"prior_{key}": part for key, part in second.components.items()}}
    found = getattr(diffusers, name)(**parts)
    found.set_progress_bar_config(disable=True)
    return found


def check(ours: Image.Image, pipeline: Any, **options: Any) -> None:
    theirs = pipeline(generator=torch.Generator().manual_seed(SEED), **options).images[0]
    # Some paint a size of their own; the Plan's is what a person gets.
    theirs = theirs if theirs.size == ours.size else theirs.resize(ours.size, Image.Resampling.LANCZOS)
    assert numbers(ours).std() > 1
    assert np.array_equal(numbers(ours), numbers(theirs))


SIZE = {"height": 32, "width": 32}
WORDS = {"prompt": "a cat", "negative_prompt": "a dog"}


def test_kandinsky_21(studio: Easel):
    pipeline = joined(studio, "KandinskyCombinedPipeline", "kandinsky", "KandinskyPipeline", "KandinskyPriorPipeline")
    options = {"prior_num_inference_steps": 2, "num_inference_steps": STEPS, "guidance_scale": 4.0}
    check(studio.one(model="kandinsky", **WORDS), pipeline, **WORDS, **SIZE, **options)


def test_a_blend_of_kandinsky_21(studio: Easel):
    one, other = (photo(32, 32, seed=seed) for seed in (1, 2))
    prompts = [{"image": studio.picture(image)} for image in (one, other)]
    ours = studio.one(model="kandinsky", prompt="", image_prompts=prompts)
    whole = joined(studio, "KandinskyCombinedPipeline", "kandinsky", "KandinskyPipeline", "KandinskyPriorPipeline")
    generator = torch.Generator().manual_seed(SEED)
    found = whole.prior_pipe.interpolate([one, other], [0.5, 0.5], num_inference_steps=2, generator=generator)
    embeds = {"image_embeds": found.image_embeds, "negative_image_embeds": found.negative_image_embeds}
    theirs = whole.decoder_pipe(
        "", **embeds, **SIZE, num_inference_steps=STEPS, guidance_scale=4.0, generator=generator
    ).images[0]
    assert np.array_equal(numbers(ours), numbers(theirs))


def test_stable_unclip_from_words(studio: Easel):
    options = {"prior_num_inference_steps": 2, "num_inference_steps": STEPS, "guidance_scale": 10.0}
    pipeline = load(studio, "StableUnCLIPPipeline", "unclip-text")
    check(studio.one(model="unclip-text", **WORDS), pipeline, **WORDS, **SIZE, **options)


@pytest.mark.parametrize("pictures", [0, 2])
def test_stable_cascade(studio: Easel, pictures: int):
    shown = [photo(32, 32, seed=seed) for seed in range(pictures)]
    prompts = [{"image": studio.picture(image)} for image in shown]
    names = ("StableCascadeCombinedPipeline", "cascade", "StableCascadeDecoderPipeline", "StableCascadePriorPipeline")
    ours = studio.one(model="cascade", **WORDS, image_prompts=prompts, width_px=64, height_px=64)
    options: dict[str, Any] = {"prior_num_inference_steps": STEPS, "num_inference_steps": 2, "height": 64, "width": 64}
    images = {"images": shown} if shown else {}
    check(ours, joined(studio, *names), **WORDS, **options, **images, prior_guidance_scale=4.0)


def test_chroma_from_words_and_from_a_picture(studio: Easel):
    options = {"num_inference_steps": STEPS, "guidance_scale": 5.0, **SHORT}
    pipeline = load(studio, "ChromaPipeline", "chroma")
    check(studio.one(model="chroma", **WORDS), pipeline, **WORDS, **SIZE, **options)
    image = photo(32, 32)
    asked = {"kind": "img2img", "image": studio.picture(image), "strength": 0.8}
    ours = studio.one(model="chroma", **WORDS, **asked, sampling={"steps": 4})
    other = diffusers.ChromaImg2ImgPipeline(
        **{
            name: part
            for name, part in pipeline.components.items()
            if name not in ("feature_extractor", "image_encoder")
        }
    )
    other.set_progress_bar_config(disable=True)
    check(ours, other, image=image, strength=0.8, **WORDS, **SIZE, **{**options, "num_inference_steps": 4})


def test_flux_fill_repaints_under_the_mask_alone(studio: Easel):
    image, mask = photo(32, 32), box_mask(32, 32, (8, 8, 24, 24))
    asked = {"kind": "inpaint", "image": studio.picture(image), "mask": studio.picture(mask), "mask_blur_px": 0}
    ours = studio.one(model="fill", prompt="a cat", strength=1.0, **asked)
    options = {"num_inference_steps": STEPS, "guidance_scale": 30.0, "strength": 1.0, **SHORT}
    theirs = load(studio, "FluxFillPipeline", "fill")(
        prompt="a cat", image=image, mask_image=mask, generator=torch.Generator().manual_seed(SEED), **SIZE, **options
    ).images[0]
    whole = Image.composite(theirs, image, mask)
    assert np.array_equal(numbers(ours), numbers(whole))
    assert np.abs(numbers(theirs) - numbers(image))[10:20, 10:20].mean() > 1


def test_flux_fill_outpaints(studio: Easel):
    image = photo(32, 32)
    ours = studio.pixels(
        model="fill",
        prompt="a cat",
        kind="outpaint",
        image=studio.picture(image),
        margins={"left_px": 16},
        feather_px=0,
    )
    assert ours.shape == (32, 48, 3)
    assert np.array_equal(ours[:, 16:], numbers(image))


def test_flux_kontext_reads_a_picture_or_none(studio: Easel):
    image = photo(32, 32)
    pipeline = load(studio, "FluxKontextPipeline", "kontext")
    options = {"num_inference_steps": STEPS, "guidance_scale": 3.5, "max_area": 1024, **SHORT, **NO_RESIZE}
    (planned,) = studio.plans(model="kontext", prompt="a cat", kind="img2img", image=studio.picture(image))
    assert any("strength" in note for note in planned.notes)
    check(studio.paint_plans([planned])[0], pipeline, prompt="a cat", image=image, **SIZE, **options)
    check(studio.one(model="kontext", prompt="a cat"), pipeline, prompt="a cat", **SIZE, **options)


def test_flux_depth_follows_a_map(studio: Easel):
    depth = photo(32, 32, seed=3)
    ours = studio.one(model="depth", prompt="a cat", kind="img2img", image=studio.picture(depth))
    options = {"num_inference_steps": STEPS, "guidance_scale": 30.0, **SHORT}
    check(ours, load(studio, "FluxControlPipeline", "depth"), prompt="a cat", control_image=depth, **SIZE, **options)
