"""What methods share that change a model's own weights: thawing, and a whole model at the end."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import nn

from danqing.training.own.exporting import export_model
from danqing.training.own.methods.base import CardFacts
from danqing.training.own.methods.diffusion import DiffusionMethod

TEXT_SHARE = 0.5
"""Of the learning rate, for text encoders: they forget sooner."""


class WholeWeights(DiffusionMethod):
    """A denoiser whose weights are learnt, with or without its text encoders."""

    whole: ClassVar[bool] = True
    text: bool = False

    def thaw(self, *, text: bool) -> None:
        """Let the weights learn.

        Args:
            text: Also those of the text encoders.
        """
        self.text = text
        self.opened.unet.requires_grad_(True)
        if text:
            for _, encoder in self.opened.texts:
                encoder.model.float().requires_grad_(True)

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """All of it."""
        found = [(list(self.opened.unet.parameters()), 1.0)]
        if self.text:
            found += [(list(encoder.model.parameters()), TEXT_SHARE) for _, encoder in self.opened.texts]
        return found

    def modules(self) -> dict[str, nn.Module]:
        """What is learnt."""
        return self.opened.parts() if self.text else {"unet": self.opened.unet}

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """A diffusers folder, and one file in the original layout where that can be written."""
        del step
        return export_model(self.opened, folder, name, text=self.text)

    def card(self) -> CardFacts:
        """What became of the model."""
        facts = super().card()
        trigger = self.made.trigger
        usage = (
            f"A whole model: choose `{self.request.name}` as the model"
            + (f" and write the word `{trigger}`" if trigger else "")
            + ". It goes into `models/Stable-diffusion`: the folder here and in diffusers"
            + (", the `.safetensors` file also in AUTOMATIC1111." if not self.opened.info.builtin else ".")
        )
        more = {"learnt": "denoiser and text encoder" if self.text else "denoiser"}
        return CardFacts("whole model", {**facts.facts, **more}, usage, facts.licence_note)
