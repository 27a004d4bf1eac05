"""Seconds of one CFG step of a UNet of Stable Diffusion 1.5's shape at 512 × 512.

Bars: at most 1.2 × the time that its operations would take at the matrix-product speed measured in the same run, and
at least 3.2 × as fast as plain diffusers in its defaults (float32, contiguous). Ours is a Denoise Call of two rows
through the executor that a person gets on this device, in the precision that it chooses; beside it PyTorch's executor
and, where graphs compute them, eight bits: at least 1.4 × as fast. Weights are random, which does not change the time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from benchmarks._gemm import peak_flops
from benchmarks._models import SD15, TINY, TOKENS, Shape, write_folder
from benchmarks._report import Options, Outcome, run
from benchmarks._timing import alternate
from danqing.engine.calls import Denoise, ModelKey
from danqing.engine.executors import executor_name, open_executor, uses_openvino
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.catalog import Catalog
from danqing.models.diffusers_folders import CHECKPOINT_DIR
from danqing.models.graphs.calibrating import BOUNDS_FOLDER, BoundsFile
from danqing.models.graphs.int8 import layers
from danqing.models.loader import Loader, pick_device
from danqing.models.packing import packed_bytes
from danqing.spec.model import ModelRef

SPEEDUP_BAR, LIMIT_BAR, INT8_BAR = 3.2, 1.2, 1.4
NAME = "bench"
ROWS = 2
SIDE_LATENT_PX = 64
# Multiplications and additions of one row at 64 × 64 latents and 77 tokens, as the issue counts them.
FLOP_PER_ROW = 677e9


def ours(executor: TorchExecutor, key: ModelKey, side: int) -> Callable[[], object]:
    """One Call of two rows through an executor."""
    model = executor.loader.get(key.model, key.vae, key.precision)
    generator = torch.Generator().manual_seed(1)
    channels, width = model.info.latent_channels, int(model.unet.config["cross_attention_dim"])
    x = torch.randn(1, channels, side, side, generator=generator) * 7.0
    contexts = tuple(torch.randn(ROWS, TOKENS, width, generator=generator))
    call = Denoise(key, x, 7.0, contexts)
    return lambda: executor.run([call])


def _key(loader: Loader) -> ModelKey:
    info = loader.catalog.find(NAME)
    return ModelKey(ModelRef(name=info.name, sha256=info.sha256, family=info.family))


def in_eight_bits(executor: TorchExecutor, key: ModelKey, side: int) -> Callable[[], object]:
    """The same Call in eight bits. What measuring the layers would find does not change the time, so it is not done."""
    folder = executor.loader.catalog.models_dir
    assert folder is not None
    named = dict.fromkeys(layers(executor.loader.get(key.model).unet), (-4.0, 4.0))
    BoundsFile(folder / BOUNDS_FOLDER, key.model.sha256).write(named)
    return ours(executor, replace(key, precision="int8"), side)


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


def _loader(root: Path, shape: Shape, device: torch.device) -> Loader:
    # bfloat16 files load into either precision; float32 ones would only take twice the disk.
    write_folder(root / CHECKPOINT_DIR / NAME, shape, torch.bfloat16)
    return Loader(Catalog(root), device)


def measure(options: Options) -> Outcome:
    """Peak before and after, the two sides in turns between."""
    device = pick_device(options.device)
    shape, side = (TINY, 4) if options.quick else (SD15, SIDE_LATENT_PX)
    with tempfile.TemporaryDirectory(prefix="danqing-bench-") as name:
        options.say("writing random weights …")
        loader = _loader(Path(name), shape, device)
        key = _key(loader)
        model = loader.get(key.model, key.vae, key.precision)
        executors = {"ours": open_executor(loader), "torch": open_executor(loader, "torch")}
        sides = {name: ours(executor, key, side) for name, executor in executors.items()}
        if uses_openvino(device.type):
            sides["int8"] = in_eight_bits(executors["ours"], key, side)
        baseline = theirs(Path(name) / CHECKPOINT_DIR / NAME, device, side)
    dtype = model.precision.denoiser
    options.say(f"measuring {model.precision.name} against float32 …")
    peaks = [peak_flops(device, dtype, quick=options.quick)]
    repeats = options.times(full=5, quick=2)
    rounds = alternate({**sides, "diffusers": baseline}, repeats, device)
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
        "torch_s": rounds.median_s("torch"),
        "speedup_over_torch": rounds.ratio("torch", "ours"),
        "limit_s": limit_s,
        "gemm_peak_gflops": max(peaks) / 1e9,
    }
    details = {
        "parameters_m": round(
            (sum(p.numel() for p in model.unet.parameters()) + packed_bytes(model.unet) / 2) / 1e6, 1
        ),
        "executor": executor_name(device.type),
        "rows": ROWS,
        "latent": f"{side}x{side}",
        "precision": model.precision.name,
        "channels_last": model.precision.channels_last,
        "gemm_peaks_gflops": [round(peak / 1e9, 1) for peak in peaks],
        **rounds.details(),
    }
    if "int8" in sides:
        figures |= {"int8_s": rounds.median_s("int8"), "int8_speedup": rounds.ratio("ours", "int8")}
    bar = f"≤ {LIMIT_BAR} × the matrix-product limit, ≥ {SPEEDUP_BAR} × plain diffusers; int8 ≥ {INT8_BAR} ×"
    passed = speedup >= SPEEDUP_BAR and ours_s <= LIMIT_BAR * limit_s and figures.get("int8_speedup", 0.0) >= INT8_BAR
    return Outcome(figures, bar, passed, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("cpu_step", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
