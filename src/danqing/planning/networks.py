"""Network tags and embedding names of a pass resolved: files found, seen to fit, hashes written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from danqing.prompt.embeddings import mentioned
from danqing.prompt.networks import NetworkTag, parse_networks
from danqing.spec.errors import DanqingError, PromptSyntaxError, UnsupportedError
from danqing.spec.model import ModelInfo, ModelRef
from danqing.spec.network import EmbeddingInfo, EmbeddingPlan, NetworkInfo, NetworkKind, NetworkPlan, WeightPoint

KINDS: Final[dict[str, NetworkKind]] = {"lora": "lora", "hypernet": "hypernet"}
TI_DIGITS: Final = 12
PRESETS: Final[dict[str, tuple[float, ...]]] = {
    "NONE": (0.0,) * 17,
    "ALL": (1.0,) * 17,
    "INS": (1.0,) * 4 + (0.0,) * 13,
    "IND": (1.0, *(0.0,) * 3, *(1.0,) * 3, *(0.0,) * 10),
    "INALL": (1.0,) * 7 + (0.0,) * 10,
    "MIDD": (1.0, *(0.0,) * 3, *(1.0,) * 8, *(0.0,) * 5),
    "OUTD": (1.0, *(0.0,) * 7, *(1.0,) * 4, *(0.0,) * 5),
    "OUTS": (1.0, *(0.0,) * 11, *(1.0,) * 5),
    "OUTALL": (1.0, *(0.0,) * 7, *(1.0,) * 9),
}
"""Block weights by name, as sd-webui-lora-block-weight has them for SD 1.x and 2.x: BASE, IN, M00, OUT."""
_UNETS: Final = frozenset({"sd1", "sd2", "sdxl", "danqing"})


class NetworkFinder(Protocol):
    """What planning needs of the catalogue's networks."""

    def find_network(self, name: str, kind: NetworkKind) -> NetworkInfo:
        """The network with this name, alias or hash.

        Raises:
            NotFoundError: There is none, or several.
        """
        ...

    def network_hash(self, info: NetworkInfo) -> str:
        """Twelve digits, as A1111 writes them into infotexts."""
        ...

    def embeddings(self) -> Sequence[NetworkInfo]:
        """Every usable embedding file."""
        ...


