"""What leaving work out costs a picture, and what it gains: qualities and single shortcuts against the exact picture.

For each way PSNR to the exact picture of the same seed, mini-CLIP's logit of the brief less the exact picture's, how
many of the briefs mini-CLIP picks among all of them, and how many times faster the whole picture is. All ways of a
brief are painted in turns.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks._bench import NoPictures, Workbench, workbench
from benchmarks._report import Options, Outcome, run
from benchmarks._timing import seconds
from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.models.clip import MiniClip, load
from danqing.pipelines import paint, pixels
from danqing.planning import plan
from danqing.spec.plan import Plan
from danqing.spec.request import parse_request

BRIEFS = (
    "red apple, 3d",
    "grinning face, flat",
    "rocket, 3d",
    "太阳，扁平",
    "penguin, 3d",
    "guitar, flat",
    "tiger face, 3d",
    "house, line art",
)
STEPS = 20
WAYS: Mapping[str, Mapping[str, Any]] = {
    "exact": {},
    "fast": {"quality": "fast"},
    "draft": {"quality": "draft"},
    "cache_2_0": {"shortcuts": {"cache_interval": 2, "cache_branch": 0}},
    "cache_2_2": {"shortcuts": {"cache_interval": 2, "cache_branch": 2}},
    "cache_3_0": {"shortcuts": {"cache_interval": 3, "cache_branch": 0}},
    "cache_3_2": {"shortcuts": {"cache_interval": 3, "cache_branch": 2}},
    "window_80": {"shortcuts": {"guidance_window": [0, 0.8]}},
    "window_60": {"shortcuts": {"guidance_window": [0, 0.6]}},
    "merge_50": {"shortcuts": {"token_merging": 0.5}},
}
BAR_DB, BAR_LOGIT = 35.0, -0.5
SAME_DB = 99.0
"""What a picture gets that equals the exact one."""


@dataclass
class Way:
    """What was measured of one way, a value for each brief."""

    decibels: list[float] = field(default_factory=list[float])
    logits: list[float] = field(default_factory=list[float])
    picked: list[bool] = field(default_factory=list[bool])
    times_s: list[float] = field(default_factory=list[float])


def planned(bench: Workbench, brief: str, seed: int, steps: int, way: Mapping[str, Any]) -> Plan:
    """The Plan of one picture."""
    asked = {"prompt": brief, "seed": seed, "model": bench.model.name, "sampling": {"steps": steps}, **way}
    return plan(parse_request(asked), bench.catalog, rng_seed=seed)[0]


def painted(bench: Workbench, one: Plan) -> Image.Image:
    """The picture of a Plan, by the executor that a person gets."""
    ended: list[Finished] = []

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished):
            ended.append(event)

    engine = Engine(bench.executor(), EngineOptions(preview_every=0))
    engine.submit("one", paint(one, NoPictures()), sink)
    engine.run_until_idle()
    if ended[0].error is not None:
        raise ended[0].error
    return pixels.flatten(ended[0].result)


def decibels(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """PSNR of two pictures [h, w, 3]."""
    error = float(((one - other) ** 2).mean())
    return SAME_DB if error == 0 else min(10.0 * math.log10(255.0**2 / error), SAME_DB)


def measure(options: Options) -> Outcome:
    """Every way."""
    briefs = BRIEFS[:1] if options.quick else BRIEFS
    steps = 10 if options.quick else STEPS
    found = {name: Way() for name in WAYS}
    eye: MiniClip | None = None if options.quick else load()
    texts = None if eye is None else eye.embed_texts(briefs)
    with workbench(options) as bench:
        if not options.quick:
            for way in WAYS.values():
                painted(bench, planned(bench, briefs[0], 0, steps, way))  # writes and compiles graphs
        for turn in range(options.times(2, 1)):
            for index, brief in enumerate(briefs):
                exact = np.zeros(0, np.float32)
                for name, way in WAYS.items():
                    pictures: list[Image.Image] = []
                    one = planned(bench, brief, 100 + index + 1000 * turn, steps, way)
                    spent_s = seconds(lambda one=one, kept=pictures: kept.append(painted(bench, one)), bench.device)
                    numbers = np.asarray(pictures[0].convert("RGB"), dtype=np.float32)
                    exact = numbers if name == "exact" else exact
                    found[name].times_s.append(spent_s)
                    found[name].decibels.append(decibels(numbers, exact))
                    if eye is not None and texts is not None:
                        logits = eye.logits(eye.embed_images(pictures), texts)[0]
                        found[name].logits.append(float(logits[index]))
                        found[name].picked.append(int(logits.argmax()) == index)
                options.say(brief)
        about = {**bench.about(), "steps": steps, "pictures": len(found["exact"].times_s)}
    figures = figures_of(found)
    passed = figures["decibels_fast"] >= BAR_DB and figures.get("logit_fast", 0.0) >= BAR_LOGIT
    bar = f"decibels_fast ≥ {BAR_DB:g}, logit_fast ≥ {BAR_LOGIT:g}"
    return Outcome(figures, bar, options.quick or passed, about)


def figures_of(found: Mapping[str, Way]) -> dict[str, float]:
    """The figures by way: medians, the worst picture, and the mean change of the logit."""
    figures: dict[str, float] = {}
    exact = found["exact"]
    for name, way in found.items():
        if name != "exact":
            figures[f"decibels_{name}"] = statistics.median(way.decibels)
            figures[f"decibels_worst_{name}"] = min(way.decibels)
        if way.logits:
            figures[f"logit_{name}"] = statistics.mean(way.logits) - statistics.mean(exact.logits)
            figures[f"picked_{name}"] = statistics.mean(way.picked)
        ratios = [before / after for before, after in zip(exact.times_s, way.times_s, strict=True)]
        figures[f"speedup_{name}"] = statistics.median(ratios)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    return run("do_less", "what leaving work out costs a picture, and what it gains", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
