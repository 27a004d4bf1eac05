"""What a method of training is to the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from danqing.spec.training_methods import TrainingRequest
from danqing.training.own.context import Context


@dataclass(frozen=True)
class Settings:
    """What the Request may leave open, as the method chose it.

    Attributes:
        steps: Optimiser steps.
        batch: Pictures in a batch; `accumulate` batches make a step.
        learning_rate: At its height.
    """

    steps: int
    batch: int
    learning_rate: float

    @classmethod
    def of(cls, request: TrainingRequest, default: Settings) -> Settings:
        """What was asked for, the method's default where nothing was."""
        return cls(
            request.steps or default.steps,
            request.batch or default.batch,
            request.learning_rate or default.learning_rate,
        )


@dataclass(frozen=True)
class Losses:
    """A batch's loss, which is differentiated, and figures for the log (numbers, or tensors of one number)."""

    total: Tensor
    parts: dict[str, float | Tensor] = field(default_factory=dict[str, "float | Tensor"])


@dataclass(frozen=True)
class Sample:
    """A picture of what can be painted by now; `what` as in `SampleEvent`: grid, noising, denoising, loss …."""

    image: Image.Image
    what: str = "grid"


@dataclass(frozen=True)
class CardFacts:
    """What a method knows for the model card.

    Attributes:
        kind: What it made, in words: "LoRA (rank 16)".
        facts: Lines of the card's table: base model and its hash, set, pictures, trigger word, …
        usage: How to use it, in Markdown: what to write in a prompt, where the file goes.
        licence_note: Of the pictures.
        report: What was tried and how it scored, in Markdown: a section of its own.
    """

    kind: str
    facts: dict[str, str] = field(default_factory=dict[str, str])
    usage: str = ""
    licence_note: str = ""
    report: str = ""


class Method(ABC):
    """A method of training, opened. The loop calls it; it knows nothing of checkpoints or events.

    Of two kinds: a `LossMethod` says how wrong it is, a `SteppingMethod` makes its steps itself. What both share may be
    a class below this one; what is trained is one of the two.

    Randomness comes from `seeds` with (seed, purpose, number), never from anything that a resumed run would not have;
    the loop seeds PyTorch's global generator anew before each batch, so dropout may use that.

    Attributes:
        request: What was asked for.
        context: Where.
        settings: Steps, batch and learning rate.
    """

    request: TrainingRequest
    context: Context
    settings: Settings

    @classmethod
    @abstractmethod
    def open(cls, request: Any, context: Context) -> Self:
        """Everything loaded and prepared for the first step.

        Raises:
            DanqingError: It cannot be trained so: model, set, shapes.
        """

    @abstractmethod
    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is learnt: parameters with their share of the learning rate. Averaged where `ema` is asked for."""

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint keeps, by name. Everything that is trained is in there, all of it is loaded back."""

    def sample(self, step: int) -> Sequence[Sample]:
        """What can be painted by now, with fixed seeds; called with averaged weights in place."""
        del step
        return ()

    def score(self, step: int) -> float | None:
        """What the best checkpoint is picked by, higher is better; None where nothing is measured."""
        del step
        return None

    @abstractmethod
    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """Write what was learnt, usable elsewhere; the first path is the product.

        Args:
            folder: The run's `model/`, made.
            name: Stem of the file or folder.
            step: Of the weights that are in the modules now.
        """

    def finish(self, folder: Path) -> tuple[list[Path], dict[str, float]]:
        """Further files for `model/` at the very end, and figures for the last event and the card."""
        del folder
        return [], {}

    def nothing_gained(self) -> str:
        """Why what was learnt to the end is not worth a file, in words that follow "because"; empty where it is.

        Then nothing is exported or published; files and figures of `finish` and the card remain.
        """
        return ""

    def card(self) -> CardFacts:
        """What the model card says beside steps, rate, seed and figures."""
        return CardFacts(self.request.name)

    def data_digest(self) -> str:
        """Of what is trained on: a resumed run tells when it was changed meanwhile."""
        return ""

    def preparation_s(self) -> float:
        """Of an estimate: seconds that preparing the whole set will take, as opened for a few steps; 0 for none."""
        return 0.0


class LossMethod(Method):
    """A method that gives a loss: the loop differentiates it and brings the optimiser."""

    @abstractmethod
    def loss(self, batch: int) -> Tensor | Losses:
        """The mean loss of one batch, not yet differentiated.

        Args:
            batch: Which: `step · accumulate + part`; with an accumulation of 1 the step itself. Batches of one step
                make up the same pictures and noise as one batch of that many times the size.
        """


class SteppingMethod(Method):
    """A method with optimisers and steps of its own, for example two networks against each other."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """Its optimisers by name; checkpoints keep them."""

    @abstractmethod
    def advance(self, step: int) -> dict[str, float]:
        """One step with its own optimisers; figures for the log, `loss` among them.

        The loop has set every group's `lr` to its share (`lr_scale`, 1 if the group has none) of the schedule's.
        """


TrainedMethod = LossMethod | SteppingMethod
"""What can be trained: one of the two kinds."""
