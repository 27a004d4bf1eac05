"""What an embedding, a negative embedding and a hypernetwork learn from ten drawings of one style.

Each is trained by a process of its own (`python -m danqing.training.own`), with the method's own defaults, and then
used by the ordinary engine, from the file, where a person puts it. Shares of style and subjects are measured as by
`train_lora`; the negative embedding stands in the negative prompt of pictures that are asked for in the style.
`--repeats N` takes N subjects.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from benchmarks._report import Options, Outcome, run
from benchmarks._style_test import TRIGGER, StyleTest, label_of
from danqing.spec.errors import BadFileError
from danqing.spec.training import parse_training
from danqing.training.evaluation.painting import Order, Painter
from danqing.training.own.sampling import grid

STYLE = "line"
STYLE_WORDS = "line art"
"""What the model itself calls it."""
BEFORE, AFTER, SECONDS = 0.2, 0.5, 240.0
THREADS = 2
SHOWN = 12
RUNS: dict[str, dict[str, Any]] = {
    "zdqword": {"method": "embedding"},
    "zdqless": {"method": "embedding", "negative": True},
    "zdqnet": {"method": "hypernetwork"},
}
PLACES = {"zdqword": "../embeddings", "zdqless": "../embeddings", "zdqnet": "hypernetworks"}


def train(name: str, scratch: Path, options: Options) -> tuple[Path, float]:
    """A run from its request to its file, and how long the whole process took.

    Raises:
        BadFileError: It did not end well.
    """
    folder = scratch / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    more = {"steps": 3} if options.quick else {}
    asked = {"name": name, "dataset": "ten", "sample_every": 0, "background": False, **RUNS[name], **more}
    (folder / "request.json").write_text(parse_training(asked).model_dump_json(), encoding="utf-8")
    places = ["--sets", str(scratch / "sets"), "--device", options.device, "--threads", str(THREADS)]
    # Without the one thread that a parent may have been told to keep to.
    surroundings = {
        key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    started = time.monotonic()
    command = [sys.executable, "-m", "danqing.training.own", str(folder), *places]
    ended = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if ended.returncode:
        raise BadFileError(f"{name} was not trained: {ended.stderr[-400:]}", value=str(folder))
    last = json.loads((folder / "events.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    options.say(f"{name}: {seconds:.0f} s, {last['figures']}")
    return folder / last["files"][0], seconds


def painted(test: StyleTest, painter: Painter, pattern: str, negative: str = "") -> Any:
    """Every unseen subject, seed i for subject i."""
    orders = [Order(pattern.format(label_of(one)), i, negative=negative) for i, one in enumerate(test.unseen)]
    return painter.paint(orders)


def measure(options: Options) -> Outcome:
    """Trains, paints, measures."""
    with TemporaryDirectory(prefix="danqing-words-") as name:
        scratch = Path(name)
        test = StyleTest(STYLE, scratch, subjects=options.repeats or (12 if options.quick else 60))
        test.write_set(scratch / "sets", "ten")
        products: list[tuple[Path, str]] = []
        figures: dict[str, float] = {}
        for run_name in RUNS:
            path, figures[f"{run_name}_s"] = train(run_name, scratch, options)
            products.append((path, PLACES[run_name]))
        painter = test.painter(products)
        asked = {
            "plain": ("{}", ""),
            "trigger": (f"{{}}, {TRIGGER}", ""),
            "embedding": ("{}, zdqword", ""),
            "hypernetwork": (f"{{}}, {TRIGGER} <hypernet:zdqnet:1>", ""),
            "asked": (f"{{}}, {STYLE_WORDS}", ""),
            "negative": (f"{{}}, {STYLE_WORDS}", "zdqless"),
        }
        pictures = {key: painted(test, painter, *words) for key, words in asked.items()}
        for key, shown in pictures.items():
            found = test.measure(shown)
            figures |= {f"style_{key}": found["style"], f"subject_{key}": found["subject"]}
            options.say(f"{key}: {found}")
        if options.out is not None:
            _show(pictures, options.out / "train_words.png")
        about = test.about()
    passed = (
        figures["style_trigger"] <= BEFORE
        and min(figures["style_embedding"], figures["style_hypernetwork"]) >= AFTER
        and figures["style_negative"] < figures["style_asked"]
        and max(figures["zdqword_s"], figures["zdqnet_s"]) <= SECONDS
    )
    bar = (
        f"style_embedding and style_hypernetwork ≥ {AFTER}, from style_trigger ≤ {BEFORE}, each in "
        f"≤ {SECONDS:.0f} s; style_negative < style_asked"
    )
    return Outcome(figures, bar, passed, {**about, "prompts": {key: list(words) for key, words in asked.items()}})


def _show(pictures: dict[str, Any], path: Path) -> None:
    """The first subjects, a row for each way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [Image.fromarray(one) for rows in pictures.values() for one in rows[:SHOWN]]
    labels = [key if i == 0 else "" for key, rows in pictures.items() for i in range(len(rows[:SHOWN]))]
    grid(shown, labels, min(SHOWN, len(next(iter(pictures.values()))))).save(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    return run("train_words", "embedding, negative embedding and hypernetwork from ten drawings", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
