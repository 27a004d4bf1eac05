"""Does `danqing train artaug` make pictures better with the reviewer switched off?

The built-in review loop refines briefs of its own (90 subjects, none of which is measured); the pairs that its judge
accepted are distilled by the trainer's own process, with the method's defaults. Then the 30 briefs of
`benchmarks.refine`, which nothing learnt from, are painted with eight seeds each at strength 0 and at 1: a picture's
score varies more from seed to seed than it can gain, so that single ones say nothing. Reported: the judge's scores, and
those of an evaluator that had no part in any of it, where `DANQING_BENCH_EVALUATOR` and `DANQING_BENCH_DATA` name its
folders (see `benchmarks.refine`). Bar: the judge's prompt score rises by more than its standard error, the share of
pictures that the evaluator recognises does not fall. `DANQING_BENCH_KEEP` names a folder in which pairs and run stay;
what is there already is not made again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._report import Options, Outcome, run
from benchmarks.refine import BRIEFS, Pictures, evaluator, recognised
from danqing.models.catalog import Catalog
from danqing.models.clip import load
from danqing.review.scoring import Judge
from danqing.spec.errors import BadFileError
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.refine import RefineOptions
from danqing.spec.training import parse_training
from danqing.studio.pairs import FILE, export_pairs
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.training.evaluation.family import open_family
from danqing.training.evaluation.painting import Order, Painter
from danqing.training.own.sampling import grid

SUBJECTS = (
    "lion", "tulip", "church", "banana", "elephant", "bicycle", "crown", "mushroom", "shark", "castle", "pear", "owl",
    "guitar", "sailboat", "lemon", "butterfly", "taxi", "turtle", "doughnut", "umbrella", "koala", "tent", "carrot",
    "airplane", "teapot", "unicorn", "camera", "cactus", "pizza", "helicopter", "duck", "balloon", "sunflower", "dress",
    "octopus", "trophy", "grapes", "tractor", "snowman", "fish", "dog", "fox", "horse", "penguin", "frog", "dolphin",
    "snail", "honeybee", "spider", "bouquet", "potted plant", "pineapple", "cherries", "tomato", "eggplant", "broccoli",
    "croissant", "hamburger", "hot dog", "cookie", "birthday cake", "lollipop", "beer mug", "house", "bus",
    "police car", "automobile", "ship", "anchor", "rocket", "flying saucer", "star", "cloud", "fire", "watch",
    "alarm clock", "bullseye", "teddy bear", "backpack", "handbag", "ring", "violin", "drum", "mobile phone",
    "television", "light bulb", "closed book", "key", "shield", "chair",
)  # fmt: skip
BARRED = " fire,"
"""No pair is made of it: a fire engine is measured."""
CHECKED = (
    "bear", "rabbit face", "giraffe", "crocodile", "bird", "palm tree", "evergreen tree", "strawberry", "maple leaf",
    "ear of corn", "cheese wedge", "soft ice cream", "egg", "wine glass", "volcano", "locomotive", "crescent moon",
    "t-shirt", "running shoe", "top hat", "gem stone", "trumpet", "laptop", "hammer", "door", "microscope", "ghost",
    "robot", "zebra", "basketball",
)  # fmt: skip
"""Subjects that the trainer measures its rounds on: neither learnt from nor measured in the end."""
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
GROUNDS = ("dark blue", "light yellow", "purple", "green", "cyan", "dark purple", "yellow", "red", "light blue", "gray")
LEARNING = (*range(0, 508, 2), *range(1, 98, 2))
"""Numbers of the briefs that pairs are made from."""
SEEDS = 8
"""Pictures of each measured brief."""
CHECKS = 16
"""Of the briefs to check, as many as a Request takes."""
CHECK_STYLES = 24
QUICK = 0
"""A brief of which revisions are accepted."""
ROUNDS = 4
NAME = "better"
THREADS = 1


def learning_briefs(count: int) -> list[str]:
    """Briefs that pairs are made from: coloured subjects, which the model misses often enough to be mended."""
    rng = np.random.default_rng(11)
    found: list[str] = []
    while len(found) < count:
        for subject in rng.permutation(SUBJECTS):
            ground = str(rng.choice(GROUNDS))
            colour = str(rng.choice([one for one in COLOURS if one not in ground]))
            style = str(rng.choice(["3d", "flat"]))
            found.append(f"{colour} {subject}, {style}, {ground} background")
    return found[:count]


def check_briefs() -> list[str]:
    """Briefs like those that are measured, of subjects of their own."""
    rng = np.random.default_rng(5)
    found: list[str] = []
    for i, subject in enumerate(CHECKED):
        style = ("flat", "3d", "line art")[i % 3] if i < CHECK_STYLES else "flat"
        ground = str(rng.choice(GROUNDS))
        colour = str(rng.choice([one for one in COLOURS if one not in ground]))
        plain = style == "line art" or rng.random() < 0.25
        found.append(f"{subject if plain else f'{colour} {subject}'}, {style}, {ground} background")
    return found


def collect(numbers: Sequence[int], folder: Path, options: Options) -> int:
    """The loop's accepted pairs of some briefs, into a folder as `danqing refine --export` makes it; how many."""
    briefs = learning_briefs(max(numbers) + 1)
    count = 0
    with (
        tempfile.TemporaryDirectory(prefix="danqing-artaug-") as scratch,
        Studio(load_settings(data_dir=Path(scratch))) as studio,
    ):
        for number in numbers:
            brief = briefs[number]
            if BARRED in brief:
                continue
            done = studio.refine(Txt2ImgRequest(prompt=brief, seed=50_000 + number), RefineOptions(rounds=ROUNDS))
            count += export_pairs([done], folder, studio)
            options.say(f"{number:3} {brief}: {[r.way + ('+' if r.accepted else '-') for r in done.rounds]}")
    return count


