"""Two or three checkpoints made one: the weighted sum and *add difference*, whole or by blocks, as A1111 merges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from danqing.models.tools.blocks import BlockWeights, blocks_of, parse_blocks
from danqing.models.tools.stream import Entry, Source, Writer, named_dtype, torch_dtype
from danqing.spec.errors import InvalidRequestError

Method = Literal["weighted", "difference"]
_IGNORED = re.compile(r"(^|\.)position_ids$|^model_ema\.|^(alphas_cumprod|betas|sqrt_|log_one_minus|posterior_)")
"""Buffers that are not learnt, and averages that the merge does not make."""
_FIRST_CONVOLUTION = "input_blocks.0.0.weight"


@dataclass(frozen=True)
class MergeTask:
    """What to merge.

    Attributes:
        first: A; what it alone has is kept as it is.
        second: B.
        third: C, what B was made from (*add difference* only).
        out: The new file.
        method: `weighted`: A·(1−α) + B·α. `difference`: A + (B − C)·α.
        alpha: α.
        blocks: Weights by block, see `parse_blocks`.
        to: Number format of the result; None keeps A's.
        discard: Tensors whose names match this regular expression are left out.
        overwrite: Whether `out` may be replaced.
    """

    first: Path
    second: Path
    out: Path
    third: Path | None = None
    method: Method = "weighted"
    alpha: float = 0.5
    blocks: str | None = None
    to: str | None = None
    discard: str | None = None
    overwrite: bool = False


def merge(task: MergeTask, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Do it; what came out, in numbers.

    Raises:
        InvalidRequestError: The files don't fit each other, or the task makes no sense.
        BadFileError: A file is damaged.
    """
    _check(task)
    a, b = Source(task.first), Source(task.second)
    c = Source(task.third) if task.third is not None else None
    weights = BlockWeights(task.alpha)
    if task.blocks:
        weights = parse_blocks(task.blocks, task.alpha, _blocks(a))
    names = [name for name in a.names() if not _discarded(name, task.discard)]
    mixed = {name for name in names if name in b and not _IGNORED.search(name)}
    if not mixed:
        raise InvalidRequestError(
            "the two files have no layer in common",
            field="B",
            value=task.second.name,
            allowed=f"a model of the kind of {task.first.name}",
        )
    for name in sorted(mixed):
        _check_shapes(name, a, b, c)
    dtype = named_dtype(task.to)
    entries = [Entry(name, _target(torch_dtype(a.infos[name]), dtype), a.infos[name].shape) for name in names]

    def produce(name: str) -> Tensor:
        own = a.get(name)
        if name not in mixed or not own.is_floating_point():
            return own
        return _mixed(
            task.method, own, b.get(name), c.get(name) if c is not None and name in c else None, weights.of(name)
        )

    size = Writer(task.out, entries, _recipe(task), task.overwrite, progress).write(produce)
    return {"file": str(task.out), "bytes": size, "merged": len(mixed), "kept": len(names) - len(mixed)}


def _mixed(method: Method, a: Tensor, b: Tensor, c: Tensor | None, alpha: float) -> Tensor:
    """One layer, in float32; where A has more input channels (inpainting, edit) only the picture's are mixed."""
    whole = a.float()
    part = whole[:, : b.shape[1]] if a.ndim == 4 and a.shape != b.shape else whole
    if method == "weighted":
        new = torch.lerp(part, b.float(), alpha)
    else:
        difference = b.float() - c.float() if c is not None else torch.zeros_like(part)
        new = part + alpha * difference
    if part is whole:
        return new
    return torch.cat([new, whole[:, b.shape[1] :]], dim=1)


def _check(task: MergeTask) -> None:
    if task.method == "difference" and task.third is None:
        raise InvalidRequestError(
            "adding a difference needs a third model", field="C", next_step="name the model that B was made from"
        )
    if task.method == "weighted" and task.third is not None:
        raise InvalidRequestError(
            "a weighted sum takes two models", field="C", value=str(task.third), next_step="use --method difference"
        )
    if not -2.0 <= task.alpha <= 2.0:
        raise InvalidRequestError(
            "α is out of range", field="--alpha", value=task.alpha, allowed="−2 to 2, mostly 0 to 1"
        )
    try:
        re.compile(task.discard or "")
    except re.error as error:
        raise InvalidRequestError(
            f"this is no regular expression: {error}", field="--discard", value=task.discard
        ) from error


def _check_shapes(name: str, a: Source, b: Source, c: Source | None) -> None:
    one, two = a.infos[name].shape, b.infos[name].shape
    wider = (
        name.endswith(_FIRST_CONVOLUTION)
        and len(one) == len(two) == 4
        and one[0] == two[0]
        and one[1] in (8, 9)
        and two[1] == 4
    )
    if one != two and not wider:
        raise InvalidRequestError(
            "the models are of different kinds",
            field="B",
            value=f"{name} {list(two)}",
            allowed=f"{list(one)}, as {a.path.name} has it",
            next_step="merge models of one family; put an inpainting or edit model first",
        )
    if c is not None and name in c and c.infos[name].shape != two:
        raise InvalidRequestError(
            "B and C are of different kinds",
            field="C",
            value=f"{name} {list(c.infos[name].shape)}",
            allowed=str(list(two)),
        )


def _blocks(a: Source) -> list[str]:
    found = blocks_of(a.names())
    if not found:
        raise InvalidRequestError(
            "this checkpoint has no blocks that can be weighed",
            field="--blocks",
            value=a.path.name,
            allowed="single files of Stable Diffusion 1, 2 and XL",
        )
    return found


def _discarded(name: str, pattern: str | None) -> bool:
    return bool(pattern) and re.search(pattern or "", name) is not None


def _target(own: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    return wanted if wanted is not None and own.is_floating_point else own


def _recipe(task: MergeTask) -> dict[str, str]:
    """What A1111 writes into a merged file, so that one can tell later."""
    recipe = {
        "type": "danqing",
        "primary_model_name": task.first.name,
        "secondary_model_name": task.second.name,
        "tertiary_model_name": task.third.name if task.third else None,
        "interp_method": "Weighted sum" if task.method == "weighted" else "Add difference",
        "multiplier": task.alpha,
        "block_weights": task.blocks,
        "discard_weights": task.discard,
    }
    return {"sd_merge_recipe": json.dumps(recipe)}
