"""A denoiser's twin: the same weights under modules of its own, with projections fused and repeated blocks compiled.

Adapters put hooks and processors into the network they are given for the time of a batch. A twin never sees them, so
compiled code and recorded graphs of it stay true, and the network itself stays what eager PyTorch runs.
"""

from __future__ import annotations

import copy
import importlib
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, FusedAttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

REPEATED = (BasicTransformerBlock, ResnetBlock2D)
"""What a UNet is built of over and over; blocks of one shape share their code, so that little is compiled."""
VARIANTS = 512
"""Shapes of one block that may be compiled: every bucket of a UNet has about fifteen."""
MAPPED = frozenset({None, "int8"})
"""Storages whose weights are ordinary tensors; float8 comes by hooks, nf4 by layers of its own."""


def can_have_twin(network: nn.Module, storage: str | None, device: torch.device) -> bool:
    """Whether a network's weights lie on the device and nothing moves them.

    Args:
        network: A denoiser or ControlNet.
        storage: What its weights are kept in, as `Precision` has it.
        device: Where it computes.
    """
    if storage not in MAPPED or any(hasattr(part, "_diffusers_hook") for part in network.modules()):
        return False
    return all(one.device.type == device.type for one in network.parameters())


def twin_of(network: Any) -> Any:
    """The same modules once more, over the same weights: costs no memory to speak of."""
    weights = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(one): one for one in weights})


@torch.no_grad()
def fuse_projections(twin: nn.Module) -> int:
    """Compute query, key and value of an attention as one matrix product; how many attentions changed.

    The joined weight is held once: the split layers of the network that the twin was made of become views into it, and
    go on to work as they are, with the same numbers.

    Args:
        twin: Of a network whose weights nobody else rearranges.
    """
    count = 0
    for attn in twin.modules():
        if not isinstance(attn, Attention) or type(attn.processor) is not AttnProcessor2_0:
            continue
        layers: list[Any] = [attn.to_k, attn.to_v] if attn.is_cross_attention else [attn.to_q, attn.to_k, attn.to_v]
        if attn.added_kv_proj_dim is not None or not all(_is_plain(layer) for layer in layers):
            continue
        setattr(attn, "to_kv" if attn.is_cross_attention else "to_qkv", _joined(layers))
        attn.fused_projections = True
        attn.set_processor(FusedAttnProcessor2_0())
        count += 1
    return count


def compile_blocks(twin: nn.Module, backend: str = "inductor") -> int:
    """Have a twin's repeated blocks compiled at their first call with each shape; how many there are.

    Args:
        twin: Not the network itself: compiled code does not see hooks.
        backend: As `torch.compile` names it.
    """
    blocks = [part for part in twin.modules() if type(part) in REPEATED]
    for block in blocks:
        # The forward alone, so that a hook on the block runs beside the compiled code.
        compiled: Any = torch.compile(block.forward, fullgraph=True, dynamic=False, backend=backend)
        setattr(block, "forward", compiled)  # noqa: B010  a type checker takes a method for read-only
    return len(blocks)


def allow_variants() -> None:
    """Let PyTorch compile as many shapes as there are; to be said in each thread that compiles."""
    config: Any = importlib.import_module("torch._dynamo.config")
    config.cache_size_limit = VARIANTS
    config.accumulated_cache_size_limit = 8 * VARIANTS


def why_not_compiled(device: torch.device) -> str | None:
    """What is missing for compiling on a device, in words; None if nothing is."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        return "there is no C compiler (install gcc)"
    if device.type == "cuda":
        try:
            importlib.import_module("triton")
        except ImportError as error:
            return f"Triton cannot be used here ({error})"
        if torch.cuda.get_device_capability(device) < (7, 0):
            return "Triton needs a GPU of compute capability 7.0 or later"
    return None


def _is_plain(layer: Any) -> bool:
    return type(layer) is nn.Linear and type(layer.weight.data) is torch.Tensor


def _joined(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer whose answers are those of several side by side."""
    widths = [layer.out_features for layer in layers]
    joined = nn.Linear(layers[0].in_features, sum(widths), bias=layers[0].bias is not None, device="meta")
    for name in ("weight", *(("bias",) if layers[0].bias is not None else ())):
        whole = torch.cat([getattr(layer, name).data for layer in layers])
        setattr(joined, name, nn.Parameter(whole, requires_grad=False))
        for layer, part in zip(layers, whole.split(widths), strict=True):
            getattr(layer, name).data = part
    return joined
