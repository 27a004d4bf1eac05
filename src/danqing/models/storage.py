"""Weights kept in fewer bits than they are computed in: float8 layer by layer, int8 by torchao, nf4 by bitsandbytes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from danqing.models.precision import Precision
from danqing.models.singlefile.gguf import is_packed
from danqing.spec.errors import UnsupportedError

_PACKAGES = {"int8": "torchao", "nf4": "bitsandbytes"}


def store(network: Any, precision: Precision, device: torch.device) -> Any:
    """The network with its weights in the precision's storage format; as it is where that has none.

    Args:
        network: A diffusers model in the precision's number format.
        precision: With `storage`.
        device: Where it computes.

    Raises:
        UnsupportedError: The package for this format is not installed.
    """
    if precision.storage is None or is_packed(network):
        return network
    package = _PACKAGES.get(precision.storage)
    if package is not None and importlib.util.find_spec(package) is None:
        raise UnsupportedError(
            f"weights in {precision.storage} need the package {package}, which is not installed",
            field="precision",
            value=precision.storage,
            allowed="auto, float32, bfloat16, float16, float8",
            next_step=f"pip install {package}, or choose float8 or auto",
        )
    stores: dict[str, Callable[[Any, Precision, torch.device], Any]] = {"float8": _float8, "int8": _int8, "nf4": _nf4}
    return stores[precision.storage](network, precision, device)


def stored_dtypes(make: Callable[[], Any], precision: Precision) -> dict[str, torch.dtype]:
    """The weights that `store` will cast, so that they can be read in that format at once: name to format.

    Args:
        make: Makes the network; it is made on the meta device and thrown away.
        precision: With `storage`; empty where that is not float8.
    """
    if precision.storage != "float8":
        return {}
    with init_empty_weights():
        probe = make()
    _float8(probe, precision, torch.device("meta"))
    return {name: one.dtype for name, one in probe.named_parameters() if one.dtype is torch.float8_e4m3fn}


def _float8(network: Any, precision: Precision, _: torch.device) -> Any:
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=precision.denoiser)
    return network


def _int8(network: Any, _: Precision, __: torch.device) -> Any:
    torchao: Any = importlib.import_module("torchao.quantization")
    torchao.quantize_(network, torchao.Int8WeightOnlyConfig())
    return network


def _nf4(network: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    layers: Any = importlib.import_module("bitsandbytes.nn")
    linear = [(name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear)]
    for name, old in linear:
        parent = network.get_submodule(name.rpartition(".")[0])
        new = layers.Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=precision.denoiser,
            quant_type="nf4",
        )
        new.weight = layers.Params4bit(old.weight.data, requires_grad=False, quant_type="nf4")
        new.bias = old.bias
        # The numbers are packed on their way to the device.
        setattr(parent, name.rpartition(".")[2], new.to(device))
    return network.requires_grad_(False)
