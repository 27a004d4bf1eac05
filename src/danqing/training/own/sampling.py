"""Paints prompts with the model as it is being trained, with fixed seeds, into a labelled grid."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from danqing.models.families.sd import Added
from danqing.models.preview import to_uint8
from danqing.sampling.noise import BatchNoise, NoiseSettings
from danqing.sampling.samplers import SAMPLERS
from danqing.sampling.schedules import sigmas
from danqing.sampling.types import SamplerOptions
from danqing.spec.registry.samplers import find_sampler
from danqing.store.fonts import sheet_font
from danqing.training.own.opened import Opened

ROWS_AT_ONCE = 8
GAP_PX, TEXT_PX, LINE_PX, LINES = 10, 12, 15, 2
PAPER, INK = "#FAF8F3", "#1E1B18"


@dataclass(frozen=True)
class Painting:
    """One picture to paint.

    Attributes:
        prompt: Plain words; brackets are characters.
        seed: Of its noise.
        negative: What guidance leads away from.
    """

    prompt: str
    seed: int = 0
    negative: str = ""


@dataclass(frozen=True)
class Look:
    """How samples are painted.

    Attributes:
        width_px, height_px: Their size.
        steps: Of the sampler.
        guidance: Classifier-free guidance; at 1 the negative prompt is not read.
        sampler: Its key or label.
        schedule: Likewise.
    """

    width_px: int
    height_px: int
    steps: int
    guidance: float
    sampler: str
    schedule: str

    @classmethod
    def of(cls, opened: Opened, size_px: int | None = None, steps: int | None = None) -> Look:
        """As the model likes it."""
        likes = opened.info.defaults
        side = size_px or likes.size_px
        return cls(side, side, steps or likes.steps, likes.guidance_scale, likes.sampler, likes.schedule)


@torch.no_grad()
def paint(opened: Opened, wanted: Sequence[Painting], look: Look) -> list[Image.Image]:
    """Pictures, a few at a time; whatever is hooked into the model's modules takes part."""
    found: list[Image.Image] = []
    for first in range(0, len(wanted), ROWS_AT_ONCE):
        found += _painted(opened, wanted[first : first + ROWS_AT_ONCE], look)
    return found


def _painted(opened: Opened, wanted: Sequence[Painting], look: Look) -> list[Image.Image]:
    count = len(wanted)
    guided = look.guidance != 1.0
    texts = [one.prompt for one in wanted] + ([one.negative for one in wanted] if guided else [])
    with opened.computing():
        context, pooled = opened.read_text(opened.token_ids(texts))
    added = None
    if opened.is_sdxl and pooled is not None:
        sizes = (look.height_px, look.width_px, 0, 0, look.height_px, look.width_px, 6)
        added = Added(pooled, torch.tensor([sizes] * len(texts), dtype=torch.float32, device=opened.device))

    def denoise(x: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        rows = torch.cat([x, x]) if guided else x
        levels = torch.full((len(rows),), sigma)
        with opened.computing():
            answer = opened.model.estimate(rows, levels, context, None, perturbed=False, added=added)
        if not guided:
            return answer
        own, other = answer[:count], answer[count:]
        return other + look.guidance * (own - other)
        yield  # a sampler asks with `yield from`

    info = find_sampler(look.sampler)
    levels = sigmas(look.schedule, look.steps, opened.table, info)
    noise = BatchNoise([NoiseSettings(one.seed) for one in wanted])
    scale = opened.latent_scale
    shape = (count, opened.info.latent_channels, look.height_px // scale, look.width_px // scale)
    start = noise.initial(shape) * levels[0]
    latents = _run(SAMPLERS[info.key](denoise, start, levels, noise, SamplerOptions()))
    pictures = opened.model.decode(latents)
    return [Image.fromarray(to_uint8(picture.permute(1, 2, 0))) for picture in pictures]


def _run(stepper: Generator[Any, Any, Tensor]) -> Tensor:
    """A sampler's last x; its denoiser asks nobody."""
    try:
        while True:
            next(stepper)
    except StopIteration as ended:
        return ended.value


def grid(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int | None = None) -> Image.Image:
    """Pictures in rows over their labels, on paper."""
    across = columns or min(len(pictures), 4)
    wide = max(picture.width for picture in pictures)
    high = max(picture.height for picture in pictures)
    down = -(-len(pictures) // across)
    step_x, step_y = wide + GAP_PX, high + LINES * LINE_PX + GAP_PX
    sheet = Image.new("RGB", (across * step_x + GAP_PX, down * step_y + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    face, chinese = sheet_font(TEXT_PX)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = GAP_PX + number % across * step_x, GAP_PX + number // across * step_y
        sheet.paste(picture, (left, top))
        said = label if chinese else label.encode("ascii", "replace").decode()
        for row, line in enumerate(_lines(said, wide, face)):
            draw.text((left, top + high + 2 + row * LINE_PX), line, fill=INK, font=face)
    return sheet


def _lines(text: str, width_px: int, face: Any) -> list[str]:
    """At most two lines that fit; the rest is cut off."""
    words = text.split(" ") if text.isascii() else list(text)
    glue = " " if text.isascii() else ""
    lines: list[str] = [""]
    for word in words:
        longer = f"{lines[-1]}{glue}{word}" if lines[-1] else word
        if face.getlength(longer) > width_px and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:LINES]


def as_array(pictures: Sequence[Image.Image]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pictures of one size as uint8 [n, h, w, 3]."""
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
