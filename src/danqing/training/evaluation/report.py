"""docs/builtin-model.md out of the figures, and nothing but the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Figures = dict[str, Any]
LANGUAGES = {"en": "English", "zh": "Simplified Chinese", "zh-hant": "Traditional Chinese"}
UNKNOWN = {f"{kind}_unknown": f"{kind}, unknown" for kind in ("line", "block", "detail")}
CPU_BAR, GPU_BAR = 0.60, 0.85
STYLE_BAR, CONTROL_BAR, STEPS_BAR, PSNR_BAR, FOUR_STEP_S, JUDGE_BAR = 0.80, 2.0, 10.0, 28.0, 2.5, 0.95


def percent(found: Figures | None) -> str:
    """A share with its 95 % interval.

    >>> percent({"share": 0.625, "low": 0.556, "high": 0.689, "count": 200})
    '62.5 % (55.6-68.9)'
    """
    if not found or "share" not in found:
        return "not measured"
    if not found["count"]:
        return "nothing to measure"
    return f"{100 * found['share']:.1f} % ({100 * found['low']:.1f}-{100 * found['high']:.1f})"


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [[1, "x"]]))
    | a | b |
    |---|---|
    | 1 | x |
    """
    lines = [head, ["---"] * len(head), *rows]
    text = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    text[1] = "|" + "---|" * len(head)
    return "\n".join(text)


def _evaluator(f: Figures) -> str:
    rows = [
        [LANGUAGES[k], percent(f[k]["ceiling"]), percent(f[k]["ceiling_kin"]), percent(f[k]["floor"])]
        for k in LANGUAGES
    ]
    held = ", ".join(f"{k.rsplit('_', 1)[1]} {100 * v:.1f} %" for k, v in f["held_back"].items())
    return (
        "The judge is a residual CNN with a word-level text tower, trained with its own seed on real drawings in "
        "painted scenes; the family "
        f"never saw it. On combinations that it was never shown it picks the right caption of {f['choices']} in: "
        f"{held} "
        f"(it should reach {JUDGE_BAR:.0%}). On the prompts below, painted from the real drawings (the ceiling of "
        "every "
        "faithfulness figure), and on real drawings of another prompt (the floor):\n\n"
        + table(["captions", "ceiling", "ceiling, one concept", "floor"], rows)
    )


def _faithfulness(f: Figures) -> str:
    rows = [[LANGUAGES[k], percent(f[k]["faithful"]), percent(f[k]["kin"])] for k in LANGUAGES]
    p = f["painting"]
    return (
        f"{f['prompts']} prompts, each a concept, style, colour and background that no training scene had "
        "together, each painted once "
        f"in every language ({p['size_px']} px, {p['sampler']} {p['schedule']}, {p['steps']} steps, guidance "
        f"{p['guidance']}; seed i for prompt i). "
        f"The judge picks among {f['choices']} captions in the painted language (chance {100 * f['chance']:.0f} "
        "%): the other captions "
        "name other concepts (the bar's measure), or all captions name the same concept and differ in style, "
        "colour or background.\n\n" + table(["language", "right caption (the bar)", "right caption, one concept"], rows)
    )


def _obedience(f: Figures) -> str:
    names = {
        "style": "style, from pixels",
        "style_by_judge": "style, as the judge reads it",
        "color": "colour of the drawing",
        "background": "background",
        "shade": "background, the very shade",
    }
    rows = [
        [text, percent(f[k]["en"]), percent(f[k]["zh"]), percent(f[k]["real"]), f[k]["real"]["count"]]
        for k, text in names.items()
    ]
    return (
        "Measured on the prompts' pictures. Colour: the commonest colour name of what is unlike the background, "
        "where a colour was asked for. Background: the commonest name in "
        "the frame, or at both ends of a gradient. Style: steps of brightness, number of colours, saturation and "
        "outline, read by a linear classifier learnt from real drawings, which "
        f'is right on {percent(f["style_held_out"])} of drawings of concepts that nothing learnt. "Real" is the '
        "same measure on the real drawings in the same scenes.\n\n"
        + table(["asked", "English", "Chinese", "real", "asked in"], rows)
    )


