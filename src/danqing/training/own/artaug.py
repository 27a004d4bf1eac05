"""What ArtAug keeps in order: whose turn a step is, which briefs are held back, what the judge said, its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from danqing.models.clip import MiniClip, load
from danqing.review.scoring import Judge
from danqing.spec.errors import InvalidRequestError
from danqing.spec.model import ModelInfo
from danqing.spec.training_methods import ArtAugRequest
from danqing.training.own.checkpoint import load as load_file
from danqing.training.own.checkpoint import save_atomically
from danqing.training.own.context import Context
from danqing.training.own.methods.base import Settings
from danqing.training.own.networks.average import Product, Products
from danqing.training.own.pairs import Pair

HOLD_BACK_FROM, HOLD_BACK_EVERY = 5, 5
"""Of so many briefs on, one in five is held back with all its pairs; with fewer, other seeds must do."""
FOLDER = "pairs"


@dataclass(frozen=True)
class Stage:
    """Whose turn it is.

    Attributes:
        round, pair: Numbers, from 0.
        name: `before` for LoRA 1, `after` for LoRA 2.
        local: Step of this LoRA.
        length: Its steps.
    """

    round: int
    pair: int
    name: str
    local: int
    length: int

    @property
    def is_last(self) -> bool:
        """The LoRA's last step."""
        return self.local == self.length - 1


@dataclass(frozen=True)
class Plan:
    """How many steps a run has, and whose they are.

    Attributes:
        before, after: Steps of LoRA 1 and of LoRA 2 of each pair.
    """

    rounds: int
    pairs: int
    before: int
    after: int

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.rounds * self.pairs * (self.before + self.after)

    @property
    def round_steps(self) -> int:
        """Of a round."""
        return self.pairs * (self.before + self.after)

    def at(self, step: int) -> Stage:
        """Whose turn a step is.

        >>> Plan(rounds=2, pairs=3, before=4, after=2).at(4 + 2 + 5)
        Stage(round=0, pair=1, name='after', local=1, length=2)
        """
        number, rest = divmod(step, self.round_steps)
        pair, place = divmod(rest, self.before + self.after)
        if place < self.before:
            return Stage(number, pair, "before", place, self.before)
        return Stage(number, pair, "after", place - self.before, self.after)


@dataclass(frozen=True)
class Gain:
    """The judge's two mean scores, or what they gained."""

    prompt: float
    aesthetic: float

    @property
    def total(self) -> float:
        """Both together: what decides."""
        return self.prompt + self.aesthetic

    def over(self, other: Gain) -> Gain:
        """The difference to others."""
        return Gain(self.prompt - other.prompt, self.aesthetic - other.aesthetic)

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


def open_judge(context: Context) -> Judge:
    """The judge that the review loop asks, loaded when it is first needed."""

    @cache
    def clip() -> MiniClip:
        return load(device=context.device)

    return Judge(clip, context.models_dir, context.device)


def result_file(folder: Path, number: int, pair: int | None = None) -> Path:
    """Where a pair's LoRA 2 lies, or what became of a round."""
    name = f"round-{number + 1:02}" + ("" if pair is None else f"-pair-{pair + 1:04}")
    return folder / FOLDER / f"{name}.pt"


def write_result(path: Path, gain: Gain, products: Products, **figures: float) -> None:
    """Keep what was measured, and the LoRA."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: list(product) for key, product in products.items()}
    save_atomically(path, {"gain": [gain.prompt, gain.aesthetic], "products": kept, "figures": figures})


def read_result(path: Path) -> tuple[Gain, dict[str, Product]]:
    """The same again. BadFileError if it is damaged."""
    data = load_file(path)
    return Gain(*data["gain"]), {key: (up, down) for key, (up, down) in data["products"].items()}


def read_figures(path: Path) -> dict[str, float]:
    """What became of a round: its gains, how many pairs were kept, how strongly it was fused."""
    data = load_file(path)
    gain = Gain(*data["gain"])
    return {"prompt_gain": gain.prompt, "aesthetic_gain": gain.aesthetic, **data["figures"]}


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
