"""A place to paint: catalogue, loader and Plans, with the built-in model or a random one of its shape."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks._models import MINI, TINY, write_folder
from benchmarks._report import Options
from danqing.engine.executors import open_executor
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.catalog import Catalog
from danqing.models.diffusers_folders import CHECKPOINT_DIR
from danqing.models.loader import Loader, pick_device
from danqing.planning import plan
from danqing.spec.errors import NotFoundError
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Guidance, Sampling, Txt2ImgRequest
from danqing.spec.plan import Plan
from danqing.spec.registry.families import BUILTIN_MODEL

BRIEFS = ("red apple, 3d", "grinning face, flat", "rocket, 3d", "太阳，扁平", "penguin, 3d", "guitar, flat")


@dataclass(frozen=True)
class Workbench:
    """Where a benchmark paints.

    Attributes:
        device: On which device.
        models_dir: Folder of random models, or None for the built-in one.
        catalog: What can be painted with.
        model: What is painted with.
        loader: Keeps it loaded.
    """

    device: torch.device
    models_dir: Path | None
    catalog: Catalog
    model: ModelInfo
    loader: Loader

    def executor(self) -> TorchExecutor:
        """The executor over the loaded model, its graphs as they are and its text cache empty."""
        self._opened.forget_texts()
        return self._opened

    @cached_property
    def _opened(self) -> TorchExecutor:
        return open_executor(self.loader)

    def plan(self, prompt: str, seed: int, steps: int | None = None, *, precision: str = "auto", **more: Any) -> Plan:
        """The Plan of one picture; whatever is not said is the model's own."""
        request = Txt2ImgRequest(
            prompt=prompt,
            model=self.model.name,
            seed=seed,
            sampling=Sampling(steps=steps, sampler=more.get("sampler")),
            guidance=Guidance(scale=more.get("scale")),
            precision=precision,  # type: ignore[arg-type]
        )
        return plan(request, self.catalog, rng_seed=seed)[0]

    def about(self) -> dict[str, Any]:
        """The model, for the result."""
        return {"model": self.model.name, "sha256": self.model.short_hash, "size_px": self.model.defaults.size_px}


class NoPictures:
    """Text to image takes no input pictures."""

    def open(self, sha256: str) -> Image.Image:
        """Always refuses."""
        raise NotFoundError("a benchmark has no input pictures", value=sha256)


@contextmanager
def workbench(options: Options) -> Iterator[Workbench]:
    """The built-in model where it is installed, else a random one of its shape; a tiny one for a quick run."""
    device = pick_device(options.device)
    with tempfile.TemporaryDirectory(prefix="danqing-bench-") as name:
        models_dir = None
        wanted = BUILTIN_MODEL
        if options.quick or not _has_builtin():
            models_dir = Path(name)
            wanted = "random-tiny" if options.quick else "random-mini"
            write_folder(models_dir / CHECKPOINT_DIR / wanted, TINY if options.quick else MINI)
        catalog = Catalog(models_dir)
        model = catalog.find(wanted)
        options.say(f"painting with {model.name} at {model.defaults.size_px} px on {device}")
        yield Workbench(device, models_dir, catalog, model, Loader(catalog, device))


def _has_builtin() -> bool:
    return any(info.name == BUILTIN_MODEL for info in Catalog().list())
