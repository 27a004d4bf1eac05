"""The model card: what was learnt from what, how, how well, and how to use it."""

from __future__ import annotations

from pathlib import Path

from danqing import __version__
from danqing.training.own.loop import Trainer

FILE = "card.md"


def write_card(trainer: Trainer, figures: dict[str, float]) -> Path:
    """`model/card.md`."""
    path = trainer.folder / "model" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card_text(trainer, figures), encoding="utf-8")
    return path


def card_text(trainer: Trainer, figures: dict[str, float]) -> str:
    """The card in Markdown."""
    request, settings, facts = trainer.request, trainer.method.settings, trainer.method.card()
    shown = settings.batch * request.accumulate
    rows = {
        "method": facts.kind,
        **facts.facts,
        "steps": f"{trainer.progress.step} of {shown} pictures each",
        "learning rate": f"{trainer.rate:g}, {request.schedule}, {request.optimizer}",
        "moving average": f"{request.ema:g}" if request.ema else "none",
        "seed": str(request.seed),
        "time": f"{trainer.progress.seconds:.0f} s in steps, on {trainer.method.context.device}",
        "trained with": f"Danqing {__version__}",
    }
    lines = [f"# {request.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items()]
    nothing = trainer.method.nothing_gained()
    if nothing:
        lines += ["", "## Nothing was published", "", f"Nothing was published, because {nothing}."]
    elif facts.usage:
        lines += ["", "## How to use it", "", facts.usage]
    if facts.report:
        lines += ["", "## What was tried", "", facts.report]
    if figures:
        lines += ["", "## Figures", "", "| | |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {value:g} |" for name, value in figures.items()]
    note = facts.licence_note or "Nothing was noted about the pictures' licence: ask before you pass this file on."
    lines += ["", "## Licence of the pictures", "", note, ""]
    return "\n".join(lines)