def _four_step(f: Figures) -> str:
    rows = [[LANGUAGES[k], percent(f[k]["full"]), percent(f[k]["four"]), f[k]["points"]] for k in ("en", "zh")]
    p = f["painting"]
    return f"{p['steps']} steps of {p['sampler']}, guidance {p['guidance']}; the bar's measure.\n\n" + table(
        ["language", "full model", "4-step", "points lost"], rows
    )


def _control(f: Figures) -> str:
    rows: list[list[Any]] = []
    for kind in ("line", "block", "detail", *UNKNOWN):
        part = f.get(kind, {"missing": "not measured"})
        if "missing" in part:
            rows.append([UNKNOWN.get(kind, kind), "", part["missing"], "", "", ""])
            continue
        for name, one in part.items():
            if "missing" in one:
                rows.append([UNKNOWN.get(kind, kind), name, one["missing"], "", "", ""])
            else:
                rows.append(
                    [
                        UNKNOWN.get(kind, kind),
                        name,
                        one["with"],
                        one["without"],
                        f"{one['ratio']}×",
                        one.get("pictures", ""),
                    ]
                )
    sheet = _image(f, "Real drawing, control map, painted after it")
    return (
        "The map of a real drawing steers the prompt's picture; the same annotator then makes the map of the "
        "result. F1 of edges with 1 px of "
        "tolerance, with control and, same prompt and seed, without. *Unknown* drawings are of held-out concepts, "
        "which no stage has seen; the others are drawings that the model learnt, whose outlines it draws unasked.\n\n"
        + table(["class", "annotator", "F1 with", "F1 without", "ratio", "pictures"], rows)
        + sheet
    )


def _distance(f: Figures) -> str:
    rows = [
        ["painted ↔ training drawings", f["painted_to_training"]],
        ["painted ↔ held-out drawings", f["painted_to_held_out"]],
        ["training ↔ training, other scenes (scale)", f["training_to_training_again"]],
        ["training ↔ held-out drawings (scale)", f["training_to_held_out"]],
    ]
    return (
        f"Fréchet distance over mini-CLIP's unit vectors, sets of {f['pictures']} pictures. Not comparable with "
        "Inception FID.\n\n" + table(["sets", "distance"], rows)
    )


def _diversity(f: Figures) -> str:
    names = {
        "seeds": f"one prompt, {f['each']} seeds",
        "real_styles": "real drawings of one concept, all styles",
        "real_concepts": "real drawings of different concepts",
    }
    rows = [[text, f[k].get("features", "not there"), f[k].get("pixels", "")] for k, text in names.items()]
    return (
        f"{f['prompts']} prompts. Mean distance of pairs: mini-CLIP (1 - cosine), and LPIPS's construction over "
        "the judge's CNN.\n\n" + table(["pairs", "mini-CLIP", "pixels (LPIPS-like)"], rows)
    )


def _neighbours(f: Figures) -> str:
    bins = f["bins"]
    names = {"painted": "painted", "real": "real drawings in the prompts' scenes", "held_out": "held-out drawings"}
    head = ["pictures", "median", "least", *(f"{a:g}-{b:g}" for a, b in pairwise(bins))]
    rows = [[text, f[k]["median"], f[k]["least"], *f[k]["histogram"]] for k, text in names.items()]
    return (
        f"mini-CLIP distance (1 - cosine) from each picture to the nearest of {f['training_scenes']} training "
        "scenes. Every prompt names a concept that was drawn in training, so a faithful "
        "picture is near; one much nearer than a real drawing in the same unseen scene would be a copy. The nearest "
        f"scene shows the prompt's concept in {100 * f['same_concept']:.0f} %.\n\n"
        + table(head, rows)
        + _image(f, "The closest pairs: painted above, nearest training scene below")
    )


