"""The ×4 upscaler stage: `python -m danqing.training.builtin.upscaler --config builtin-cpu --rgba FILE.npy --out DIR`.

Drawings `[n, 256, 256, 4]` become pairs of a degraded small picture and the sharp one; the network learns the way back.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)

from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.training.builtin.loop import Budget, Ema, Log, Run, make_optimizer, set_lr, stage_digest, step_rng
from danqing.training.builtin.upscaler_config import UpscalerConfig, UpscalerRun, load_upscaler_config
from danqing.training.builtin.upscaler_data import SCALE, Rgb, batch_of, split_rows
from danqing.training.builtin.upscaler_eval import measure
from danqing.training.builtin.upscaler_net import CompactUpscaler
from danqing.training.commands import exit_code

MODEL_NAME = "danqing-draw-x4"
MEASURED_ON_THE_WAY = 16


@dataclass(frozen=True)
class UpscalerJob:
    """One call of the trainer.

    Attributes:
        run: Seed, precision and the section `[upscaler]`.
        rgba: Every drawing, uint8 `[n, size, size, 4]`, straight alpha; may be memory-mapped.
        folder: Checkpoint and log.
        device: Where to train.
        deadline: Unix seconds at which the run ends at the latest.
        stop_after_steps: End early, with a checkpoint; for tests and trials.
    """

    run: UpscalerRun
    rgba: Rgb
    folder: Path
    device: torch.device
    deadline: float | None = None
    stop_after_steps: int | None = None

    @property
    def config(self) -> UpscalerConfig:
        """The section `[upscaler]`."""
        return self.run.upscaler


def pixel_loss(output: torch.Tensor, target: torch.Tensor, gradient_weight: float) -> torch.Tensor:
    """L1, plus L1 between neighbours' differences at three scales, as the autoencoder learns."""
    loss = F.l1_loss(output, target)
    for _ in range(3):
        for dim in (2, 3):
            loss = loss + gradient_weight * F.l1_loss(output.diff(dim=dim), target.diff(dim=dim))
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return loss


def check_drawings(rgba: NDArray[Any], crop_px: int) -> Rgb:
    """The drawings, if they are what the trainer takes.

    Raises:
        InvalidRequestError: Wrong shape or type, or smaller than a crop; or the crop is no multiple of 4.
    """
    if rgba.ndim != 4 or rgba.shape[3] != 4 or rgba.dtype != np.uint8 or rgba.shape[1] != rgba.shape[2]:
        raise InvalidRequestError(
            "the drawings have the wrong form",
            field="rgba",
            value=f"{rgba.dtype} {list(rgba.shape)}",
            allowed="uint8 [n, size, size, 4]",
        )
    if crop_px % (4 * SCALE) or crop_px > rgba.shape[1] or len(rgba) < 2:
        raise InvalidRequestError(
            "the crops do not fit the drawings",
            field="upscaler.crop_px",
            value=crop_px,
            allowed=f"multiples of {4 * SCALE} up to {rgba.shape[1]}, and two drawings or more (here {len(rgba)})",
        )
    return rgba


def upscaler_run(job: UpscalerJob) -> tuple[CompactUpscaler, Run]:
    """The network and its optimiser, from the checkpoint if there is one."""
    config = job.config
    torch.manual_seed(job.run.seed)
    network = CompactUpscaler(config.num_feat, config.num_conv, SCALE)
    network = network.to(job.device, memory_format=torch.channels_last)
    params = list(network.parameters())
    run = Run(
        "upscaler",
        job.folder,
        {"upscaler": network},
        make_optimizer([(params, 1.0)], config.stage),
        Ema(params, config.stage.ema),
        stage_digest("upscaler", job.run, job.rgba.shape),
    )
    run.resume()
    return network, run


