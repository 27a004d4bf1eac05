"""Which number formats a model can be asked to run in here, as far as that is known without loading torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, get_args

from danqing.spec.model import ModelInfo
from danqing.spec.painting import Precision

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_PACKAGES: Final = {"int8": "torchao", "nf4": "bitsandbytes"}
_STORED: Final = ("float8", "int8", "nf4")
_TRANSFORMERS: Final = ("sd3", "flux")
_NOT_ON_CPU: Final = ("float16", "nf4")


def precisions_for(studio: Studio, model: ModelInfo) -> tuple[Precision, ...]:
    """The choices for a model, `auto` first.

    A packed file (GGUF) keeps its weights as they are, and a pipeline of diffusers has no way to store them in fewer
    bits. What no device here can do is left out where the devices are known.
    """
    left_out = {name for name, package in _PACKAGES.items() if find_spec(package) is None}
    only_cpu = _only_cpu(studio)
    if only_cpu and find_spec("openvino") is not None and model.family not in _TRANSFORMERS:
        # A graph of the UNet computes in eight bits; no package stores its weights so.
        left_out.discard("int8")
    if model.foreign is not None or model.path.lower().endswith(".gguf"):
        left_out |= set(_STORED)
    if only_cpu:
        left_out |= set(_NOT_ON_CPU)
    choices: tuple[Precision, ...] = get_args(Precision)
    return tuple(name for name in choices if name not in left_out)


def _only_cpu(studio: Studio) -> bool:
    """Whether every worker is known to compute on the CPU: by its settings, or because it said so."""
    devices = [(worker.versions and worker.versions.device) or worker.device for worker in studio.workers()]
    return bool(devices) and all(device.lower().startswith("cpu") for device in devices)
