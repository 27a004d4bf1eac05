"""A worker's bench of helpers: where their files are, on which device they work, and what is loaded at the moment."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from danqing.spec.enhancer import EnhancerFile, EnhancerKind
from danqing.spec.errors import MissingWeightsError
from danqing.spec.model import ModelRef

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 3


class EnhancerFiles(Protocol):
    """What this needs of the catalogue."""

    def find_enhancer(self, name: str, kind: EnhancerKind) -> EnhancerFile | None:
        """The file with this name or hash, or None."""
        ...


class Bench:
    """Helpers of one worker.

    Args:
        files: Where they are; None where there are none.
        device: Where they compute.
    """

    def __init__(self, files: EnhancerFiles | None = None, device: torch.device | None = None) -> None:
        self.files = files
        self.device = device or torch.device("cpu")
        self._loaded: OrderedDict[str, Any] = OrderedDict()

    def path_of(self, wanted: ModelRef) -> Path:
        """Where a file of a Plan lies.

        Raises:
            MissingWeightsError: It is not installed (any more).
        """
        kind: EnhancerKind = "restorer" if wanted.family == "restorer" else "detector"
        file = None if self.files is None else self.files.find_enhancer(wanted.sha256, kind)
        if file is None:
            folder = "models/GFPGAN" if kind == "restorer" else "models/adetailer"
            raise MissingWeightsError(
                f"the {kind} {wanted.name} is not installed",
                field="steps",
                value=f"{wanted.name} [{wanted.sha256[:10]}]",
                allowed="the same file, to the byte",
                next_step=f"put its file into {folder}, or choose another one",
            )
        return Path(file.path)

    def kept(self, key: str, load: Callable[[], Any]) -> Any:
        """What was loaded under this key, or is now; the three used last stay."""
        if key not in self._loaded:
            self._loaded[key] = load()
        self._loaded.move_to_end(key)
        while len(self._loaded) > KEPT:
            self._loaded.popitem(last=False)
        return self._loaded[key]
