"""`python -m danqing.training.builtin`: makes the built-in family, stage after stage."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from danqing.spec.errors import ConflictError
from danqing.training.builtin import dataset as data_stage
from danqing.training.builtin.clip import ClipData, MiniClip, build_clip, clip_run, train_clip
from danqing.training.builtin.config import TrainConfig, load_config
from danqing.training.builtin.dataset import Dataset
from danqing.training.builtin.diffusion import make_schedule
from danqing.training.builtin.export import describe, export_clip, export_model, fit_preview
from danqing.training.builtin.latents import cached, normalize_latents
from danqing.training.builtin.pool import Pool, make_pool
from danqing.training.builtin.sample import draw_grid
from danqing.training.builtin.scale import Fleet, join_fleet
from danqing.training.builtin.shards import Job as DrawJob
from danqing.training.builtin.shards import make, vocabulary_json
from danqing.training.builtin.smooth import smooth_vae
from danqing.training.builtin.tokenizer import caption_corpus, save_tokenizer, train_tokenizer
from danqing.training.builtin.unet import unet_run
from danqing.training.builtin.unet_loop import Hooks, train_unet
from danqing.training.builtin.vae import build_vae, train_vae
from danqing.training.commands import exit_code

STAGES = ("data", "tokenizer", "vae", "clip", "unet", "export")


@dataclass(frozen=True)
class Job:
    """One call of the trainer: configuration, folders, device and when to stop."""

    config: TrainConfig
    out: Path
    data: Path
    device: torch.device
    model_dir: Path
    until: float | None = None
    stop_after_steps: int | None = None
    adapt_threads: bool = False
    workers: int = 2
    fleet: Fleet = field(default_factory=Fleet)


def stage_data(job: Job) -> Dataset:
    """The pictures at the configuration's size, drawn now if the data folder lacks them."""
    size_px = job.config.data.size_px
    if not (job.data / f"pictures-{size_px}.npy").exists():
        make(job.config.data, DrawJob(job.data / "npm", job.data, job.workers), (size_px,))
    return data_stage.load(job.data, size_px)


def stage_tokenizer(job: Job, full: Dataset) -> CLIPTokenizer:
    """The tokenizer, from the run folder when it is there."""
    folder = job.out / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        corpus = caption_corpus(data_stage.split(full, held_out=False), job.config)
        save_tokenizer(train_tokenizer(corpus, job.config.captions.vocab_size), folder)
    return CLIPTokenizer.from_pretrained(str(folder))


def stage_vae(job: Job, full: Dataset) -> AutoencoderKL:
    """The finished autoencoder with normalised latents, from the run folder when it is there."""
    folder = job.out / "vae"
    if not (folder / "config.json").exists():
        seen, unseen = data_stage.split(full, held_out=False), data_stage.split(full, held_out=True)
        vae = train_vae(job.config, (seen, unseen), job.out, job.device, job.until)
        vae = smooth_vae(vae, job.config, (seen, unseen), job.out, job.until)
        normalize_latents(vae, seen, job.device, job.config.precision)
        vae.save_pretrained(str(folder))
    vae = build_vae(job.config.vae)
    vae.load_state_dict(AutoencoderKL.from_pretrained(str(folder)).state_dict())
    return vae.to(job.device, memory_format=torch.channels_last).eval().requires_grad_(False)


def favored_rows(pool_pictures: tuple[data_stage.Picture, ...], config: TrainConfig) -> np.ndarray:
    """The rows of the drawings that the UNet will learn."""
    labels, styles = set(config.unet.labels), set(config.unet.styles)
    rows = [
        p.row
        for p in pool_pictures
        if (not labels or p.concept.words["en"][0] in labels) and (not styles or p.style in styles)
    ]
    return np.asarray(rows, np.int64)


def stage_clip(job: Job, full: Dataset, tokenizer: CLIPTokenizer) -> MiniClip:
    """The finished mini-CLIP, from the run folder when it is there."""
    file, config = job.out / "clip.pt", job.config
    if not file.exists():
        seen = data_stage.split(full, held_out=False)
        scenes = dataclasses.replace(config.scenes, variants=config.clip.variants)
        pool = make_pool(seen, scenes, config.seed, job.out / "pool-clip.npy", job.workers)
        model, run = clip_run(config, tokenizer, job.out, job.device)
        data = ClipData(pool, favored_rows(pool.pictures, config), config.clip.favored_share)
        train_clip(model, run, data, tokenizer, config, job.until)
        torch.save(model.state_dict(), file)
    model = build_clip(config, tokenizer)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.to(job.device).eval().requires_grad_(False)


