"""Loaded models, kept while they fit in a budget of bytes, the least recently used given up first."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import torch

from danqing.models import precision as precisions
from danqing.models.catalog import Catalog
from danqing.models.families import sd
from danqing.spec.errors import BadFileError, NotFoundError, UnsupportedError
from danqing.spec.model import ModelInfo, ModelRef


class Loader:
    """Loads models on demand.

    Args:
        catalog: Where they are.
        device: Where they compute.
        fast_cpu: As for `families.sd.prepare_unet`; off where the denoiser is to be compiled.
        budget_bytes: How many bytes of weights may stay; half the machine's memory if not given.
    """

    def __init__(
        self, catalog: Catalog, device: torch.device, budget_bytes: int | None = None, *, fast_cpu: bool = True
    ) -> None:
        self.catalog = catalog
        self.device = device
        self.fast_cpu = fast_cpu
        self.budget_bytes = budget_bytes or _half_the_memory(device)
        self._loaded: OrderedDict[tuple[str, str | None, str], sd.StableDiffusion] = OrderedDict()

    def get(self, model: ModelRef, vae: ModelRef | None = None, precision: str = "auto") -> sd.StableDiffusion:
        """The loaded model.

        Raises:
            NotFoundError: It is not installed (any more).
            UnsupportedError: Its family or precision cannot run here.
            BadFileError: Its files are damaged.
        """
        key = (model.sha256, vae.sha256 if vae else None, precision)
        if key not in self._loaded:
            self._loaded[key] = self._load(model, vae, precision)
        self._loaded.move_to_end(key)
        self._trim()
        return self._loaded[key]

    def drop_others(self, keep: sd.StableDiffusion | None) -> bool:
        """Give up every model but one (or all, for None). False if there was none to give up."""
        others = [key for key, model in self._loaded.items() if model is not keep]
        for key in others:
            del self._loaded[key]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(others)

    def _load(self, model: ModelRef, vae: ModelRef | None, precision: str) -> sd.StableDiffusion:
        info = self._info(model)
        chosen = precisions.choose(self.device, precision)
        vae_path = Path(self._info(vae).path) / "vae" if vae else None
        try:
            return sd.load(info, chosen, self.device, vae_path, fast_cpu=self.fast_cpu)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadFileError(
                f"the model {info.name} cannot be loaded: {error}",
                value=info.path,
                next_step="copy the model folder again, or choose another model",
            ) from error

    def _info(self, wanted: ModelRef) -> ModelInfo:
        for info in self.catalog.list():
            if info.sha256 == wanted.sha256:
                return info
        raise NotFoundError(
            f"the model {wanted.name} is not installed",
            field="model",
            value=wanted.sha256[:10],
            next_step=f"install the file with hash {wanted.sha256[:10]}, or choose another model",
        )

    def _trim(self) -> None:
        while len(self._loaded) > 1 and sum(m.size_bytes for m in self._loaded.values()) > self.budget_bytes:
            self._loaded.popitem(last=False)


def _half_the_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.7)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def pick_device(wanted: str = "auto") -> torch.device:
    """The device to compute on.

    Raises:
        UnsupportedError: The device is not there.
    """
    if wanted == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UnsupportedError(
            "there is no such device", field="device", value=wanted, allowed="auto, cpu, cuda, cuda:0, mps"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            "PyTorch finds no CUDA device here",
            field="device",
            value=wanted,
            allowed="auto, cpu",
            next_step="choose auto, or install the CUDA build of PyTorch and its driver",
        )
    return device
