"""Loaded upscalers: found in the catalogue, kept while two or fewer are in use."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import torch

from danqing.enhance.upscale import Upscaler
from danqing.spec.errors import MissingWeightsError
from danqing.spec.model import ModelRef
from danqing.spec.upscale import UpscalerFile

KEPT = 2


class UpscalerFiles(Protocol):
    """What this needs of the catalogue."""

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        """The file with this name or hash, or None."""
        ...


class LoadedUpscalers:
    """Upscalers on one device.

    Args:
        files: Where they are.
        device: Where they compute.
    """

    def __init__(self, files: UpscalerFiles, device: torch.device) -> None:
        self._files = files
        self._device = device
        self._loaded: OrderedDict[str, Upscaler] = OrderedDict()

    def get(self, wanted: ModelRef) -> Upscaler:
        """The loaded upscaler.

        Raises:
            MissingWeightsError: It is not installed (any more).
            BadFileError: Its file is damaged or not to be trusted.
            UnsupportedError: It is not an upscaler that can be used.
        """
        if wanted.sha256 not in self._loaded:
            file = self._files.find_upscaler(wanted.sha256)
            if file is None:
                raise MissingWeightsError(
                    f"the upscaler {wanted.name} is not installed",
                    field="upscaler",
                    value=f"{wanted.name} [{wanted.sha256[:10]}]",
                    next_step="put its file into models/ESRGAN, or choose another upscaler",
                )
            self._loaded[wanted.sha256] = Upscaler(Path(file.path), self._device)
        self._loaded.move_to_end(wanted.sha256)
        while len(self._loaded) > KEPT:
            self._loaded.popitem(last=False)
        return self._loaded[wanted.sha256]