def stage_pool(job: Job, full: Dataset) -> Pool:
    """The painted scenes that the UNet learns from."""
    unet = job.config.unet
    kept = data_stage.split(full, held_out=False, styles=unet.styles, labels=unet.labels)
    return make_pool(kept, job.config.scenes, job.config.seed, job.out / "pool.npy", job.workers)


def stage_unet(job: Job, full: Dataset, vae: AutoencoderKL, clip: MiniClip, tokenizer: CLIPTokenizer) -> None:
    """Trains the UNet; exports the model and a sample grid on the way and at the end."""
    config = job.config
    with job.fleet.leader_first():
        pool = stage_pool(job, full)
        latents = cached(job.out / "latents.pt", vae, pool, job.device, config.precision)
    models, run = unet_run(config, tokenizer, clip.text, job.out, job.device)
    schedule = make_schedule(config)
    preview = fit_preview(vae, pool, config.precision)

    def show(step: int) -> None:
        draw_grid(models, vae, schedule, list(config.unet.prompts), job.out / "samples" / f"step-{step:06d}.png")
        export_model(models, vae, describe(config, pool, run, preview), config, job.model_dir)

    cuda = job.device.type == "cuda"
    hooks = Hooks(
        show, job.stop_after_steps, job.adapt_threads, job.workers if cuda else 0, compiled=cuda, fleet=job.fleet
    )
    train_unet(models, run, (pool, latents), config, job.until, hooks)
    if job.fleet.leads:
        with run.ema.applied():
            show(run.progress.step)


def train(job: Job, last: str = "export") -> None:
    """Runs the stages up to `last`; what a stage left in the run folder is used, not made again."""
    job.out.mkdir(parents=True, exist_ok=True)
    wanted = STAGES[: STAGES.index(last) + 1]
    with job.fleet.leader_first():
        full = stage_data(job)
        if "tokenizer" not in wanted:
            return
        tokenizer = stage_tokenizer(job, full)
        if "vae" not in wanted:
            return
        vae = stage_vae(job, full)
        if "clip" not in wanted:
            return
        clip = stage_clip(job, full, tokenizer)
    if job.fleet.leads:
        words = vocabulary_json(list(full.pictures))
        export_clip(clip, words, job.config, job.model_dir.parent / "danqing-mini-clip")
    if "unet" in wanted:
        stage_unet(job, full, vae, clip, tokenizer)


def _clock(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="danqing train builtin", description="Train the built-in family.")
    parser.add_argument("--config", required=True, help="a TOML file, or builtin-tiny, builtin-cpu, builtin-gpu")
    parser.add_argument("--out", required=True, type=Path, help="run folder: checkpoints, logs, sample grids")
    parser.add_argument("--data", type=Path, help="folder made by `danqing dataset builtin` (default: OUT/data)")
    parser.add_argument("--model-dir", type=Path, help="where the model is exported (default: OUT/danqing-mini)")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's checkpoints")
    parser.add_argument("--last-stage", choices=STAGES, default="export")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--until", type=_clock, help="end the running stage at this local time (ISO 8601) at the latest"
    )
    parser.add_argument("--threads", type=int, help="CPU threads; 0 uses one while the machine is busy, else all")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw, and on a GPU prepare batches")
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
    return exit_code(partial(_run, args))


def _run(args: argparse.Namespace) -> None:
    fleet, device = join_fleet(torch.device(args.device))
    if fleet.leads:
        refuse_old_run(args.out, args.resume)
    job = Job(
        config=load_config(args.config),
        out=args.out,
        data=args.data or args.out / "data",
        device=device,
        model_dir=args.model_dir or args.out / "danqing-mini",
        until=args.until,
        adapt_threads=args.threads == 0,
        workers=args.workers,
        fleet=fleet,
    )
    train(job, args.last_stage)


if __name__ == "__main__":
    sys.exit(main())