def train(scratch: Path, options: Options) -> tuple[Path | None, dict[str, Any], float]:
    """A run from its request to its file (None where it gained nothing), its end's figures, and how long it took.

    Raises:
        BadFileError: It did not end well.
    """
    folder = scratch / "run"
    folder.mkdir(parents=True, exist_ok=True)
    checks = check_briefs()[:CHECKS]
    more = {"steps": 2, "before_steps": 2} if options.quick else {}
    asked = {
        "method": "artaug", "name": NAME, "pairs": str(scratch / "pairs"), "sample_every": 0, "background": False,
        "sample_prompts": checks[:1] if options.quick else checks, **more,
    }  # fmt: skip
    (folder / "request.json").write_text(parse_training(asked).model_dump_json(), encoding="utf-8")
    places = ["--sets", str(scratch / "sets"), "--device", options.device, "--threads", str(THREADS)]
    if not (folder / "model" / "card.md").is_file():
        command = [sys.executable, "-m", "danqing.training.own", str(folder), *places]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise BadFileError(f"it was not trained: {ended.stderr[-400:]}", value=str(folder))
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        event = json.loads(line)
        if event["type"] == "note":
            options.say(event["words"])
    last = json.loads(lines[-1])
    product = None if last.get("unpublished") else folder / last["files"][0]
    return product, {**last["figures"], "published": float(product is not None)}, float(last["seconds"])


def painted(product: Path | None, scratch: Path, briefs: Sequence[str], strength: float) -> Pictures:
    """Every brief by the ordinary engine, the file where a person puts it; strength 0 needs none.

    Where there is no file, what a person has is the model as it was.
    """
    there = scratch / f"painted-{len(briefs)}-{strength:g}.npy"
    if there.is_file():
        return np.load(there)
    home = scratch / "models" / "Lora"
    home.mkdir(parents=True, exist_ok=True)
    if product is not None:
        (home / product.name).write_bytes(product.read_bytes())
    family = replace(open_family(None, scratch), catalog=Catalog(scratch / "models"))
    painter = Painter(family, torch.device("cpu"), batch=8)
    words = f" <lora:{NAME}:{strength:g}>" if strength and product is not None else ""
    pictures = painter.paint([Order(brief + words, seed) for seed, brief in enumerate(briefs)])
    np.save(there, pictures)
    return pictures


