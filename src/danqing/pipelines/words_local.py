"""Where a picture may change: where source and edited picture show some words (Prompt-to-Prompt's local blend).

Unlike in the published code, maps of several layers are not simply averaged: each is stretched to 0 … 1 and counts by
the square of its contrast, since in small UNets most layers see a word everywhere and only one or two see where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from danqing.adapters.prompt_to_prompt import Sightings
from danqing.adapters.regions import layer_grid
from danqing.pipelines import pixels
from danqing.prompt.alignment import PlacedText
from danqing.spec.errors import InvalidRequestError
from danqing.spec.words_edit import WordsPlan

FIRST_SHARE = 0.2
"""Share of the steps before the blend begins, as published: attention says little of places while all is noise."""
BEST_PLACES = 256
"""Maps are taken from the layers nearest to this size, which know best where things are (16 × 16, as published)."""
WIDENED_FROM = 12
"""Maps with so many places a side are widened by one of them, as published; coarser ones are wide enough."""
FEATHER_PX = 4.0


@dataclass
class Locality:
    """Where the words were seen so far.

    Attributes:
        places: For each pair of words the tokens in the source and in the edited prompt.
        grid: Height and width of the latents.
        threshold: Of the strongest attention.
    """

    places: list[tuple[list[int], list[int]]]
    grid: tuple[int, int]
    threshold: float
    _totals: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict[str, tuple[Tensor, Tensor]])

    def see(self, seen: Sightings) -> None:
        """Add the maps of a batch."""
        for name, (source, edited) in seen.maps.items():
            before = self._totals.get(name, (torch.zeros(()), torch.zeros(())))
            self._totals[name] = (before[0] + source.float().cpu(), before[1] + edited.float().cpu())

    def mask_at(self, step: int, steps: int) -> Tensor | None:
        """As `mask`, but None in the first steps."""
        return self.mask() if step >= int(FIRST_SHARE * steps) else None

    def mask(self) -> Tensor | None:
        """1 where the picture may change, else 0, [1, 1, h, w]; None before anything was seen."""
        if not self._totals:
            return None
        chosen = self._chosen()
        found = torch.zeros(1, 1, *self.grid)
        for of_source, of_edited in self.places:
            for index, tokens in enumerate((of_source, of_edited)):
                seen = weighed([maps[index][:, tokens].sum(-1) for maps in chosen])
                found = torch.maximum(found, self._where(seen))
        return found

    def _chosen(self) -> list[tuple[Tensor, Tensor]]:
        """The maps of the layers on the way up that are nearest to the best size."""
        up = {name: maps for name, maps in self._totals.items() if name.startswith("up")} or self._totals
        sizes = {len(source) for source, _ in up.values()}
        best = min(sizes, key=lambda size: (abs(math.log(size / BEST_PLACES)), -size))
        return [maps for maps in up.values() if len(maps[0]) == best]

    def _where(self, seen: Tensor) -> Tensor:
        """Places [n] with much attention as a mask [1, 1, h, w]."""
        height, width = layer_grid(*self.grid, len(seen))
        near = seen.reshape(1, 1, height, width)
        if min(height, width) >= WIDENED_FROM:
            near = functional.max_pool2d(near, 3, stride=1, padding=1)
        large = functional.interpolate(near, size=self.grid, mode="bilinear")
        return (large > self.threshold * large.max()).float()


def weighed(maps: list[Tensor]) -> Tensor:
    """The mean of maps [n], each stretched to 0 … 1 and weighed by the square of its contrast."""
    total, weights = torch.zeros_like(maps[0]), 0.0
    for one in maps:
        low, high = float(one.min()), float(one.max())
        weight = ((high - low) / max(float(one.mean()), 1e-12)) ** 2
        total = total + weight * (one - low) / max(high - low, 1e-12)
        weights += weight
    return total / weights if weights > 0 else torch.ones_like(total)


def locality(asked: WordsPlan, old: PlacedText, new: PlacedText, grid: tuple[int, int]) -> Locality | None:
    """Where the Plan lets the picture change; None for everywhere.

    Raises:
        InvalidRequestError: A word does not stand in its prompt.
    """
    if not asked.local:
        return None
    places = [
        (_found(old, one.source, index, "source"), _found(new, one.target, index, "target"))
        for index, one in enumerate(asked.local)
    ]
    return Locality(places, grid, asked.local_threshold)


def _found(text: PlacedText, word: str, index: int, side: str) -> list[int]:
    places = text.places_of(word)
    if not places:
        raise InvalidRequestError(
            f"the word {word!r} does not stand in the {'source prompt' if side == 'source' else 'prompt'}",
            field=f"local.{index}.{side}",
            value=word,
            allowed=f"words of: {text.plain[:200]}",
            next_step="correct its spelling, or leave it out",
        )
    return places


def pasted(original: Image.Image, edited: Image.Image, mask: Tensor) -> Image.Image:
    """The original, with the edited picture where the mask [1, 1, h, w] is 1 and in a soft edge around it.

    Beyond that edge every pixel is the original's.
    """
    small = Image.fromarray((mask[0, 0].numpy() * 255).astype(np.uint8), "L")
    large = small.resize(original.size, Image.Resampling.NEAREST)
    return Image.composite(edited, original, pixels.blur(large, FEATHER_PX))
