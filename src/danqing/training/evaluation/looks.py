"""Distances to real drawings, diversity, memorisation: the sections that compare pictures with pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from danqing.training.builtin.dataset import LOCALES
from danqing.training.builtin.pool import row_scenes
from danqing.training.builtin.scenes import Scene, paint_scene
from danqing.training.evaluation.bench import Bench
from danqing.training.evaluation.distances import frechet, histogram, mean_pairwise, nearest, pixel_distances
from danqing.training.evaluation.painting import Order
from danqing.training.evaluation.sheets import Tile, save_sheet, subject_caption, subjects

Figures = dict[str, Any]
BINS = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0]
PAIRS = 8


def distance(bench: Bench) -> Figures:
    """Fréchet distances over mini-CLIP features between sets of one size, with real against real as the scale."""
    painted = bench.clip.embed_images(np.concatenate([bench.painted(locale) for locale in LOCALES]))
    n = len(painted)
    sets = {
        "painted": painted,
        "training": bench.clip.embed_images(bench.real_scenes(bench.drawings, n, 10).rgb),
        "training_again": bench.clip.embed_images(bench.real_scenes(bench.drawings, n, 11).rgb),
        "held_out": bench.clip.embed_images(bench.real_scenes(bench.held_out, n, 12).rgb),
    }
    pairs = (
        ("painted", "training"),
        ("painted", "held_out"),
        ("training", "training_again"),
        ("training", "held_out"),
    )
    found: Figures = {f"{a}_to_{b}": round(frechet(sets[a], sets[b]), 4) for a, b in pairs}
    return found | {"pictures": n, "held_out_drawings": len(bench.held_out.pictures)}


def diversity(bench: Bench) -> Figures:
    """How far pictures of one prompt, several seeds, are apart, beside real drawings of one concept in all styles."""
    prompts = bench.prompts[: bench.sizes.diverse]
    seeds = bench.sizes.seeds
    orders = [Order(p.captions["en"], 5000 + seed) for p in prompts for seed in range(seeds)]
    painted = bench.kept("painted-seeds", orders)
    groups: dict[str, list[NDArray[np.uint8]]] = {
        "seeds": [painted[i * seeds : (i + 1) * seeds] for i in range(len(prompts))],
        "real_styles": [],
        "real_concepts": [bench.real[:50]],
    }
    for prompt in prompts:
        kin = [p.row for p in bench.drawings.pictures if p.concept.hexcode == prompt.concept]
        if len(kin) > 1:
            rgb = [paint_scene(np.asarray(bench.drawings.rgba[row]), prompt.scene, bench.side_px) for row in kin]
            groups["real_styles"].append(np.stack(rgb))
    found: Figures = {"prompts": len(prompts), "each": seeds}
    for name, sets in groups.items():
        if not sets:
            found[name] = {"missing": "no concept is drawn in two styles"}
            continue
        features = [mean_pairwise(bench.clip.embed_images(rgb)) for rgb in sets]
        pixels = [one for rgb in sets for one in pixel_distances(bench.judge, rgb)]
        found[name] = {"features": round(float(np.mean(features)), 4), "pixels": round(float(np.mean(pixels)), 4)}
    return found


def _training_scenes(bench: Bench) -> tuple[list[int], list[Scene]]:
    """Rows and scenes that the UNet learnt: the first few of every drawing, one copy, not mirrored."""
    rows: list[int] = []
    scenes: list[Scene] = []
    for picture in bench.drawings.pictures:
        drawn = row_scenes(bench.drawings, picture.row, bench.config.scenes, bench.config.seed)
        some = [scene for scene in drawn if scene.count == 1 and not scene.mirrored][: bench.sizes.neighbours]
        rows += [picture.row] * len(some)
        scenes += some
    return rows, scenes


def neighbours(bench: Bench) -> Figures:
    """The nearest training scene of every painted picture: how many are copies, and the closest pairs as a sheet."""
    rows, scenes = _training_scenes(bench)

    def paint(i: int) -> NDArray[np.uint8]:
        return paint_scene(np.asarray(bench.drawings.rgba[rows[i]]), scenes[i], bench.side_px)

    known = bench.clip.embed_images(np.stack([paint(i) for i in range(len(rows))]))
    painted = bench.painted("en")
    held = bench.real_scenes(bench.held_out, len(painted), 20).rgb
    found: Figures = {"training_scenes": len(rows), "bins": BINS}
    for name, pictures in (("painted", painted), ("real", bench.real), ("held_out", held)):
        near = nearest(bench.clip.embed_images(pictures), known)
        found[name] = {
            "median": round(float(np.median(near.distance)), 4),
            "least": round(float(near.distance.min()), 4),
            "histogram": histogram(near.distance, BINS),
        }
        if name == "painted":
            order = np.argsort(near.distance, kind="stable")[:PAIRS]
            same = [bench.drawings.pictures[rows[int(near.index[i])]].concept.hexcode for i in range(len(painted))]
            found["same_concept"] = round(
                float(np.mean([a == p.concept for a, p in zip(same, bench.prompts, strict=True)])), 4
            )
            tiles = [Tile(painted[i], bench.prompts[int(i)].captions["en"]) for i in order]
            tiles += [Tile(paint(int(near.index[i])), f"{near.distance[i]:.3f} away") for i in order]
            found["sheet"] = save_sheet(tiles, bench.places.docs / "images" / "builtin-neighbours.webp", len(order))
    return found


def sheets(bench: Bench) -> Figures:
    """The fixed subjects in English and in Chinese, seeds 0, 1, 2 …, nothing picked; the 4-step variant too."""
    shown = subjects(bench.drawings, bench.sizes.sheet)
    if not shown:
        return {"missing": "none of the sheet's subjects was learnt"}
    kinds = [("en", "en", False), ("zh", "zh", False)]
    kinds += [("4step", "en", True)] if bench.family.part("4-step") else []
    found: Figures = {}
    for name, locale, few in kinds:
        briefs = [subject_caption(picture, ground, locale) for picture, ground in shown]
        rgb = bench.kept(f"sheet-{name}", [Order(brief, i, few) for i, brief in enumerate(briefs)])
        tiles = [Tile(one, brief) for one, brief in zip(rgb, briefs, strict=True)]
        file = save_sheet(tiles, bench.places.docs / "images" / f"builtin-{name}.webp")
        found[name] = {"sheet": file, "briefs": briefs}
    return found
