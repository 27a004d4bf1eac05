"""What the layers of a UNet read while it paints: measured once for each model, on briefs of our own."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.graphs.compiled import CompiledGraph
from danqing.models.graphs.int8 import Bounds, layers
from danqing.models.graphs.unet import CONTEXT, SAMPLE, measuring_graph, times

BRIEFS = (
    "red apple, 3d",
    "portrait of an old woman by a window, photograph",
    "a mountain lake in fog, ink on paper",
    "穿红衣的女孩, flat",
)
BOUNDS_FOLDER = ".danqing-int8"
"""In the folder of models."""
STEPS = 12
SEED = 7
logger = logging.getLogger(__name__)


def rounding_of(model: StableDiffusion, folder: Path | None, threads: int | None = None) -> dict[nn.Module, Bounds]:
    """The layers of a model's UNet to compute in eight bits: what is known of it on the disk, or what is measured now.

    Args:
        model: Loaded, on the CPU.
        folder: Where measured bounds are kept; None to keep none.
        threads: As for `CompiledGraph`.

    Raises:
        NotExpressible: Its UNet cannot be written down.
    """
    kept = BoundsFile(folder, model.info.sha256) if folder is not None else None
    bounds = kept.read() if kept is not None else None
    if bounds is None:
        logger.info("measuring %s for eight bits: %d short pictures", model.info.name, len(BRIEFS))
        bounds = measure(model, threads)
        if kept is not None:
            kept.write(bounds)
    named = layers(model.unet)
    # A layer that reads no finite numbers has no steps; it stays as it is.
    return {named[name]: both for name, both in bounds.items() if name in named and all(map(math.isfinite, both))}


def measure(model: StableDiffusion, threads: int | None = None) -> dict[str, Bounds]:
    """The bounds of each layer worth computing in eight bits, by name; `STEPS` steps for each brief are painted.

    Args:
        model: Loaded, on the CPU.
        threads: As for `CompiledGraph`.

    Raises:
        NotExpressible: Its UNet cannot be written down.
    """
    named = layers(model.unet)
    written, met = measuring_graph(model.unet, model.precision.denoiser, set(named.values()))
    graph = CompiledGraph(written, threads)
    found: list[Tensor] = []

    def network(scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        feeds = times(model.unet, timesteps, options.get("added_cond_kwargs"))
        answer, extremes = graph({SAMPLE: scaled, CONTEXT: context, **feeds})
        found.append(extremes)
        return answer

    for index, brief in enumerate(BRIEFS):
        _paint(model, brief, SEED + index, network)
    of_calls = torch.stack(found)
    # No outlier is cut off: cutting one call in a hundred, or in ten, cost 0.4 and 2 dB.
    low, high = of_calls[..., 0].amin(0), of_calls[..., 1].amax(0)
    names = {module: name for name, module in named.items()}
    return {names[module]: (float(low[i]), float(high[i])) for i, module in enumerate(met)}


def _paint(model: StableDiffusion, brief: str, seed: int, network: Callable[..., Tensor]) -> None:
    """Euler's steps with guidance, down to a little noise (Karras et al., arXiv 2206.00364, equation 5)."""
    side = model.info.defaults.size_px // model.info.latent_scale
    scale = model.info.defaults.guidance_scale
    states = model.read_text(["", brief], "original", 1)
    context = torch.stack([state.states for state in states])
    added = None
    if states[0].pooled is not None:
        size = float(model.info.defaults.size_px)
        numbers = torch.tensor([[size, size, 0, 0, size, size, 6.0]] * 2)
        added = Added(torch.stack([state.pooled for state in states if state.pooled is not None]), numbers)
    extra_channels = int(model.unet.config["in_channels"]) - model.info.latent_channels
    extra = torch.zeros(2, extra_channels, side, side) if extra_channels else None
    levels = np.geomspace(model.table.sigma_max, max(model.table.sigma_min, 0.05), STEPS + 1)
    x = torch.randn(1, model.info.latent_channels, side, side, generator=torch.Generator().manual_seed(seed))
    x = x * math.sqrt(1.0 + float(levels[0]) ** 2)
    for sigma, following in pairwise(levels):
        both = model.denoise(
            torch.cat([x, x]), torch.full((2,), float(sigma)), context, extra, perturbed=False, added=added,
            network=network,
        )  # fmt: skip
        clean = both[:1] + scale * (both[1:] - both[:1])
        x = x + (x - clean) / float(sigma) * float(following - sigma)


class BoundsFile:
    """Measured bounds on the disk, a file for each model.

    Args:
        folder: Where they lie; made when the first is written.
        sha256: Of the model.
    """

    def __init__(self, folder: Path, sha256: str) -> None:
        self.path = folder / f"int8-{sha256[:16]}.json"

    def read(self) -> dict[str, Bounds] | None:
        """What lies there; None where there is nothing, or nothing that can be read."""
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(name): (float(low), float(high)) for name, (low, high) in told["bounds"].items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s cannot be read and is measured anew: %s", self.path, error)
            return None

    def write(self, bounds: dict[str, Bounds]) -> None:
        """Keep them; a disk that refuses costs no more than measuring again."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_suffix(".part")
            beside.write_text(json.dumps({"briefs": list(BRIEFS), "steps": STEPS, "bounds": bounds}), encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.path, error)
