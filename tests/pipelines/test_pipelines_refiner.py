"""SDXL's base hands over to its refiner as diffusers' two pipelines do with `denoising_end` and `denoising_start`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from danqing.models.families.sdxl import StableDiffusionXL
from danqing.sampling.noise import NoiseSettings, PictureNoise
from easel import Easel, numbers
from tiny_checkpoints import make

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
WORDS = {"prompt": "a red cat", "negative_prompt": "blue"}
STEPS, SCALE, SEED = 10, 3.0, 3


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root = tmp_path_factory.mktemp("refiner")
    for kind in ("sdxl", "sdxl-refiner"):
        make(kind).save_folder(root / "Stable-diffusion" / kind)
    return Easel(root)


def pipeline_of(model: StableDiffusionXL, kind: Any, **options: Any) -> Any:
    folder = Path(model.info.path)
    texts = (
        {"text_encoder": None, "tokenizer": None}
        if model.is_refiner
        else {
            "text_encoder": model.texts[0].model,
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        }
    )
    found = kind(
        vae=model.vae,
        unet=model.unet,
        text_encoder_2=model.texts[-1].model,
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        scheduler=EulerDiscreteScheduler.from_pretrained(folder / "scheduler", timestep_spacing="linspace"),
        **texts,
        **options,
    )
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_hand_over_is_that_of_diffusers(studio: Easel, share: float):
    asked: dict[str, Any] = {
        **WORDS,
        "model": "sdxl",
        "seed": SEED,
        "sampling": {"sampler": "Euler", "schedule": "normal", "steps": STEPS},
        "guidance": {"scale": SCALE},
    }
    (planned,) = studio.plans(**asked, refiner={"model": "sdxl-refiner", "switch_at": share})
    ours = studio.latents([planned])[0]
    keys = [call.model.model.name for call in studio.executor.denoised()]
    assert keys == ["sdxl"] * round(share * STEPS) + ["sdxl-refiner"] * (STEPS - round(share * STEPS))

    base = pipeline_of(studio.model("sdxl"), StableDiffusionXLPipeline)
    refiner = pipeline_of(
        studio.model("sdxl-refiner"), StableDiffusionXLImg2ImgPipeline, requires_aesthetics_score=True
    )
    settings = {"num_inference_steps": STEPS, "guidance_scale": SCALE}
    noise = PictureNoise(NoiseSettings(SEED)).initial((1, 4, 8, 8))
    with torch.inference_mode():
        half = base(
            **WORDS, **settings, height=64, width=64, latents=noise, denoising_end=share, output_type="latent"
        ).images
        theirs = refiner(**WORDS, **settings, image=half, denoising_start=share, output_type="latent").images
    scale = float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) / scale <= 2e-3
    (alone,) = studio.latents(studio.plans(**asked))
    assert float((alone - ours).abs().max()) / scale > 0.02
    picture = numbers(studio.paint_plans([planned])[0])
    assert np.abs(picture - numbers(studio.one(**asked))).max() > 1
