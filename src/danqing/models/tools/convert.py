"""One checkpoint made another: number format, ckpt → safetensors, what training left behind, another VAE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from danqing.models.tools.stream import Entry, Source, Writer, named_dtype, torch_dtype
from danqing.spec.errors import InvalidRequestError, UnsupportedError

Average = Literal["keep", "drop", "use"]
EMA = "model_ema."
VAE = "first_stage_model."
_KEPT = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.",
    "conditioner.",
    "text_encoders.",
    "model.",
    "control_model.",
    "vae.",
)
_DENOISER = ("model.diffusion_model.", "transformer.", "unet.")


@dataclass(frozen=True)
class ConvertTask:
    """What to make of a file.

    Attributes:
        source: The file.
        out: The new one.
        to: Number format; None keeps every tensor's. In 8 bits only the denoiser's matrices and kernels are stored, all
            else in float16.
        prune: Leave out what painting does not need: optimiser states, loss networks, averages.
        average: The running averages of training (`model_ema.`): keep, drop, or use in place of the last weights.
        vae: A VAE file whose weights replace the checkpoint's own.
        overwrite: Whether `out` may be replaced.
    """

    source: Path
    out: Path
    to: str | None = None
    prune: bool = False
    average: Average = "keep"
    vae: Path | None = None
    overwrite: bool = False


def convert(task: ConvertTask, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Do it; what came out, in numbers.

    Raises:
        InvalidRequestError: The file has no averages to use, or the VAE does not fit.
        BadFileError: A file is damaged.
        UnsupportedError: The VAE has another layout.
    """
    source = Source(task.source)
    baked = _baked(source, Source(task.vae)) if task.vae is not None else {}
    names = [name for name in source.names() if _stays(name, task, source)]
    averages = _averages(source, names) if task.average == "use" else {}
    wanted = named_dtype(task.to)
    entries = [Entry(name, _format(name, source, wanted), source.infos[name].shape) for name in names]
    overflowed: list[str] = []

    def produce(name: str) -> Tensor:
        if name in baked:
            vae, inner = baked[name]
            tensor = vae.get(inner)
        else:
            tensor = source.get(averages.get(name, name))
        target = _format(name, source, wanted)
        if tensor.is_floating_point() and target != tensor.dtype and _overflows(tensor, target):
            overflowed.append(name)
        return tensor

    metadata = {key: value for key, value in source.metadata.items() if key != "format"}
    size = Writer(task.out, entries, metadata, task.overwrite, progress).write(produce)
    return {
        "file": str(task.out),
        "bytes": size,
        "before_bytes": task.source.stat().st_size,
        "tensors": len(names),
        "left_out": len(source.infos) - len(names),
        "averages_used": len(averages),
        "vae_tensors": len(baked),
        "overflowed": overflowed,
    }


def _stays(name: str, task: ConvertTask, source: Source) -> bool:
    if name.startswith(EMA):
        return task.average == "keep" and not task.prune
    if not task.prune:
        return True
    if name.startswith(f"{VAE}loss."):
        return False
    whole = any(one.startswith("model.diffusion_model.") for one in source.infos)
    return not whole or name.startswith(_KEPT)


def _averages(source: Source, names: list[str]) -> dict[str, str]:
    """Weight → its running average; training wrote the latter's name without dots."""
    found = {
        name: average
        for name in names
        if name.startswith("model.") and (average := EMA + name.removeprefix("model.").replace(".", "")) in source
    }
    if not found:
        raise InvalidRequestError(
            "the file holds no running averages",
            field="--ema",
            value=source.path.name,
            allowed="keep, drop",
            next_step="leave --ema out: there is only one set of weights",
        )
    return found


def _baked(source: Source, vae: Source) -> dict[str, tuple[Source, str]]:
    """Name in the checkpoint → where its new weight is."""
    own = [name for name in source.infos if name.startswith(VAE) and not name.startswith(f"{VAE}loss.")]
    if not own:
        raise InvalidRequestError(
            "the checkpoint has no VAE to replace",
            field="CHECKPOINT",
            value=source.path.name,
            allowed="a single file with first_stage_model weights",
        )
    found: dict[str, tuple[Source, str]] = {}
    for name in own:
        bare = name.removeprefix(VAE)
        inner = next((one for one in (bare, name) if one in vae), None)
        if inner is None:
            if name.startswith(f"{VAE}model_ema"):
                continue
            raise UnsupportedError(
                "the VAE file has other layers than the checkpoint's VAE",
                field="--vae",
                value=f"no {bare} in {vae.path.name}",
                allowed="a VAE in the single-file layout (encoder.down.0.…), as A1111 uses it",
            )
        if vae.infos[inner].shape != source.infos[name].shape:
            raise InvalidRequestError(
                "the VAE does not fit the checkpoint",
                field="--vae",
                value=f"{bare} {list(vae.infos[inner].shape)}",
                allowed=str(list(source.infos[name].shape)),
            )
        found[name] = (vae, inner)
    return found


def _format(name: str, source: Source, wanted: torch.dtype | None) -> torch.dtype:
    info = source.infos[name]
    own = torch_dtype(info)
    if wanted is None or not own.is_floating_point:
        return own
    if wanted.itemsize > 1:
        return wanted
    large = len(info.shape) >= 2 and name.startswith(_DENOISER)
    return wanted if large else torch.float16


def _overflows(tensor: Tensor, target: torch.dtype) -> bool:
    return bool(tensor.abs().max() > torch.finfo(target).max) if tensor.numel() else False