def _vae(f: Figures) -> str:
    rows = []
    for style, white in f["white"].items():
        color = f["colors"][style]
        rows.append([style, white["drawings"], white["psnr_db"], white["ssim"], color["psnr_db"], color["ssim"]])
    head = ["style", "drawings", "PSNR on white, dB", "SSIM", "PSNR on colours, dB", "SSIM"]
    return (
        f"Held-out concepts at {f['size_px']} px, whole pictures, float32 from the shipped float16 weights.\n\n"
        + table(head, rows)
    )


def _speed(f: Figures) -> str:
    names = {"full": "full model", "four": "4-step"}
    rows = [
        [text, f[k]["steps"], f[k]["alone_s"], f[k]["in_batch_s"]] if k in f else [text, "", "not there", ""]
        for k, text in names.items()
    ]
    return table(["", "steps", "s a picture, alone", f"s a picture, {f['batch']} together"], rows)


def _sheets(f: Figures) -> str:
    titles = {"en": "English briefs", "zh": "Chinese briefs", "4step": "English briefs, 4-step variant"}
    out = ["Fixed briefs, seeds 0, 1, 2 … in order; nothing was painted twice and nothing left out."]
    for name, title in titles.items():
        if name in f:
            out.append(f"![{title}](images/{f[name]['sheet']})")
            out.append(f"{title}: " + "; ".join(f"{i}. {brief}" for i, brief in enumerate(f[name]["briefs"])))
    return "\n\n".join(out)


def _parts(f: Figures) -> str:
    rows = [[name, "not there" if size is None else size] for name, size in f["megabytes"].items()]
    return table(["part", "MB"], [*rows, [f"together (at most {f['limit']:g})", f["total"]]])


def _image(f: Figures, title: str) -> str:
    return f"\n\n![{title}](images/{f['sheet']})\n\n{title}." if "sheet" in f else ""


RENDERERS: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "evaluator": ("The judge", _evaluator),
    "faithfulness": ("Faithfulness", _faithfulness),
    "obedience": ("Style, colour and background", _obedience),
    "four_step": ("The 4-step variant", _four_step),
    "control": ("Control", _control),
    "distance": ("Distance to real drawings", _distance),
    "diversity": ("Diversity between seeds", _diversity),
    "neighbours": ("Nearest training scene", _neighbours),
    "vae": ("Autoencoder", _vae),
    "speed": ("Speed", _speed),
    "parts": ("Parts", _parts),
    "sheets": ("Contact sheets", _sheets),
}


@dataclass(frozen=True)
class Bar:
    """One bar of the project: what was wanted, what was found, and whether it is met (None: not measured)."""

    name: str
    wanted: str
    found: str
    met: bool | None

    def row(self) -> list[str]:
        """A line of the table."""
        return [self.name, self.wanted, self.found, {True: "met", False: "**missed**", None: "not measured"}[self.met]]


def _bar(name: str, wanted: str, value: float | None, shown: str, met: Callable[[float], bool]) -> Bar:
    return Bar(name, wanted, shown if value is not None else "", None if value is None else met(value))


def _at(found: Figures, *path: str) -> Any:
    """A figure by its path, or None where any part of it is missing."""
    for key in path:
        if not isinstance(found, dict) or "missing" in found or key not in found:
            return None
        found = found[key]
    return found


