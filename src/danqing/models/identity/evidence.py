"""Names and shapes of a file, asked for the way the rules ask."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from danqing.models.header_memo import TensorTable
from danqing.spec.files import FileIdentity, Header, TensorInfo

T = TypeVar("T")
Facts = dict[str, int | float | str | bool | tuple[int, ...] | tuple[str, ...]]

# What trainers wrap around the weights, the averaged ones first; the rest of such a file is optimizer state.
_WRAPPERS = ("params_ema", "params-ema", "g_ema", "state_dict", "model_state_dict", "params")
# What can stand before *all* names of a file.
_COMMON = ("module", "netG", "_orig_mod")


@dataclass(frozen=True)
class Evidence:
    """Names and shapes, without the trainers' wrappers.

    Attributes:
        tensors: By name.
        metadata: The header's own words.
        name: The file's name without its ending, lower-case: a hint where shapes cannot tell.
        format: `safetensors`, `pickle` or `gguf`.
    """

    tensors: TensorTable
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str = ""
    format: str = "safetensors"

    @property
    def heads(self) -> frozenset[str]:
        """First parts of the names, up to the first dot."""
        return self.kept("heads", lambda: frozenset(name.partition(".")[0] for name in self.tensors))

    @property
    def tails(self) -> frozenset[str]:
        """Last parts of the names."""
        return self.kept("tails", lambda: frozenset(name[name.rfind(".") + 1 :] for name in self.tensors))

    @property
    def marks(self) -> frozenset[str]:
        """Last and last but one parts of the names."""

        def seconds() -> frozenset[str]:
            rests = {name.rpartition(".")[0] for name in self.tensors}
            return self.tails | {rest[rest.rfind(".") + 1 :] for rest in rests}

        return self.kept("marks", seconds)

    @property
    def joined(self) -> str:
        """All names, one a line: looking through one long string is many times quicker than through a dictionary."""
        return self.kept("joined", lambda: "\n" + "\n".join(self.tensors) + "\n")

    @property
    def infos(self) -> tuple[TensorInfo, ...]:
        """The tensors' descriptions, each once where the reader made them once."""
        return self.kept("infos", lambda: tuple({id(info): info for info in self.tensors.values()}.values()))

    def kept(self, key: Any, work_out: Callable[[], T]) -> T:
        """What is worked out once from a table; the next file with the same table has it already."""
        derived = self.tensors.derived
        if key not in derived:
            derived[key] = work_out()
        return derived[key]

    def has(self, *names: str) -> bool:
        """Whether all these tensors are there."""
        return all(name in self.tensors for name in names)

    def any(self, *names: str) -> bool:
        """Whether one of these tensors is there."""
        return any(name in self.tensors for name in names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, () where it is not there."""
        info = self.tensors.get(name)
        return info.shape if info is not None else ()

    def side(self, name: str, index: int) -> int | None:
        """One side of a tensor; None where it is not there or has no such side."""
        shape = self.shape(name)
        return shape[index] if -len(shape) <= index < len(shape) else None

    def containing(self, piece: str) -> Iterator[str]:
        """Names that have a piece in them, in the file's order."""
        joined = self.joined
        at = joined.find(piece)
        while at >= 0:
            end = joined.find("\n", at)
            yield joined[joined.rfind("\n", 0, at) + 1 : end]
            at = joined.find(piece, end)

    def first(self, *pieces: str) -> str | None:
        """The first name that contains all these pieces; the rarest piece first is the quickest."""
        rest = pieces[1:]
        found = (name for name in self.containing(pieces[0]) if all(piece in name for piece in rest))
        return self.kept(("first", *pieces), lambda: next(found, None))

    def starting(self, prefix: str) -> Iterator[str]:
        """Names that begin so."""
        return (name for name in self.tensors if name.startswith(prefix))

    def starts(self, prefix: str) -> bool:
        """Whether a name begins so."""
        if prefix.endswith(".") and prefix.count(".") == 1:
            return prefix[:-1] in self.heads
        return self.kept(("starts", prefix), lambda: f"\n{prefix}" in self.joined)

    def under(self, prefix: str) -> Evidence:
        """What stands below a prefix, without it."""
        if not prefix:
            return self
        cut = len(prefix)
        names = self.tensors
        below = self.kept(
            ("under", prefix),
            lambda: TensorTable((name[cut:], names[name]) for name in names if name.startswith(prefix)),
        )
        return Evidence(below, self.metadata, self.name, self.format)

    def count(self, prefix: str) -> int:
        """How many numbered blocks begin with a prefix: `layers.` of `layers.0 … layers.11` is 12."""
        cut = len(prefix)
        numbers = {name[cut:].partition(".")[0] for name in self.starting(prefix)}
        return len([number for number in numbers if number.isdigit()])

    def says(self, *words: str) -> str | None:
        """The first of these words that the file's name or title has; a hint, never proof."""
        title = self.metadata.get("modelspec.title", "").lower()
        return next((word for word in words if word in self.name or word in title), None)

    @property
    def precision(self) -> str:
        """The number format that most weights have."""
        return self.kept("precision", self._most_common_format)

    def _most_common_format(self) -> str:
        by_object = Counter(map(id, self.tensors.values()))
        total: Counter[str] = Counter()
        for info in self.infos:
            total[info.dtype] += math.prod(info.shape) * by_object[id(info)]
        packed = next((kind for kind in _PACKED if self.first(_PACKED[kind])), None) if "uint8" in total else None
        return packed or (total.most_common(1)[0][0] if total else "")


_PACKED = {"nf4": "quant_state.bitsandbytes__nf4", "fp4": "quant_state.bitsandbytes__fp4"}


def evidence_of(header: Header, name: str) -> Evidence:
    """The evidence of a header, unwrapped.

    Args:
        header: As `read_header` gives it.
        name: The file's name.
    """
    stem = name.replace("\\", "/").rpartition("/")[2]
    stem = (stem.rpartition(".")[0] or stem).lower()
    table = header.tensors if isinstance(header.tensors, TensorTable) else TensorTable(header.tensors)
    evidence = Evidence(table, header.metadata, stem, header.format)
    for wrapper in _WRAPPERS:
        if wrapper in evidence.heads:
            inner = evidence.under(f"{wrapper}.")
            if inner.tensors:
                evidence = inner
                break
    for wrapper in _COMMON:
        if evidence.heads == frozenset((wrapper,)):
            evidence = evidence.under(f"{wrapper}.")
    return evidence


@dataclass(frozen=True)
class Rule:
    """One way to know a kind of file.

    Attributes:
        name: Of the kind and layout, for tests and messages.
        detect: Gives the identity, or None where this is something else.
    """

    name: str
    detect: Callable[[Evidence], FileIdentity | None]


def known(**facts: int | float | str | bool | tuple[int, ...] | tuple[str, ...] | None) -> Facts:
    """The facts that are not None."""
    return {key: value for key, value in facts.items() if value is not None}