def train_upscaler(job: UpscalerJob) -> CompactUpscaler:
    """Trains (or goes on training) the upscaler and returns it with averaged weights.

    Raises:
        InvalidRequestError: The drawings cannot be used.
        BadFileError: The checkpoint in the folder is of another configuration.
    """
    config, rgba = job.config, check_drawings(job.rgba, job.config.crop_px)
    job.folder.mkdir(parents=True, exist_ok=True)
    rows, held_out = split_rows(len(rgba), config.held_out)
    network, run = upscaler_run(job)
    stage, log, budget = config.stage, Log(job.folder, "upscaler"), Budget(config.stage, job.deadline)
    tick = saved = time.time()
    while (factor := budget.factor(run.progress.step, run.progress.samples)) > 0:
        if job.stop_after_steps is not None and run.progress.step >= job.stop_after_steps:
            break
        set_lr(run.optimizer, stage.lr * factor)
        loss = _step(job, network, run, rows)
        now = time.time()
        run.progress.step, run.progress.samples = run.progress.step + 1, run.progress.samples + stage.batch
        run.progress.seconds += now - tick
        tick = now
        if run.progress.step % 50 == 0:
            log.write(
                step=run.progress.step,
                samples=run.progress.samples,
                loss=round(loss.item(), 5),
                lr=run.optimizer.param_groups[0]["lr"],
                per_s=round(run.progress.samples / run.progress.seconds, 2),
            )
        if now - saved > 60 * stage.checkpoint_minutes:
            run.save()
            _report(job, network, run, held_out[:MEASURED_ON_THE_WAY])
            saved = tick = time.time()
    run.save()
    _report(job, network, run, held_out[:MEASURED_ON_THE_WAY])
    for p, s in zip(run.ema.params, run.ema.shadow, strict=True):
        p.data.copy_(s)
    return network.eval().requires_grad_(requires_grad=False)


def _step(job: UpscalerJob, network: CompactUpscaler, run: Run, rows: NDArray[np.int64]) -> torch.Tensor:
    """One optimiser step; all its randomness comes from the step's number."""
    rng = step_rng(job.run.seed, "upscaler", run.progress.step)
    low, high = (t.to(job.device, memory_format=torch.channels_last) for t in batch_of(job.rgba, rows, rng, job.config))
    with torch.autocast(job.device.type, dtype=torch.bfloat16, enabled=job.run.precision == "bf16"):
        output = network(low)
    loss = pixel_loss(output.float(), high, job.config.gradient_weight)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), job.config.stage.grad_clip)
    run.optimizer.step()
    run.ema.update(run.progress.step)
    return loss.detach()


def _report(job: UpscalerJob, network: CompactUpscaler, run: Run, rows: NDArray[np.int64]) -> None:
    with run.ema.applied():
        found = measure(network, job.rgba, rows, job.config, job.device)
    Log(job.folder, "upscaler").write(step=run.progress.step, **found)


def export_upscaler(network: nn.Module, job: UpscalerJob, samples: int) -> Path:
    """Writes `danqing-draw-x4.safetensors` (float16, spandrel's "Compact") with figures beside it in `danqing.json`.

    The figures are those of the weights as they were written, over every held-out drawing.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(network).half()
    state = {name: value.detach().cpu().contiguous() for name, value in half.state_dict().items()}
    path = job.folder / f"{MODEL_NAME}.safetensors"
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary, {"format": "pt", "architecture": "Compact", "scale": str(SCALE)})
    temporary.chmod(0o644)
    temporary.replace(path)
    held_out = split_rows(len(job.rgba), job.config.held_out)[1]
    about = {
        "name": MODEL_NAME,
        "kind": "upscaler",
        "made_by": f"danqing.training.builtin.upscaler, {job.run.name}",
        "date": datetime.now(UTC).date().isoformat(),
        "samples": samples,
        "scale": SCALE,
        "held_out_pictures": len(held_out),
        "figures": measure(half.float(), job.rgba, held_out, job.config, job.device),
    }
    (job.folder / "danqing.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return path


def load_drawings(path: Path) -> NDArray[Any]:
    """A `.npy` file, memory-mapped.

    Raises:
        BadFileError: It is not there or not an array.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadFileError(
            f"the drawings cannot be read: {error}",
            field="--rgba",
            value=str(path),
            allowed="a .npy file of uint8 [n, size, size, 4]",
            next_step="make it with `danqing dataset builtin`",
        ) from error


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="danqing.training.builtin.upscaler", description=__doc__)
    parser.add_argument("--config", default="builtin-cpu", help="a TOML file, or the name of a shipped one")
    parser.add_argument("--rgba", type=Path, required=True, help="drawings, uint8 [n, 256, 256, 4]")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished one goes on")
    parser.add_argument("--until", type=datetime.fromisoformat, default=None, help="end by then (ISO time)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Trains, measures, exports; 0 when done, 2 for a mistake in its input."""
    options = _arguments(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return exit_code(partial(_run, options))


def _run(options: argparse.Namespace) -> None:
    run = load_upscaler_config(options.config)
    deadline = None if options.until is None else options.until.timestamp()
    job = UpscalerJob(run, load_drawings(options.rgba), options.out, torch.device(options.device), deadline)
    network = train_upscaler(job)
    samples = upscaler_run(job)[1].progress.samples
    path = export_upscaler(network, job, samples)
    print((path.parent / "danqing.json").read_text(encoding="utf-8"), path, sep="")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
