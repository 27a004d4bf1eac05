"""What every section of the evaluation shares, made when asked for: drawings, prompts, judge, painter, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from danqing.models import clip as mini_clip
from danqing.models.clip_files import find_clip
from danqing.training.builtin import dataset as data
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset, Picture
from danqing.training.builtin.loop import stage_digest, step_rng
from danqing.training.builtin.pool import to_tensor_scale
from danqing.training.builtin.scenes import Scene, draw_scene, paint_scene
from danqing.training.evaluation.config import Sizes
from danqing.training.evaluation.evaluator import Evaluator, Lessons, make_lessons, open_evaluator
from danqing.training.evaluation.family import CLIP, Family
from danqing.training.evaluation.painting import Order, Painter
from danqing.training.evaluation.prompts import (
    SEED,
    Prompt,
    make_prompts,
    paint_prompts,
    scene_config,
    seen_combinations,
)


@dataclass(frozen=True)
class Places:
    """Folders: the data, the run (evaluator, painted pictures), and the docs that are written."""

    data: Path
    run: Path
    docs: Path


@dataclass(frozen=True)
class RealScenes:
    """Real drawings in scenes like the prompts': `rgb` is `[n, s, s, 3]`."""

    rgb: NDArray[np.uint8]
    pictures: tuple[Picture, ...]
    scenes: tuple[Scene, ...]


@dataclass
class Bench:
    """One evaluation.

    Attributes:
        config: The model's training configuration.
        sizes: How much is measured.
        places: Folders.
        family: What is measured.
        device: Where it computes.
    """

    config: TrainConfig
    sizes: Sizes
    places: Places
    family: Family
    device: torch.device

    @property
    def side_px(self) -> int:
        """Side of the pictures that the model paints, and of the real ones beside them."""
        return self.family.defaults.size_px

    @cached_property
    def full(self) -> Dataset:
        """Every drawing of the data folder."""
        return data.load(self.places.data, self.config.data.size_px)

    @cached_property
    def drawings(self) -> Dataset:
        """What the UNet learnt."""
        unet = self.config.unet
        return data.split(self.full, held_out=False, styles=unet.styles, labels=unet.labels)

    @cached_property
    def held_out(self) -> Dataset:
        """Concepts that nothing learnt, in the UNet's styles."""
        return data.split(self.full, held_out=True, styles=self.config.unet.styles)

    @cached_property
    def lessons(self) -> Lessons:
        """What the evaluator learns from."""
        return make_lessons(self.drawings, self.config)

    @cached_property
    def judge(self) -> Evaluator:
        """The evaluator, trained now if the run folder does not hold it."""
        return open_evaluator(self.lessons, self.places.run, self.device)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The unseen combinations."""
        seen = seen_combinations(self.drawings, self.config)
        return make_prompts(self.drawings, seen, self.config, self.sizes.prompts)

    @cached_property
    def painter(self) -> Painter:
        """The engine that paints."""
        return Painter(self.family, self.device, self.sizes.batch)

    @cached_property
    def clip(self) -> mini_clip.MiniClip:
        """mini-CLIP, whose features the distances are measured in.

        Raises:
            MissingWeightsError: It is not there.
        """
        return mini_clip.load(find_clip(folder=self.family.folder.parent / CLIP), self.device)

    @cached_property
    def vae(self) -> AutoencoderKL:
        """The family's autoencoder in float32."""
        vae = AutoencoderKL.from_pretrained(str(self.family.folder / "vae"), torch_dtype=torch.float32)
        return vae.to(self.device).eval().requires_grad_(requires_grad=False)

    @cached_property
    def real(self) -> NDArray[np.uint8]:
        """What a perfect painter would make of the prompts."""
        return paint_prompts(self.drawings, self.prompts, self.side_px)

    @torch.no_grad()
    def repeat(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pictures `[n, h, w, 3]` once through the autoencoder."""
        out: list[NDArray[np.uint8]] = []
        for start in range(0, len(rgb), 16):
            x = torch.from_numpy(to_tensor_scale(rgb[start : start + 16])).to(self.device)
            y = self.vae.decode(self.vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
            out.append(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(out)

    def real_scenes(self, drawings: Dataset, count: int, number: int) -> RealScenes:
        """`count` random drawings in random scenes like the prompts'; `number` says which draw."""
        rng = step_rng(SEED, "eval", 1000 + number)
        n = len(drawings.pictures)
        rows = np.concatenate([rng.permutation(n) for _ in range(-(-count // n))])[:count]
        scenes: list[Scene] = []
        for row in rows:
            picture, rgba = drawings.pictures[int(row)], np.asarray(drawings.rgba[int(row)])
            scenes.append(draw_scene(picture, rgba, scene_config(self.config), rng))
        rgb = [
            paint_scene(np.asarray(drawings.rgba[int(r)]), s, self.side_px) for r, s in zip(rows, scenes, strict=True)
        ]
        return RealScenes(np.stack(rgb), tuple(drawings.pictures[int(r)] for r in rows), tuple(scenes))

    def painted(self, locale: str, *, few_steps: bool = False) -> NDArray[np.uint8]:
        """Every prompt painted in one language, seed i for prompt i, `[n, h, w, 3]`; kept in the run folder."""
        orders = [Order(p.captions[locale], i, few_steps) for i, p in enumerate(self.prompts)]
        return self.kept(f"painted-{locale}{'-4step' if few_steps else ''}", orders)

    def kept(self, name: str, orders: Sequence[Order]) -> NDArray[np.uint8]:
        """The pictures of these orders, from the run folder when the same model painted the same there before."""
        path, about = self.places.run / f"{name}.npy", self.places.run / f"{name}.json"
        key = stage_digest(
            [order.prompt for order in orders], [order.seed for order in orders], self.painter.describe(orders[0])
        )
        if path.is_file() and about.is_file() and json.loads(about.read_text(encoding="utf-8"))["key"] == key:
            return np.load(path)
        rgb = self.painter.paint(orders, name)
        self.places.run.mkdir(parents=True, exist_ok=True)
        about.unlink(missing_ok=True)
        np.save(path, rgb)
        about.write_text(json.dumps({"key": key}), encoding="utf-8")
        return rgb
