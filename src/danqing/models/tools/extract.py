"""What a fine-tuned checkpoint learnt, as a LoRA: the difference of two models by singular value decomposition.

The best approximation of rank r of W' − W in the least-squares sense (Eckart, Young 1936) is the first r terms of its
singular value decomposition; up = U·√S, down = √S·Vᵀ. Names are kohya's: A1111 and diffusers read the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danqing.models.tools.blocks import UNET
from danqing.models.tools.stream import Entry, Source, Writer, named_dtype
from danqing.spec.errors import InvalidRequestError

_TEXT = re.compile(r"^(?:cond_stage_model\.transformer\.|conditioner\.embedders\.0\.transformer\.)(text_model\..+)$")
_RESNET = {
    "in_layers.2": "conv1", "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj", "skip_connection": "conv_shortcut",
}  # fmt: skip
_ADAPTED = re.compile(r"(attn\d\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out)$")
_TEXT_ADAPTED = re.compile(r"(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$")
_CLAMP_QUANTILE = 0.99
"""Outliers of the factors beyond this quantile are cut, as kohya's script does: they are noise of rounding."""


@dataclass(frozen=True)
class ExtractTask:
    """What to extract.

    Attributes:
        tuned: The fine-tuned checkpoint.
        base: What it was made from.
        out: The LoRA file.
        rank: Of linear layers.
        conv_rank: Of 3×3 convolutions; 0 leaves them out.
        to: Number format of the LoRA.
        overwrite: Whether `out` may be replaced.
    """

    tuned: Path
    base: Path
    out: Path
    rank: int = 32
    conv_rank: int = 0
    to: str = "fp16"
    overwrite: bool = False


@dataclass(frozen=True)
class _Layer:
    name: str
    module: str
    rank: int


