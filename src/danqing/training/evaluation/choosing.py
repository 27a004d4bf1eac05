"""Faithfulness: how often the judge picks a picture's own caption among false ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from danqing.training.builtin.loop import step_rng
from danqing.training.evaluation.evaluator import Judge
from danqing.training.evaluation.prompts import SEED, Prompt, caption, combination, false_kin


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % interval (Wilson 1927).

    Attributes:
        share: 0 to 1.
        low: Lower end.
        high: Upper end.
        count: Of how many.
    """

    share: float
    low: float
    high: float
    count: int

    def as_json(self) -> dict[str, float]:
        """Plain data, rounded."""
        return {
            "share": round(self.share, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "count": self.count,
        }


def rate(successes: NDArray[np.floating] | list[float]) -> Rate:
    """The share of successes; each is 0, 1, or a part of 1 where several captions tie."""
    values = np.asarray(successes, np.float64)
    n = len(values)
    if n == 0:
        return Rate(0.0, 0.0, 1.0, 0)
    p, z = float(values.mean()), 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return Rate(p, max(0.0, middle - half), min(1.0, middle + half), n)


def successes(images: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Whether each picture's first caption scores highest; a tie of k captions counts 1/k.

    Args:
        images: Unit vectors `[n, dim]`.
        texts: Of each picture's captions, the right one first, `[n, choices, dim]`.

    Returns:
        `[n]`, 0 to 1.
    """
    scores = np.einsum("nd,ncd->nc", images.astype(np.float64), texts.astype(np.float64))
    best = scores >= scores.max(1, keepdims=True) - 1e-9
    return best[:, 0] / best.sum(1)


def other_concepts(prompts: tuple[Prompt, ...], choices: int, seed: int = SEED) -> NDArray[np.int64]:
    """For each prompt its own number, then those of prompts of other concepts drawn by the seed: `[n, choices]`.

    Where there are too few other concepts the rows are shorter, all alike.
    """
    rng = step_rng(seed, "eval", 2)
    concepts = np.asarray([p.concept for p in prompts])
    fewest = min(int((concepts != concept).sum()) for concept in concepts)
    rows = []
    for i, concept in enumerate(concepts):
        others = rng.permutation(np.flatnonzero(concepts != concept))[: min(choices - 1, fewest)]
        rows.append(np.concatenate([[i], others]))
    return np.asarray(rows, np.int64)


def pick_caption(
    judge: Judge, pictures: NDArray[np.uint8], prompts: tuple[Prompt, ...], locale: str, choices: int
) -> NDArray[np.float64]:
    """The bar's measure: right captions among those of other concepts, `[n]`."""
    texts = judge.embed_texts([p.captions[locale] for p in prompts])
    return successes(judge.embed_images(pictures), texts[other_concepts(prompts, choices)])


def pick_kin(
    judge: Judge, pictures: NDArray[np.uint8], prompts: tuple[Prompt, ...], locale: str, choices: int
) -> NDArray[np.float64]:
    """The harder one: all captions name the same concept and differ in style, colour or background, `[n]`."""
    images = judge.embed_images(pictures)
    styles = tuple(sorted({p.picture.style for p in prompts}))
    rng = step_rng(SEED, "eval", 3)
    found = []
    for i, prompt in enumerate(prompts):
        captions = [prompt.captions[locale]]
        captions += [caption(prompt.picture, one, locale) for one in false_kin(prompt, styles, choices - 1, rng)]
        found.append(successes(images[i : i + 1], judge.embed_texts(captions)[None])[0])
    return np.asarray(found)


def pick_style(
    judge: Judge, pictures: NDArray[np.uint8], prompts: tuple[Prompt, ...], locale: str = "en"
) -> NDArray[np.float64]:
    """Whether the judge reads the asked style: captions that differ in nothing else, `[n]`."""
    images = judge.embed_images(pictures)
    styles = sorted({p.picture.style for p in prompts})
    found = []
    for i, prompt in enumerate(prompts):
        concept, own, hue, background = combination(prompt.picture, prompt.scene)
        order = [own, *(style for style in styles if style != own)]
        captions = [caption(prompt.picture, (concept, style, hue, background), locale) for style in order]
        found.append(successes(images[i : i + 1], judge.embed_texts(captions)[None])[0])
    return np.asarray(found)
