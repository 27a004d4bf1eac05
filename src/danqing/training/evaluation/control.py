"""Control obedience: how well maps of drawings, known and unknown ones, come back in what is painted after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danqing.annotators import annotate
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.registry.annotators import find_annotator
from danqing.training.builtin.control import CLASSES
from danqing.training.evaluation.bench import Bench
from danqing.training.evaluation.edges import MapKind, edge_f1, edges_of
from danqing.training.evaluation.family import KINDS
from danqing.training.evaluation.painting import Order
from danqing.training.evaluation.prompts import SEED, make_prompts, paint_prompts
from danqing.training.evaluation.sheets import Tile, save_sheet

Figures = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """Drawings whose maps steer.

    Attributes:
        real: The drawings in their scenes, `[n, s, s, 3]`.
        captions: What the pictures shall show.
        plain: The captions painted without control, seed i for caption i, `[n, s, s, 3]`.
    """

    real: NDArray[np.uint8]
    captions: list[str]
    plain: NDArray[np.uint8]


def control(bench: Bench) -> Figures:
    """Edge-F1 of every annotator's map, taken again from what was painted with it and from what was painted without."""
    count = min(bench.sizes.controls, len(bench.prompts))
    captions = [prompt.captions["en"] for prompt in bench.prompts[:count]]
    plain = bench.kept("painted-uncontrolled", [Order(caption, i) for i, caption in enumerate(captions)])
    known, unknown = Asked(bench.real[:count], captions, plain), _unknown(bench, count)
    found: Figures = {"scenes": count}
    tiles: list[Tile] = []
    for kind in KINDS:
        for name, asked in ((kind, known), (f"{kind}_unknown", unknown)):
            found[name] = _of_class(bench, kind, asked, tiles)
    if tiles:
        found["sheet"] = save_sheet(tiles, bench.places.docs / "images" / "builtin-control.webp", 6)
    return found


def _unknown(bench: Bench, count: int) -> Asked | None:
    """Scenes of held-out concepts, which neither the model nor its ControlNets have seen; None where there are none."""
    try:
        prompts = make_prompts(bench.held_out, frozenset(), bench.config, count, SEED + 1)
    except InvalidRequestError:
        return None
    captions = [prompt.captions["en"] for prompt in prompts]
    plain = bench.kept("painted-unknown", [Order(caption, i) for i, caption in enumerate(captions)])
    return Asked(paint_prompts(bench.held_out, prompts, bench.side_px), captions, plain)


def _of_class(bench: Bench, kind: str, asked: Asked | None, tiles: list[Tile]) -> Figures:
    net = f"{bench.family.control_prefix}-{kind}"
    if bench.family.part(f"ControlNet {kind}") is None:
        return {"missing": f"{net} is not there"}
    if asked is None:
        return {"missing": "too few drawings are held out"}
    found: Figures = {name: _of_annotator(bench, kind, name, asked, tiles) for name in CLASSES[kind]}
    found["mean"] = _mean([figures for figures in found.values() if "with" in figures])
    return found


def _of_annotator(bench: Bench, kind: str, name: str, asked: Asked, tiles: list[Tile]) -> Figures:
    """One annotator's figures; its first scene goes onto the sheet: drawing, map, picture."""
    maps = {i: one for i in range(len(asked.real)) if (one := _map_of(name, asked.real[i])) is not None}
    if not maps:
        return {"missing": "the annotator cannot work on these pictures"}
    net = f"{bench.family.control_prefix}-{kind}"
    orders = []
    for i, one in maps.items():
        unit = {"model": net, "image": bench.painter.pictures.add(one)}
        orders.append(Order(asked.captions[i], i, controls=(unit,)))
    pictures = bench.painter.paint(orders, f"{net} {name}")
    first = next(iter(maps))
    tiles += [
        Tile(asked.real[first], asked.captions[first]),
        Tile(maps[first], name),
        Tile(pictures[0], f"{kind} control"),
    ]
    return _compare(name, kind, [(one, asked.plain[i]) for i, one in maps.items()], pictures)


def _map_of(name: str, rgb: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    try:
        return annotate(name, rgb, seed=0)
    except UnsupportedError:
        return None


def _compare(
    name: str, kind: str, asked: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], pictures: NDArray[np.uint8]
) -> Figures:
    """Mean F1 with and without; `asked` are the maps and the pictures painted without them."""
    edges_in: MapKind = "areas"
    if kind == "line":
        edges_in = "soft" if find_annotator(name).map_kind == "grey" else "lines"
    scores: dict[str, list[float]] = {"with": [], "without": []}
    for (wanted, plain), painted in zip(asked, pictures, strict=True):
        edges = edges_of(wanted, edges_in)
        for which, rgb in (("with", painted), ("without", plain)):
            again = _map_of(name, rgb)
            scores[which].append(0.0 if again is None else edge_f1(edges, edges_of(again, edges_in)))
    means = {which: round(float(np.mean(values)), 4) for which, values in scores.items()}
    return means | {"ratio": round(means["with"] / max(means["without"], 1e-4), 2), "pictures": len(pictures)}


def _mean(figures: list[Figures]) -> Figures:
    if not figures:
        return {"missing": "no annotator of the class can work on these pictures"}
    means = {which: round(float(np.mean([one[which] for one in figures])), 4) for which in ("with", "without")}
    return means | {"ratio": round(means["with"] / max(means["without"], 1e-4), 2)}
