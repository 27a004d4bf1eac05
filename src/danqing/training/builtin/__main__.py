"""`python -m danqing.training.builtin --config builtin-cpu --out DIR`: data → tokenizer → vae → unet → export."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from danqing.spec.errors import ConflictError, DanqingError
from danqing.training.builtin import dataset as data_stage
from danqing.training.builtin.config import TrainConfig, load_config
from danqing.training.builtin.dataset import Dataset
from danqing.training.builtin.diffusion import make_schedule
from danqing.training.builtin.export import describe, export_model, fit_preview
from danqing.training.builtin.latents import cached, normalize_latents, subset
from danqing.training.builtin.sample import draw_grid
from danqing.training.builtin.tokenizer import caption_corpus, save_tokenizer, train_tokenizer
from danqing.training.builtin.unet import Hooks, train_unet, unet_run, warm_start
from danqing.training.builtin.vae import build_vae, train_vae

STAGES = ("data", "tokenizer", "vae", "unet", "export")


@dataclass(frozen=True)
class Job:
    """One call of the trainer: configuration, folders, device and when to stop."""

    config: TrainConfig
    out: Path
    data: Path
    device: torch.device
    model_dir: Path
    vae_until: float | None = None
    until: float | None = None
    stop_after_steps: int | None = None
    adapt_threads: bool = False
    init: Path | None = None


def stage_data(job: Job) -> Dataset:
    """The rendered dataset, from the run folder when it is there."""
    folder = job.out / "data"
    if (folder / "pictures.json").exists():
        return data_stage.load(folder)
    built = data_stage.build(job.config.data, job.data)
    data_stage.save(built, folder)
    return built


def stage_tokenizer(job: Job, full: Dataset) -> CLIPTokenizer:
    """The tokenizer, from the run folder when it is there."""
    folder = job.out / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        corpus = caption_corpus(full.pictures, job.config.captions, job.config.seed)
        save_tokenizer(train_tokenizer(corpus, job.config.captions.vocab_size), folder)
    return CLIPTokenizer.from_pretrained(str(folder))


def stage_vae(job: Job, full: Dataset) -> AutoencoderKL:
    """The finished autoencoder with normalised latents, from the run folder when it is there."""
    folder = job.out / "vae"
    if not (folder / "config.json").exists():
        vae = train_vae(job.config, full, job.out, job.device, job.vae_until)
        normalize_latents(vae, full, job.device, job.config.precision)
        vae.save_pretrained(str(folder))
    vae = build_vae(job.config.vae)
    vae.load_state_dict(AutoencoderKL.from_pretrained(str(folder)).state_dict())
    return vae.to(job.device, memory_format=torch.channels_last).eval().requires_grad_(False)


def train(job: Job, last: str = "export") -> None:
    """Runs the stages up to `last`; what a stage left in the run folder is used, not made again."""
    job.out.mkdir(parents=True, exist_ok=True)
    wanted = STAGES[: STAGES.index(last) + 1]
    full = stage_data(job)
    if "tokenizer" not in wanted:
        return
    tokenizer = stage_tokenizer(job, full)
    if "vae" not in wanted:
        return
    vae = stage_vae(job, full)
    if "unet" not in wanted:
        return
    kept = subset(full, job.config.unet.labels)
    models, run = unet_run(job.config, tokenizer, job.out, job.device)
    if job.init is not None and run.progress.step == 0:
        warm_start(models, run, job.init)
    schedule = make_schedule(job.config)

    def show(step: int) -> None:
        draw_grid(models, vae, schedule, list(job.config.unet.prompts), job.out / "samples" / f"step-{step:06d}.png")
        about = describe(job.config, kept, run, fit_preview(vae, kept, job.config.precision))
        export_model(models, vae, about, job.config, job.model_dir)

    hooks = Hooks(show, job.stop_after_steps, job.adapt_threads)
    cache = cached(job.out / "latents.pt", vae, kept, job.config, job.device)
    train_unet(models, run, (kept, cache), job.config, job.until, hooks)
    if last == "export":
        with run.ema.applied():
            show(run.progress.step)


def _clock(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="danqing train builtin", description="Train the built-in model.")
    parser.add_argument("--config", required=True, help="a TOML file, or builtin-tiny, builtin-cpu, builtin-gpu")
    parser.add_argument("--out", required=True, type=Path, help="run folder: checkpoints, logs, sample grids")
    parser.add_argument("--data", type=Path, help="folder of the npm packages (default: OUT/npm)")
    parser.add_argument("--model-dir", type=Path, help="where the model is exported (default: OUT/danqing-mini)")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's checkpoints")
    parser.add_argument("--last-stage", choices=STAGES, default="export")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--vae-until", type=_clock, help="end the VAE stage at this local time (ISO 8601) at the latest"
    )
    parser.add_argument("--until", type=_clock, help="end the UNet stage at this local time (ISO 8601) at the latest")
    parser.add_argument("--init", type=Path, help="start from the UNet body of an earlier run's unet.ckpt.pt")
    parser.add_argument("--threads", type=int, help="CPU threads; 0 uses one while the machine is busy, else all")
    return parser.parse_args(argv)


def refuse_old_run(out: Path, resume: bool) -> None:
    """A run folder with checkpoints is gone on with only when asked.

    Raises:
        ConflictError: The folder holds checkpoints and `resume` is false.
    """
    if any(out.glob("*.ckpt.pt")) and not resume:
        raise ConflictError(
            "the run folder holds checkpoints",
            field="out",
            value=str(out),
            next_step="add --resume, or name a new folder",
        )


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake in its input."""
    args = _arguments(argv)
    transformers_logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        refuse_old_run(args.out, args.resume)
        job = Job(
            config=load_config(args.config),
            out=args.out,
            data=args.data or args.out / "npm",
            device=torch.device(args.device),
            model_dir=args.model_dir or args.out / "danqing-mini",
            vae_until=args.vae_until,
            until=args.until,
            adapt_threads=args.threads == 0,
            init=args.init,
        )
        train(job, args.last_stage)
    except DanqingError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
