"""Painted scenes, several for every drawing, made once and memory-mapped: what the trainers draw batches from."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from danqing.models.colors import measure_colors
from danqing.training.builtin.captions import draw_caption
from danqing.training.builtin.config import CaptionConfig, SceneConfig
from danqing.training.builtin.dataset import Dataset, Picture
from danqing.training.builtin.loop import stage_digest, step_rng
from danqing.training.builtin.scenes import Scene, draw_scene, paint_scene


@dataclass(frozen=True)
class Pool:
    """Finished training pictures with all that was put into them.

    Attributes:
        pictures: The drawings; row r was painted `variants` times.
        scenes: `[n][variants]`.
        own_colors: The commonest colour of every drawing where it covers 45 % of it, else None.
        rgb: uint8 `[n, variants, size, size, 3]`, memory-mapped.
    """

    pictures: tuple[Picture, ...]
    scenes: tuple[tuple[Scene, ...], ...]
    own_colors: tuple[str | None, ...]
    rgb: NDArray[np.uint8]

    def caption(self, row: int, variant: int, config: CaptionConfig, rng: np.random.Generator) -> str:
        """A new caption of one painted scene."""
        return draw_caption(self.pictures[row], config, self.scenes[row][variant], rng, self.own_colors[row])


def own_color(rgba: NDArray[np.uint8]) -> str | None:
    """The commonest colour name where it covers at least 45 % of the drawing."""
    found = measure_colors(rgba)
    return found[0][0] if found and found[0][1] >= 0.45 else None


def row_scenes(dataset: Dataset, row: int, config: SceneConfig, seed: int) -> tuple[Scene, ...]:
    """The scenes of one drawing: plain, mirrored, then random ones; fixed by the seed and the drawing's identity."""
    picture, rgba = dataset.pictures[row], np.asarray(dataset.rgba[row])
    rng = step_rng(seed, "scenes", int.from_bytes(f"{picture.concept.hexcode}{picture.style}".encode()[-7:], "big"))
    plain = (Scene(), Scene(mirrored=True))
    return (*plain, *(draw_scene(picture, rgba, config, rng) for _ in range(config.variants - 2)))[: config.variants]


def _paint(item: tuple[NDArray[np.uint8], tuple[Scene, ...]], size_px: int) -> NDArray[np.uint8]:
    rgba, scenes = item
    return np.stack([paint_scene(rgba, scene, size_px) for scene in scenes])


def make_pool(dataset: Dataset, config: SceneConfig, seed: int, path: Path, workers: int = 2) -> Pool:
    """Paints all scenes into `path` (`.npy`), or uses the file when it was made from the same.

    Args:
        dataset: The drawings, at the size of the result.
        config: How scenes are drawn, and how many for each drawing.
        seed: Fixes them.
        path: The file; `path` with `.json` says what it was made from.
        workers: Processes that paint.
    """
    size_px = dataset.rgba.shape[1]
    scenes = tuple(row_scenes(dataset, row, config, seed) for row in range(len(dataset.pictures)))
    colors = tuple(own_color(np.asarray(rgba)) for rgba in dataset.rgba)
    names = [p.concept.hexcode + p.style for p in dataset.pictures]
    key = stage_digest(names, config, seed, size_px)
    about = path.with_suffix(".json")
    if not (path.exists() and about.exists() and json.loads(about.read_text(encoding="utf-8"))["key"] == key):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        shape = (len(scenes), config.variants, size_px, size_px, 3)
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        items = ((np.asarray(dataset.rgba[i]), scenes[i]) for i in range(len(scenes)))
        with ProcessPoolExecutor(max_workers=workers) as pool:
            for i, painted in enumerate(pool.map(partial(_paint, size_px=size_px), items, chunksize=32)):
                out[i] = painted
        out.flush()
        temporary.replace(path)
        about.write_text(json.dumps({"key": key}), encoding="utf-8")
    return Pool(dataset.pictures, scenes, colors, np.load(path, mmap_mode="r"))


def to_tensor_scale(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures `[n, h, w, 3]` uint8 to `[n, 3, h, w]` float32 in [-1, 1]."""
    return np.ascontiguousarray((rgb.astype(np.float32) / 127.5 - 1.0).transpose(0, 3, 1, 2))
