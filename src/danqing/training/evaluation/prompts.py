"""Unseen combinations: known concepts in a style, colour and background that no training scene had together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from danqing.models.colors import MEASURED, color_indices
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.colors import CHROMATIC, COLORS
from danqing.training.builtin.captions import Words, say, style_words
from danqing.training.builtin.config import SceneConfig, TrainConfig
from danqing.training.builtin.dataset import LOCALES, Dataset, Picture
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.pool import row_scenes
from danqing.training.builtin.scenes import BACKGROUNDS, Scene, draw_scene, paint_scene

SEED = 70921
"""Fixes the prompts and everything else that the evaluation draws; no training run has it."""
TRIES = 40
Combination: TypeAlias = tuple[str, str, str | None, tuple[str, ...]]
"""Concept, style, colour (None for its own), background."""


@dataclass(frozen=True)
class Prompt:
    """One thing to paint.

    Attributes:
        picture: The real drawing of this concept in this style.
        scene: Its asked colour and background.
        captions: The same in `en`, `zh` (Simplified) and `zh-hant`.
    """

    picture: Picture
    scene: Scene
    captions: dict[str, str]

    @property
    def concept(self) -> str:
        """Its code points."""
        return self.picture.concept.hexcode


def combination(picture: Picture, scene: Scene) -> Combination:
    """What makes a scene a new one."""
    return picture.concept.hexcode, picture.style, scene.hue, scene.background


def seen_combinations(drawings: Dataset, config: TrainConfig) -> frozenset[Combination]:
    """What the UNet's pool shows: the same scenes as `make_pool` draws, without painting them."""
    return frozenset(
        combination(picture, scene)
        for picture in drawings.pictures
        for scene in row_scenes(drawings, picture.row, config.scenes, config.seed)
    )


def plain_name(color: str) -> str:
    """What a measured pixel of this colour is called: `dark blue` is blue."""
    return MEASURED[int(color_indices(np.asarray([[COLORS[color].rgb]], np.uint8))[0, 0])]


def caption(picture: Picture, combined: Combination, locale: str) -> str:
    """A plain caption of this concept in any style, colour and background."""
    _, style, hue, background = combined
    color = COLORS[hue].name(locale) if hue else ""
    label = picture.concept.words[locale][0]
    return say(Words(label, style_words(style, locale)[0], color, background=background), locale)


def scene_config(config: TrainConfig) -> SceneConfig:
    """Scenes that ask for much: two in three recoloured where that is possible, a background nearly always."""
    return replace(config.scenes, flat=0.8, gradient=0.15, transparent=0.0, recolor=0.67, several=0.0)


def make_prompts(
    drawings: Dataset, seen: frozenset[Combination], config: TrainConfig, count: int, seed: int = SEED
) -> tuple[Prompt, ...]:
    """`count` prompts, no concept twice before all have had their turn, styles in turn; fixed by the seed.

    A drawing is not asked for in the colour of its background, where nobody could see it.

    Raises:
        InvalidRequestError: The drawings allow fewer than two.
    """
    rng = step_rng(seed, "eval", 0)
    found: dict[Combination, Prompt] = {}
    for picture in _in_turn(drawings, rng, rounds=4):
        if len(found) == count:
            break
        rgba = np.asarray(drawings.rgba[picture.row])
        for _ in range(TRIES):
            scene = replace(draw_scene(picture, rgba, scene_config(config), rng), mirrored=False)
            combined = combination(picture, scene)
            hidden = scene.hue is not None and scene.hue in {plain_name(c) for c in scene.background}
            if combined not in seen and combined not in found and not hidden:
                captions = {locale: caption(picture, combined, locale) for locale in LOCALES}
                found[combined] = Prompt(picture, scene, captions)
                break
    if len(found) < 2:
        raise InvalidRequestError(
            "the drawings allow no unseen combinations in three languages",
            field="data",
            value=f"{len(drawings.pictures)} drawings, {len(found)} combinations",
            allowed="at least 2 drawings with labels in en, zh and zh-hant",
        )
    return tuple(found.values())


def _in_turn(drawings: Dataset, rng: np.random.Generator, rounds: int) -> Iterator[Picture]:
    """Every concept once in each round, in random order, each time in another style."""
    by_concept: dict[str, list[Picture]] = {}
    for picture in drawings.pictures:
        if all(picture.concept.words.get(locale) for locale in LOCALES):
            by_concept.setdefault(picture.concept.hexcode, []).append(picture)
    concepts = list(by_concept)
    place = 0
    for _ in range(rounds):
        for i in rng.permutation(len(concepts)):
            kin = by_concept[concepts[int(i)]]
            yield kin[place % len(kin)]
            place += 1


def paint_prompts(drawings: Dataset, prompts: tuple[Prompt, ...], size_px: int) -> NDArray[np.uint8]:
    """What a perfect painter would paint: the real drawings in the asked scenes, `[n, size, size, 3]`."""
    return np.stack([paint_scene(np.asarray(drawings.rgba[p.picture.row]), p.scene, size_px) for p in prompts])


def false_kin(prompt: Prompt, styles: tuple[str, ...], count: int, rng: np.random.Generator) -> list[Combination]:
    """Up to `count` combinations of the same concept that are all false of the prompt's picture.

    Each has another style, another background, or another colour where one was asked for.
    """
    right = combination(prompt.picture, prompt.scene)
    found: dict[Combination, None] = {}
    for _ in range(50 * count):
        if len(found) == count:
            break
        background = tuple(str(c) for c in rng.choice(BACKGROUNDS, 2 if rng.random() < 0.15 else 1, replace=False))
        if rng.random() < 0.3:
            background = right[3]
        hue = right[2] and str(rng.choice(CHROMATIC))
        other = (right[0], str(rng.choice(styles)), hue, background)
        if other != right:
            found[other] = None
    return list(found)
