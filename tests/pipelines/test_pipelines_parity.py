"""The same noise, words and guidance through diffusers' own StableDiffusionPipeline give the same latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from danqing.sampling.noise import NoiseSettings, PictureNoise
from easel import Easel, numbers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
STEPS, SCALE = 8, 5.0


def diffusers_pipeline(folder: Path) -> StableDiffusionPipeline:
    scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler", timestep_spacing="linspace")
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.mark.parametrize("model", ["tiny", "tiny-v"])
def test_euler_equals_diffusers(easel: Easel, model: str):
    words = {"prompt": "the red cat and a blue dog", "negative_prompt": "blue"}
    (one,) = easel.plans(
        model=model,
        **words,
        seed=3,
        sampling={"sampler": "Euler", "schedule": "normal", "steps": STEPS},
        guidance={"scale": SCALE},
    )
    ours = easel.latents([one])[0]
    pipeline = diffusers_pipeline(Path(easel.catalog.find(model).path))
    pipeline.set_progress_bar_config(disable=True)
    noise = PictureNoise(NoiseSettings(3)).initial((1, 4, 8, 8))
    settings = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "height": 64, "width": 64}
    with torch.inference_mode():
        theirs = pipeline(**words, **settings, latents=noise, output_type="latent").images
        picture = pipeline(**words, **settings, latents=noise, output_type="pil").images[0]
    # diffusers starts from √(σ² + 1)·n where k-diffusion, and we, start from σ·n; at σ = 14.6 that is 0.2 %.
    initial = float(pipeline.scheduler.init_noise_sigma)
    sigma = float(pipeline.scheduler.sigmas[0])
    assert initial == pytest.approx(sigma, rel=1e-6), "linspace spacing starts from σ·n"
    scale = float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) / scale <= 1e-4
    assert np.abs(numbers(easel.paint_plans([one])[0]) - numbers(picture)).max() <= 1
