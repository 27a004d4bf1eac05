"""Weights that wait in main memory while others work, and what memory there is."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from danqing.models.headers import read_header
from danqing.models.precision import Precision
from danqing.models.residency import OFFLOADED, Residency, Sizes
from danqing.models.singlefile.companions import Companions
from danqing.models.singlefile.transformers import ENCODERS, describe_transformer
from danqing.models.t5 import t5_dtype
from danqing.spec.errors import DanqingError
from danqing.spec.model import ModelInfo

_TEXT = ("text_encoder", "cond_stage_model.", "conditioner.", "text_encoders.")
_VAE = ("vae", "first_stage_model.", "vae.")
_SUFFIXES = (".safetensors", ".bin")
_BLOCK = re.compile(
    r"(?:^|\.)(down_blocks|up_blocks|input_blocks|output_blocks|(?:single_)?transformer_blocks|joint_blocks|"
    r"double_blocks|single_blocks)\.(\d+)\."
)
_LAYERS_A_BLOCK = 3


def free_bytes(device: torch.device) -> int:
    """Memory of a device that nothing uses now."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host_bytes()


def host_bytes() -> int:
    """Main memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def sizes_of(info: ModelInfo, precision: Precision) -> Sizes:
    """Bytes of a model's weights once it is loaded, from the headers of its files.

    Args:
        info: From the catalogue.
        precision: What it will be loaded in.
    """
    counts = {"denoiser": 0, "text": 0, "vae": 0}
    blocks: Counter[str] = Counter()
    packed = largest = 0
    for part, path, shape, name in named_tensors_of_parts(Path(info.weights_path)):
        count = math.prod(shape)
        counts[part] += count
        if part == "denoiser":
            blocks[_block_of(name)] += count
            largest = max(largest, count)
            packed = path.stat().st_size if path.suffix == ".gguf" else packed
    text = precision.text if info.family not in {"sd3", "flux"} else t5_dtype(precision)
    stored = 1 if precision.storage is not None else precision.denoiser.itemsize
    denoiser = packed or counts["denoiser"] * stored
    each = denoiser / max(counts["denoiser"], 1)
    rest = blocks.pop("", 0)
    return Sizes(
        denoiser,
        counts["text"] * text.itemsize,
        counts["vae"] * precision.vae.itemsize,
        *(int(one * each) for one in (max(blocks.values(), default=0), largest, rest)),
    )


def _block_of(name: str) -> str:
    """Which of the blocks that come one after the other a denoiser's tensor belongs to; "" for none."""
    found = _BLOCK.search(name)
    if found is None:
        return ""
    kind, at = found.groups()
    # Published files of UNets count layers: three make a block of diffusers'.
    place = int(at) // _LAYERS_A_BLOCK if kind in {"input_blocks", "output_blocks"} else int(at)
    return f"{kind}.{place}"


def tensors_of_parts(place: Path) -> Iterator[tuple[str, Path, tuple[int, ...]]]:
    """(part, file, shape) of all tensors of a model; those of a folder's second copy (`fp16`) only once."""
    yield from ((part, path, shape) for part, path, shape, _ in named_tensors_of_parts(place))


def named_tensors_of_parts(place: Path) -> Iterator[tuple[str, Path, tuple[int, ...], str]]:
    """The same with the tensors' names."""
    if place.is_dir():
        for folder in sorted(one for one in place.iterdir() if one.is_dir()):
            part = "text" if folder.name.startswith("text_encoder") else "vae" if folder.name == "vae" else "denoiser"
            if part == "denoiser" and folder.name not in {"unet", "transformer"}:
                continue
            seen: set[str] = set()
            for path in sorted(one for one in folder.iterdir() if one.suffix in _SUFFIXES):
                for name, shape in _shapes(path):
                    if name not in seen:
                        seen.add(name)
                        yield part, path, shape, name
        return
    for name, shape in _shapes(place):
        part = "text" if name.startswith(_TEXT) else "vae" if name.startswith(_VAE) else "denoiser"
        if not name.startswith("model_ema."):
            yield part, place, shape, name
    for part, path in _beside(place):
        yield from ((part, path, shape, name) for name, shape in _shapes(path))


def _beside(place: Path) -> Iterator[tuple[str, Path]]:
    file = describe_transformer(place)
    if file is None:
        return
    companions = Companions(place)
    for name in ENCODERS:
        found = None if name in file.encoders or (name, file.family) == ("clip_g", "flux") else companions.encoder(name)
        if found is not None:
            yield "text", found
    vae = companions.vae(file.family) if file.vae_prefix is None else None
    if vae is not None:
        yield "vae", vae


def _shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        header = read_header(path)
    except DanqingError:
        return
    yield from ((name, info.shape) for name, info in header.tensors.items())


def settle(model: Any, residency: Residency, device: torch.device) -> None:
    """Move a model that was loaded on the CPU to its device, as far as it shall be there.

    Args:
        model: A `StableDiffusion` or one of its kind.
        residency: Of an offloaded kind.
        device: Where it computes.
    """
    if residency.kind not in OFFLOADED:
        raise ValueError(f"{residency.kind} is not offloaded")
    readers = [model.text, *getattr(model, "texts", ()), *([model.t5] if getattr(model, "t5", None) else [])]
    waiting: dict[int, nn.Module] = {id(one.model): one.model for one in readers}
    for module in (*waiting.values(), model.vae):
        _layers_wait(module, device)
    if residency.kind == "encoders_offload":
        model.unet.to(device)
    elif residency.kind == "group_offload":
        streams = device.type == "cuda"
        model.unet.enable_group_offload(
            onload_device=device, offload_type="block_level", num_blocks_per_group=1, use_stream=streams
        )
    else:
        _layers_wait(model.unet, device)
    for one in (model, *readers):
        one.device = device


def _layers_wait(module: nn.Module, device: torch.device) -> None:
    apply_group_offloading(module, onload_device=device, offload_type="leaf_level")