@dataclass(frozen=True)
class PassNetworks:
    """What the words of one pass load besides the model.

    Attributes:
        networks: LoRA and hypernetworks.
        embeddings: Embeddings whose names stand in the prompts.
        notes: What was left out and why.
    """

    networks: tuple[NetworkPlan, ...] = ()
    embeddings: tuple[EmbeddingPlan, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class NetworkPlanner:
    """Resolves the words of passes; a file is looked for once.

    Attributes:
        catalog: Where files are found.
    """

    catalog: NetworkFinder
    _found: dict[tuple[str, NetworkKind], NetworkInfo] = field(
        default_factory=dict[tuple[str, NetworkKind], NetworkInfo]
    )
    _embeddings: Sequence[NetworkInfo] | None = None

    def of_pass(self, prompt: str, negative_prompt: str, model: ModelInfo) -> PassNetworks:
        """What a pass's words load. Tags count in the prompt alone, embeddings in both, as in A1111.

        Raises:
            PromptSyntaxError: A tag without a name or with unreadable numbers.
            NotFoundError: A network that is not there.
            UnsupportedError: A network or embedding that is not made for this model, with the reason.
        """
        text, tags = parse_networks(prompt)
        known = [tag for tag in tags if tag.family in KINDS]
        infos = [self._info(tag) for tag in known]
        for info in infos:
            check_fits(info, model)
        networks = tuple(self._plan(tag, info) for tag, info in zip(known, infos, strict=True))
        return PassNetworks(networks, self._mentioned(f"{text}\n{negative_prompt}", infos, model), _notes(known))

    def of_refiner(self, prompt: str, negative_prompt: str, model: ModelInfo) -> PassNetworks:
        """The same for a refiner, which goes without what is not made for it, and says so."""
        text, tags = parse_networks(prompt)
        networks: list[NetworkPlan] = []
        infos: list[NetworkInfo] = []
        notes: list[str] = []
        for tag in tags:
            if tag.family in KINDS:
                info = self._info(tag)
                if reasons := misfits(info, model):
                    notes.append(f"{info.name} does not act in the refiner {model.name}: {'; '.join(reasons)}")
                else:
                    infos.append(info)
                    networks.append(self._plan(tag, info))
        embeddings = self._mentioned(f"{text}\n{negative_prompt}", infos, model, strict=False)
        return PassNetworks(tuple(networks), embeddings, tuple(notes))

    def names_of(self, plan: NetworkPlan) -> tuple[str, str | None]:
        """A network's name, and its trainer's for it."""
        found = next((info for info in self._found.values() if info.sha256 == plan.model.sha256), None)
        return plan.model.name, None if found is None else found.alias

    def _info(self, tag: NetworkTag) -> NetworkInfo:
        if tag.problem is not None and not tag.name.strip():
            raise PromptSyntaxError(
                tag.problem, field="prompt", value=tag.kind, next_step=f"write it as <{tag.kind}:name:0.8>"
            )
        key = (tag.name.strip(), KINDS[tag.family])
        if key not in self._found:
            self._found[key] = self.catalog.find_network(*key)
        return self._found[key]

    def _plan(self, tag: NetworkTag, info: NetworkInfo) -> NetworkPlan:
        if tag.dyn is not None and tag.dyn < 1:
            raise PromptSyntaxError(
                f"the tag <{tag.kind}:{tag.name}> asks for a rank below 1",
                field="prompt",
                value=tag.dyn,
                allowed="dyn=1 and up",
            )
        return NetworkPlan(
            kind=KINDS[tag.family],
            model=ModelRef(name=info.name, sha256=info.sha256, family=info.kind),
            short_hash=self.catalog.network_hash(info),
            te=tag.te,
            unet=tuple(WeightPoint(at=moment, weight=weight) for moment, weight in tag.unet_schedule),
            blocks=_blocks(tag),
            rank=tag.dyn,
        )

    def _mentioned(
        self, text: str, networks: Sequence[NetworkInfo], model: ModelInfo, *, strict: bool = True
    ) -> tuple[EmbeddingPlan, ...]:
        if self._embeddings is None:
            self._embeddings = self.catalog.embeddings()
        # What a LoRA brings along goes before a file of the same name.
        known: dict[str, list[tuple[NetworkInfo, EmbeddingInfo]]] = {}
        for info in (*networks, *self._embeddings):
            for name, embedding in words_of(info):
                known.setdefault(name.lower(), []).append((info, embedding))
        planned: list[EmbeddingPlan] = []
        for name in mentioned(text, known):
            info, embedding = _first(known[name], lambda one: one[1].fits(model.context_width))
            if not embedding.fits(model.context_width):
                if strict:
                    raise _wrong_width(name, embedding, model)
                continue
            ref = ModelRef(name=info.name, sha256=info.sha256, family=info.kind)
            planned.append(
                EmbeddingPlan(name=name, model=ref, short_hash=info.sha256[:TI_DIGITS], vectors=embedding.vectors)
            )
        return tuple(planned)


def words_of(info: NetworkInfo) -> Iterator[tuple[str, EmbeddingInfo]]:
    """Every word that stands for an embedding of a file: its own, and the file's name where it holds only one."""
    for embedding in info.embeddings:
        yield embedding.name, embedding
    if info.kind == "embedding" and len(info.embeddings) == 1:
        stem = info.name.rpartition("/")[2]
        if stem.lower() != info.embeddings[0].name.lower():
            yield stem, info.embeddings[0]


def misfits(info: NetworkInfo, model: ModelInfo) -> list[str]:
    """Why a network cannot work in a model; empty where nothing speaks against it."""
    reasons: list[str] = []
    width = model.context_width
    if info.kind == "hypernetwork":
        known = {width, *model.block_widths}
        strange = [one for one in info.widths if one not in known]
        if width and model.block_widths and strange:
            here = ", ".join(map(str, sorted(known)))
            reasons.append(f"it has nets for width {', '.join(map(str, strange))}, the model's widths are {here}")
        return reasons
    if info.context_width is not None and width and info.context_width != width:
        reasons.append(f"it reads text states {info.context_width} wide, the model's are {width}")
    if width:
        reasons += _text_misfits(info.text_widths, model)
    # Among UNets a family is only a guess from widths; between UNets and transformers it is certain.
    if not reasons and info.family and (info.family in _UNETS) != (model.family in _UNETS):
        reasons.append(f"it is made for {info.family}, the model is of the family {model.family}")
    return reasons


def _text_misfits(found: dict[str, int], model: ModelInfo) -> list[str]:
    """Why a LoRA's text encoders are not a model's."""
    width = model.context_width
    if model.family == "sdxl":
        # The states of its two encoders stand side by side; the refiner has the second one alone.
        together = sum(found.values())
        fits = together == width or (len(found) < 2 and model.variant != "refiner" and together < width)
        return [] if fits else [f"its text encoders are {together} wide together, the model's {width}"]
    reasons: list[str] = []
    for part, own in found.items():
        if part != "te":
            reasons.append(f"it changes a second text encoder ({own} wide), and the model has one")
        elif own != width:
            reasons.append(f"its text encoder is {own} wide, the model's is {width}")
    return reasons


def check_fits(info: NetworkInfo, model: ModelInfo) -> None:
    """See that a network can work in a model, as far as its header tells.

    Raises:
        UnsupportedError: It cannot, with every reason.
    """
    reasons = misfits(info, model)
    if reasons:
        made_for = f" (made for {info.family})" if info.family else ""
        raise UnsupportedError(
            f"{info.name}{made_for} is not made for the model {model.name} ({model.family}): {'; '.join(reasons)}",
            field="prompt",
            value=info.name,
            allowed=f"networks trained for {model.family}",
            next_step="take its tag out of the prompt, or choose a model of its family",
        )


def _blocks(tag: NetworkTag) -> tuple[float, ...]:
    blocks = tag.blocks
    if not isinstance(blocks, str):
        return blocks
    if blocks not in PRESETS:
        raise PromptSyntaxError(
            f"the tag <{tag.kind}:{tag.name}> names unknown block weights",
            field="prompt",
            value=blocks,
            allowed=", ".join(PRESETS),
            next_step="write the factors: lbw=1,0,0,1,…",
        )
    return PRESETS[blocks]


def _notes(tags: Sequence[NetworkTag]) -> tuple[str, ...]:
    return tuple(
        f"{tag.kind}:{tag.name}: the argument {name!r} means nothing here and was left out"
        for tag in tags
        for name in tag.unknown_arguments
    )


def _wrong_width(name: str, embedding: EmbeddingInfo, model: ModelInfo) -> DanqingError:
    widths = ", ".join(f"{width} ({part})" if part else str(width) for part, width in embedding.widths.items())
    return UnsupportedError(
        f"the embedding {name} has vectors {widths} wide, the text states of the model {model.name} are "
        f"{model.context_width} wide",
        field="prompt",
        value=name,
        allowed=f"embeddings trained for {model.family}",
        next_step="take its name out of the prompt, or choose a model of its family",
    )


T = TypeVar("T")


def _first(items: Sequence[T], good: Callable[[T], bool]) -> T:
    """The first good one, or the first."""
    return next((item for item in items if good(item)), items[0])
