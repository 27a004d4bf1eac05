"""A slider: a LoRA whose strength moves pictures between two words (Gandikota et al. 2023, arXiv 2311.12092).

The text form: no pictures are needed. On x_t that the model itself painted up to noise level t, from the target's
words, the network at strength ±1 learns what the bare model would say, moved along the difference of two texts:

    ε_±(x_t, target) ← ε(x_t, target) ± η · (ε(x_t, positive) − ε(x_t, negative))

with both signs in every step, so that the file works at negative strengths as well. Words to preserve join all three
texts in turn (the paper's disentangled direction): what they say is in both ends and falls out of the difference. For a
v-predicting model the same holds of v, which at one x_t is an affine function of ε.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from danqing.models.families.sd import Added
from danqing.sampling.prediction import Prediction
from danqing.sets.captions import join_tags, says
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import SliderRequest
from danqing.training.own.context import Context
from danqing.training.own.methods.base import CardFacts, Losses, LossMethod, Sample, Settings
from danqing.training.own.methods.diffusion import SAMPLE_SEED, SAMPLE_STEPS
from danqing.training.own.networks.network import Network, write_network
from danqing.training.own.opened import Opened, open_model
from danqing.training.own.sampling import Look, Painting, grid, paint
from danqing.training.own.seeds import rng_of, torch_of

DEFAULTS = {
    "danqing": Settings(steps=150, batch=4, learning_rate=1e-3),
    "sdxl": Settings(steps=500, batch=1, learning_rate=2e-4),
    "*": Settings(steps=500, batch=1, learning_rate=2e-4),
}
"""By family of the model; Gandikota et al.: 500 steps of 1 at 2e-4."""
PAINTING_STEPS = 16
"""Into which the way from noise to picture is cut; a step trains at one of them."""
STRENGTHS = (-1.0, 0.0, 1.0)
"""What samples show, and at which the model paints what it is trained on."""


@dataclass(frozen=True)
class Ends:
    """The texts of a step."""

    target: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Read:
    """A text as the denoiser reads it, for a batch."""

    context: Tensor
    added: Added | None


class Slider(LossMethod):
    """A network between two words.

    Attributes:
        opened: The model.
        network: What is learnt.
        ends: The texts that steps take in turn.
        look: How pictures are painted, half-way ones too.
        alphas: ᾱ of each time step [T].
    """

    request: SliderRequest
    opened: Opened
    network: Network
    ends: list[Ends]
    look: Look
    alphas: NDArray[np.float64]
    _texts: dict[str, tuple[Tensor, Tensor | None]]

    @classmethod
    def open(cls, request: SliderRequest, context: Context) -> Self:
        """The model and a fresh network.

        Raises:
            DanqingError: The model cannot be used, or the two ends are the same.
        """
        if request.positive.strip() == request.negative.strip():
            raise InvalidRequestError(
                "a slider leads from one text to another",
                field="negative",
                value=request.negative,
                allowed="other words than `positive`, or none",
                next_step="say what the other end shows",
            )
        method = cls()
        method.request, method.context = request, context
        method.opened = open_model(request.model, context, request.precision)
        method.settings = Settings.of(request, DEFAULTS.get(method.opened.info.family, DEFAULTS["*"]))
        parts: dict[str, nn.Module] = {"unet": method.opened.unet}
        method.network = Network(parts, request.network, request.seed).attach()
        method.ends = ends_of(request)
        method.look = Look.of(method.opened, request.size_px, SAMPLE_STEPS)
        method.alphas = 1.0 / (1.0 + np.asarray(method.opened.table.sigmas, np.float64) ** 2)
        method._texts = {}
        return method

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """The network."""
        return [(self.network.parameters_of("unet"), 1.0)]

    def modules(self) -> dict[str, nn.Module]:
        """The network alone: the model is frozen."""
        return {"network": self.network}

    def loss(self, batch: int) -> Tensor | Losses:
        """The mean squared error of both directions."""
        rng = rng_of(self.request.seed, "slider", batch)
        ends = self.ends[int(rng.integers(len(self.ends)))]
        stop = int(rng.integers(PAINTING_STEPS))
        strength = STRENGTHS[int(rng.integers(len(STRENGTHS)))]
        times = self.times()
        with torch.no_grad():
            x = self._painted(ends.target, batch, times[: stop + 1], strength)
            at = torch.full((len(x),), int(times[stop]), device=x.device)
            with self.network.at(0.0):
                middle, plus, minus = (
                    self._answer(x, at, self._read(text, len(x)))
                    for text in (ends.target, ends.positive, ends.negative)
                )
            way = self.request.guidance_scale * (plus - minus)
        text = self._read(ends.target, len(x))
        errors: dict[float, Tensor] = {}
        for sign in (1.0, -1.0):
            with self.network.at(sign):
                errors[sign] = (self._answer(x, at, text) - (middle + sign * way)).square().mean()
        parts: dict[str, float | Tensor] = {"plus": errors[1.0].detach(), "minus": errors[-1.0].detach()}
        return Losses((errors[1.0] + errors[-1.0]) / 2, parts)

    def times(self) -> NDArray[np.int64]:
        """Time steps from pure noise on, evenly [PAINTING_STEPS]."""
        return np.linspace(len(self.alphas) - 1, 0, PAINTING_STEPS + 1)[:-1].round().astype(np.int64)

    def _painted(self, words: str, batch: int, times: NDArray[np.int64], strength: float) -> Tensor:
        """Pictures on their way: x at the last of `times` [b, c, h, w], by DDIM (Song et al. 2021) with guidance."""
        opened, look, count = self.opened, self.look, self.settings.batch
        scale = opened.latent_scale
        shape = (count, opened.info.latent_channels, look.height_px // scale, look.width_px // scale)
        x = torch.randn(shape, generator=torch_of(self.request.seed, "slider noise", batch)).to(opened.device)
        own, empty = self._read(words, count), self._read("", count)
        with self.network.at(strength):
            for now, then in pairwise(times):
                at = torch.full((count,), int(now), device=x.device)
                answer = self._answer(x, at, empty)
                if words and look.guidance != 1:
                    answer = answer + look.guidance * (self._answer(x, at, own) - answer)
                x = self._moved(x, answer, float(self.alphas[now]), float(self.alphas[then]))
        return x

    def _moved(self, x: Tensor, answer: Tensor, alpha: float, onto: float) -> Tensor:
        """X from the level ᾱ to another, along what the denoiser says."""
        a, s = alpha**0.5, (1.0 - alpha) ** 0.5
        if self.opened.prediction is Prediction.EPSILON:
            noise, clean = answer, (x - s * answer) / a
        else:
            noise, clean = s * x + a * answer, a * x - s * answer
        return onto**0.5 * clean + (1.0 - onto) ** 0.5 * noise

    def _answer(self, x: Tensor, at: Tensor, text: Read) -> Tensor:
        return self.opened.predict(x, at, text.context, text.added)

    def _read(self, words: str, count: int) -> Read:
        """A text for a batch; each is read once."""
        if words not in self._texts:
            with torch.no_grad():
                self._texts[words] = self.opened.read_text(self.opened.token_ids([words]))
        states, pooled = self._texts[words]
        added = None
        if self.opened.is_sdxl and pooled is not None:
            sizes = (self.look.height_px, self.look.width_px, 0, 0, self.look.height_px, self.look.width_px)
            numbers = torch.tensor([sizes] * count, dtype=torch.float32, device=self.opened.device)
            added = Added(pooled.expand(count, -1), numbers)
        return Read(states.expand(count, -1, -1), added)

    def sample(self, step: int) -> Sequence[Sample]:
        """Each prompt at the strengths −1, 0 and 1."""
        del step
        prompts = list(self.request.sample_prompts) or list(dict.fromkeys(one.target for one in self.ends))[:4]
        return [Sample(self.sheet(prompts, STRENGTHS))]

    def sheet(self, prompts: Sequence[str], strengths: Sequence[float]) -> Image.Image:
        """Prompts in rows, strengths in columns, one seed a row."""
        wanted = [Painting(prompt, SAMPLE_SEED + i) for i, prompt in enumerate(prompts)]
        columns: list[list[Image.Image]] = []
        for strength in strengths:
            with self.network.at(strength):
                columns.append(paint(self.opened, wanted, self.look))
        pictures = [column[row] for row in range(len(prompts)) for column in columns]
        labels = [f"{prompt or '(no words)'} @ {strength:+g}" for prompt in prompts for strength in strengths]
        return grid(pictures, labels, len(strengths))

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.safetensors` in kohya's layout."""
        request, info, shape = self.request, self.opened.info, self.request.network
        told = {
            "ss_network_module": "networks.lora" if shape.kind == "lora" else "lycoris.kohya",
            "ss_network_dim": str(shape.rank),
            "ss_network_alpha": str(float(shape.rank if shape.alpha is None else shape.alpha)),
            "ss_output_name": name,
            "ss_sd_model_name": Path(info.path).name,
            "ss_new_sd_model_hash": info.sha256,
            "ss_steps": str(step),
            "ss_learning_rate": str(self.settings.learning_rate),
            "ss_seed": str(request.seed),
            "ss_training_comment": f"slider from {request.negative or 'nothing'!r} to {request.positive!r}",
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.implementation": "danqing",
            "modelspec.title": name,
        }
        return [write_network(folder / f"{name}.safetensors", self.network.state_for_file(), told)]

    def data_digest(self) -> str:
        """Of the model: there are no pictures."""
        return self.opened.info.sha256

    def card(self) -> CardFacts:
        """Its two ends, and how it is called."""
        request, info = self.request, self.opened.info
        facts = {
            "base model": f"{info.name} (sha256 {info.sha256})",
            "target": request.target or "any picture",
            "at positive strength": request.positive,
            "at negative strength": request.negative or "away from that",
            "preserved": ", ".join(request.preserve) or "nothing in particular",
            "guidance scale η": f"{request.guidance_scale:g}",
        }
        usage = (
            f"Write `<lora:{request.name}:1>` for more of “{request.positive}”, `<lora:{request.name}:-1>` for the "
            "other end; numbers between are between. The file goes into `models/Lora`, here and in AUTOMATIC1111; "
            "diffusers reads it with `pipe.load_lora_weights(file)`."
        )
        note = "It was trained without pictures, from the model's own; the model's licence holds."
        return CardFacts(f"slider, {request.network.kind} of rank {request.network.rank}", facts, usage, note)


def ends_of(request: SliderRequest) -> list[Ends]:
    """The texts: the target with each end, and with every word to preserve in turn."""
    found: list[Ends] = []
    for word in request.preserve or ("",):
        target = join_tags(filter(None, [word, request.target]))
        found.append(Ends(target, _joined(target, request.positive), _joined(target, request.negative)))
    return found


def _joined(target: str, words: str) -> str:
    """The target as this end says it; words that hold it already stand alone."""
    words = words.strip()
    return words if words and says(words, target) else join_tags(filter(None, [target, words]))
