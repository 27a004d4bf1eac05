"""GGUF files of transformers (city96's layout): packed weights that are unpacked layer by layer while painting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from danqing.models.headers import read_header
from danqing.spec.errors import BadFileError, UnsupportedError


def gguf_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; packed ones as diffusers' `GGUFParameter`, others in their true shapes.

    Raises:
        UnsupportedError: The package that reads them is not installed, or a packing is not known.
        BadFileError: It is damaged.
    """
    load = _reader()
    header = read_header(path)
    try:
        tensors: dict[str, Tensor] = load(str(path), return_tensors=True)
    except (OSError, IndexError, TypeError) as error:
        raise BadFileError(
            f"{path.name} cannot be read: {error}", value=str(path), next_step="download the file again"
        ) from error
    except ValueError as error:
        kinds = ", ".join(sorted({info.dtype for info in header.tensors.values()}))
        raise UnsupportedError(
            f"{path.name} is packed in a way that cannot be read",
            value=kinds,
            allowed="F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS",
            next_step="use its Q8_0 or Q4_K_S version",
        ) from error
    return {name: _shaped(tensor, header.tensors[name].shape) for name, tensor in tensors.items()}


def fill_gguf(make: Callable[[], Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> Any:
    """A module with packed weights in its linear layers.

    Args:
        make: Makes the module.
        tensors: Under its own names; packed ones as `GGUFParameter`.
        dtype: The number format that it computes in, and that of its other weights.
        path: The file, for messages.

    Raises:
        BadFileError: The tensors are not the module's.
    """
    from diffusers import GGUFQuantizationConfig
    from diffusers.quantizers.auto import DiffusersAutoQuantizer
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

    with init_empty_weights():
        module: nn.Module = make()
    linear = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        packed = isinstance(tensor, GGUFParameter)
        if packed and name not in linear:
            tensor, packed = dequantize_gguf_tensor(tensor), False  # noqa: PLW2901
        state[name] = tensor if packed else tensor.to(dtype, copy=True)
    _check(module, state, path)
    quantizer: Any = DiffusersAutoQuantizer.from_config(GGUFQuantizationConfig(compute_dtype=dtype))
    quantizer.preprocess_model(model=module, device_map=None, state_dict=state, keep_in_fp32_modules=[])
    plain = {name: tensor for name, tensor in state.items() if not isinstance(tensor, GGUFParameter)}
    module.load_state_dict(plain, strict=False, assign=True)
    for name, tensor in state.items():
        if isinstance(tensor, GGUFParameter):
            quantizer.create_quantized_param(module, tensor, name, torch.device("cpu"))
    return module


def is_packed(module: nn.Module) -> bool:
    """Whether a module has packed weights, which no other format may be cast over."""
    return any(hasattr(one, "quant_type") for one in module.parameters())


def _check(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(one.shape) for name, one in module.state_dict().items()}
    given = {name: tuple(getattr(one, "quant_shape", one.shape)) for name, one in state.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise BadFileError(
            f"{path.name} does not hold the network that its shapes promise: {len(wrong)} tensors differ",
            value=", ".join(f"{name} {given.get(name, 'missing')}" for name in wrong[:3]),
            allowed=", ".join(f"{name} {wanted.get(name, 'not there')}" for name in wrong[:3]),
            next_step="download the file again",
        )


def _shaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """ComfyUI-GGUF flattens some tensors; those of plain numbers get their shapes back."""
    plain = not hasattr(tensor, "quant_type")
    return tensor.reshape(shape) if plain and tuple(tensor.shape) != shape else tensor


def _reader() -> Callable[..., dict[str, Tensor]]:
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            "GGUF files need the package gguf, which is not installed",
            field="model",
            value="gguf",
            allowed="gguf 0.10 or later",
            next_step="pip install 'danqing[gguf]', or choose a .safetensors file",
        ) from error
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    return load_gguf_checkpoint
