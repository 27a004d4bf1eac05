"""DreamBooth (Ruiz et al. 2022, arXiv 2208.12242): a subject bound to a rare word, as a network or in the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from danqing.spec.training_methods import DreamBoothRequest
from danqing.training.own.context import Context
from danqing.training.own.methods.base import CardFacts, LossMethod, Settings
from danqing.training.own.methods.diffusion import DiffusionMethod, family_settings
from danqing.training.own.methods.lora import DEFAULTS, Lora
from danqing.training.own.methods.weights import WholeWeights
from danqing.training.own.prior import Prior, with_class

WHOLE_DEFAULTS = {
    "danqing": Settings(steps=300, batch=8, learning_rate=5e-5),
    "sdxl": Settings(steps=800, batch=1, learning_rate=1e-6),
    "*": Settings(steps=800, batch=1, learning_rate=2e-6),
}


class DreamBooth:
    """A subject; the Request says whether beside the weights or in them."""

    @staticmethod
    def open(request: DreamBoothRequest, context: Context) -> LossMethod:
        """Model and set, the class painted, what is learnt made ready."""
        if request.network is None:
            return DreamBoothWeights.open(request, context)
        return DreamBoothNetwork.open(request, context)


class _WithClass(DiffusionMethod):
    """Pictures of the class are shown too, painted by the model as it is before anything is learnt."""

    prior: Prior

    def add_class(self, request: DreamBoothRequest, context: Context) -> None:
        """Paint what is missing of the class."""
        self.prior = with_class(self.made, request, self.opened, context)
        self.made = self.prior.made

    def show_both(self, folder: Path, request: DreamBoothRequest, *, live_text: bool) -> None:
        """Make batches of the subject and its class."""
        weight, elsewhere = request.prior_weight, self.prior.elsewhere
        self.show(folder, live_text=live_text, prior_weight=weight, elsewhere=elsewhere)

    def preparation_s(self) -> float:
        """The class is painted too."""
        return super().preparation_s() + self.prior.seconds

    def card(self) -> CardFacts:
        """With the class."""
        return _with_class(super().card(), self.prior, self.data.options.prior_weight)


class DreamBoothNetwork(_WithClass, Lora):
    """A subject in a network beside the frozen model."""

    @classmethod
    def open(cls, request: DreamBoothRequest, context: Context) -> Self:  # type: ignore[override]
        """As a LoRA, with the class."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.add_class(request, context)
        shape = request.network
        if shape is None:
            raise ValueError("a network is needed here")
        method.add_network(method.chosen(shape))
        method.show_both(folder, request, live_text=bool(method.shape.text_encoder))
        return method


class DreamBoothWeights(_WithClass, WholeWeights):
    """A subject in the weights themselves; a whole model comes out."""

    @classmethod
    def open(cls, request: DreamBoothRequest, context: Context) -> Self:
        """As a fine-tune, with the class."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, WHOLE_DEFAULTS))
        method.add_class(request, context)
        method.thaw(text=request.train_text_encoder)
        method.show_both(folder, request, live_text=request.train_text_encoder)
        return method


def _with_class(facts: CardFacts, prior: Prior, weight: float) -> CardFacts:
    count = sum(picture.regularisation for picture in prior.made.pictures)
    said = f"{prior.made.class_words or 'not named'}, {count} pictures, weight {weight:g}" if count else "not kept"
    return CardFacts(f"DreamBooth, {facts.kind}", {**facts.facts, "class": said}, facts.usage, facts.licence_note)
