"""What ArtAug keeps in order: whose turn a step is, which briefs are held back, what the judge said, its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from danqing.models.clip import MiniClip, load
from danqing.review.scoring import Judge
from danqing.sampling.prediction import Prediction
from danqing.spec.errors import InvalidRequestError
from danqing.spec.model import ModelInfo
from danqing.spec.refine import Scores
from danqing.spec.training_methods import ArtAugRequest
from danqing.training.own.checkpoint import load as load_file
from danqing.training.own.checkpoint import save_atomically
from danqing.training.own.context import Context
from danqing.training.own.methods.base import Settings
from danqing.training.own.networks.average import Product, Products
from danqing.training.own.pairs import Pair
from danqing.training.own.sampling import Painting
from danqing.training.own.seeds import rng_of, seed_of

HOLD_BACK_FROM, HOLD_BACK_EVERY = 5, 5
"""Of so many briefs on, one in five is held back with all its pairs; with fewer, other seeds must do."""
FOLDER = "pairs"


@dataclass(frozen=True)
class Stage:
    """Whose turn it is.

    Attributes:
        round, group: Numbers, from 0.
        name: `before` for LoRA 1, `after` for LoRA 2.
        local: Step of this LoRA.
        length: Its steps.
    """

    round: int
    group: int
    name: str
    local: int
    length: int

    @property
    def is_last(self) -> bool:
        """The LoRA's last step."""
        return self.local == self.length - 1

    @property
    def draw(self) -> int:
        """Number of what is drawn at this step: LoRA 1 and LoRA 2 of a group see the same noise, no two groups do.

        What the noise of one group leaves in its LoRA 2 is lost in the mean with others only if theirs is another.
        """
        return self.group * 1_000_003 + self.local


@dataclass(frozen=True)
class Plan:
    """How many steps a run has, and whose they are.

    Attributes:
        groups: Of pairs that share LoRA 1 and LoRA 2.
        before, after: Steps of LoRA 1 and of LoRA 2 of each group.
    """

    rounds: int
    groups: int
    before: int
    after: int

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.rounds * self.groups * (self.before + self.after)

    @property
    def round_steps(self) -> int:
        """Of a round."""
        return self.groups * (self.before + self.after)

    def at(self, step: int) -> Stage:
        """Whose turn a step is.

        >>> Plan(rounds=2, groups=3, before=4, after=2).at(4 + 2 + 5)
        Stage(round=0, group=1, name='after', local=1, length=2)
        """
        number, rest = divmod(step, self.round_steps)
        group, place = divmod(rest, self.before + self.after)
        if place < self.before:
            return Stage(number, group, "before", place, self.before)
        return Stage(number, group, "after", place - self.before, self.after)


@dataclass(frozen=True)
class Gain:
    """What the judge's two mean scores gained.

    Attributes:
        error: Standard error of both together.
    """

    prompt: float
    aesthetic: float
    error: float = 0.0

    @property
    def total(self) -> float:
        """Both together: what decides."""
        return self.prompt + self.aesthetic

    @property
    def clear(self) -> float:
        """What is left of it after one standard error."""
        return self.total - self.error

    @property
    def passes(self) -> bool:
        """Whether it is no clear loss: a handful of pictures cannot tell a small gain from none."""
        return self.total > -self.error

    @classmethod
    def between(cls, plain: Sequence[Scores], other: Sequence[Scores]) -> Gain:
        """Of the same briefs under the same seeds, picture by picture."""
        prompt = np.array([b.prompt - a.prompt for a, b in zip(plain, other, strict=True)])
        aesthetic = np.array([b.aesthetic - a.aesthetic for a, b in zip(plain, other, strict=True)])
        error = float((prompt + aesthetic).std(ddof=1)) / len(prompt) ** 0.5 if len(prompt) > 1 else 0.0
        return cls(float(prompt.mean()), float(aesthetic.mean()), error)

    def __str__(self) -> str:
        return f"prompt {self.prompt:+.3f}, aesthetic {self.aesthetic:+.3f}"


def check_request(request: ArtAugRequest) -> None:
    """Refuse what cannot be averaged.

    Raises:
        InvalidRequestError: What, and why.
    """
    shape = request.network
    if shape.kind != "lora":
        raise InvalidRequestError(
            "only LoRAs can be averaged",
            field="network.kind",
            value=shape.kind,
            allowed="lora",
            next_step="choose lora",
        )
    if shape.text_encoder:
        raise InvalidRequestError(
            "ArtAug changes the denoiser alone",
            field="network.text_encoder",
            value=True,
            allowed="false",
            next_step="leave it out",
        )
    if request.ema > 0:
        raise InvalidRequestError(
            "each pair begins anew, so that nothing is left to average over steps",
            field="ema",
            value=request.ema,
            allowed="0",
            next_step="leave it out",
        )


