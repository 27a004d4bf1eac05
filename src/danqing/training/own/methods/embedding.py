"""Textual inversion (Gal et al. 2022, arXiv 2208.01618): a new word for a frozen model, learnt from a set's pictures.

min over v of E‖ε − ε_θ(x_t, t, c(v))‖², where c(v) is a caption with the vectors v in the place of the word. Nothing
else learns: not the denoiser, not the text encoders, no other row of their tables.

A negative word is learnt with the same objective from pictures that show what to avoid, half of the time as the whole
text: that is how it is used. It then stands in the negative prompt, whose answer classifier-free guidance moves away
from (Ho and Salimans 2022, arXiv 2207.12598): ε_θ(v) + s·(ε_θ(prompt) − ε_θ(v)). So do the negative embeddings that are
passed around for Stable Diffusion: plain inversions of bad pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from torch import nn

from danqing.adapters.embedding import write_embedding
from danqing.sets.captions import says
from danqing.spec.training_methods import EmbeddingRequest
from danqing.spec.training_set import TrainingSet
from danqing.training.own.captions import CaptionRules
from danqing.training.own.context import Context
from danqing.training.own.data import Batch
from danqing.training.own.methods.base import CardFacts, Losses, Sample, Settings
from danqing.training.own.methods.diffusion import SAMPLE_SEED, DiffusionMethod, family_settings
from danqing.training.own.networks.metadata import BASE_VERSION, base_version
from danqing.training.own.sampling import Painting, grid, paint
from danqing.training.own.words import NewWord, WordOpened

DEFAULTS = {
    "danqing": Settings(steps=250, batch=8, learning_rate=2e-2),
    "sdxl": Settings(steps=2000, batch=1, learning_rate=5e-3),
    "*": Settings(steps=2000, batch=2, learning_rate=5e-3),
}
"""By family of the model; Gal et al.: 5000 steps of 8 at 5e-3 (after scaling by their batch, 0.04)."""
NEGATIVE_ALONE = 0.5
"""Share of a negative word's steps that show it as the whole text."""
_NAMES = {"te": "clip_l", "te2": "clip_g"}


class Embedding(DiffusionMethod):
    """A word that is learnt."""

    request: EmbeddingRequest  # type: ignore[assignment]
    word: NewWord

    @classmethod
    def open(cls, request: EmbeddingRequest, context: Context) -> Self:
        """Model, set and the word's first vectors."""
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.made = named(method.made, request.name)
        names = (request.name, method.made.trigger)
        texts = method.opened.texts
        method.word = NewWord(names, texts, request.vectors, request.initial_words, request.seed)
        method.opened = WordOpened.of(method.opened, method.word)
        alone = max(request.caption_dropout, NEGATIVE_ALONE) if request.negative else request.caption_dropout
        rules = replace(CaptionRules.of(request), caption_dropout=alone, dropped=request.name)
        method.show(folder, live_text=True, rules=rules)
        return method

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """The vectors."""
        return [(list(self.word.parameters()), 1.0)]

    def modules(self) -> dict[str, nn.Module]:
        """The word."""
        return {"word": self.word}

    def loss_of(self, drawn: Batch) -> Losses:
        """The denoiser's error, and what keeps the vectors' lengths like other words' where that is wanted."""
        found = super().loss_of(drawn)
        if self.request.norm_weight <= 0:
            return found
        strange = self.word.strangeness()
        total = found.total + self.request.norm_weight * strange
        return Losses(total, {**found.parts, "strangeness": strange.detach()})

    def sample(self, step: int) -> Sequence[Sample]:
        """Prompts with the word; a negative one stands in the negative prompt, beside the same without it."""
        if not self.request.negative:
            return super().sample(step)
        own = [one.picture.caption for one in self.data.examples if not one.picture.regularisation]
        prompts = list(self.request.sample_prompts) or list(dict.fromkeys(own))[:4]
        wanted = [Painting(prompt, SAMPLE_SEED + i) for i, prompt in enumerate(prompts)]
        wanted += [replace(one, negative=self.request.name) for one in wanted]
        labels = [*prompts, *[f"{prompt} − {self.request.name}" for prompt in prompts]]
        return [Sample(grid(paint(self.opened, wanted, self.look()), labels, len(prompts)))]

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.safetensors`: `emb_params`, or `clip_l` and `clip_g` for SDXL."""
        path = folder / f"{name}.safetensors"
        kept = {part: vectors.detach().float() for part, vectors in self.word.vectors.items()}
        vectors = (
            {_NAMES[part]: one for part, one in kept.items()} if len(kept) > 1 else {"": next(iter(kept.values()))}
        )
        info = self.opened.info
        about = {"sd_checkpoint": info.sha256[:10], "sd_checkpoint_name": info.name, "use": self._use}
        about[BASE_VERSION] = base_version(info.family)
        write_embedding(path, vectors, name=name, step=step, about=about)
        return [path]

    @property
    def _use(self) -> str:
        return "negative prompt" if self.request.negative else "prompt"

    def card(self) -> CardFacts:
        """How the word is written, and where."""
        facts, request = super().card(), self.request
        kind = f"{'negative embedding' if request.negative else 'embedding'} of {request.vectors} vectors"
        more = {
            "word": request.name,
            "began as": request.initial_words or "random vectors like those of other words",
        }
        facts.facts.pop("trigger word", None)
        where = (
            f"Write `{request.name}` into the **negative prompt**: pictures move away from what the set shows."
            if request.negative
            else f"Write `{request.name}` into the prompt: `{request.name}, a picture of something`."
        )
        usage = (
            f"{where} The word is the file's name; it goes into `embeddings`, here and in AUTOMATIC1111. diffusers "
            f'reads it with `pipe.load_textual_inversion(file, token="{request.name}")`.'
        )
        return CardFacts(kind, {**facts.facts, **more}, usage, facts.licence_note)


def named(made: TrainingSet, name: str) -> TrainingSet:
    """The set with captions that name the word, by its trigger or, where it has none, by the word's own name."""
    trigger = made.trigger or name
    template = made.caption_template
    if "{trigger}" not in template and not says(template, trigger):
        template = f"{{trigger}}, {template}"
    return made.model_copy(update={"trigger": trigger, "caption_template": template})
