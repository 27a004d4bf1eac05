"""The methods of training by name. A new one is a file here and a line in `_METHODS`."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from danqing.spec.errors import UnsupportedError
from danqing.training.own.context import Context
from danqing.training.own.methods.base import CardFacts, Losses, Method, Sample, Settings, TrainedMethod

__all__ = [
    "CardFacts",
    "Losses",
    "Method",
    "Opener",
    "Sample",
    "Settings",
    "TrainedMethod",
    "find_method",
    "method_names",
]

_METHODS: dict[str, tuple[str, str]] = {
    "lora": ("lora", "Lora"),
    "dreambooth": ("dreambooth", "DreamBooth"),
    "finetune": ("finetune", "Finetune"),
    "embedding": ("embedding", "Embedding"),
    "hypernetwork": ("hypernetwork", "HypernetworkMethod"),
    "slider": ("slider", "Slider"),
    "controlnet": ("controlnet", "ControlNet"),
    "distill": ("distill", "Distill"),
    "artaug": ("artaug", "ArtAug"),
    "dcgan": ("dcgan", "Dcgan"),
    "wgan": ("wgan", "Wgan"),
    "ddpm": ("ddpm", "Ddpm"),
}
"""`method` of a Request → (module beside this one, class)."""


def method_names() -> list[str]:
    """Every method that is here."""
    return list(_METHODS)


class Opener(Protocol):
    """What a line of the table names: a Method's class, or something else that opens one."""

    def open(self, request: Any, context: Context) -> TrainedMethod:
        """A method, ready for its first step."""
        ...


def find_method(name: str) -> Opener:
    """What opens a method; only its own module is loaded.

    Raises:
        UnsupportedError: It is not in this version.
    """
    if name not in _METHODS:
        raise UnsupportedError(
            "this method cannot be trained yet", field="method", value=name, allowed=", ".join(method_names())
        )
    module, kind = _METHODS[name]
    found: Opener = getattr(import_module(f"{__name__}.{module}"), kind)
    return found
