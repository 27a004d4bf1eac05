"""Opening a finished run for the stages beside it: what they start from, and the command that they share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from danqing.spec.errors import ConflictError, MissingWeightsError
from danqing.training.builtin.__main__ import Job, stage_clip, stage_data, stage_pool, stage_tokenizer, stage_vae
from danqing.training.builtin.clip import MiniClip
from danqing.training.builtin.config import TrainConfig, load_config
from danqing.training.builtin.latents import cached
from danqing.training.builtin.pool import Pool
from danqing.training.builtin.unet import Models, unet_run
from danqing.training.commands import exit_code

EXPORTED = ("tokenizer/tokenizer.json", "text_encoder/config.json", "vae/config.json", "unet/config.json")
NEEDED = ("tokenizer/tokenizer_config.json", "vae/config.json", "clip.pt", "unet.ckpt.pt")


@dataclass(frozen=True)
class SideJob:
    """One call of a stage beside the model.

    Attributes:
        config: The configuration of the finished run.
        run: Its folder; the stage's checkpoints and samples go there too.
        data: The folder made by `danqing dataset builtin`.
        model_dir: The exported model; what the stage makes is written beside it.
        device: Where it computes.
        until: Unix time in seconds at which training ends at the latest.
        start: An exported model to start from, where the run's own checkpoints are gone or never were here.
    """

    config: TrainConfig
    run: Path
    data: Path
    model_dir: Path
    device: torch.device
    until: float | None = None
    start: Path | None = None

    def beside(self, kind: str) -> Path:
        """The folder of the model that the stage makes: `danqing-mini` → `danqing-mini-4step`."""
        return self.model_dir.with_name(f"{self.model_dir.name}-{kind}")


@dataclass(frozen=True)
class Finished:
    """What a finished run left.

    Attributes:
        config: Its configuration.
        models: UNet with averaged weights, text encoder, tokenizer; all frozen.
        vae: The autoencoder.
        clip: mini-CLIP; None where an exported model was opened, which has it elsewhere.
        pool: Painted scenes.
        latents: Theirs, float16 `[n, variants, c, h, w]`.
    """

    config: TrainConfig
    models: Models
    vae: AutoencoderKL
    clip: MiniClip | None
    pool: Pool
    latents: torch.Tensor


def open_finished(job: SideJob) -> Finished:
    """Reads the run's folder; trains nothing.

    Raises:
        MissingWeightsError: A stage before this one has not been run.
        BadFileError: The run was made with another configuration.
    """
    if job.start is not None:
        return open_exported(job, job.start)
    for name in NEEDED:
        if not (job.run / name).is_file():
            raise MissingWeightsError(
                "this run is not finished: a stage before this one has left nothing",
                field="run",
                value=str(job.run / name),
                next_step=f"run `python -m danqing.training.builtin --config {job.config.name} --out {job.run}` first",
            )
    work = Job(job.config, job.run, job.data, job.device, job.model_dir)
    full = stage_data(work)
    tokenizer, vae = stage_tokenizer(work, full), stage_vae(work, full)
    clip, pool = stage_clip(work, full, tokenizer), stage_pool(work, full)
    models, run = unet_run(job.config, tokenizer, clip.text, job.run, job.device)
    with torch.no_grad():
        for parameter, averaged in zip(run.ema.params, run.ema.shadow, strict=True):
            parameter.copy_(averaged)
    models.unet.eval().requires_grad_(False)
    latents = cached(job.run / "latents.pt", vae, pool, job.device, job.config.precision)
    return Finished(job.config, models, vae, clip, pool, latents)


def open_exported(job: SideJob, folder: Path) -> Finished:
    """An exported model as a stage's start: what `danqing-mini` in the package is enough for.

    Raises:
        MissingWeightsError: The folder lacks a part of the model.
    """
    for name in EXPORTED:
        if not (folder / name).is_file():
            raise MissingWeightsError(
                "this is not a whole exported model",
                field="start",
                value=str(folder / name),
                next_step="name the folder of danqing-mini, or of a model that the trainer exported",
            )
    config, device = job.config, job.device
    work = Job(config, job.run, job.data, device, job.model_dir)
    job.run.mkdir(parents=True, exist_ok=True)
    pool = stage_pool(work, stage_data(work))
    vae = AutoencoderKL.from_pretrained(str(folder / "vae"), torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(str(folder / "text_encoder"), dtype=torch.float32)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
        text.set_attn_implementation("eager")
    for part in (vae, unet, text):
        part.to(device).eval().requires_grad_(False)
    models = Models(
        unet.to(memory_format=torch.channels_last), text, CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    )
    latents = cached(job.run / "latents.pt", vae, pool, device, config.precision)
    return Finished(config, models, vae, None, pool, latents)


def _clock(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _arguments(stage: str, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"danqing train builtin {stage}", description=f"The stage {stage}.")
    parser.add_argument("--config", required=True, help="the configuration of the finished run")
    parser.add_argument("--run", required=True, type=Path, help="the finished run's folder")
    parser.add_argument("--data", type=Path, help="folder made by `danqing dataset builtin` (default: RUN/data)")
    parser.add_argument(
        "--model-dir", type=Path, help="the exported model; the new one goes beside it (default: RUN/danqing-mini)"
    )
    parser.add_argument("--start", type=Path, help="an exported model to start from, in place of a run's checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the stage's checkpoint")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--until", type=_clock, help="end training at this local time (ISO 8601) at the latest")
    parser.add_argument("--threads", type=int, help="CPU threads")
    return parser.parse_args(argv)


def side_main(run: Callable[[SideJob], None], stage: str, argv: list[str] | None = None) -> int:
    """The command of a stage; 0 when done, 2 for a mistake in its input.

    Args:
        run: Does it.
        stage: Its name, as its checkpoint has it.
        argv: The command line without the program's name.
    """
    args = _arguments(stage, argv)
    transformers_logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    return exit_code(lambda: run(_job(stage, args)))


def _job(stage: str, args: argparse.Namespace) -> SideJob:
    """What the command line asks for.

    Raises:
        ConflictError: The stage was begun already, and nobody said to go on.
    """
    checkpoint = args.run / f"{stage}.ckpt.pt"
    if checkpoint.exists() and not args.resume:
        raise ConflictError(
            "this stage has been begun already",
            field="run",
            value=str(checkpoint),
            next_step="add --resume to go on, or move the checkpoint away",
        )
    return SideJob(
        config=load_config(args.config),
        run=args.run,
        data=args.data or args.run / "data",
        model_dir=args.model_dir or args.run / "danqing-mini",
        device=torch.device(args.device),
        until=args.until,
        start=args.start,
    )
