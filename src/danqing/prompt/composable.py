"""Composable diffusion: the parts of a prompt that `AND` joins, each with its weight.

Source: Liu et al., "Compositional Visual Generation with Composable Diffusion Models", arXiv:2206.01714. As in A1111
the split is textual: `AND` inside brackets splits too, and a trailing `:1.2` is a weight even of an only part.
"""

from __future__ import annotations

from dataclasses import dataclass

from danqing.prompt.ast import AND, PART_WEIGHT


@dataclass(frozen=True, slots=True)
class WeightedPart:
    """One part of a composable prompt."""

    text: str
    weight: float = 1.0


def composable_parts(prompt: str) -> list[WeightedPart]:
    """The parts of a prompt without network tags, at least one; trailing whitespace goes, leading stays.

    A negative prompt is not composable in A1111: do not split it.

    >>> composable_parts("a cat :1.2 AND a dog")
    [WeightedPart(text='a cat', weight=1.2), WeightedPart(text=' a dog', weight=1.0)]
    """
    return [_part(text) for text in AND.split(prompt)]


def _part(text: str) -> WeightedPart:
    found = PART_WEIGHT.search(text)
    if found is None:
        return WeightedPart(text.rstrip())
    return WeightedPart(text[: found.start()], float(found[1]))
