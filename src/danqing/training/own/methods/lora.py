"""LoRA and its kin on pictures of a set, written in kohya's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch import nn

from danqing.sets.captions import fill
from danqing.spec.training_methods import DreamBoothRequest, LoraRequest, NetworkShape
from danqing.training.own.context import Context
from danqing.training.own.methods.base import CardFacts, Settings
from danqing.training.own.methods.diffusion import DiffusionMethod, family_settings
from danqing.training.own.networks.metadata import Told, metadata_of
from danqing.training.own.networks.network import Network, write_network

DEFAULTS = {
    "danqing": Settings(steps=400, batch=4, learning_rate=1e-3),
    "sdxl": Settings(steps=1500, batch=1, learning_rate=1e-4),
    "*": Settings(steps=1500, batch=2, learning_rate=1e-4),
}
"""By family of the model."""
_KINDS = {"lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr"}


class Lora(DiffusionMethod):
    """A network beside the frozen model."""

    request: LoraRequest | DreamBoothRequest  # type: ignore[assignment]
    network: Network

    @classmethod
    def open(cls, request: LoraRequest, context: Context) -> Self:
        """Model, set and a fresh network."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.add_network(method.chosen(request.network))
        method.show(folder, live_text=bool(method.shape.text_encoder))
        return method

    def chosen(self, shape: NetworkShape) -> NetworkShape:
        """The shape with what it leaves open: for the built-in model text encoder and convolutions learn too.

        Measured there (docs/training.md): with its text encoder a style that the model half knows is learnt in fewer
        steps, and other subjects stay better; colours that it does not know come with convolutions only.
        """
        ours = self.opened.info.family == "danqing"
        text = ours if shape.text_encoder is None else shape.text_encoder
        conv = shape.rank if ours else 0
        if shape.conv_rank is not None:
            conv = shape.conv_rank
        return shape.model_copy(update={"text_encoder": text, "conv_rank": conv})

    def add_network(self, shape: NetworkShape) -> None:
        """Put a network on the model's modules."""
        self.shape = shape
        self.network = Network(self.opened.parts(), shape, self.request.seed).attach()

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """The network; text encoders' part has a share of the rate of its own."""
        text_rate = self.shape.text_learning_rate
        share = 1.0 if text_rate is None else text_rate / self.settings.learning_rate
        parts = [(self.network.parameters_of("unet"), 1.0), (self.network.parameters_of("te", "te2"), share)]
        return [(params, scale) for params, scale in parts if params]

    def modules(self) -> dict[str, nn.Module]:
        """The network alone: the model is frozen."""
        return {"network": self.network}

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.safetensors` with kohya's metadata."""
        told = Told(
            self.request, self.shape, self.settings, self.opened.info, self.made, self.data, name, step, self.gamma
        )
        path = folder / f"{name}.safetensors"
        return [write_network(path, self.network.state_for_file(), metadata_of(told))]

    def card(self) -> CardFacts:
        """What kind of network, and how it is called."""
        facts = super().card()
        shape = self.shape
        kind = f"{_KINDS[shape.kind]} of rank {shape.rank}"
        more = {"alpha": str(shape.rank if shape.alpha is None else shape.alpha)}
        if shape.conv_rank:
            more["convolutions"] = f"rank {shape.conv_rank}"
        more["layers"] = f"{len(self.network.chosen)}" + (", text encoder too" if shape.text_encoder else "")
        name, trigger = self.request.name, self.made.trigger
        said = fill(self.made.caption_template, "a red apple", trigger, self.made.class_words)
        usage = (
            f"Write `<lora:{name}:1>` into the prompt{f' and the word `{trigger}`' if trigger else ''}: "
            f"`{said} <lora:{name}:1>`. The number is its "
            "strength: 0.6 to 1 is usual, less lets more of the model through. The file goes into `models/Lora`, here "
            "and in AUTOMATIC1111; diffusers reads it with `pipe.load_lora_weights(file)`"
            + (
                " (LoRA only; other kinds are read by Danqing, AUTOMATIC1111 and ComfyUI)."
                if shape.kind != "lora"
                else "."
            )
        )
        return CardFacts(kind, {**facts.facts, **more}, usage, facts.licence_note)
