"""What all methods share that change a diffusion model with the pictures of a set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from danqing.sets.folder import set_digest
from danqing.spec.training_methods import DiffusionRequest
from danqing.spec.training_set import TrainingSet
from danqing.training.own.context import Context
from danqing.training.own.data import Batch, DataOptions, TrainingData, open_set, pictures_of
from danqing.training.own.methods.base import CardFacts, Losses, LossMethod, Sample, Settings
from danqing.training.own.noise import Levels, Noised, noised, squared_error
from danqing.training.own.opened import Opened, open_model
from danqing.training.own.sampling import Look, Painting, grid, paint

SAMPLE_SEED = 1000
MIN_SNR_GAMMA = 5.0
SAMPLE_STEPS = 12
SCORE_BATCH = 16
_SAMPLES = 4


class DiffusionMethod(LossMethod):
    """A model, a set, and the denoiser's loss on it. Subclasses say what is learnt, and may change each part.

    Attributes:
        opened: The model.
        data: The set as batches.
        levels: How noise levels are drawn.
        whole: Whether the denoiser's own weights are learnt.
        live_text: Whether what the text encoders say changes while it is learnt.
    """

    whole: ClassVar[bool] = False
    live_text: ClassVar[bool] = False
    request: DiffusionRequest
    opened: Opened
    data: TrainingData
    levels: Levels
    made: TrainingSet

    def begin(self, request: DiffusionRequest, context: Context) -> Path:
        """Open set and model; the set's folder. Settings, `data` and what is learnt are still to come.

        Raises:
            DanqingError: The set or the model cannot be used.
        """
        self.request, self.context = request, context
        self.made, folder = open_set(request, context)
        self.opened = open_model(request.model, context, request.precision, whole=self.whole)
        self.levels = choose_levels(self.opened).between(request.min_timestep, request.max_timestep)
        self._fixed: list[Batch] | None = None
        return folder

    def show(self, folder: Path, *, live_text: bool = False, **options: Any) -> None:
        """Make batches of the set, with `settings` settled.

        Args:
            folder: The set's.
            live_text: As in `DataOptions`.
            options: Further fields of `DataOptions`.
        """
        chosen = DataOptions.of(self.request, self.settings, self.opened, live_text=live_text)
        chosen = type(chosen)(**{**vars(chosen), **options})
        self.data = TrainingData(self.opened, self.made, folder, chosen, self.levels)
        if self.request.gradient_checkpointing:
            self.opened.unet.enable_gradient_checkpointing()
        if not self.context.estimating:
            self.data.prepare()

    def loss(self, batch: int) -> Tensor | Losses:
        """The weighted squared error of the denoiser's answer."""
        return self.loss_of(self.data.batch(batch))

    def loss_of(self, drawn: Batch) -> Losses:
        """The same of a batch that was drawn."""
        alphas = self.levels.signal(drawn.times)
        noisy = noised(drawn.latents, drawn.noise, alphas, self.opened.prediction, self.gamma)
        answer = self.answer(noisy, drawn)
        each = squared_error(answer, noisy, drawn.mask) * drawn.weights
        kin = [row for row, show in enumerate(drawn.shows) if show.example.picture.regularisation]
        if not kin:
            return Losses(each.mean())
        return Losses(each.mean(), {"prior": each.detach()[kin].mean()})

    def answer(self, noisy: Noised, drawn: Batch) -> Tensor:
        """What the denoiser says [b, c, h, w]; a method that steers it gives it more."""
        return self.opened.predict(noisy.x, drawn.times, drawn.context, drawn.added)

    @torch.no_grad()
    def score(self, step: int) -> float | None:
        """Less the loss at fixed pictures, noise and levels; of held-back pictures where there are enough."""
        del step
        if self._fixed is None:
            self._fixed = self.data.fixed_batches(SCORE_BATCH)
        losses: list[float] = []
        for batch in self._fixed:
            drawn = self.refreshed(batch) if self.data.options.live_text else batch
            losses += [float(self.loss_of(drawn).total)] * len(batch.shows)
        return -sum(losses) / len(losses)

    def refreshed(self, batch: Batch) -> Batch:
        """A fixed batch with its texts read anew."""
        context, pooled = self.data.text([show.caption for show in batch.shows])
        added = batch.added if pooled is None or batch.added is None else type(batch.added)(pooled, batch.added.numbers)
        return Batch(**{**vars(batch), "context": context, "added": added})

    @property
    def gamma(self) -> float:
        """Of min-SNR weights. The built-in model was trained without: they leave out the levels that set colours."""
        asked = self.request.min_snr_gamma
        if asked is not None:
            return asked
        return 0.0 if self.opened.info.family == "danqing" else MIN_SNR_GAMMA

    def sample_prompts(self) -> list[str]:
        """What samples show: what was asked for, else the first captions of the set."""
        if self.request.sample_prompts:
            return list(self.request.sample_prompts)
        own = [one.caption for one in self.data.examples if not one.picture.regularisation]
        return list(dict.fromkeys(own))[:_SAMPLES]

    def sample(self, step: int) -> Sequence[Sample]:
        """The prompts with fixed seeds, side by side."""
        del step
        prompts = self.sample_prompts()
        wanted = [Painting(prompt, SAMPLE_SEED + i) for i, prompt in enumerate(prompts)]
        pictures = paint(self.opened, wanted, self.look())
        return [Sample(grid(pictures, prompts))]

    def look(self) -> Look:
        """How samples are painted: as the model likes it, in few steps."""
        likes = self.opened.info.defaults
        return Look.of(self.opened, self.request.size_px, min(likes.steps, SAMPLE_STEPS))

    def preparation_s(self) -> float:
        """Seconds that encoding the set will take, from one picture."""
        if not self.data.options.cache:
            return 0.0
        started = time.monotonic()
        self.data.fixed_batches(1, rounds=1)[:1]
        one = (time.monotonic() - started) / max(1, len(self.data.fixed_batches(1, rounds=1)))
        return one * len(self.data.examples) * (1 + self.data.options.mirror)

    def card(self) -> CardFacts:
        """Model, set and words."""
        info, own = self.opened.info, pictures_of(self.made)
        facts = {
            "base model": f"{info.name} (sha256 {info.sha256})",
            "training set": f"{self.made.name}, {len(own)} pictures",
            "trigger word": self.made.trigger or "none",
            "size": f"{self.data.options.size_px} px",
        }
        return CardFacts(self.request.method, facts, licence_note=self.made.licence_note)  # type: ignore[attr-defined]

    def data_digest(self) -> str:
        """Of what is trained on: a resumed run tells when it was changed."""
        return set_digest(self.made) + self.opened.info.sha256


def choose_levels(opened: Opened) -> Levels:
    """How noise levels are drawn: as the model itself was trained."""
    return Levels.bell(opened.table) if opened.info.family == "danqing" else Levels.uniform(opened.table)


def family_settings(opened: Opened, table: dict[str, Settings]) -> Settings:
    """A method's defaults for the model's family; `*` for those that are not named."""
    return table.get(opened.info.family, table["*"])
