"""The whole denoiser on pictures of a set; a checkpoint comes out."""

from __future__ import annotations

from typing import Self

from danqing.spec.training_methods import FinetuneRequest
from danqing.training.own.context import Context
from danqing.training.own.methods.base import Settings
from danqing.training.own.methods.diffusion import family_settings
from danqing.training.own.methods.weights import WholeWeights

DEFAULTS = {
    "danqing": Settings(steps=500, batch=8, learning_rate=1e-4),
    "sdxl": Settings(steps=3000, batch=1, learning_rate=2e-6),
    "*": Settings(steps=3000, batch=2, learning_rate=5e-6),
}


class Finetune(WholeWeights):
    """All weights of the denoiser, and of the text encoders where asked for."""

    @classmethod
    def open(cls, request: FinetuneRequest, context: Context) -> Self:
        """Model and set; the weights thawed."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.thaw(text=request.train_text_encoder)
        method.show(folder, live_text=request.train_text_encoder)
        return method
