"""The networks of Calls in a loaded model: files read and bound once, every row with its own strengths."""

from __future__ import annotations

import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danqing.adapters.binding import Bound, bind, block_factors, names_of
from danqing.adapters.embedding import ENCODERS, read_embedding
from danqing.adapters.hooks import Acting, hooked
from danqing.adapters.hypernet import ActingHypernet, Hypernetwork, hypernets_acting, read_hypernetwork
from danqing.adapters.network_file import NetworkWeights, read_network
from danqing.models.network_keys import SECOND_TEXT, TEXT, UNET
from danqing.models.networks import NetworkShelf
from danqing.models.text import TextEncoder, WordVectors
from danqing.spec.errors import UnsupportedError
from danqing.spec.model import ModelRef
from danqing.spec.network import EmbeddingPlan, NetworkUse

BUDGET_BYTES = 2 * 2**30
"""Of network files that stay in memory; the least recently used go first."""

File = NetworkWeights | Hypernetwork | dict[str, dict[str, Tensor]]
Added = tuple[Tensor | None, Tensor | None]
"""To a layer's weight and to its bias."""
_Slot = tuple[NetworkUse, int]


class LoadedNetworks:
    """Networks for the models of an executor.

    Args:
        shelf: Where files are found.
        budget_bytes: How many bytes of files may stay.
    """

    def __init__(self, shelf: NetworkShelf, budget_bytes: int = BUDGET_BYTES) -> None:
        self._shelf = shelf
        self._budget_bytes = budget_bytes
        self._files: OrderedDict[str, File] = OrderedDict()
        self._bound: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Any]] = weakref.WeakKeyDictionary()

    @contextmanager
    def in_denoiser(self, unet: nn.Module, rows: Sequence[Sequence[NetworkUse]]) -> Iterator[None]:
        """Inside the block every row of a batch has its own networks.

        Args:
            unet: The denoiser.
            rows: What acts in each row; rows with other sets, or none, may stand beside each other.

        Raises:
            NotFoundError: A file is not there any more.
            BadFileError: It is damaged.
            UnsupportedError: It is not made for this model, with every reason.
        """
        slots = _slots(rows)
        lora = [self._acting(slot, weights, unet, UNET) for slot, weights in slots.items() if slot[0].kind == "lora"]
        nets = [
            ActingHypernet(self._hypernet(slot[0].model), weights)
            for slot, weights in slots.items()
            if slot[0].kind == "hypernet"
        ]
        with ExitStack() as stack:
            if lora:
                stack.enter_context(hooked(unet, lora))
            if nets:
                stack.enter_context(hypernets_acting(unet, nets))
            yield

    @contextmanager
    def in_text(
        self, model: Any, networks: Sequence[NetworkUse], embeddings: Sequence[EmbeddingPlan]
    ) -> Iterator[None]:
        """Inside the block a model's text encoders have these networks and know these words.

        Args:
            model: A loaded model with `text`, or several encoders in `texts`.
            networks: With their strength in text encoders.
            embeddings: New words.

        Raises:
            NotFoundError: A file is not there any more.
            BadFileError: It is damaged.
            UnsupportedError: It is not made for this model, with every reason.
        """
        slots = _slots([networks])
        with ExitStack() as stack:
            for part, encoder in text_encoders(model):
                acting = [self._acting(slot, weights, encoder.model, part) for slot, weights in slots.items()]
                if any(one.changes for one in acting):
                    stack.enter_context(hooked(encoder.model, acting))
                if embeddings:
                    stack.enter_context(encoder.knowing([self._word(one, part, encoder) for one in embeddings]))
            yield

    def added(self, unet: nn.Module, uses: Sequence[NetworkUse]) -> Callable[[nn.Module], Added]:
        """What LoRA of constant strength add to the weights of a denoiser's layers, for writing it down merged.

        Args:
            unet: The denoiser.
            uses: LoRA and their kin; no hypernetworks.

        Returns:
            Layer → what is added to its weight and to its bias, float32; None for nothing.

        Raises:
            NotFoundError: A file is not there any more.
            BadFileError: It is damaged.
            UnsupportedError: It is not made for this model, with every reason.
        """
        acting = [self._acting(slot, weights, unet, UNET) for slot, weights in _slots([uses]).items()]
        paths = {module: path for path, module in unet.named_modules()}

        def of(layer: nn.Module) -> Added:
            path = paths.get(layer, "")
            sums: list[Tensor | None] = [None, None]
            for one in acting:
                strength = float(one.weights[0]) * one.factors.get(path, 1.0)
                if path in one.changes and strength != 0:
                    for place, change in enumerate(one.changes[path].delta()):
                        if change is not None:
                            so_far = sums[place]
                            sums[place] = change * strength if so_far is None else so_far + change * strength
            return sums[0], sums[1]

        return of

    def drop(self) -> bool:
        """Give up every file. False if there was none."""
        there = bool(self._files)
        self._files.clear()
        self._bound.clear()
        return there

    def changes(self, ref: ModelRef, root: nn.Module, part: str, rank: int | None = None) -> Bound:
        """The changes of a LoRA file on the layers of a UNet or text encoder.

        Raises:
            UnsupportedError: It is not made for this model, with every reason.
        """
        kept = self._bound.setdefault(root, {})
        key = (ref.sha256, part, rank)
        if key not in kept:
            weights = self._file(ref)
            if not isinstance(weights, NetworkWeights):
                raise UnsupportedError(f"{ref.name} is no LoRA", field="prompt", value=ref.family)
            kept[key] = bind(weights if rank is None else weights.reduced(rank), part, root)
        return kept[key]

    def _acting(self, slot: _Slot, weights: Tensor, root: nn.Module, part: str) -> Acting:
        use = slot[0]
        bound = self.changes(use.model, root, part, use.rank)
        if not use.blocks:
            return Acting(bound, weights)
        if part != UNET:
            return Acting(bound, weights * use.blocks[0])
        kept = self._bound.setdefault(root, {})
        if "names" not in kept:
            kept["names"] = names_of(root)
        return Acting(bound, weights, block_factors(bound, kept["names"], use.blocks))

    def _hypernet(self, ref: ModelRef) -> Hypernetwork:
        found = self._file(ref)
        if not isinstance(found, Hypernetwork):
            raise UnsupportedError(f"{ref.name} is no hypernetwork", field="prompt", value=ref.family)
        return found

    def _word(self, plan: EmbeddingPlan, part: str, encoder: TextEncoder) -> WordVectors:
        found = self._file(plan.model)
        words = found.embeddings if isinstance(found, NetworkWeights) else found
        if isinstance(words, Hypernetwork):
            raise UnsupportedError(f"{plan.model.name} is no embedding", field="prompt", value=plan.model.family)
        by_name = {name.lower(): vectors for name, vectors in words.items()}
        # A file's name stands for its only word.
        vectors = by_name.get(plan.name.lower()) or next(iter(words.values()))
        name = ENCODERS[1 if part == SECOND_TEXT else 0]
        width = int(encoder.model.get_input_embeddings().weight.shape[1])
        chosen = vectors.get(name, vectors.get(""))
        if chosen is None or chosen.shape[1] != width:
            there = ", ".join(f"{tensor.shape[1]} {part}".strip() for part, tensor in vectors.items())
            raise UnsupportedError(
                f"the embedding {plan.name} has no vectors for this text encoder",
                field="prompt",
                value=there,
                allowed=f"{width} numbers for each vector",
                next_step="take its name out of the prompt, or choose a model of its family",
            )
        return WordVectors(plan.name, chosen)

    def _file(self, ref: ModelRef) -> File:
        if ref.sha256 not in self._files:
            path = Path(self._shelf.of(ref).path)
            readers: dict[str, Any] = {"hypernetwork": read_hypernetwork, "embedding": read_embedding}
            self._files[ref.sha256] = readers.get(ref.family, read_network)(path)
            self._trim()
        self._files.move_to_end(ref.sha256)
        return self._files[ref.sha256]

    def _trim(self) -> None:
        while len(self._files) > 1 and sum(map(_size_bytes, self._files.values())) > self._budget_bytes:
            sha256, _ = self._files.popitem(last=False)
            for kept in self._bound.values():
                for key in [key for key in kept if key[0] == sha256]:
                    del kept[key]


