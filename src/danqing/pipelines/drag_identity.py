"""The first stage of a drag of quality: the model learns the picture, once for each picture and model."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from danqing.adapters.identity import IdentityLora
from danqing.engine.calls import ModelKey
from danqing.models.families.sd import StableDiffusion
from danqing.pipelines.context import Step
from danqing.pipelines.drag_model import Row, Words, learn
from danqing.sampling.tables import NoiseTable
from danqing.spec.drag import DragTuning
from danqing.spec.network import NetworkUse

KEPT_BYTES = 256 * 2**20
"""Of learnt pictures together; the one that was used longest ago goes first."""
WEIGHT_DECAY = 1e-2
_LEARNT: OrderedDict[str, IdentityLora] = OrderedDict()
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Subject:
    """What is learnt.

    Attributes:
        clean: Latents of the picture [1, c, h, w].
        words: That it is painted with.
        table: Noise levels of the model.
    """

    clean: Tensor
    words: Words
    table: NoiseTable


class Asking(Protocol):
    """What learning needs of the drag it belongs to."""

    key: ModelKey
    networks: tuple[NetworkUse, ...]

    def ask(self, run: Callable[[StableDiffusion], Answer], rows: int = 1, stage: str = "denoise") -> Step[Answer]:
        """One Call, and a report of it."""
        ...

    def skip(self, calls: int) -> None:
        """So many calls are not needed."""
        ...


def learnt(asking: Asking, subject: Subject, tuning: DragTuning) -> Step[IdentityLora | None]:
    """The picture's own LoRA, from memory where it was learnt before; None where it is not wanted.

    Its noise follows from the picture alone: a drag can be repeated whether it was remembered or not.
    """
    if not tuning.identity:
        return None
    name = _name(asking, subject, tuning)
    if name in _LEARNT:
        _LEARNT.move_to_end(name)
        asking.skip(tuning.identity_steps)
        return _LEARNT[name]
    seed = int(name[:15], 16)

    def begin(model: StableDiffusion) -> IdentityLora:
        return IdentityLora(model.unet, tuning.identity_rank, seed)

    identity = yield from asking.ask(begin, stage="encode")
    optimizer = torch.optim.AdamW(identity.parameters(), lr=tuning.identity_rate, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(tuning.identity_steps):
        time = float(torch.rand((), generator=generator)) * (len(subject.table.sigmas) - 1)
        sigma = subject.table.t_to_sigma(time)
        x = subject.clean + sigma * torch.randn(subject.clean.shape, generator=generator)
        row, clean = Row(x, subject.words), (subject.clean, sigma)
        yield from asking.ask(
            lambda model, row=row, clean=clean: learn(model, identity, optimizer, row, clean), stage="encode"
        )
    identity.freeze()
    _LEARNT[name] = identity
    while sum(one.size_bytes for one in _LEARNT.values()) > KEPT_BYTES and len(_LEARNT) > 1:
        _LEARNT.popitem(last=False)
    return identity


def _name(asking: Asking, subject: Subject, tuning: DragTuning) -> str:
    """What must be equal for two drags to share what was learnt."""
    digest = hashlib.sha256(repr((asking.key, asking.networks)).encode())
    digest.update(repr((tuning.identity_rank, tuning.identity_steps, tuning.identity_rate)).encode())
    for tensor in (subject.clean, subject.words.text.states):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