def extract(task: ExtractTask, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Do it; what came out, in numbers (`explained`: how much of the squared difference the LoRA holds).

    Raises:
        InvalidRequestError: The files don't fit each other, or do not differ.
        BadFileError: A file is damaged.
    """
    if not 1 <= task.rank <= 1024 or not 0 <= task.conv_rank <= 1024:
        raise InvalidRequestError("the rank is out of range", field="--rank", value=task.rank, allowed="1 to 1024")
    tuned, base = Source(task.tuned), Source(task.base)
    layers = _layers(tuned, base, task)
    dtype = named_dtype(task.to) or torch.float16
    entries = [entry for layer in layers for entry in _entries(layer, tuned, dtype)]
    held = [0.0, 0.0]
    ready: dict[str, Tensor] = {}

    def produce(name: str) -> Tensor:
        if name not in ready:
            module = name.split(".", 1)[0]
            layer = next(one for one in layers if one.module == module)
            difference = tuned.get(layer.name).float() - base.get(layer.name).float()
            down, up, share = factors(difference, layer.rank)
            whole = float(difference.square().sum())
            held[0], held[1] = held[0] + share * whole, held[1] + whole
            ready.clear()
            ready.update(
                {
                    f"{module}.alpha": torch.tensor(float(layer.rank)),
                    f"{module}.lora_down.weight": down,
                    f"{module}.lora_up.weight": up,
                }
            )
        return ready[name]

    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(task.rank),
        "ss_network_alpha": str(float(task.rank)),
        "ss_output_name": task.out.stem,
        "danqing_extracted_from": f"{task.tuned.name} − {task.base.name}",
    }
    size = Writer(task.out, entries, metadata, task.overwrite, progress).write(produce)
    if held[1] == 0.0:
        task.out.unlink()
        raise InvalidRequestError("the two checkpoints do not differ", field="BASE", value=task.base.name)
    return {"file": str(task.out), "bytes": size, "layers": len(layers), "explained": round(held[0] / held[1], 4)}


def factors(difference: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Down and up of a layer's difference, float32, and the share of its square that they hold.

    Args:
        difference: [out, in] or [out, in, kh, kw].
        rank: How many singular values.

    Returns:
        down [rank, in(, kh, kw)], up [out, rank(, 1, 1)], 0 to 1.
    """
    flat = difference.flatten(1)
    whole = float(flat.square().sum())
    u, s, v = torch.linalg.svd(flat, full_matrices=False)
    root = s[:rank].clamp_min(0).sqrt()
    up, down = u[:, :rank] * root, root[:, None] * v[:rank]
    share = float(s[:rank].square().sum()) / whole if whole > 0 else 0.0
    both = torch.cat([up.flatten(), down.flatten()]).abs()
    step = max(1, both.numel() // 1_000_000)
    bound = float(torch.quantile(both[::step], _CLAMP_QUANTILE)) or float(both.max())
    if rank < min(flat.shape):
        up, down = up.clamp(-bound, bound), down.clamp(-bound, bound)
    if difference.ndim == 4:
        return down.view(rank, *difference.shape[1:]), up.view(*up.shape, 1, 1), share
    return down, up, share


def _layers(tuned: Source, base: Source, task: ExtractTask) -> list[_Layer]:
    names = ldm_names(tuned.infos)
    layers: list[_Layer] = []
    for name in tuned.names():
        info = tuned.infos[name]
        if name not in base or not name.endswith(".weight") or len(info.shape) not in (2, 4):
            continue
        path = name.removesuffix(".weight")
        text = _TEXT.match(path)
        if text is not None and _TEXT_ADAPTED.search(path):
            module = "lora_te_" + text[1].replace(".", "_")
        elif path in names:
            module = "lora_unet_" + names[path].replace(".", "_")
        else:
            continue
        if base.infos[name].shape != info.shape:
            raise InvalidRequestError(
                "the two checkpoints are of different kinds",
                field="BASE",
                value=f"{name} {list(base.infos[name].shape)}",
                allowed=str(list(info.shape)),
            )
        wide = len(info.shape) == 4 and info.shape[2] > 1
        rank = task.conv_rank if wide else task.rank
        flat = info.shape[1] * (info.shape[2] * info.shape[3] if len(info.shape) == 4 else 1)
        rank = min(rank, info.shape[0], flat)
        adapted = text is not None or wide or _ADAPTED.search(names.get(path, "")) is not None
        if rank > 0 and adapted:
            layers.append(_Layer(name, module, rank))
    if not layers:
        raise InvalidRequestError(
            "these files hold no layers that a LoRA can change",
            field="TUNED",
            value=task.tuned.name,
            allowed="single files of Stable Diffusion 1, 2 or XL",
        )
    return layers


def _entries(layer: _Layer, tuned: Source, dtype: torch.dtype) -> Iterable[Entry]:
    out, *inner = tuned.infos[layer.name].shape
    tail = (1, 1) if len(inner) == 3 else ()
    yield Entry(f"{layer.module}.alpha", dtype, ())
    yield Entry(f"{layer.module}.lora_down.weight", dtype, (layer.rank, *inner))
    yield Entry(f"{layer.module}.lora_up.weight", dtype, (out, layer.rank, *tail))


def ldm_names(names: Iterable[str]) -> dict[str, str]:
    """Path of a UNet layer in a single file → its path in diffusers, for any number of levels and layers."""
    inside = {name.removeprefix(UNET).rsplit(".", 1)[0] for name in names if name.startswith(UNET)}
    blocks: dict[str, str] = {}
    _count_down(inside, blocks)
    _count_up(inside, blocks)
    for part, path in ((0, "resnets.0"), (1, "attentions.0"), (2, "resnets.1")):
        blocks[f"middle_block.{part}"] = f"mid_block.{path}"
    found: dict[str, str] = {}
    for path in inside:
        parts = path.split(".")
        cut = 2 if parts[0] == "middle_block" else 3
        head, tail = ".".join(parts[:cut]), ".".join(parts[cut:])
        if head in blocks:
            target = blocks[head]
            inner = _RESNET.get(tail, tail) if ".resnets." in target else ("conv" if tail in ("op", "conv") else tail)
            found[UNET + path] = f"{target}.{inner}"
    return found


def _count_down(inside: set[str], blocks: dict[str, str]) -> None:
    level = layer = 0
    for number in range(1, _blocks(inside, "input_blocks")):
        head = f"input_blocks.{number}"
        if f"{head}.0.op" in inside:
            blocks[f"{head}.0"] = f"down_blocks.{level}.downsamplers.0"
            level, layer = level + 1, 0
            continue
        blocks[f"{head}.0"] = f"down_blocks.{level}.resnets.{layer}"
        blocks[f"{head}.1"] = f"down_blocks.{level}.attentions.{layer}"
        layer += 1


def _count_up(inside: set[str], blocks: dict[str, str]) -> None:
    level = layer = 0
    for number in range(_blocks(inside, "output_blocks")):
        head = f"output_blocks.{number}"
        blocks[f"{head}.0"] = f"up_blocks.{level}.resnets.{layer}"
        blocks[f"{head}.1"] = f"up_blocks.{level}.attentions.{layer}"
        layer += 1
        for part in (1, 2):
            if f"{head}.{part}.conv" in inside:
                blocks[f"{head}.{part}"] = f"up_blocks.{level}.upsamplers.0"
                level, layer = level + 1, 0


def _blocks(inside: set[str], prefix: str) -> int:
    return 1 + max((int(path.split(".")[1]) for path in inside if path.startswith(f"{prefix}.")), default=-1)