def bars(sections: Figures, *, gpu: bool = False) -> list[Bar]:
    """Every bar of the project that a figure decides.

    Args:
        sections: The figures.
        gpu: The model was trained on a GPU, which more is wanted of.
    """
    out: list[Bar] = []
    for locale in ("en", "zh"):
        share = _at(sections, "faithfulness", locale, "faithful", "share")
        bar = GPU_BAR if gpu else CPU_BAR
        name = f"faithfulness, {LANGUAGES[locale]}, {'GPU' if gpu else 'CPU'}-trained"
        out.append(_bar(name, f"≥ {bar:.0%}", share, f"{100 * (share or 0):.1f} %", lambda v, bar=bar: v >= bar))
    styles = [_at(sections, "obedience", "style", locale, "share") for locale in ("en", "zh")]
    style = None if None in styles else min(styles)
    out.append(
        _bar("style obedience", f"≥ {STYLE_BAR:.0%}", style, f"{100 * (style or 0):.1f} %", lambda v: v >= STYLE_BAR)
    )
    ratio = _at(sections, "control", "line", "mean", "ratio")
    out.append(
        _bar(
            "edge-F1 with line control over without",
            f"≥ {CONTROL_BAR:g}×",
            ratio,
            f"{ratio}×",
            lambda v: v >= CONTROL_BAR,
        )
    )
    ratio = _at(sections, "control", "line_unknown", "mean", "ratio")
    out.append(
        _bar("the same, unknown drawings", f"≥ {CONTROL_BAR:g}×", ratio, f"{ratio}×", lambda v: v >= CONTROL_BAR)
    )
    points = [_at(sections, "four_step", locale, "points") for locale in ("en", "zh")]
    worst = None if None in points else max(points)
    out.append(
        _bar("points lost by the 4-step variant", f"≤ {STEPS_BAR:g}", worst, f"{worst}", lambda v: v <= STEPS_BAR)
    )
    quick = _at(sections, "speed", "four", "alone_s")
    out.append(_bar("4-step picture", f"≤ {FOUR_STEP_S} s", quick, f"{quick} s", lambda v: v <= FOUR_STEP_S))
    psnr = _at(sections, "vae", "white", "all", "psnr_db")
    out.append(
        _bar("autoencoder, held-out, on white", f"≥ {PSNR_BAR:g} dB", psnr, f"{psnr} dB", lambda v: v >= PSNR_BAR)
    )
    total, limit = _at(sections, "parts", "total"), _at(sections, "parts", "limit") or 0.0
    out.append(_bar("weights in the package", f"≤ {limit:g} MB", total, f"{total} MB", lambda v: v <= limit))
    held = _at(sections, "evaluator", "held_back")
    low = min(held.values()) if held else None
    out.append(
        _bar(
            "the judge on held-back scenes",
            f"≥ {JUDGE_BAR:.0%}",
            low,
            f"{100 * (low or 0):.1f} %",
            lambda v: v >= JUDGE_BAR,
        )
    )
    return out


def _about(found: Figures, sections: Figures) -> str:
    model, machine = found.get("model", {}), found.get("machine", {})
    said = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in model.items() if not isinstance(value, list))
    lines = [f"Model: {said}." if said else "Model: it says nothing of itself."]
    if machine:
        lines.append(f"Measured on: {machine['device']}, {machine['cores']} cores, {machine['threads']} threads.")
    if any("--quick" in section.get("command", "") for section in sections.values()):
        lines.append(
            "**Sections whose command says `--quick` measured a tenth: they only show that the evaluation works.**"
        )
    return " ".join(lines)


def render(results: Figures, notes: str = "") -> str:
    """The page.

    Args:
        results: `about` and `sections`, as in the JSON file beside it.
        notes: What a person says of the figures (why a bar is missed, what would close it), set below the bars.
    """
    sections = results["sections"]
    gpu = str(results["about"].get("config", "")).endswith("gpu")
    out = [
        "# How good the built-in model is",
        "Written by `danqing eval builtin` from `builtin-model.json`; do not edit. Shares are followed by their 95 "
        "% interval. "
        "No picture on this page was picked by hand.",
        _about(results["about"], sections),
        "## Bars",
        table(["bar", "wanted", "found", ""], [bar.row() for bar in bars(sections, gpu=gpu)]),
        "Whether a person recognises at least three in four subjects is not measured here: look at the contact sheets.",
        *([notes.strip()] if notes.strip() else []),
    ]
    for name, (title, body) in RENDERERS.items():
        if name not in sections:
            continue
        found = sections[name]
        out.append(f"## {title}")
        out.append(f"Not measured: {found['missing']}." if "missing" in found else body(found))
        out.append(f"`{found['command']}` · {found['seconds']} s · {found['date']}")
    return "\n\n".join(out) + "\n"
