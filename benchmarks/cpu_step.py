"""Seconds of one CFG step of a UNet of Stable Diffusion 1.5's shape at 512 × 512 (bar: at least 2.0 × diffusers).

Ours is `StableDiffusion.denoise` of a model that our loader loaded, in the precision that it chose for this device.
It is compared with plain diffusers in its defaults (float32, contiguous) and with the time that the UNet's operations
would take at the matrix-product speed measured in the same run. Weights are random: the numbers do not change the time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from benchmarks._gemm import peak_flops
from benchmarks._models import SD15, TINY, TOKENS, Shape, write_folder
from benchmarks._report import Options, Outcome, run
from benchmarks._timing import alternate
from danqing.models import precision as precisions
from danqing.models.catalog import identify
from danqing.models.families.parts import Loading
from danqing.models.families.sd import StableDiffusion, load
from danqing.models.loader import pick_device
from danqing.models.packing import packed_bytes

BAR = 2.0
ROWS = 2
SIDE_LATENT_PX = 64
# Multiplications and additions of one row at 64 × 64 latents and 77 tokens, as the issue counts them.
FLOP_PER_ROW = 677e9


def ours(model: StableDiffusion, side: int) -> Callable[[], object]:
    """One denoise call of two rows through our code path."""
    generator = torch.Generator().manual_seed(1)
    channels, width = model.info.latent_channels, int(model.unet.config["cross_attention_dim"])
    x = torch.randn(1, channels, side, side, generator=generator).repeat(ROWS, 1, 1, 1) * 7.0
    sigma = torch.full((ROWS,), 7.0)
    context = torch.randn(ROWS, TOKENS, width, generator=generator)
    return lambda: model.denoise(x, sigma, context, None, perturbed=False)


def theirs(folder: Path, device: torch.device, side: int) -> Callable[[], object]:
    """One forward of two rows of the same weights in diffusers' defaults: float32, contiguous, no_grad."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32, local_files_only=True)
    unet = unet.to(device)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, int(unet.config["in_channels"]), side, side, generator=generator).to(device)
    context = torch.randn(ROWS, TOKENS, int(unet.config["cross_attention_dim"]), generator=generator).to(device)
    timestep = torch.tensor(500, device=device)

    @torch.no_grad()
    def forward() -> object:
        return unet(x, timestep, encoder_hidden_states=context, return_dict=False)[0]

    return forward


def _load(folder: Path, shape: Shape, device: torch.device) -> StableDiffusion:
    # bfloat16 files load into either precision; float32 ones would only take twice the disk.
    write_folder(folder, shape, torch.bfloat16)
    return load(Loading(identify(folder), precisions.choose(device), device))


def measure(options: Options) -> Outcome:
    """Peak before and after, the two sides in turns between."""
    device = pick_device(options.device)
    shape, side = (TINY, 4) if options.quick else (SD15, SIDE_LATENT_PX)
    with tempfile.TemporaryDirectory(prefix="danqing-bench-") as name:
        options.say("writing random weights …")
        model = _load(Path(name) / "sd", shape, device)
        baseline = theirs(Path(name) / "sd", device, side)
    dtype = model.precision.denoiser
    options.say(f"measuring {model.precision.name} against float32 …")
    peaks = [peak_flops(device, dtype, quick=options.quick)]
    repeats = options.times(full=5, quick=2)
    rounds = alternate({"ours": ours(model, side), "diffusers": baseline}, repeats, device)
    peaks.append(peak_flops(device, dtype, quick=options.quick))
    ours_s, theirs_s, speedup = (
        rounds.median_s("ours"),
        rounds.median_s("diffusers"),
        rounds.ratio("diffusers", "ours"),
    )
    limit_s = ROWS * FLOP_PER_ROW * (side / SIDE_LATENT_PX) ** 2 / max(peaks)
    figures = {
        "ratio_to_limit": ours_s / limit_s,
        "speedup_over_diffusers": speedup,
        "ours_s": ours_s,
        "diffusers_s": theirs_s,
        "limit_s": limit_s,
        "gemm_peak_gflops": max(peaks) / 1e9,
    }
    details = {
        "parameters_m": round(
            (sum(p.numel() for p in model.unet.parameters()) + packed_bytes(model.unet) / 2) / 1e6, 1
        ),
        "rows": ROWS,
        "latent": f"{side}x{side}",
        "precision": model.precision.name,
        "channels_last": model.precision.channels_last,
        "gemm_peaks_gflops": [round(peak / 1e9, 1) for peak in peaks],
        **rounds.details(),
    }
    return Outcome(figures, f"≥ {BAR} × plain diffusers", speedup >= BAR, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("cpu_step", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
