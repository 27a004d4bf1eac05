"""Paints through Danqing's ordinary path: Request, Plan, Session, engine."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from danqing.engine.events import Finished, SessionEvent
from danqing.engine.loop import Engine, EngineOptions
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.loader import Loader
from danqing.pipelines import expected_calls, paint
from danqing.planning import plan
from danqing.spec.errors import NotFoundError
from danqing.spec.plan import Plan
from danqing.spec.request import parse_request
from danqing.training.evaluation.family import Family


@dataclass(frozen=True)
class Order:
    """One picture to paint.

    Attributes:
        prompt: The words.
        seed: The noise.
        few_steps: By the 4-step variant.
        controls: ControlNet units, as in a Request.
        negative: The negative prompt.
    """

    prompt: str
    seed: int
    few_steps: bool = False
    controls: tuple[dict[str, Any], ...] = ()
    negative: str = ""


@dataclass
class Pictures:
    """Input pictures in memory, by the hash of their PNG."""

    kept: dict[str, Image.Image] = field(default_factory=dict)

    def add(self, rgb: NDArray[np.uint8]) -> str:
        """Keeps a picture `[h, w, 3]`; returns how a Request names it."""
        buffer = io.BytesIO()
        image = Image.fromarray(rgb)
        image.save(buffer, "PNG")
        sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.kept[sha256] = image
        return f"sha256:{sha256}"

    def open(self, sha256: str) -> Image.Image:
        """The picture with this hash.

        Raises:
            NotFoundError: It was not kept.
        """
        if sha256 not in self.kept:
            raise NotFoundError("this input picture was not kept", value=sha256)
        return self.kept[sha256]


class Painter:
    """An engine of its own with the family's models, loaded once.

    Args:
        family: What paints.
        device: Where.
        batch: Pictures painted together.
    """

    def __init__(self, family: Family, device: torch.device, batch: int) -> None:
        self.family = family
        self.batch = batch
        self.pictures = Pictures()
        self._executor = TorchExecutor(Loader(family.catalog, device))

    def plan(self, order: Order) -> Plan:
        """The order with every default resolved.

        Raises:
            DanqingError: What it names is not there, or does not fit.
        """
        request: dict[str, Any] = {"prompt": order.prompt, "seed": order.seed, "controls": list(order.controls)}
        request["negative_prompt"] = order.negative
        if order.few_steps:
            request["model"] = self.family.four_step
        else:
            likes = self.family.defaults
            request["model"] = self.family.model
            request["sampling"] = {"sampler": likes.sampler, "schedule": likes.schedule, "steps": likes.steps}
            request["guidance"] = {"scale": likes.guidance_scale}
        request["width_px"] = request["height_px"] = self.family.defaults.size_px
        return plan(parse_request(request), self.family.catalog)[0]

    def describe(self, order: Order) -> dict[str, Any]:
        """How an order is painted, for the report."""
        base = self.plan(order).base
        return {
            "model_sha256": base.model.sha256,
            "size_px": base.size.width_px,
            "sampler": base.sampling.sampler,
            "schedule": base.sampling.schedule,
            "steps": base.sampling.steps,
            "guidance": base.guidance_scale,
        }

    def paint(self, orders: Sequence[Order], report: str | None = None) -> NDArray[np.uint8]:
        """The pictures `[n, h, w, 3]`, painted a batch at a time.

        Args:
            orders: What to paint.
            report: A word for a line on standard output after each batch.

        Raises:
            DanqingError: The first that failed.
        """
        out: list[NDArray[np.uint8]] = []
        for start in range(0, len(orders), self.batch):
            before = time.monotonic()
            some = orders[start : start + self.batch]
            out += self._paint_together([self.plan(order) for order in some])
            if report is not None:
                each = (time.monotonic() - before) / len(some)
                print(f"{report}: {len(out)} of {len(orders)}, {each:.2f} s a picture", flush=True)  # noqa: T201
        return np.stack(out)

    def _paint_together(self, plans: Sequence[Plan]) -> list[NDArray[np.uint8]]:
        engine = Engine(self._executor, EngineOptions(preview_every=0))
        ended: dict[str, Finished] = {}

        def sink(event: SessionEvent) -> None:
            if isinstance(event, Finished):
                ended[event.key] = event

        for i, one in enumerate(plans):
            engine.submit(str(i), paint(one, self.pictures), sink, expected_calls=expected_calls(one))
        engine.run_until_idle()
        failed = next((event.error for event in ended.values() if event.error is not None), None)
        if failed is not None:
            raise failed
        return [np.asarray(ended[str(i)].result.convert("RGB")) for i in range(len(plans))]
