"""One picture by a pipeline of diffusers: what its signature takes of what was planned, and the call itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from danqing.models.families import foreign_images
from danqing.models.families.foreign import ForeignModel
from danqing.models.families.foreign_steps import steppers
from danqing.models.families.stepwise import Tick
from danqing.spec.errors import UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.registry.foreign_info import ForeignInfo

_PICTURE_ARGUMENTS = ("image", "control_image", "input_images")


@dataclass(frozen=True)
class Weighted:
    """A picture or a text with how much it counts."""

    what: Image.Image | str
    weight: float = 1.0


@dataclass(frozen=True)
class ForeignTask:
    """One picture.

    Attributes:
        known: What the registry says of the folder's class.
        pipeline: The class that paints.
        texts: The prompt's texts; several only where the pipeline blends.
        negative_prompt: Plain words.
        size: Of the picture.
        steps: Of its loop.
        guidance_scale: Classifier-free.
        distilled: What a distilled network is told, where it was asked for.
        seed: Of all its noise.
        noise_device: Where the noise is drawn: cpu, or the device.
        strength: How far from `image`, where there is one.
        image: What it starts from, at `size` (any size for a pipeline that enlarges).
        mask: "L", 255 is repainted.
        images: Image prompts.
        extra: Further arguments, from the model's `danqing.json`.
    """

    known: ForeignInfo
    pipeline: str
    texts: tuple[Weighted, ...]
    negative_prompt: str
    size: SizePx
    steps: int
    guidance_scale: float
    distilled: float | None = None
    seed: int = 0
    noise_device: str = "cpu"
    strength: float | None = None
    image: Image.Image | None = None
    mask: Image.Image | None = None
    images: tuple[Weighted, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def prompt(self) -> str:
        """The words, where they are one text."""
        return " ".join(str(one.what) for one in self.texts)


def paint(model: ForeignModel, task: ForeignTask, tick: Tick) -> Image.Image:
    """The picture, RGB.

    Args:
        model: Whose pipeline paints.
        task: What to paint.
        tick: Called at the end of every step; may raise to end the work.

    Raises:
        UnsupportedError: The pipeline takes no picture, or an argument of `danqing.json` is none of its own.
    """
    pipeline: Any = model.pipeline(task.pipeline)
    generator = torch.Generator(task.noise_device).manual_seed(task.seed)
    if task.known.blends and (task.images or len(task.texts) > 1):
        picture = foreign_images.blend(pipeline, task, generator, tick)
    else:
        picture = pipeline(**arguments(pipeline, task, generator, tick)).images[0]
    return picture.convert("RGB")


def arguments(pipeline: Any, task: ForeignTask, generator: torch.Generator, tick: Tick) -> dict[str, Any]:
    """What a pipeline is called with: everything planned that its signature takes.

    Raises:
        UnsupportedError: As for `paint`.
    """
    taken = set(inspect.signature(pipeline.__call__).parameters)
    steps = task.known.steps_argument or "num_inference_steps"
    offered: dict[str, Any] = {
        "prompt": task.prompt,
        "height": task.size.height_px,
        "width": task.size.width_px,
        steps: task.steps,
        "generator": generator,
        "strength": task.strength,
        "mask_image": task.mask,
        "max_area": task.size.pixels,
        **_guidance(taken, task),
        **_pictures(pipeline, taken, task),
    }
    given = {name: value for name, value in offered.items() if name in taken and value is not None}
    strange = [name for name in task.extra if name not in taken]
    if strange:
        raise UnsupportedError(
            f"{task.pipeline} takes no {', '.join(strange)}",
            field="model",
            value=strange[0],
            allowed=", ".join(sorted(taken)),
            next_step="take it out of `call` in the model's danqing.json",
        )
    return given | dict(task.extra) | steppers(pipeline, taken, tick)


def _guidance(taken: set[str], task: ForeignTask) -> dict[str, Any]:
    """The guidance scale under the name that the pipeline has for it, and the negative prompt where it is read."""
    true_scale = "true_cfg_scale" in taken and not task.known.guidance_argument
    name = task.known.guidance_argument or ("true_cfg_scale" if true_scale else "guidance_scale")
    found: dict[str, Any] = {name: task.guidance_scale, "negative_prompt": task.negative_prompt or None}
    if true_scale and task.guidance_scale > 1:
        # Without a negative prompt these pipelines leave guidance out; a blank one is what their makers show.
        found["negative_prompt"] = task.negative_prompt or " "
    if name != "guidance_scale" and task.distilled is not None:
        found["guidance_scale"] = task.distilled
    return found


def _pictures(pipeline: Any, taken: set[str], task: ForeignTask) -> dict[str, Any]:
    if task.images:
        return foreign_images.image_arguments(pipeline, taken, task)
    if task.image is None:
        return {}
    name = next((one for one in _PICTURE_ARGUMENTS if one in taken), None)
    if name is None:
        raise UnsupportedError(f"{task.pipeline} takes no picture", field="image", value=task.pipeline)
    return {name: task.image}
