"""spandrel without torchvision: its package imports three functions of torchvision, for two architectures.

spandrel reads some forty architectures of super-resolution and restoration networks. At import it asks for
`torchvision.transforms.functional.{normalize, rotate, InterpolationMode}`, which RestoreFormer and one optional layer
of LaMa use, and PyTorch's CPU build that Danqing pins has no torchvision beside it. Where torchvision is missing, those
names are answered from here while spandrel is imported, and only then: `normalize` is the same arithmetic, `rotate`
says that it needs the real one. Nothing stays in `sys.modules` that others could take for torchvision.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor

from danqing.spec.errors import UnsupportedError

_LOCK = threading.Lock()
_NAMES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


class InterpolationMode(enum.Enum):
    """The names that spandrel's LaMa gives to `rotate`."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"


def normalize(tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> Tensor:
    """(x − mean) / std for each channel of `[…, c, h, w]`, as torchvision's function of this name."""
    shape = (-1, 1, 1)
    centre, spread = tensor.new_tensor(mean).view(shape), tensor.new_tensor(std).view(shape)
    return tensor.sub_(centre).div_(spread) if inplace else (tensor - centre) / spread


def rotate(*_: Any, **__: Any) -> Tensor:
    """Only a LaMa with learnt rotations calls this.

    Raises:
        UnsupportedError: Always.
    """
    raise UnsupportedError(
        "this network turns its picture, which needs torchvision",
        next_step="install torchvision for your PyTorch, or use another network",
    )


def load_spandrel() -> ModuleType:
    """The package `spandrel`.

    Raises:
        UnsupportedError: It is not installed.
    """
    with _LOCK:
        if "spandrel" in sys.modules:
            return sys.modules["spandrel"]
        if importlib.util.find_spec("spandrel") is None or importlib.util.find_spec("einops") is None:
            raise UnsupportedError(
                "upscaler files are read with spandrel, which is not installed",
                allowed="Lanczos, Bicubic, Nearest",
                next_step="pip install einops && pip install --no-deps spandrel",
            )
        with _stand_ins():
            return importlib.import_module("spandrel")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Answer for torchvision inside the block, if it is not there."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        yield
        return
    modules = {name: ModuleType(name) for name in _NAMES}
    functional: Any = modules[_NAMES[2]]
    functional.InterpolationMode, functional.normalize, functional.rotate = InterpolationMode, normalize, rotate
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in _NAMES:
            sys.modules.pop(name, None)
