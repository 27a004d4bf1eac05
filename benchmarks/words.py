"""How much of a picture a change of words keeps, with control of attention and without; what each inversion misses.

Background: mean difference (0 to 255) to the source outside the source's object, which the built-in model paints on
white. Layout: share of the area that the objects of both pictures have in common. Inversion: mean difference of the
source row's latents to the picture's own, relative to their mean magnitude.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks._bench import Workbench, workbench
from benchmarks._report import Options, Outcome, run
from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.calls import EncodeImage, Session
from danqing.pipelines import paint, pixels, words_edit
from danqing.planning import plan
from danqing.spec.geometry import SizePx
from danqing.spec.plan import Plan
from danqing.spec.request import parse_request

EDITS = (
    ("red apple, 3d", "green apple, 3d"),
    ("cat face, flat", "dog face, flat"),
    ("red heart, flat", "blue heart, flat"),
    ("tiger face, 3d", "lion face, 3d"),
)
WAYS = ("direct", "ddim", "null_text", "negative_prompt")
BAR = 1.0
"""A change of words under control must keep more than painting the new words from the same seed does."""
WHITE = 231
INVERSION_STEPS = 20


@dataclass
class Held:
    """The one picture that is inverted."""

    image: Image.Image = field(default_factory=lambda: Image.new("RGB", (64, 64)))

    def open(self, sha256: str) -> Image.Image:
        """It."""
        del sha256
        return self.image


def painted(bench: Workbench, pictures: Held, **fields: Any) -> Any:
    """The picture of a Request."""
    return finished(bench, paint(planned(bench, pictures, **fields), pictures))


def planned(bench: Workbench, pictures: Held, **fields: Any) -> Plan:
    """The Plan of a Request, in float32."""
    size = SizePx(width_px=pictures.image.width, height_px=pictures.image.height)
    request = parse_request({"model": bench.model.name, "precision": "float32", **fields})
    return plan(request, bench.catalog, image_size=size if "image" in fields else None, rng_seed=0)[0]


def finished(bench: Workbench, session: Session) -> Any:
    """What a Session returns."""
    ended: list[Any] = []

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished):
            if event.error is not None:
                raise event.error
            ended.append(event.result)

    engine = Engine(bench.executor(), EngineOptions(preview_every=0))
    engine.submit("one", session, sink)
    engine.run_until_idle()
    return ended[0]


def numbers(image: Image.Image) -> npt.NDArray[np.float32]:
    """Pixels [h, w, 3]."""
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def kept(source: Image.Image, result: Image.Image) -> tuple[float, float]:
    """(background, layout) of a result."""
    one, other = numbers(source), numbers(result)
    before, after = one.min(-1) < WHITE, other.min(-1) < WHITE
    background = np.abs(one - other).mean(-1)[~before]
    common = (before & after).sum() / max((before | after).sum(), 1)
    return float(background.mean()) if background.size else 0.0, float(common)


def _edits(bench: Workbench, options: Options) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "controlled": [], "strong": []}
    steps = {"sampling": {"steps": 3}} if options.quick else {}
    nothing = Held()
    for old, new in EDITS[: 1 if options.quick else None]:
        for seed in range(options.times(4, 1)):
            own = {"seed": seed, **steps}
            source = painted(bench, nothing, prompt=old, **own)
            words = {"kind": "words", "source_prompt": old, "prompt": new, **own}
            found["plain"].append(kept(source, painted(bench, nothing, prompt=new, **own)))
            found["controlled"].append(kept(source, painted(bench, nothing, **words)))
            strong = painted(bench, nothing, **words, cross_share=0.8, self_share=0.8)
            found["strong"].append(kept(source, strong))
        options.say(f"{old} → {new}")
    return found


def _missed(bench: Workbench, way: str, prompt: str, pictures: Held, steps: int) -> float:
    """What the source row of an inversion misses of the picture's latents."""
    one = planned(
        bench,
        pictures,
        kind="words",
        source_prompt=prompt,
        prompt=prompt,
        image=f"sha256:{'0' * 64}",
        inversion=way,
        sampling={"steps": steps},
    )
    rows: list[torch.Tensor] = []
    inner = words_edit.inverted

    def watched(context: Any, pair: Any, picture: Any) -> Any:
        latents = yield from inner(context, pair, picture)
        rows.append((yield EncodeImage(context.key(context.plan.base.model), picture)))
        rows.append(latents[:1])
        return latents

    words_edit.inverted = watched
    try:
        finished(bench, paint(one, pictures))
    finally:
        words_edit.inverted = inner
    own, source = rows
    return float((source - own).abs().mean() / own.abs().mean())


def measure(options: Options) -> Outcome:
    """Both halves."""
    with workbench(options) as bench:
        found = _edits(bench, options)
        errors: dict[str, list[float]] = {way: [] for way in WAYS}
        for prompt in ("red apple, 3d",) if options.quick else ("red apple, 3d", "cat face, flat", "rocket, 3d"):
            pictures = Held(pixels.flatten(painted(bench, Held(), prompt=prompt, seed=21)))
            for way in WAYS:
                steps = 3 if options.quick else INVERSION_STEPS
                errors[way].append(_missed(bench, way, prompt, pictures, steps))
        about = bench.about()
    figures: dict[str, float] = {}
    for name, values in found.items():
        figures[f"background_{name}"] = statistics.mean(one[0] for one in values)
        figures[f"layout_{name}"] = statistics.mean(one[1] for one in values)
    for way, values in errors.items():
        figures[f"missed_{way}"] = statistics.mean(values)
    ratio = figures["background_controlled"] / max(figures["background_plain"], 1e-9)
    figures["ratio_background"] = ratio
    figures["ratio_background_strong"] = figures["background_strong"] / max(figures["background_plain"], 1e-9)
    passed = ratio < BAR and figures["missed_direct"] <= 1e-5
    details = {**about, "pictures": len(found["plain"]), "inversion_steps": INVERSION_STEPS}
    bar = f"ratio_background < {BAR}, missed_direct ≤ 1e-5"
    return Outcome(figures, bar, options.quick or passed, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    return run("words", "what a change of words keeps of a picture", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
