"""What the evaluation is made of: the evaluator's network, and how much of everything is measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The trainer's configuration holds this module's dataclass: at run time the one imports the other, not both.
    from danqing.training.builtin.config import StageConfig


@dataclass(frozen=True)
class EvaluatorConfig:
    """The judge: a residual CNN and a word-level text tower, trained apart from everything that paints.

    Attributes:
        stage: Its optimiser run.
        seed: Its own: no scene, caption or weight of it comes from the trainer's seed.
        size_px: Side of the pictures that it looks at.
        widths: Channels of the CNN's stages; each halves the side.
        blocks: Residual blocks in each stage.
        text_width: Width of the text tower.
        text_layers: Its transformer layers.
        text_heads: Heads of each.
        dim: Width of the space that both towers share.
        kin: Share of a batch that comes four to a concept, so that style, colour and background must be told apart.
        held_back: Share of the combinations of concept, style, colour and background that it is never shown.
    """

    stage: StageConfig
    seed: int = 48611
    size_px: int = 64
    widths: tuple[int, ...] = (24, 48, 96, 192)
    blocks: int = 1
    text_width: int = 192
    text_layers: int = 2
    text_heads: int = 4
    dim: int = 128
    kin: float = 0.5
    held_back: float = 0.1


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        prompts: Unseen combinations, each painted in three languages.
        choices: Captions that the evaluator picks from.
        vae: Held-out drawings that the autoencoder repeats; 0 for all.
        references: Real drawings in each set that the painted ones are compared with.
        neighbours: Training scenes of every drawing that a painted picture may be near to.
        controls: Scenes that every annotator's map is taken from.
        diverse: Prompts that are painted with several seeds.
        seeds: How many seeds.
        timed: Pictures painted one by one for the clock.
        sheet: Pictures on each contact sheet.
        batch: Pictures painted together.
    """

    prompts: int = 200
    choices: int = 50
    vae: int = 0
    references: int = 400
    neighbours: int = 4
    controls: int = 16
    diverse: int = 16
    seeds: int = 4
    timed: int = 5
    sheet: int = 32
    batch: int = 16

    def quick(self) -> Sizes:
        """A tenth of everything, to see that it runs."""
        small = {
            "prompts": 20,
            "choices": 10,
            "vae": 16,
            "references": 40,
            "neighbours": 1,
            "controls": 2,
            "diverse": 2,
            "seeds": 2,
            "timed": 1,
            "sheet": 8,
            "batch": 8,
        }
        return dataclasses.replace(self, **small)
