"""Faithfulness, obedience, the autoencoder, the 4-step variant, speed: one function for each section of the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danqing.training.builtin.dataset import LOCALES, split
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.scenes import BACKGROUNDS, Scene, paint_scene
from danqing.training.builtin.upscaler_eval import psnr_db, ssim
from danqing.training.evaluation.bench import Bench
from danqing.training.evaluation.choosing import pick_caption, pick_kin, pick_style, rate
from danqing.training.evaluation.evaluator import held_back_rates
from danqing.training.evaluation.family import LIMIT_MB
from danqing.training.evaluation.painting import Order
from danqing.training.evaluation.pixels import obeys_background, obeys_color, obeys_shade
from danqing.training.evaluation.prompts import SEED
from danqing.training.evaluation.style import learn_styles

Figures = dict[str, Any]


def parts(bench: Bench) -> Figures:
    """What the package holds, and how large it is."""
    sizes = bench.family.parts()
    total = round(sum(size for size in sizes.values() if size is not None), 2)
    return {"megabytes": sizes, "total": total, "limit": LIMIT_MB}


def evaluator(bench: Bench) -> Figures:
    """How good the judge is on real drawings: held-back scenes, the prompts themselves, pictures of other captions."""
    judge, choices = bench.judge, bench.sizes.choices
    wrong = np.roll(bench.real, len(bench.real) // 2, axis=0)
    found: Figures = {"choices": choices, "held_back": held_back_rates(judge, bench.lessons, choices)}
    for locale in LOCALES:
        found[locale] = {
            "ceiling": rate(pick_caption(judge, bench.real, bench.prompts, locale, choices)).as_json(),
            "ceiling_kin": rate(pick_kin(judge, bench.real, bench.prompts, locale, choices)).as_json(),
            "floor": rate(pick_caption(judge, wrong, bench.prompts, locale, choices)).as_json(),
        }
    return found


def faithfulness(bench: Bench) -> Figures:
    """How often the judge picks the caption that was painted."""
    found: Figures = {"choices": bench.sizes.choices, "prompts": len(bench.prompts), "chance": 1 / bench.sizes.choices}
    for locale in LOCALES:
        pictures = bench.painted(locale)
        found[locale] = {
            "faithful": rate(pick_caption(bench.judge, pictures, bench.prompts, locale, bench.sizes.choices)).as_json(),
            "kin": rate(pick_kin(bench.judge, pictures, bench.prompts, locale, bench.sizes.choices)).as_json(),
        }
    found["painting"] = bench.painter.describe(Order("", 0))
    return found


def _answered(answers: list[bool | None]) -> dict[str, float]:
    return rate([float(answer) for answer in answers if answer is not None]).as_json()


def obedience(bench: Bench) -> Figures:
    """Colour, background and style as asked, from pixels; the same measured on real drawings beside it."""
    train = bench.real_scenes(bench.drawings, 3 * bench.sizes.references, 0)
    test = bench.real_scenes(bench.held_out, bench.sizes.references, 1)
    # What is painted went through the decoder: softness must not look like a style.
    pictures = np.concatenate([train.rgb, bench.repeat(train.rgb)])
    styles = [picture.style for picture in train.pictures]
    reader = learn_styles(pictures, [*styles, *styles])
    asked = [prompt.picture.style for prompt in bench.prompts]

    def right(rgb: NDArray[np.uint8], wanted: list[str]) -> dict[str, float]:
        return rate([float(a == b) for a, b in zip(reader.read(rgb), wanted, strict=True)]).as_json()

    sets = {"en": bench.painted("en"), "zh": bench.painted("zh"), "real": bench.real}
    measures: dict[str, Callable[[NDArray[np.uint8], Scene], bool | None]] = {
        "color": obeys_color,
        "background": obeys_background,
        "shade": obeys_shade,
    }
    found: Figures = {
        name: {
            whose: _answered([measure(rgb, p.scene) for rgb, p in zip(pixels, bench.prompts, strict=True)])
            for whose, pixels in sets.items()
        }
        for name, measure in measures.items()
    }
    found["style"] = {whose: right(pixels, asked) for whose, pixels in sets.items()}
    found["style_held_out"] = right(test.rgb, [picture.style for picture in test.pictures])
    found["style_by_judge"] = {
        whose: rate(pick_style(bench.judge, pixels, bench.prompts)).as_json() for whose, pixels in sets.items()
    }
    found["styles"] = list(reader.styles)
    return found


def vae(bench: Bench) -> Figures:
    """PSNR and SSIM of held-out drawings of all styles through the autoencoder, on white and on colours."""
    held = split(bench.full, held_out=True)
    rng = step_rng(SEED, "eval", 2000)
    count = bench.sizes.vae or len(held.pictures)
    rows = rng.permutation(len(held.pictures))[:count]
    styles = [held.pictures[int(row)].style for row in rows]
    found: Figures = {"drawings": len(rows), "size_px": bench.config.data.size_px}
    for ground in ("white", "colors"):
        scenes = [Scene(background=("white",) if ground == "white" else (str(rng.choice(BACKGROUNDS)),)) for _ in rows]
        real = np.stack(
            [
                paint_scene(np.asarray(held.rgba[int(r)]), s, bench.config.data.size_px)
                for r, s in zip(rows, scenes, strict=True)
            ]
        )
        again = bench.repeat(real)
        values = np.asarray([[psnr_db(a, b), ssim(a, b)] for a, b in zip(real, again, strict=True)])
        chosen = {"all": np.ones(len(rows), bool)} | {s: np.asarray(styles) == s for s in sorted(set(styles))}
        found[ground] = {
            style: {
                "psnr_db": round(float(values[which, 0].mean()), 2),
                "ssim": round(float(values[which, 1].mean()), 4),
                "drawings": int(which.sum()),
            }
            for style, which in chosen.items()
        }
    return found


def four_step(bench: Bench) -> Figures:
    """The 4-step variant by the bar's measure, beside the full model."""
    found: Figures = {"painting": bench.painter.describe(Order("", 0, few_steps=True))}
    for locale in ("en", "zh"):
        for name, few in (("full", False), ("four", True)):
            pictures = bench.painted(locale, few_steps=few)
            scores = pick_caption(bench.judge, pictures, bench.prompts, locale, bench.sizes.choices)
            found.setdefault(locale, {})[name] = rate(scores).as_json()
        found[locale]["points"] = round(100 * (found[locale]["full"]["share"] - found[locale]["four"]["share"]), 1)
    return found


def speed(bench: Bench) -> Figures:
    """Seconds a picture, alone and in a batch, after one picture that loads and warms up."""
    found: Figures = {"batch": bench.sizes.batch}
    variants = [("full", False)] + ([("four", True)] if bench.family.part("4-step") else [])
    for name, few in variants:
        order = Order("red apple, 3d", 0, few)
        bench.painter.paint([order])
        alone = []
        for seed in range(bench.sizes.timed):
            before = time.perf_counter()
            bench.painter.paint([Order(order.prompt, seed, few)])
            alone.append(time.perf_counter() - before)
        before = time.perf_counter()
        bench.painter.paint([Order(order.prompt, seed, few) for seed in range(bench.sizes.batch)])
        found[name] = {
            "alone_s": round(float(np.median(alone)), 3),
            "in_batch_s": round((time.perf_counter() - before) / bench.sizes.batch, 3),
            **bench.painter.describe(order),
        }
    return found
