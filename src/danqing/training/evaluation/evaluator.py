"""The judge of the built-in family: trained with its own seed and architecture, used for nothing else.

It learns from the drawings and words of the data folder, never from anything that the family painted, and no weight of
the family comes from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)

from danqing.spec.errors import InvalidRequestError
from danqing.training.builtin.captions import draw_caption
from danqing.training.builtin.config import CaptionConfig, TrainConfig
from danqing.training.builtin.dataset import LOCALES, Dataset, Picture
from danqing.training.builtin.loop import Ema, Run, Steps, make_optimizer, stage_digest, step_rng, train_steps
from danqing.training.builtin.pool import to_tensor_scale
from danqing.training.builtin.scenes import Scene, draw_scene, paint_scene
from danqing.training.builtin.shards import reduce_rgba
from danqing.training.builtin.vae import autocast
from danqing.training.evaluation import words
from danqing.training.evaluation.config import EvaluatorConfig
from danqing.training.evaluation.prompts import Combination, caption, combination, scene_config
from danqing.training.evaluation.towers import Towers, build_towers

STAGE = "evaluator"
CAPTIONS = CaptionConfig(chinese=0.5, dropout=0.0)
BATCH = 64
KIN = 4


class Judge(Protocol):
    """What picks captions: unit vectors of pictures and of texts in one space."""

    def embed_images(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`[n, dim]` of pictures `[n, h, w, 3]`."""
        ...

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """`[n, dim]` of captions."""
        ...


def settings_of(config: TrainConfig) -> EvaluatorConfig:
    """The configuration's `[evaluator]` table.

    Raises:
        InvalidRequestError: It has none.
    """
    if config.evaluator is None:
        raise InvalidRequestError(
            "the configuration has no evaluator",
            field="evaluator",
            value=config.name,
            allowed="a TOML file with the tables [evaluator] and [evaluator.stage], as builtin-cpu has",
        )
    return config.evaluator


def is_held_back(combined: Combination, share: float) -> bool:
    """Whether the evaluator is never shown this combination, by its hash; plain drawings on white are all shown."""
    if combined[2] is None and combined[3] == ("white",):
        return False
    number = int.from_bytes(hashlib.sha256(repr(("evaluator", combined)).encode()).digest()[:8], "big")
    return number / 2**64 < share


@dataclass(frozen=True)
class Lessons:
    """What the evaluator learns from: the UNet's drawings at its own size, and rows by concept."""

    drawings: Dataset
    kin: tuple[tuple[int, ...], ...]
    config: TrainConfig
    settings: EvaluatorConfig

    def scene(self, row: int, rng: np.random.Generator, *, held_back: bool) -> Scene:
        """A random scene from one side of the split."""
        picture, rgba = self.drawings.pictures[row], self.drawings.rgba[row]
        wide = scene_config(self.config)
        chosen = replace(wide, flat=0.55, gradient=0.12, transparent=0.04, recolor=0.4, several=0.06)
        for _ in range(200):
            scene = draw_scene(picture, rgba, wide if held_back else chosen, rng)
            if is_held_back(combination(picture, scene), self.settings.held_back) == held_back:
                return scene
        return Scene()

    def batch(self, step: int, size: int) -> tuple[NDArray[np.uint8], list[str]]:
        """Pictures `[size, s, s, 3]` and captions of one step; a share of them four to a concept."""
        rng = step_rng(self.settings.seed, "eval", step)
        groups = int(size * self.settings.kin) // KIN
        rows = [int(rng.choice(self.kin[int(i)])) for i in rng.integers(0, len(self.kin), groups) for _ in range(KIN)]
        rows += [int(i) for i in rng.integers(0, len(self.drawings.pictures), size - len(rows))]
        scenes = [self.scene(row, rng, held_back=False) for row in rows]
        pictures = [self.drawings.pictures[row] for row in rows]
        captions = [draw_caption(p, CAPTIONS, s, rng) for p, s in zip(pictures, scenes, strict=True)]
        return self.painted(rows, scenes), captions

    def painted(self, rows: list[int], scenes: list[Scene]) -> NDArray[np.uint8]:
        """Scenes of these drawings, `[n, s, s, 3]`."""
        side = self.settings.size_px
        return np.stack([paint_scene(self.drawings.rgba[r], s, side) for r, s in zip(rows, scenes, strict=True)])

    def vocabulary(self) -> words.Words:
        """Every word that a caption of these drawings may have, from a few captions of each."""
        rng = step_rng(self.settings.seed, "captions", 0)
        texts: list[str] = []
        for picture in self.drawings.pictures:
            texts += [word for locale in LOCALES for word in picture.concept.words.get(locale, ())]
            scene = self.scene(picture.row, rng, held_back=False)
            texts += [draw_caption(picture, CAPTIONS, scene, rng) for _ in range(4)]
        return words.learn(texts, least=1)


