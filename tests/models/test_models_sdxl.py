"""SDXL, base and refiner: two text encoders, pooled texts and sizes of each row, in files and in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from danqing.engine.calls import Denoise
from danqing.models.families.sd import Added
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.spec.errors import UnsupportedError
from easel import Easel, box_mask, photo
from tiny_checkpoints import TEXT_WIDTH, make

KINDS = ("sdxl", "sdxl-refiner")
WORDS = {"prompt": "a (red:1.3) cat [and:without:2] a dog AND a house :0.5", "negative_prompt": "blue"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root = tmp_path_factory.mktemp("sdxl")
    home = root / "Stable-diffusion"
    for kind in KINDS:
        make(kind).save_folder(home / f"{kind}-folder")
        make(kind).save_file(home / f"{kind}.safetensors")
    make("sdxl", seed=4, in_channels=9).save_file(home / "sdxl-inpaint.safetensors")
    make("sd1").save_file(home / "sd1.safetensors")
    return Easel(root)


def model_of(studio: Easel, name: str) -> StableDiffusionXL:
    model = studio.model(name)
    assert isinstance(model, StableDiffusionXL)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_equals_its_twin_bit_for_bit(studio: Easel, kind: str):
    ours, theirs = (model_of(studio, one) for one in (f"{kind}.safetensors", f"{kind}-folder"))
    pairs = [(ours.unet, theirs.unet), (ours.vae, theirs.vae)]
    pairs += [(a.model, b.model) for a, b in zip(ours.texts, theirs.texts, strict=True)]
    for one, other in pairs:
        assert one.state_dict().keys() == other.state_dict().keys()
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    told = [one.info.model_dump(exclude={"name", "path", "sha256"}) for one in (ours, theirs)]
    assert told[0] == told[1]
    assert ours.info.variant == ("refiner" if kind == "sdxl-refiner" else "base")
    (a,), (b,) = (one.read_text(["a (red:1.3) cat, " * 20], "Original", 1) for one in (ours, theirs))
    assert torch.equal(a.states, b.states)
    assert a.pooled is not None
    assert b.pooled is not None
    assert torch.equal(a.pooled, b.pooled)
    assert a.states.shape == (154, TEXT_WIDTH * len(ours.texts))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_paints_its_twins_picture(studio: Easel, kind: str):
    ours, theirs = (studio.pixels(model=one, **WORDS) for one in (f"{kind}.safetensors", f"{kind}-folder"))
    assert np.array_equal(ours, theirs)
    assert np.abs(ours - studio.pixels(model=f"{kind}.safetensors", prompt="a green house")).mean() > 1


def test_words_are_those_of_diffusers_pipeline(studio: Easel):
    ours = model_of(studio, "sdxl-folder")
    folder = Path(ours.info.path)
    pipeline = StableDiffusionXLPipeline(
        vae=ours.vae,
        text_encoder=ours.texts[0].model,
        text_encoder_2=ours.texts[1].model,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=ours.unet,
        scheduler=None,
    )
    states, _, pooled, _ = pipeline.encode_prompt("a red cat", do_classifier_free_guidance=False)
    (read,) = ours.read_text(["a red cat"], "Original", 1)
    assert torch.allclose(read.states, states[0], atol=1e-5)
    assert read.pooled is not None
    assert torch.allclose(read.pooled, pooled[0], atol=1e-4)
    (same,), (earlier,) = (ours.read_text(["a red cat"], "Original", skip) for skip in (2, 3))
    assert torch.equal(same.states, read.states)
    assert not torch.allclose(earlier.states, read.states, atol=1e-3)
    with pytest.raises(UnsupportedError, match="fewer layers"):
        ours.read_text(["x"], "Original", 4)


def test_the_pooled_text_is_that_of_the_first_chunk(studio: Easel):
    ours = model_of(studio, "sdxl.safetensors")
    short, long = (ours.read_text([text], "Original", 1)[0] for text in ("a cat BREAK a dog", "a cat"))
    assert short.states.shape[0] == 2 * long.states.shape[0]
    assert short.pooled is not None
    assert long.pooled is not None
    assert torch.equal(short.pooled, long.pooled)


def test_the_denoiser_is_told_sizes_and_pooled_text(studio: Easel):
    ours = model_of(studio, "sdxl.safetensors")
    (read,) = ours.read_text(["a cat"], "Original", 1)
    assert read.pooled is not None
    x, sigma, context = torch.ones(1, 4, 8, 8), torch.tensor([3.0]), read.states[None]

    def told(numbers: list[float], pooled: torch.Tensor) -> torch.Tensor:
        return ours.denoise(
            x, sigma, context, None, perturbed=False, added=Added(pooled[None], torch.tensor([numbers]))
        )

    plain = told([64, 64, 0, 0, 64, 64, 6], read.pooled)
    assert torch.equal(plain, told([64, 64, 0, 0, 64, 64, 2], read.pooled)), "the base reads no score"
    assert not torch.equal(plain, told([64, 64, 32, 0, 64, 64, 6], read.pooled))
    assert not torch.equal(plain, told([64, 64, 0, 0, 64, 64, 6], read.pooled * 0))
    with pytest.raises(RuntimeError, match="pooled"):
        ours.denoise(x, sigma, context, None, perturbed=False)


def test_each_row_is_told_its_own(studio: Easel):
    studio.paint(model="sdxl-refiner.safetensors", **WORDS, width_px=96, height_px=64)
    (call, *_) = studio.executor.denoised()
    assert len(call.contexts) == len(call.pooled) == len(call.sizes) == 3
    assert [one.aesthetic_score for one in call.sizes] == [6.0, 6.0, 2.5]
    assert {(one.original_height, one.original_width, one.target_width) for one in call.sizes} == {(64, 96, 96)}
    studio.paint(model="sd1.safetensors", **WORDS)
    assert all(call.pooled == call.sizes == () for call in studio.executor.denoised())


def test_sizes_can_be_pretended(studio: Easel):
    hints = {
        "original": {"width_px": 512, "height_px": 256},
        "crop_top_px": 8,
        "negative_original": {"width_px": 128, "height_px": 64},
        "aesthetic_score": 9,
    }
    fields = {"model": "sdxl.safetensors", "prompt": "a cat", "negative_prompt": "blue"}
    pretended = studio.pixels(**fields, size_hints=hints)
    positive, negative = studio.executor.denoised()[0].sizes
    assert (positive.original_width, positive.crop_top, positive.target_width, positive.aesthetic_score) == (
        512,
        8,
        64,
        9,
    )
    assert (negative.original_width, negative.crop_top, negative.target_width, negative.aesthetic_score) == (
        128,
        8,
        64,
        2.5,
    )
    assert not np.array_equal(pretended, studio.pixels(**fields))


def test_a_picture_does_not_depend_on_its_company(studio: Easel):
    requests = [
        {"model": "sdxl.safetensors", "prompt": "a red cat", "seed": 1},
        {"model": "sdxl.safetensors", "prompt": "a blue dog " * 30, "seed": 2, "negative_prompt": "green"},
        {"model": "sdxl.safetensors", "prompt": "a house", "seed": 3, "sampling": {"steps": 5}},
        {"model": "sdxl-refiner.safetensors", "prompt": "a house", "seed": 3},
        {"model": "sd1.safetensors", "prompt": "a house", "seed": 3},
    ]
    plans = [studio.plans(**request)[0] for request in requests]
    alone = [studio.latents([one])[0] for one in plans]
    together = studio.latents(plans)
    assert any(len(calls) > 1 for calls in studio.executor.ran if isinstance(calls[0], Denoise)), "they shared batches"
    for one, other in zip(alone, together, strict=True):
        # Float32 rounds otherwise in larger batches; a neighbour's words or sizes would change everything.
        assert torch.allclose(one, other, rtol=2e-3, atol=1e-2)


def test_base_and_refiner_together(studio: Easel):
    pictures = [
        studio.pixels(model=f"sdxl{kind}", refiner={"model": f"sdxl-refiner{kind}", "switch_at": 0.3}, **WORDS)
        for kind in (".safetensors", "-folder")
    ]
    assert np.array_equal(*pictures)
    assert np.abs(pictures[0] - studio.pixels(model="sdxl.safetensors", **WORDS)).mean() > 0.1


def test_hires_inpainting_and_guidance_by_perturbed_attention(studio: Easel):
    large = studio.pixels(model="sdxl.safetensors", hires={"scale": 1.5, "steps": 2}, **WORDS)
    assert large.shape == (96, 96, 3)
    sizes = {call.sizes[0].original_height for call in studio.executor.denoised()}
    assert sizes == {64.0, 96.0}
    studio.pixels(model="sdxl.safetensors", guidance={"pag_scale": 3.0}, **WORDS)
    fields = {
        "kind": "inpaint",
        "image": studio.picture(photo()),
        "mask": studio.picture(box_mask(64, 64, (0, 0, 32, 64))),
    }
    for model in ("sdxl.safetensors", "sdxl-inpaint.safetensors"):
        painted = studio.pixels(model=model, **fields, **WORDS)
        assert painted.shape == (64, 64, 3)


def test_bfloat16_is_told_exact_sizes(studio: Easel):
    exact, half = (
        studio.pixels(model="sdxl.safetensors", precision=one, guidance={"scale": 1.0}, **WORDS)
        for one in ("float32", "bfloat16")
    )
    assert np.abs(exact - half).mean() < 12