def judged(pictures: Pictures, briefs: Sequence[str]) -> tuple[list[float], list[float]]:
    """The judge's prompt and aesthetic scores."""
    clip = load()
    judge = Judge(partial(lambda one: one, clip), None, torch.device("cpu"))
    found = [judge.scores([Image.fromarray(one)], brief)[0] for one, brief in zip(pictures, briefs, strict=True)]
    return [one.prompt for one in found], [one.aesthetic for one in found]


def measure(options: Options) -> Outcome:
    """Pairs, a LoRA, and every eye on what it paints."""
    kept = os.environ.get("DANQING_BENCH_KEEP")
    with tempfile.TemporaryDirectory(prefix="danqing-artaug-") as name:
        scratch = Path(kept or name)
        if not (scratch / "pairs" / FILE).is_file():
            collect([QUICK] if options.quick else LEARNING, scratch / "pairs", options)
        product, figures, seconds = train(scratch, options)
        briefs = BRIEFS[:2] if options.quick else BRIEFS * SEEDS
        sets = {f"{strength:g}": painted(product, scratch, briefs, strength) for strength in (0.0, 1.0)}
        if options.out is not None:
            shown = {strength: pictures[: len(BRIEFS)] for strength, pictures in sets.items()}
            _show(shown, briefs[: len(BRIEFS)], options.out / "train_artaug.png")
    return _outcome(sets, briefs, {**figures, "train_s": seconds})


def _outcome(sets: dict[str, Pictures], briefs: Sequence[str], figures: dict[str, float]) -> Outcome:
    eye = evaluator()
    each: dict[str, Any] = {}
    for strength, pictures in sets.items():
        prompt, aesthetic = judged(pictures, briefs)
        figures |= {
            f"judge_prompt_{strength}": float(np.mean(prompt)),
            f"judge_aesthetic_{strength}": float(np.mean(aesthetic)),
        }
        each[f"judge_{strength}"] = [round(score, 4) for score in prompt]
        if eye is not None:
            hits = recognised(eye, pictures, briefs)
            fits = np.sum(eye.embed_images(pictures) * eye.embed_texts(list(briefs)), axis=1)
            figures |= {
                f"evaluator_{strength}": float(np.mean(hits)),
                f"evaluator_cosine_{strength}": float(fits.mean()),
            }
            each[f"evaluator_{strength}"] = [round(float(fit), 4) for fit in fits]
    gains = np.subtract(each["judge_1"], each["judge_0"])
    error = float(gains.std(ddof=1) / len(gains) ** 0.5)
    figures |= {"judge_gain": float(gains.mean()), "judge_gain_error": error}
    figures |= {"pictures": float(len(briefs)), "pictures_that_rose": float((gains > 0).sum())}
    no_fall = eye is None or figures["evaluator_1"] >= figures["evaluator_0"]
    return Outcome(
        figures,
        "the judge's mean prompt score rises by more than its standard error, the evaluator recognises no fewer",
        figures["judge_gain"] > error and no_fall,
        {"each": each, "briefs": list(briefs)},
    )


def _show(sets: dict[str, Pictures], briefs: Sequence[str], path: Path) -> None:
    """Every brief without and with, side by side; nothing is picked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(one) for pair in zip(*sets.values(), strict=True) for one in pair]
    labels = [f"{brief} @ {strength}" for brief in briefs for strength in sets]
    grid(pictures, labels, 10).save(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    return run("train_artaug", "an enhancement LoRA from the review loop's accepted pairs", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
