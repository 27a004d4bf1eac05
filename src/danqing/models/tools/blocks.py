"""A UNet's blocks in LDM's names as block-weighted merges count them, `IN00` … `M00` … `OUT11`, and their weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from danqing.spec.errors import InvalidRequestError

UNET = "model.diffusion_model."
_BLOCK = re.compile(r"^(input_blocks|output_blocks|middle_block)\.(\d+)\.")
_PREFIX = {"input_blocks": "IN", "output_blocks": "OUT"}
BASE = "BASE"
"""What lies outside the UNet's blocks: text encoder, VAE, time embedding, first norm of the way out."""


def block_of(name: str) -> str:
    """The block that a tensor lies in: `IN04`, `M00`, `OUT11`, or `BASE`."""
    if not name.startswith(UNET):
        return BASE
    found = _BLOCK.match(name.removeprefix(UNET))
    if found is None:
        return BASE
    return "M00" if found[1] == "middle_block" else f"{_PREFIX[found[1]]}{int(found[2]):02}"


def blocks_of(names: Iterable[str]) -> list[str]:
    """Every block of a checkpoint, from the first to the last; without BASE."""
    found = {block_of(name) for name in names} - {BASE}
    order = {"I": 0, "M": 1, "O": 2}
    return sorted(found, key=lambda block: (order[block[0]], block))


@dataclass(frozen=True)
class BlockWeights:
    """How much of the second model each block takes.

    Attributes:
        alpha: Where no block says otherwise.
        own: By block.
    """

    alpha: float
    own: Mapping[str, float] = field(default_factory=dict[str, float])

    def of(self, name: str) -> float:
        """The weight of one tensor."""
        return self.own.get(block_of(name), self.alpha)


def parse_blocks(text: str, alpha: float, blocks: list[str]) -> BlockWeights:
    """Block weights as a person writes them.

    Args:
        text: A list with one number for each block in order (for Stable Diffusion 1: 25, or 26 with BASE first), or
            pairs such as `IN00-IN05=0.2, M00=1, OUT=0.5`.
        alpha: For what is not named.
        blocks: The checkpoint's, in order.

    Raises:
        InvalidRequestError: It can't be read, or names a block that is not there.
    """
    parts = [part.strip() for part in re.split(r"[,\s]+", text.strip()) if part.strip()]
    if "=" in text:
        own: dict[str, float] = {}
        for part in parts:
            key, _, value = part.partition("=")
            for block in _named(key.strip().upper(), blocks):
                own[block] = _number(value, part)
        return BlockWeights(alpha, own)
    numbers = [_number(part, part) for part in parts]
    if len(numbers) == len(blocks) + 1:
        return BlockWeights(alpha, dict(zip([BASE, *blocks], numbers, strict=True)))
    if len(numbers) != len(blocks):
        raise InvalidRequestError(
            "the list of block weights has another length than the model has blocks",
            field="--blocks",
            value=len(numbers),
            allowed=f"{len(blocks)} numbers, or {len(blocks) + 1} with BASE first",
            next_step="or name the blocks: IN00-IN05=0.2, M00=1",
        )
    return BlockWeights(alpha, dict(zip(blocks, numbers, strict=True)))


def _named(key: str, blocks: list[str]) -> list[str]:
    first, dash, last = key.partition("-")
    known = [BASE, *blocks]
    if dash and first in known and last in known:
        found = known[known.index(first) : known.index(last) + 1]
    else:
        found = [block for block in known if block == key or (key in ("IN", "OUT", "M") and block.startswith(key))]
    if not found:
        raise InvalidRequestError(
            "there is no such block in this model", field="--blocks", value=key, allowed=", ".join(known)
        )
    return found


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidRequestError(
            "this is no weight", field="--blocks", value=whole, allowed="a number, or BLOCK=number"
        ) from error
