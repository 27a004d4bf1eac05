"""Image prompts of pipelines that read them by themselves: variations, and blends of pictures and texts.

Kandinsky's prior gives one vector between the vectors of pictures and texts (arXiv 2310.03502, interpolation), unCLIP
paints from a picture's vector with a chosen amount of noise on it (arXiv 2204.06125).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from danqing.models.families.foreign_steps import listening, steppers
from danqing.models.families.stepwise import Tick

if TYPE_CHECKING:
    from danqing.models.families.foreign_call import ForeignTask

_LIST_ARGUMENTS = ("images", "input_images")


def image_arguments(pipeline: Any, taken: set[str], task: ForeignTask) -> dict[str, Any]:
    """The arguments that carry image prompts.

    Args:
        pipeline: That paints.
        taken: What its signature takes.
        task: With image prompts.
    """
    pictures = [one.what for one in task.images]
    if "noise_level" in taken and "image_embeds" in taken:
        return _unclip(pipeline, task)
    listed = next((name for name in _LIST_ARGUMENTS if name in taken), None)
    if listed is not None:
        return {listed: pictures}
    return {"image": pictures[0] if len(pictures) == 1 else pictures}


def _unclip(pipeline: Any, task: ForeignTask) -> dict[str, Any]:
    """The picture, or the vector between several, and how much noise hides it: none at weight 1, all at 0."""
    strength = max(one.weight for one in task.images)
    levels = int(pipeline.image_noising_scheduler.config["num_train_timesteps"])
    noise_level = round((1.0 - min(strength, 1.0)) * (levels - 1))
    if len(task.images) == 1:
        return {"image": task.images[0].what, "noise_level": noise_level}
    embeds = embeddings(pipeline, [one.what for one in task.images])
    weights = torch.tensor([one.weight for one in task.images]).to(embeds)
    return {"image_embeds": between(embeds, weights)[None], "noise_level": noise_level}


def embeddings(pipeline: Any, pictures: list[Any]) -> torch.Tensor:
    """The vectors [n, width] of pictures, as the pipeline's own image encoder gives them."""
    encoder = pipeline.image_encoder
    pixels = pipeline.feature_extractor(images=pictures, return_tensors="pt").pixel_values
    return encoder(pixels.to(encoder.device, encoder.dtype)).image_embeds


def between(embeds: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean [width] of vectors [n, width], as long as they are on average: a plain mean is shorter."""
    shares = weights / weights.sum()
    mean = (shares[:, None] * embeds).sum(dim=0)
    length = (shares * embeds.norm(dim=1)).sum()
    return mean * (length / mean.norm().clamp_min(1e-12))


def blend(pipeline: Any, task: ForeignTask, generator: torch.Generator, tick: Tick) -> Image.Image:
    """A picture between pictures and texts, by the prior of Kandinsky's pipelines.

    Args:
        pipeline: A combined one, with `prior_pipe` and `decoder_pipe`.
        task: With image prompts or several texts; their weights count in proportion.
        generator: Of the noise.
        tick: Called at the end of every step.
    """
    prior, decoder = pipeline.prior_pipe, pipeline.decoder_pipe
    # The prior has no callback where it blends.
    prior.progress_bar = listening(prior.progress_bar, tick)
    parts = [one for one in (*task.images, *task.texts) if one.weight > 0 and one.what != ""]
    total = sum(one.weight for one in parts)
    called = inspect.signature(pipeline.__call__).parameters
    options: dict[str, Any] = {
        "num_inference_steps": task.extra.get("prior_num_inference_steps", called["prior_num_inference_steps"].default),
        "guidance_scale": task.extra.get("prior_guidance_scale", called["prior_guidance_scale"].default),
    }
    found = prior.interpolate(
        [one.what for one in parts],
        [one.weight / total for one in parts],
        negative_prompt=task.negative_prompt,
        generator=generator,
        device=pipeline._execution_device,
        **options,
    )
    taken = set(inspect.signature(decoder.__call__).parameters)
    given: dict[str, Any] = {
        "prompt": task.prompt,
        "image_embeds": found.image_embeds,
        "negative_image_embeds": found.negative_image_embeds,
        "height": task.size.height_px,
        "width": task.size.width_px,
        "num_inference_steps": task.steps,
        "guidance_scale": task.guidance_scale,
        "generator": generator,
        **steppers(decoder, taken, tick),
    }
    return decoder(**{name: value for name, value in given.items() if name in taken}).images[0]
