"""Networks that change a model for one Request: LoRA and its kin, hypernetworks, textual-inversion embeddings."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.model import ModelRef

NetworkKind = Literal["lora", "hypernet"]
"""What a prompt's tag asks for; every LyCORIS kind is found as `lora`, as in A1111."""

ShelfKind = Literal["lora", "hypernetwork", "embedding"]


class EmbeddingInfo(Data):
    """New words for text encoders, as a file holds them."""

    name: str = Field(description="the word that stands for it in a prompt")
    vectors: int = Field(ge=1, description="places it takes in a prompt")
    widths: dict[str, int] = Field(description="width by encoder: `clip_l`, `clip_g`; `` where the file names none")

    def fits(self, context_width: int) -> bool:
        """Whether a model whose text states are so wide can read it; 0 is unknown and reads all."""
        # SDXL's two encoders stand side by side; its refiner has the second alone.
        return not context_width or context_width in (sum(self.widths.values()), self.widths.get("clip_g"))


class NetworkInfo(Data):
    """A LoRA, LyCORIS, hypernetwork or embedding file in the catalogue."""

    name: str = Field(description="what a person types, below its folder")
    path: str
    sha256: str = Field(description="content hash of the file")
    kind: ShelfKind
    alias: str | None = Field(default=None, description="the name that its trainer gave it (`ss_output_name`)")
    family: str | None = Field(default=None, description="what it was made for; None where the file does not tell")
    algorithms: tuple[str, ...] = Field(default=(), description="lora, loha, lokr, ia3, full, norm, oft, dora, …")
    parts: tuple[str, ...] = Field(default=(), description="what it changes: unet, te, te2")
    context_width: int | None = Field(default=None, description="width of the text states that its UNet part reads")
    text_widths: dict[str, int] = Field(default_factory=dict[str, int], description="width of te and te2")
    widths: tuple[int, ...] = Field(default=(), description="of a hypernetwork: every width it has a pair of nets for")
    rank: int | None = None
    embeddings: tuple[EmbeddingInfo, ...] = Field(default=(), description="words that the file brings along")
    trigger_words: tuple[str, ...] = Field(default=(), description="the most frequent words of its training captions")

    @property
    def short_hash(self) -> str:
        """The first ten hex digits, as A1111 shows for models."""
        return self.sha256[:10]


Misfit = Literal["family", "width", "unreadable"]
"""Why a network cannot be used with a model: made for another one, by its widths, or its file cannot be read."""


class NetworkCard(Data):
    """A network as a person chooses it: what it is, what calls it up, whether it fits the model at hand."""

    kind: ShelfKind
    name: str = Field(description="below its folder")
    written: str = Field(description="what a prompt names it by: its file's name, with the folder where two share it")
    alias: str = Field(default="", description="the name that its trainer gave it")
    family: str | None = Field(default=None, description="what it was made for; None where the file does not tell")
    base_model: str = Field(default="", description="the same in the words of the notes beside it")
    words: tuple[str, ...] = Field(default=(), description="of an embedding: the words that stand for it")
    trigger_words: tuple[str, ...] = Field(default=(), description="what its maker asks to be written with it")
    negative_words: str = Field(default="", description="what its maker asks to be left out")
    preferred_weight: float | None = None
    description: str = ""
    preview: str | None = Field(default=None, description="stamp of the picture beside it; None where there is none")
    misfit: Misfit | None = Field(default=None, description="None where nothing speaks against it")
    why: str = Field(default="", description="the reasons of a misfit, for a person")


class WeightPoint(Data):
    """A weight that holds at one moment of a pass."""

    at: float = Field(ge=0, description="0 is the first step, 1 the end of the last; above 1 a step's number")
    weight: float


class NetworkPlan(Data):
    """A network with everything filled in."""

    kind: NetworkKind
    model: ModelRef
    short_hash: str = Field(default="", description="twelve digits, as A1111 writes them at `Lora hashes`")
    te: float = Field(default=1.0, description="strength in the text encoder")
    unet: tuple[WeightPoint, ...] = Field(
        default=(WeightPoint(at=0.0, weight=1.0),), min_length=1, description="strength in the denoiser over the steps"
    )
    blocks: tuple[float, ...] = Field(default=(), description="a factor for each block, the text encoder's first")
    rank: int | None = Field(default=None, ge=1, description="reduce low-rank changes to this rank")

    def unet_at(self, step: int, steps: int) -> float:
        """The strength in the denoiser at a step counted from 0: linear between the points, constant beyond them.

        >>> plan = NetworkPlan(kind="lora", model=ModelRef(name="a", sha256="0" * 64, family="lora"),
        ...     unet=(WeightPoint(at=0.0, weight=0.0), WeightPoint(at=0.5, weight=1.0)))
        >>> [plan.unet_at(step, 8) for step in (0, 2, 4, 7)]
        [0.0, 0.5, 1.0, 1.0]
        """
        now = step / max(steps, 1)
        points = sorted((point.at / max(steps, 1) if point.at > 1 else point.at, point.weight) for point in self.unet)
        if now <= points[0][0]:
            return points[0][1]
        for (start, before), (end, after) in pairwise(points):
            if now < end:
                return before + (after - before) * (now - start) / (end - start)
        return points[-1][1]


class EmbeddingPlan(Data):
    """An embedding whose word stands in a pass's prompts."""

    name: str
    model: ModelRef = Field(description="its file, or the LoRA file that brings it along")
    short_hash: str = Field(default="", description="as A1111 writes it at `TI hashes`")
    vectors: int = Field(ge=1)


class NetworkUse(Data):
    """A network with its strength at one moment, as a Call carries it.

    Attributes are those of `NetworkPlan`; `weight` is the strength in the part that the Call runs.
    """

    kind: NetworkKind
    model: ModelRef
    weight: float
    blocks: tuple[float, ...] = ()
    rank: int | None = None


def uses_at(networks: tuple[NetworkPlan, ...], step: int, steps: int) -> tuple[NetworkUse, ...]:
    """What acts in the denoiser at a step counted from 0."""
    return tuple(use for plan in networks if (use := _use(plan, plan.unet_at(step, steps))).weight != 0)


def settled_steps(networks: tuple[NetworkPlan, ...], step: int, steps: int) -> int:
    """For how many steps together, this one among them, the same acts in the denoiser with the same strength."""
    now = uses_at(networks, step, steps)
    first, last = step, step
    while first > 0 and uses_at(networks, first - 1, steps) == now:
        first -= 1
    while last < steps - 1 and uses_at(networks, last + 1, steps) == now:
        last += 1
    return last - first + 1


def uses_in_text(networks: tuple[NetworkPlan, ...]) -> tuple[NetworkUse, ...]:
    """What acts in the text encoder; hypernetworks change the denoiser alone."""
    return tuple(use for plan in networks if plan.kind == "lora" and (use := _use(plan, plan.te)).weight != 0)


def _use(plan: NetworkPlan, weight: float) -> NetworkUse:
    return NetworkUse(kind=plan.kind, model=plan.model, weight=weight, blocks=plan.blocks, rank=plan.rank)
