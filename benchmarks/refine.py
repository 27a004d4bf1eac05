"""Does `danqing refine` make pictures of the built-in model better, and does a judge that had no say agree?

30 fixed briefs (concept, style, colour and ground that no training scene had together; seed i for brief i) are painted
and refined by the built-in reviewer, up to four rounds. Reported: the judge's prompt score before and after; how often
mini-CLIP picks the right brief among 50 (reviewer and judge look through the same network, so this is no independent
measure); and, where `DANQING_BENCH_EVALUATOR` names a folder with the evaluator of `danqing eval builtin --train-only`
and `DANQING_BENCH_DATA` its drawings, how often that one does, which had no part in the loop. As a baseline the same
number of pictures is spent on other seeds, the judge's favourite kept. Bar: the judge's score rises, and no measure
of recognition falls.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks._report import Options, Outcome, run
from danqing.models.clip import load
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.refine import Refinement, RefineOptions
from danqing.studio.pairs import export_pairs
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings

BRIEFS = (
    "red avocado, flat, dark blue background",
    "pink crab, flat, dark blue background",
    "blue skateboard, flat, purple background",
    "bomb, line art, gray background",
    "money bag, flat, cyan background",
    "purple fire engine, flat, dark green background",
    "cat, line art, blue background",
    "wrapped gift, line art, green background",
    "blue soccer ball, 3d, red background",
    "green apple, flat, light blue background",
    "green cupcake, 3d, blue background",
    "motorcycle, flat, yellow background",
    "yellow heart, 3d, dark green background",
    "kite, flat, orange background",
    "wolf, flat, red background",
    "flamingo, line art, dark purple background",
    "cyan peach, 3d, light blue background",
    "watermelon, flat, dark red background",
    "locked, line art, light blue background",
    "red full moon, 3d, green background",
    "candle, flat, cyan background",
    "orange rose, 3d, cyan background",
    "cyan baby chick, 3d",
    "cyan Tokyo tower, flat, light yellow background",
    "orange sun, 3d, blue background",
    "pancakes, flat, yellow background",
    "chicken, line art, gray background",
    "paintbrush, 3d, dark purple background",
    "snake, flat, green background",
    "bullet train, line art, dark green background",
)
OTHER_BRIEFS = (
    "wine glass, 3d, light purple background",
    "cherry blossom, line art, dark green background",
    "cowboy hat face, 3d, dark purple background",
    "broken heart, line art, blue background",
    "pink top hat, 3d, purple to dark purple gradient background",
    "hammer, 3d, dark purple background",
    "bear, line art, light yellow background",
    "cocktail glass, 3d, cyan background",
    "Christmas tree, 3d, brown to black gradient background",
    "key, flat, dark purple background",
    "maple leaf, line art, dark blue background",
    "strawberry, line art, dark blue background",
    "palm tree, line art, dark blue to purple gradient background",
    "green thinking face, 3d, cyan to light blue gradient background",
    "jeans, line art, light yellow background",
    "pink smiling face with sunglasses, flat, red to light yellow gradient background",
    "evergreen tree, line art, dark green background",
    "zebra, line art, green background",
    "rocket, 3d, red background",
    "penguin, flat, white background",
)
"""With `BRIEFS`, what a network picks from: 50, as in `danqing eval builtin`."""
ROUNDS = 4
Pictures = NDArray[np.uint8]


class Eye(Protocol):
    """A network that compares pictures with words."""

    def embed_images(self, pictures: Any, /) -> NDArray[np.float32]:
        """Unit vectors `[n, dim]`."""
        ...

    def embed_texts(self, texts: list[str], /) -> NDArray[np.float32]:
        """Unit vectors `[n, dim]`."""
        ...


def recognised(eye: Eye, pictures: Pictures, briefs: Sequence[str]) -> list[bool]:
    """Whether, of 50 briefs, each picture is most like its own (the measure of docs/builtin-model.md)."""
    texts = [*BRIEFS, *OTHER_BRIEFS]
    chosen = np.argmax(eye.embed_images(pictures) @ eye.embed_texts(texts).T, axis=1)
    return [texts[int(place)] == brief for place, brief in zip(chosen, briefs, strict=True)]


def evaluator() -> Eye | None:
    """The trained evaluator, where its folder is named."""
    folder, data = os.environ.get("DANQING_BENCH_EVALUATOR"), os.environ.get("DANQING_BENCH_DATA")
    if not folder or not data:
        return None
    from danqing.training.builtin.config import load_config
    from danqing.training.evaluation.bench import Bench, Places
    from danqing.training.evaluation.config import Sizes
    from danqing.training.evaluation.evaluator import open_evaluator
    from danqing.training.evaluation.family import open_family

    with tempfile.TemporaryDirectory() as scratch:
        places = Places(Path(data), Path(folder), Path(scratch))
        bench = Bench(
            load_config("builtin-cpu"), Sizes(), places, open_family(None, Path(scratch)), torch.device("cpu")
        )
        return open_evaluator(bench.lessons, Path(folder), torch.device("cpu"))


def picture_of(studio: Studio, record_id: str) -> Pictures:
    """A Record's picture, `[h, w, 3]`."""
    with Image.open(io.BytesIO(studio.picture_bytes(studio.record(record_id).picture))) as image:
        return np.asarray(image.convert("RGB"))


