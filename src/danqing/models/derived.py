"""A UNet with a LoRA merged in and, for inpainting, another first convolution: a derived model made ordinary.

LoRA: Hu et al. 2021 (arXiv:2106.09685). A weight W [out, in, …] becomes W + scale · up · down with up [out, rank] and
down [rank, in · …].
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from danqing.models.derived_files import CONV_IN, Derivation, read_derivation, unknown_change
from danqing.models.folder_parts import load_part
from danqing.models.precision import Precision
from danqing.spec.errors import BadFileError
from danqing.spec.model import ModelInfo

PREFIX = "unet."
METADATA_KEY = "lora_adapter_metadata"
"""Under which diffusers keeps PEFT's configuration in a LoRA file's header."""
_SIDE = re.compile(r"^(?P<module>.+)\.(?P<side>lora_A|lora_B|lora\.down|lora\.up)(?:\.default)?\.weight$")
_DOWN = ("lora_A", "lora.down")


@dataclass(frozen=True)
class LowRank:
    """One layer's change.

    Attributes:
        down: [rank, in] or [rank, in, kh, kw].
        up: [out, rank] or [out, rank, 1, 1].
        scale: Factor on their product.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0

    def delta(self) -> Tensor:
        """The change of the weight, float32 [out, in] or [out, in, kh, kw]."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return self.scale * product.view(self.up.shape[0], *self.down.shape[1:])


def load_unet(info: ModelInfo, dtype: torch.dtype, precision: Precision | None = None) -> UNet2DConditionModel:
    """The UNet of a model in the catalogue, with all that makes it this model; merging is done in float32.

    Args:
        info: The model.
        dtype: Number format.
        precision: With the format that weights are kept in, if that is a smaller one.

    Raises:
        BadFileError: A derived model's files do not fit its base.
        UnsupportedError: Its LoRA is of a kind that cannot be merged.
    """
    derivation = None if info.base_path is None else read_derivation(Path(info.path))
    folder = Path(info.weights_path) / "unet"
    if derivation is None:
        return load_part(UNet2DConditionModel, folder, dtype, precision)
    unet: UNet2DConditionModel = load_part(UNet2DConditionModel, folder, torch.float32)
    change(unet, derivation)
    # diffusers' own `to` warns of a change of format; here every weight may change.
    nn.Module.to(unet, dtype)
    return unet


def change(unet: UNet2DConditionModel, derivation: Derivation) -> None:
    """Make the base's UNet the derived one, in place."""
    if derivation.conv_in is not None:
        replace_conv_in(unet, _read(derivation.conv_in)[0], str(derivation.conv_in))
    if derivation.lora is not None:
        merge(unet, read_lora(derivation.lora), derivation.folder)


def read_lora(path: Path) -> dict[str, LowRank]:
    """Layer name → its change, from a LoRA file in diffusers' format (PEFT's or the older names).

    Without `alpha` entries or PEFT metadata the scale is 1, as in diffusers.

    Raises:
        BadFileError: Half of a layer's change is missing.
        UnsupportedError: It holds something else than low-rank changes of the UNet.
    """
    tensors, header = _read(path)
    metadata = _metadata(header)
    sides: dict[str, dict[bool, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        found = _SIDE.match(name)
        if found is not None and not name.startswith(("text_encoder", "lora_unet_", "lora_te")):
            sides.setdefault(found["module"], {})[found["side"] in _DOWN] = tensor
        elif name.endswith(".alpha") and not name.startswith("lora_"):
            alphas[name.removesuffix(".alpha")] = float(tensor)
        else:
            raise unknown_change(path.parent, "holds something that is no low-rank change of the UNet", key)
    lost = [module for module, pair in sides.items() if len(pair) < 2]
    if lost or not sides:
        raise BadFileError(
            "a LoRA file is incomplete", value=lost[0] if lost else str(path), next_step="copy the file again"
        )
    return {
        module: LowRank(pair[True], pair[False], _scale(module, len(pair[True]), alphas, metadata))
        for module, pair in sides.items()
    }


def merge(unet: nn.Module, lora: Mapping[str, LowRank], folder: Path) -> None:
    """Add the changes to the UNet's weights, in place.

    Raises:
        BadFileError: A layer is not there, or its weight has another shape.
    """
    modules = dict(unet.named_modules())
    with torch.no_grad():
        for name, part in lora.items():
            module = modules.get(name)
            if not isinstance(module, (nn.Linear, nn.Conv2d)):
                raise _misfit(folder, name, "a linear or convolution layer of its base's UNet")
            try:
                delta = part.delta()
            except RuntimeError as error:
                raise _misfit(folder, name, "matrices whose ranks agree") from error
            if delta.shape != module.weight.shape:
                raise _misfit(folder, f"{name} {tuple(delta.shape)}", f"{tuple(module.weight.shape)}")
            module.weight += delta.to(module.weight)


def replace_conv_in(unet: UNet2DConditionModel, tensors: Mapping[str, Tensor], where: str) -> None:
    """Give the UNet another first convolution, with more input channels, in place.

    Args:
        unet: The base's.
        tensors: `conv_in.weight` [out, in, kh, kw] and `conv_in.bias` [out].
        where: The file, for the message.

    Raises:
        BadFileError: It does not fit behind the old one's place.
    """
    old: nn.Conv2d = unet.conv_in
    weight, bias = tensors.get(CONV_IN), tensors.get("conv_in.bias")
    fits = weight is not None and bias is not None and weight.ndim == 4
    if not fits or (weight.shape[0], *weight.shape[2:]) != (old.out_channels, *old.kernel_size):
        raise BadFileError(
            "the first convolution does not fit the UNet",
            value=where,
            allowed=f"{CONV_IN} [{old.out_channels}, in, {old.kernel_size[0]}, {old.kernel_size[1]}] and conv_in.bias",
            next_step="use the base that the model was made for",
        )
    new = nn.Conv2d(weight.shape[1], old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.copy_(weight)
        new.bias.copy_(bias)
    unet.conv_in = new.to(old.weight)
    unet.register_to_config(in_channels=weight.shape[1])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header's own words of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadFileError(
            f"{path.name} cannot be read: {error}", value=str(path), next_step="copy the file again"
        ) from error


def _metadata(header: Mapping[str, str]) -> dict[str, Any]:
    try:
        data: Any = json.loads(header.get(METADATA_KEY, "{}"))
    except ValueError as error:
        raise BadFileError(f"a LoRA file's header cannot be read: {error}") from error
    return {str(key).removeprefix(PREFIX): value for key, value in data.items()} if isinstance(data, dict) else {}


def _scale(module: str, rank: int, alphas: Mapping[str, float], metadata: Mapping[str, Any]) -> float:
    alpha = alphas.get(module)
    if alpha is None:
        alpha = (metadata.get("alpha_pattern") or {}).get(module, metadata.get("lora_alpha", rank))
    return float(alpha) / (rank**0.5 if metadata.get("use_rslora") else rank)


def _misfit(folder: Path, value: str, allowed: str) -> BadFileError:
    return BadFileError(
        f"the LoRA of {folder.name} does not fit its base",
        value=value,
        allowed=allowed,
        next_step="use the base that the model was made for",
    )