def text_encoders(model: Any) -> list[tuple[str, TextEncoder]]:
    """(part, encoder) of a model: SDXL's refiner has only the second."""
    texts: tuple[TextEncoder, ...] = getattr(model, "texts", ())
    if not texts:
        return [(TEXT, model.text)]
    return [(SECOND_TEXT, texts[0])] if len(texts) == 1 else list(zip((TEXT, SECOND_TEXT), texts, strict=False))


def _slots(rows: Sequence[Sequence[NetworkUse]]) -> dict[_Slot, Tensor]:
    """Each network once, with its strength in every row; a network named twice in a row stands twice."""
    strengths: dict[_Slot, list[float]] = {}
    for index, uses in enumerate(rows):
        seen: Counter[NetworkUse] = Counter()
        for use in uses:
            same = use.model_copy(update={"weight": 1.0})
            slot = (same, seen[same])
            seen[same] += 1
            strengths.setdefault(slot, [0.0] * len(rows))[index] = use.weight
    ordered = sorted(strengths, key=lambda slot: (slot[0].model.sha256, slot[0].blocks, slot[0].rank or 0, slot[1]))
    return {slot: torch.tensor(strengths[slot]) for slot in ordered}


def _size_bytes(file: File) -> int:
    if isinstance(file, dict):
        return sum(tensor.numel() * 4 for vectors in file.values() for tensor in vectors.values())
    return file.size_bytes