def best_of_seeds(studio: Studio, brief: str, first: str, seed: int, count: int) -> str:
    """The judge's favourite among the first picture and `count` others."""
    ids = [first]
    if count:
        job = studio.submit(Txt2ImgRequest(prompt=brief, seed=100_000 + 100 * seed, count=count))
        ids += studio.wait(job.id, timeout_s=600).records
    scores = studio.judge([f"record:{one}" for one in ids], brief)
    return ids[max(range(len(ids)), key=lambda i: scores[i].prompt)]


def refine_all(studio: Studio, briefs: Sequence[str], options: Options) -> tuple[list[Refinement], list[str]]:
    """Every brief refined, and the baseline's pictures."""
    done: list[Refinement] = []
    lucky: list[str] = []
    for seed, brief in enumerate(briefs):
        request = Txt2ImgRequest(prompt=brief, seed=seed)
        one = studio.refine(request, RefineOptions(rounds=1 if options.quick else ROUNDS))
        done.append(one)
        lucky.append(best_of_seeds(studio, brief, one.first or "", seed, len(one.rounds)))
        kept = [f"{r.way}{'+' if r.accepted else '-'}" for r in one.rounds]
        before, after = one.scores_first, one.scores_best
        options.say(f"{seed:2} {brief}: {before and before.prompt:.3f} → {after and after.prompt:.3f} {' '.join(kept)}")
    return done, lucky


def measure(options: Options) -> Outcome:
    """Refine, then look with every eye."""
    briefs = BRIEFS[:3] if options.quick else BRIEFS
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    folder = os.environ.get("DANQING_BENCH_KEEP")
    with (
        tempfile.TemporaryDirectory(prefix="danqing-refine-") as scratch,
        Studio(load_settings(data_dir=Path(scratch))) as studio,
    ):
        done, lucky = refine_all(studio, briefs, options)
        if folder:
            export_pairs(done, Path(folder), studio)
        sets = {
            "before": np.stack([picture_of(studio, one.first or "") for one in done]),
            "after": np.stack([picture_of(studio, one.best or "") for one in done]),
            "seeds": np.stack([picture_of(studio, one) for one in lucky]),
        }
        judged = {
            name: [studio.judge([f"record:{one}"], brief)[0].prompt for one, brief in zip(ids, briefs, strict=True)]
            for name, ids in (
                ("before", [one.first or "" for one in done]),
                ("after", [one.best or "" for one in done]),
                ("seeds", lucky),
            )
        }
    if folder:
        _sheet(sets, Path(folder) / "sheet.png")
    return _outcome(done, sets, judged, briefs)


def _outcome(
    done: list[Refinement], sets: dict[str, Pictures], judged: dict[str, list[float]], briefs: Sequence[str]
) -> Outcome:
    eyes: dict[str, Eye | None] = {"mini_clip": load(), "evaluator": evaluator()}
    figures = {f"judge_{name}": float(np.mean(scores)) for name, scores in judged.items()}
    hits: dict[str, dict[str, list[bool]]] = {}
    for eye_name, eye in eyes.items():
        if eye is None:
            continue
        hits[eye_name] = {name: recognised(eye, rgb, briefs) for name, rgb in sets.items()}
        figures |= {f"{eye_name}_{name}": float(np.mean(found)) for name, found in hits[eye_name].items()}
    rounds = [one for refinement in done for one in refinement.rounds]
    figures |= {
        "briefs": float(len(done)),
        "reviewed_with_suggestions": float(sum(bool(one.rounds) for one in done)),
        "improved": float(sum(one.first != one.best for one in done)),
        "rounds": float(len(rounds)),
        "accepted": float(sum(one.accepted for one in rounds)),
    }
    ways = {
        way: [sum(r.accepted for r in rounds if r.way == way), sum(r.way == way for r in rounds)]
        for way in _ways(rounds)
    }
    no_fall = all(np.mean(found["after"]) >= np.mean(found["before"]) for found in hits.values())
    return Outcome(
        figures,
        "the judge's mean prompt score rises, no measure of recognition falls",
        figures["judge_after"] > figures["judge_before"] and no_fall,
        {
            "ways_accepted_of_tried": ways,
            "each": [
                {
                    "brief": one.brief,
                    "judge": [round(judged[name][i], 4) for name in ("before", "after", "seeds")],
                    **{eye: [found[name][i] for name in ("before", "after", "seeds")] for eye, found in hits.items()},
                    "rounds": [f"{r.way}: {r.suggestion.prompt}: {r.verdict}" for r in one.rounds],
                    "note": one.note,
                }
                for i, one in enumerate(done)
            ],
        },
    )


def _ways(rounds: Sequence[Any]) -> list[str]:
    return sorted({one.way for one in rounds})


def _sheet(sets: dict[str, Pictures], path: Path) -> None:
    """Before, after and the baseline in three rows, for a person to look at."""
    rows = [np.concatenate(list(rgb), axis=1) for rgb in sets.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)


if __name__ == "__main__":
    sys.exit(run("refine", __doc__ or "", measure))
