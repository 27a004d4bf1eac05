"""A LoRA from ten drawings of one style, on the built-in model: what it costs, what it learns, what it forgets.

The ten are of a style that the model does not paint when it is not asked in its own words. Before and after, other
subjects are painted with the same prompts and seeds through the ordinary engine; a classifier learnt from real drawings
reads their style, the evaluation's judge picks the subject among 50. Bars: within 4 minutes on two cores the style's
share rises from at most 20 % to at least 80 %, and subjects are recognised at most 10 points less often. Twice: with
the trainer's own settings, which are made for styles that the model does not know, and gently, which is enough for one
that it half knows; the bar is the gentle run's. Beside them stand the two limits: what the model itself loses when
it is asked for this style in its own words, and how often real drawings in it
are recognised. `--repeats N` takes N subjects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import Options, Outcome, run
from benchmarks._style_test import TRIGGER, StyleTest
from danqing.spec.training_run import EndEvent
from danqing.training.own.events import read_events

STYLE = "line"
PATTERN = "{}, " + TRIGGER
PLAIN = "{}"
OWN_WORDS = "{}, line art"
RUNS: dict[str, dict[str, Any]] = {
    "gentle": {
        "steps": 150, "batch": 8, "learning_rate": 5e-4, "network": {"text_encoder": True, "conv_rank": 0}
    },
    "default": {},
}  # fmt: skip
BARS = {"train_s": 240.0, "style_before": 0.20, "style_after": 0.80, "points_lost": 10.0}


def measure(options: Options) -> Outcome:
    """Paint, train, paint again."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        test = StyleTest(STYLE, root, subjects=options.repeats or (12 if options.quick else 60))
        test.write_set(root / "sets", STYLE)
        plain = test.painter()
        before = test.measure(test.paint(plain, PATTERN))
        options.say(f"before: {before}")
        unasked = test.measure(test.paint(plain, PLAIN))
        options.say(f"without the word: {unasked}")
        asked = test.measure(test.paint(plain, OWN_WORDS))
        options.say(f"in the model's own words: {asked}")
        figures = {
            "style_before": before["style"],
            "subject_before": before["subject"],
            "style_without_word": unasked["style"],
            "subject_without_word": unasked["subject"],
            "style_own_words": asked["style"],
            "points_lost_own_words": _lost(before, asked),
        }
        details: dict[str, Any] = {**test.about(), "real": test.measure(test.real())}
        for name, fields in RUNS.items():
            product, told = train(root, name, {**fields, "steps": 3} if options.quick else fields)
            learnt = test.painter([(product, "Lora")])
            after = test.measure(test.paint(learnt, PATTERN + f" <lora:{name}:1>"))
            options.say(f"{name}: {after}, {told['wall_s']:.0f} s")
            end = "" if name == "gentle" else f"_{name}"
            figures |= {
                f"train_s{end}": told["wall_s"],
                f"style_after{end}": after["style"],
                f"subject_after{end}": after["subject"],
                f"points_lost{end}": _lost(before, after),
            }
            details[name] = told
    passed = (
        figures["train_s"] <= BARS["train_s"]
        and figures["style_before"] <= BARS["style_before"]
        and figures["style_after"] >= BARS["style_after"]
        and figures["points_lost"] <= BARS["points_lost"]
    )
    bar = "train_s <= 240, style_before <= 0.2, style_after >= 0.8, points_lost <= 10"
    return Outcome(figures, bar, passed, details)


def _lost(before: dict[str, float], after: dict[str, float]) -> float:
    return max(0.0, 100 * (before["subject"] - after["subject"]))


def train(root: Path, name: str, fields: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """A LoRA by the trainer's own process; the file, and what the run told."""
    folder = root / name
    folder.mkdir()
    request = {"method": "lora", "name": name, "dataset": STYLE, "sample_every": 0, "background": False, **fields}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    started = time.monotonic()
    command = [sys.executable, "-m", "danqing.training.own", str(folder), "--sets", str(root / "sets")]
    subprocess.run(command, check=True)
    wall_s = time.monotonic() - started
    end = read_events(folder)[-1]
    if not isinstance(end, EndEvent):
        raise TypeError("a run's last event is its end")
    return folder / end.files[0], {"wall_s": wall_s, "steps": end.step, **end.figures}


def main(argv: Sequence[str] | None = None) -> int:
    """The benchmark's command."""
    return run("train_lora", "A LoRA from ten drawings of one style.", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