def check_briefs(request: ArtAugRequest, pairs: Sequence[Pair]) -> tuple[list[str], list[Pair]]:
    """What rounds are measured on, and the pairs that are learnt from.

    Briefs that the Request names (`sample_prompts`) come first; else one brief in five is held back with all its pairs,
    where there are enough; else all are measured under seeds that nothing was learnt from.
    """
    briefs = list(dict.fromkeys(pair.brief for pair in pairs))
    if request.sample_prompts:
        asked = list(request.sample_prompts)
        left = [pair for pair in pairs if pair.brief not in asked]
        return asked, left or list(pairs)
    if len(briefs) < HOLD_BACK_FROM:
        return briefs, list(pairs)
    held = briefs[HOLD_BACK_EVERY // 2 :: HOLD_BACK_EVERY]
    return held, [pair for pair in pairs if pair.brief not in held]


def make_groups(pairs: Sequence[Pair], size: int, seed: int) -> list[list[Pair]]:
    """Groups of at most `size` pairs, as even as can be, drawn at random; pictures of a group are of one size."""
    if size == 1:
        return [[pair] for pair in pairs]
    alike: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        alike.setdefault(pair.before.size, []).append(pair)
    found: list[list[Pair]] = []
    for number, own in enumerate(alike.values()):
        order = rng_of(seed, "groups", number).permutation(len(own))
        found += [[own[int(i)] for i in part] for part in np.array_split(order, -(-len(own) // size))]
    return found


def moved(difference: Tensor, alphas: Tensor, prediction: Prediction) -> Tensor:
    """What is added to a denoiser's answer so that the picture that it sees moves by (1 − ᾱ) · `difference`.

    v = √ᾱ·n − √(1−ᾱ)·x₀ for one and the same noise: the targets of *before* and *after* differ by just this. The less
    noise there is, the more is settled already. ε of the same x moves with x₀.

    Args:
        difference: *after* − *before* [b, c, h, w].
        alphas: ᾱ [b].
        prediction: ε or v.
    """
    a, s = (one.sqrt().view(-1, 1, 1, 1) for one in (alphas, 1 - alphas))
    return -(a * s if prediction is Prediction.EPSILON else s) * difference


def shown(count: int, batch: int, seed: int, stage: Stage) -> list[int]:
    """Which of a group's `count` pairs a step shows [batch]: all, in random order, before one comes again."""
    places = range(stage.local * batch, (stage.local + 1) * batch)
    orders = {turn: rng_of(seed, "order", turn).permutation(count) for turn in {place // count for place in places}}
    return [int(orders[place // count][place % count]) for place in places]


def seeded(briefs: Sequence[str], count: int, seed: int, purpose: str) -> list[Painting]:
    """Briefs, each as often as it takes for `count` pictures, under seeds that nothing was learnt from."""
    times = -(-count // len(briefs))
    return [
        Painting(brief, seed_of(seed, purpose, 1000 * i + number) % 2**32)
        for number, brief in enumerate(briefs)
        for i in range(times)
    ]


def open_judge(context: Context) -> Judge:
    """The judge that the review loop asks, loaded when it is first needed."""

    @cache
    def clip() -> MiniClip:
        return load(device=context.device)

    return Judge(clip, context.models_dir, context.device)


def result_file(folder: Path, number: int, group: int | None = None) -> Path:
    """Where a group's LoRA 2 lies, or what became of a round."""
    name = f"round-{number + 1:02}" + ("" if group is None else f"-pair-{group + 1:04}")
    return folder / FOLDER / f"{name}.pt"


def write_result(path: Path, gain: Gain, products: Products, **figures: float) -> None:
    """Keep what was measured, and the LoRA."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: list(product) for key, product in products.items()}
    save_atomically(path, {"gain": [gain.prompt, gain.aesthetic, gain.error], "products": kept, "figures": figures})


def read_result(path: Path) -> tuple[Gain, dict[str, Product]]:
    """The same again. BadFileError if it is damaged."""
    data = load_file(path)
    return Gain(*data["gain"]), {key: (up, down) for key, (up, down) in data["products"].items()}


def read_figures(path: Path) -> dict[str, float]:
    """What became of a round: its gains, how many pairs were kept, how strongly it was fused."""
    data = load_file(path)
    gain = Gain(*data["gain"])
    gains = {"prompt_gain": gain.prompt, "aesthetic_gain": gain.aesthetic, "sum_error": gain.error}
    return {**gains, **data["figures"]}


def metadata(request: ArtAugRequest, settings: Settings, info: ModelInfo, name: str, step: int) -> dict[str, str]:
    """What the file tells of its training, in kohya's words."""
    shape = request.network
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(shape.rank),
        "ss_network_alpha": str(float(shape.rank if shape.alpha is None else shape.alpha)),
        "ss_output_name": name,
        "ss_sd_model_name": Path(info.path).name,
        "ss_new_sd_model_hash": info.sha256,
        "ss_steps": str(step),
        "ss_learning_rate": str(settings.learning_rate),
        "ss_seed": str(request.seed),
        "ss_training_comment": f"ArtAug, {request.rounds} rounds of differential training",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "danqing",
        "modelspec.title": name,
    }
