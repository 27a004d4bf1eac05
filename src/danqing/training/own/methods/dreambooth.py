"""DreamBooth (Ruiz et al. 2022, arXiv 2208.12242): a subject bound to a rare word, as a network or in the weights."""

from __future__ import annotations

from typing import Self

from danqing.spec.training_methods import DreamBoothRequest
from danqing.training.own.context import Context
from danqing.training.own.methods.base import CardFacts, Method, Settings
from danqing.training.own.methods.diffusion import family_settings
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
    def open(request: DreamBoothRequest, context: Context) -> Method:
        """Model and set, the class painted, what is learnt made ready."""
        if request.network is None:
            return DreamBoothWeights.open(request, context)
        return DreamBoothNetwork.open(request, context)


class DreamBoothNetwork(Lora):
    """A subject in a network beside the frozen model."""

    prior: Prior

    @classmethod
    def open(cls, request: DreamBoothRequest, context: Context) -> Self:  # type: ignore[override]
        """As a LoRA, with the class."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        # Before the network is there: the class is painted by the model as it is.
        method.prior = with_class(method.made, request, method.opened, context)
        method.made = method.prior.made
        shape = request.network
        if shape is None:
            raise ValueError("a network is needed here")
        method.add_network(shape)
        method.show(
            folder,
            live_text=shape.text_encoder,
            prior_weight=request.prior_weight,
            elsewhere=method.prior.elsewhere,
        )
        return method

    def preparation_s(self) -> float:
        """The class is painted too."""
        return super().preparation_s() + self.prior.seconds

    def card(self) -> CardFacts:
        """As a LoRA's, with the class."""
        return _with_class(super().card(), self.prior, self.data.options.prior_weight)


class DreamBoothWeights(WholeWeights):
    """A subject in the weights themselves; a whole model comes out."""

    prior: Prior

    @classmethod
    def open(cls, request: DreamBoothRequest, context: Context) -> Self:
        """As a fine-tune, with the class."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, WHOLE_DEFAULTS))
        method.prior = with_class(method.made, request, method.opened, context)
        method.made = method.prior.made
        method.thaw(text=request.train_text_encoder)
        method.show(
            folder,
            live_text=request.train_text_encoder,
            prior_weight=request.prior_weight,
            elsewhere=method.prior.elsewhere,
        )
        return method

    def preparation_s(self) -> float:
        """The class is painted too."""
        return super().preparation_s() + self.prior.seconds

    def card(self) -> CardFacts:
        """As a checkpoint's, with the class."""
        return _with_class(super().card(), self.prior, self.data.options.prior_weight)


def _with_class(facts: CardFacts, prior: Prior, weight: float) -> CardFacts:
    count = sum(picture.regularisation for picture in prior.made.pictures)
    said = f"{prior.made.class_words or 'not named'}, {count} pictures, weight {weight:g}" if count else "not kept"
    return CardFacts(f"DreamBooth, {facts.kind}", {**facts.facts, "class": said}, facts.usage, facts.licence_note)
