"""Executors that tell what ran, and the models that they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_controls
import tiny_models
import tiny_networks
from danqing.engine.calls import Denoise, ModelCall
from danqing.engine.costs import Part
from danqing.models.loader import Loader
from easel import Easel


class Watched:
    """Mixed into an executor: the Calls of each batch, and for each row whether the executor's own way ran it.

    Attributes:
        OWN: What that way is called.
        ELSE: What PyTorch's is.
        ran: The Calls of each batch.
        ways: `OWN` or `ELSE` by row.
        batch_rows: Rows of a batch at most, where a test sets them.
    """

    OWN, ELSE = "graph", "torch"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ways: list[str] = []
        self.ran: list[Any] = []
        self.batch_rows: int | None = None

    def run(self, calls: Any) -> list[Any]:
        self.ran.append(tuple(calls))
        return super().run(calls)  # type: ignore[misc]

    def max_rows(self, call: ModelCall) -> int:
        return super().max_rows(call) if self.batch_rows is None else self.batch_rows  # type: ignore[misc]

    def _way(self, model: Any, call: Denoise, row: int, nets: Any) -> Any:
        way = super()._way(model, call, row, nets)  # type: ignore[misc]
        self.ways.append(self.ELSE if way is None else self.OWN)
        return way


class Together(Watched):
    """The same, with batches as large as they can be."""

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        del call
        return ()


def easel_by(executor: Callable[[Loader], Any], models_dir: Path) -> Easel:
    """Paints by an executor of its own."""
    easel = Easel(models_dir)
    easel.executor = executor(easel.loader)
    return easel


def models_with_networks(root: Path, *loras: str) -> Path:
    """A folder of models: `tiny`, control networks, and LoRA of these names, each with other numbers."""
    tiny_controls.build_controls(root)
    if not (root / "Stable-diffusion" / "tiny").is_dir():
        tiny_models.build(root / "Stable-diffusion" / "tiny", seed=1)
    easel = Easel(root)
    for seed, name in enumerate(loras, start=1):
        tiny_networks.save_lora(root / "Lora" / f"{name}.safetensors", easel.model(), seed=seed)
    return root
