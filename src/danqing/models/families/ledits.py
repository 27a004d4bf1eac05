"""LEDITS++ (Brack et al. 2023, arXiv 2311.16711) by diffusers' own pipelines, around the parts of a loaded model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusionXL,
)
from PIL import Image
from transformers import CLIPTokenizer

from danqing.models.families.foreign_steps import listening
from danqing.models.families.sd import StableDiffusion
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.models.families.stepwise import Tick
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import UnsupportedError


@dataclass(frozen=True)
class Concept:
    """Words that are to come, or to go.

    Attributes:
        words: What.
        gone: Whether it is to go.
        scale: How strongly.
    """

    words: str
    gone: bool
    scale: float


@dataclass(frozen=True)
class LeditsTask:
    """One edit.

    Attributes:
        picture: RGB, sides a multiple of 32 px.
        source_prompt: What it shows, or nothing.
        concepts: What changes.
        steps: Of the inversion, and again of the way back.
        skip: Share of the noisiest steps that is left out.
        threshold: Share of the picture that each concept leaves alone.
        seed: Of the inversion's noise.
        clip_skip: 1 uses the last layer of the text encoder.
    """

    picture: Image.Image
    source_prompt: str
    concepts: tuple[Concept, ...]
    steps: int
    skip: float
    threshold: float
    seed: int
    clip_skip: int = 1


class Ledits:
    """An edit on its way.

    diffusers puts attention processors of its own into the UNet, which other Sessions share: they are only there
    inside `working`.

    Args:
        model: Whose parts are used.
        task: What to do.

    Raises:
        UnsupportedError: The model is none that diffusers' pipelines fit.
    """

    def __init__(self, model: StableDiffusion, task: LeditsTask) -> None:
        self.model = model
        self.task = task
        self.pipeline: Any = _pipeline(model)
        self._own: dict[str, Any] | None = None

    def edit(self, tick: Tick) -> Image.Image:
        """The edited picture, RGB; `tick` is called at the end of every step."""
        task, device = self.task, self.model.device
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.progress_bar = listening(self.pipeline.progress_bar, tick)
        generator = torch.Generator("cpu").manual_seed(task.seed)
        skip = None if task.clip_skip == 1 else task.clip_skip - 1
        # The formats of a model's parts may differ, which these pipelines were not written for.
        with torch.autocast(device.type, self.model.precision.denoiser, enabled=self._mixed()):
            self.pipeline.invert(
                task.picture,
                source_prompt=task.source_prompt,
                num_inversion_steps=task.steps,
                skip=task.skip,
                generator=generator,
                **({} if skip is None or self._is_xl() else {"clip_skip": skip}),
            )
            found = self.pipeline(
                editing_prompt=[one.words for one in task.concepts],
                reverse_editing_direction=[one.gone for one in task.concepts],
                edit_guidance_scale=[one.scale for one in task.concepts],
                edit_threshold=[task.threshold] * len(task.concepts),
                **({} if skip is None else {"clip_skip": skip}),
            )
        return found.images[0].convert("RGB")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside the block the UNet has the processors of this edit; afterwards those that it had before."""
        unet = self.model.unet
        kept = dict(unet.attn_processors)
        if self._own is not None:
            unet.set_attn_processor(dict(self._own))
        try:
            yield
        finally:
            self._own = dict(unet.attn_processors)
            unet.set_attn_processor(kept)

    def _mixed(self) -> bool:
        precision = self.model.precision
        return len({precision.denoiser, precision.text, precision.vae}) > 1

    def _is_xl(self) -> bool:
        return isinstance(self.model, StableDiffusionXL)


def _pipeline(model: StableDiffusion) -> Any:
    if not isinstance(model.table, SigmaTable) or int(model.unet.config["in_channels"]) != 4:
        raise UnsupportedError(
            "LEDITS++ is written for models with four latent channels",
            field="technique",
            value=model.info.name,
            allowed="Stable Diffusion 1.x, 2.x and XL",
            next_step="leave the technique open: Prompt-to-Prompt edits with this model, too",
        )
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=_betas(model.table),
        prediction_type=model.info.prediction,
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        steps_offset=1,
        timestep_spacing="leading",
    )
    texts = model.texts if isinstance(model, StableDiffusionXL) else (model.text,)
    tokenizers = [CLIPTokenizer.from_pretrained(text.tokenizer.folder, local_files_only=True) for text in texts]
    parts: dict[str, Any] = {"vae": model.vae, "unet": model.unet, "scheduler": scheduler}
    parts |= {"text_encoder": texts[0].model, "tokenizer": tokenizers[0]}
    if isinstance(model, StableDiffusionXL):
        if model.is_refiner:
            raise UnsupportedError("a refiner cannot edit", field="model", value=model.info.name)
        parts |= {"text_encoder_2": texts[1].model, "tokenizer_2": tokenizers[1]}
        return LEditsPPPipelineStableDiffusionXL(**parts, add_watermarker=False)
    return LEditsPPPipelineStableDiffusion(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def _betas(table: SigmaTable) -> list[float]:
    """The β of a model's noise levels: ᾱ = 1/(1 + σ²), β = 1 − ᾱₜ/ᾱₜ₋₁."""
    alphas = [1.0 / (1.0 + sigma**2) for sigma in table.values]
    return [1.0 - now / before for before, now in zip([1.0, *alphas[:-1]], alphas, strict=True)]