def make_lessons(drawings: Dataset, config: TrainConfig) -> Lessons:
    """The drawings reduced to the evaluator's size.

    Args:
        drawings: What the UNet learns, rows numbered from 0.
        config: With an `[evaluator]` table.
    """
    settings = settings_of(config)
    rgba = np.stack([reduce_rgba(np.asarray(one), settings.size_px) for one in drawings.rgba])
    kin: dict[str, list[int]] = {}
    for picture in drawings.pictures:
        kin.setdefault(picture.concept.hexcode, []).append(picture.row)
    return Lessons(Dataset(drawings.pictures, rgba), tuple(tuple(rows) for rows in kin.values()), config, settings)


def pair_loss(towers: Towers, images: torch.Tensor, texts: torch.Tensor, captions: list[str]) -> torch.Tensor:
    """SigLIP's loss over all pairs (Zhai et al. 2023, eq. 1); equal captions belong to each other's pictures."""
    text = np.asarray(captions)
    same = torch.from_numpy(text[:, None] == text[None]).to(images)
    logits = images @ texts.T * towers.logit_scale.exp() + towers.logit_bias
    return -F.logsigmoid(logits * (2.0 * same - 1.0)).sum() / len(images)


class Evaluator:
    """The trained towers with their words: a Judge, and the eye of the pixel distance."""

    def __init__(self, towers: Towers, vocabulary: words.Words, settings: EvaluatorConfig) -> None:
        self.towers = towers
        self.vocabulary = vocabulary
        self.size_px = settings.size_px

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.towers.parameters()).device

    def pixels(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Pictures `[n, h, w, 3]` at its own size, `[n, 3, s, s]` in [-1, 1]."""
        side = self.size_px
        if pictures.shape[1:3] != (side, side):
            small = [Image.fromarray(p).resize((side, side), Image.Resampling.LANCZOS) for p in pictures]
            pictures = np.stack([np.asarray(one) for one in small])
        return torch.from_numpy(to_tensor_scale(pictures)).to(self.device)

    @torch.no_grad()
    def embed_images(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors `[n, dim]` of pictures `[n, h, w, 3]`."""
        parts = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
        return np.concatenate([self.towers.embed_images(self.pixels(part)).cpu().numpy() for part in parts])

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors `[n, dim]` of captions."""
        parts = [self.vocabulary.encode(texts[i : i + 4 * BATCH]) for i in range(0, len(texts), 4 * BATCH)]
        ids = [torch.from_numpy(part).to(self.device) for part in parts]
        return np.concatenate([self.towers.embed_texts(one).cpu().numpy() for one in ids])

    @torch.no_grad()
    def layers(self, pictures: NDArray[np.uint8]) -> list[torch.Tensor]:
        """What the stages of its CNN see, each with unit length in every place: `[n, c, h, w]`."""
        return [F.normalize(x.float(), dim=1) for x in self.towers.image.features(self.pixels(pictures))]


def held_back_scenes(lessons: Lessons, count: int, seed: int) -> tuple[NDArray[np.uint8], list[tuple[Picture, Scene]]]:
    """Real drawings in combinations that were never shown, of as many concepts as there are: `[n, s, s, 3]`."""
    rng = step_rng(seed, "eval", 1)
    order = [int(rng.choice(lessons.kin[int(i)])) for i in rng.permutation(len(lessons.kin))]
    found: list[tuple[int, Scene]] = []
    for row in order:
        scene = lessons.scene(row, rng, held_back=True)
        if scene != Scene() and len(found) < count and lessons.drawings.pictures[row].concept.words.get("zh"):
            found.append((row, scene))
    pixels = lessons.painted([row for row, _ in found], [scene for _, scene in found])
    return pixels, [(lessons.drawings.pictures[row], scene) for row, scene in found]


def held_back_rates(judge: Judge, lessons: Lessons, choices: int = 50, rounds: int = 8) -> dict[str, float]:
    """How often the right caption of `choices` wins on held-back scenes of real drawings, in two languages."""
    hits: dict[str, list[float]] = {"en": [], "zh": []}
    for i in range(rounds):
        pixels, shown = held_back_scenes(lessons, choices, lessons.settings.seed + 1 + i)
        images = judge.embed_images(pixels)
        for locale in hits:
            texts = judge.embed_texts([caption(p, combination(p, s), locale) for p, s in shown])
            hits[locale] += (np.argmax(images @ texts.T, 1) == np.arange(len(images))).tolist()
    return {f"match_of_{choices}_{locale}": round(float(np.mean(found)), 4) for locale, found in hits.items()}


def _digest(config: TrainConfig, lessons: Lessons) -> str:
    names = [p.concept.hexcode + p.style for p in lessons.drawings.pictures]
    return stage_digest(STAGE, lessons.settings, names, config.data.size_px, config.precision)


def evaluator_run(lessons: Lessons, vocabulary: words.Words, folder: Path, device: torch.device) -> tuple[Towers, Run]:
    """The towers and their optimiser, from the checkpoint if there is one."""
    settings = lessons.settings
    towers = build_towers(settings, len(vocabulary)).to(device)
    params = list(towers.parameters())
    digest = _digest(lessons.config, lessons)
    run = Run(
        STAGE,
        folder,
        {STAGE: towers},
        make_optimizer([(params, 1.0)], settings.stage),
        Ema(params, settings.stage.ema),
        digest,
    )
    run.resume()
    return towers, run


def train_evaluator(lessons: Lessons, folder: Path, device: torch.device, deadline: float | None = None) -> Evaluator:
    """Trains (or goes on training) it; writes `evaluator.pt` and `evaluator-words.json` into the run folder."""
    settings, precision = lessons.settings, lessons.config.precision
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = lessons.vocabulary()
    towers, run = evaluator_run(lessons, vocabulary, folder, device)
    judge = Evaluator(towers, vocabulary, settings)

    def step(number: int) -> torch.Tensor:
        towers.train()
        pictures, captions = lessons.batch(number, settings.stage.batch)
        ids = torch.from_numpy(vocabulary.encode(captions)).to(device)
        with autocast(device, precision):
            images, texts = towers.embed_images(judge.pixels(pictures)), towers.embed_texts(ids)
        return pair_loss(towers, images, texts, captions)

    def checked() -> dict[str, float]:
        towers.eval()
        return held_back_rates(judge, lessons, rounds=2)

    train_steps(run, settings.stage, Steps(step, checked), deadline)
    vocabulary.save(folder / f"{STAGE}-words.json")
    temporary = folder / f"{STAGE}.tmp"
    torch.save({"digest": run.digest, "weights": towers.state_dict()}, temporary)
    temporary.replace(folder / f"{STAGE}.pt")
    towers.eval().requires_grad_(requires_grad=False)
    return judge


def open_evaluator(lessons: Lessons, folder: Path, device: torch.device) -> Evaluator:
    """The trained evaluator from the run folder; trained now if it is not there or was made from something else."""
    file, spoken = folder / f"{STAGE}.pt", folder / f"{STAGE}-words.json"
    if file.is_file() and spoken.is_file():
        kept = torch.load(file, map_location="cpu", weights_only=True)
        if kept["digest"] == _digest(lessons.config, lessons):
            vocabulary = words.read(spoken)
            towers = build_towers(lessons.settings, len(vocabulary))
            towers.load_state_dict(kept["weights"])
            towers.to(device).eval().requires_grad_(requires_grad=False)
            return Evaluator(towers, vocabulary, lessons.settings)
    return train_evaluator(lessons, folder, device)
