"""Which number format a device paints in: bfloat16 where it is native, float32 elsewhere, float16 on older CUDA."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from danqing.spec.errors import UnsupportedError

STORAGES = ("float8", "int8", "nf4")
"""Formats that weights are only kept in: they are computed in the device's own."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Number formats of a loaded model.

    Attributes:
        denoiser: Of the UNet.
        text: Of the text encoder; float32 on a CPU, where it costs little and conditions everything.
        vae: Of the VAE; float32 on a CPU, since bfloat16 bands flat colours.
        channels_last: Memory layout of convolution weights.
        storage: What the denoiser's weights are kept in where that is not `denoiser`: float8, int8 or nf4.
        graph: `int8` where a graph of the UNet computes its layers in eight bits.
    """

    denoiser: torch.dtype
    text: torch.dtype
    vae: torch.dtype
    channels_last: bool
    storage: str | None = None
    graph: str | None = None

    @property
    def name(self) -> str:
        """The denoiser's format, as Plans and Records name it."""
        return self.graph or self.storage or str(self.denoiser).removeprefix("torch.")


def has_native_bf16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are done in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def choose(device: torch.device, wanted: str = "auto") -> Precision:
    """The formats for a device, or the ones a person insists on.

    Raises:
        UnsupportedError: float16 on a CPU, where convolutions lack it or crawl; nf4 without CUDA.
    """
    if wanted in STORAGES:
        if wanted == "nf4" and device.type != "cuda":
            raise UnsupportedError(
                "nf4 needs a CUDA device",
                field="precision",
                value=wanted,
                allowed="auto, float32, bfloat16, float8, int8",
                next_step="choose float8, or a packed file (GGUF)",
            )
        return replace(choose(device), storage=wanted)
    if wanted == "float16" and device.type == "cpu":
        raise UnsupportedError(
            "float16 needs a GPU",
            field="precision",
            value=wanted,
            allowed="auto, float32, bfloat16",
            next_step="choose auto",
        )
    if wanted != "auto":
        denoiser = _DTYPES[wanted]
    elif has_native_bf16(device):
        denoiser = torch.bfloat16
    else:
        denoiser = torch.float16 if device.type == "cuda" else torch.float32
    on_cpu = device.type == "cpu"
    return Precision(
        denoiser=denoiser,
        text=torch.float32 if on_cpu else denoiser,
        vae=torch.float32 if on_cpu or denoiser is torch.float16 else denoiser,
        channels_last=denoiser is not torch.float32,
    )


def explain(device: torch.device, wanted: str, budget_bytes: int) -> tuple[str, ...]:
    """Why a device paints as it does, in sentences for `danqing doctor`.

    Args:
        device: Where it computes.
        wanted: `auto`, or the format that a person insists on.
        budget_bytes: How many bytes of models may stay loaded.

    Raises:
        UnsupportedError: As for `choose`.
    """
    chosen = choose(device, wanted)
    if wanted != "auto":
        why = "as asked for"
    elif chosen.denoiser is torch.bfloat16:
        why = "this device multiplies it in hardware, at twice the speed of float32"
    elif chosen.denoiser is torch.float16:
        why = "this GPU has no bfloat16"
    else:
        why = "this device has no faster format that is exact enough"
    text, vae = (str(dtype).removeprefix("torch.") for dtype in (chosen.text, chosen.vae))
    vae_why = {torch.float32: "other formats band flat colours, and SDXL's overflows in float16"}.get(
        chosen.vae, "which has float32's range, so that SDXL's does not overflow"
    )
    kept = f"{budget_bytes / 2**30:.1f} GiB"
    return (
        f"denoiser in {chosen.name}: {why}",
        f"text encoder in {text}, autoencoder in {vae}: {vae_why}",
        f"models stay loaded up to {kept} in all; then the one that was used longest ago goes",
        "when memory runs out: smaller batches first, then other models go, then the autoencoder works in tiles",
    )
