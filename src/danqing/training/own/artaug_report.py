"""What a run of ArtAug tried and what the judge said of it, in words: for the card, and where nothing was gained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from danqing.training.own.artaug import Plan, read_figures, read_result, result_file
from danqing.training.own.pairs import Pair

MOST_PAIRS = 100
"""Of a round, that the card lists; the rest is in the events and in `pairs/`."""


def rounds_told(folder: Path, plan: Plan, accept_gain: float) -> dict[str, str]:
    """What became of every round that has ended, under its name."""
    told: dict[str, str] = {}
    for number in range(plan.rounds):
        file = result_file(folder, number)
        if file.is_file():
            told[f"round {number + 1}"] = round_told(read_figures(file), plan.groups, accept_gain)
    return told


def round_told(figures: dict[str, float], loras: int, accept_gain: float) -> str:
    """A round in words.

    >>> round_told({"kept": 0, "strength": 0, "prompt_gain": 0, "aesthetic_gain": 0}, 9, 0.0)
    "none of 9 LoRAs made the judge's score rise on its own brief"
    >>> round_told({"kept": 6, "strength": 0, "prompt_gain": -0.0212, "aesthetic_gain": 0.002}, 9, 0.01)
    'the mean of 6 of 9 LoRAs scored prompt -0.021, aesthetic +0.002 on held-back briefs; asked: sum +0.010, prompt >=0'
    """
    kept = round(figures["kept"])
    if not kept:
        return f"none of {loras} LoRAs made the judge's score rise on its own brief"
    gains = f"prompt {figures['prompt_gain']:+.3f}, aesthetic {figures['aesthetic_gain']:+.3f}"
    said = f"the mean of {kept} of {loras} LoRAs scored {gains} on held-back briefs"
    if figures["strength"]:
        return f"{said} and was fused {figures['strength']:g}-fold"
    return f"{said}; asked: sum {accept_gain:+.3f}, prompt >={min(0.0, accept_gain):g}"


def nothing_told(folder: Path, plan: Plan, accept_gain: float) -> str:
    """Why a run whose rounds all gained nothing has no file."""
    rounds = "; ".join(f"{name}: {words}" for name, words in rounds_told(folder, plan, accept_gain).items())
    return f"no round gained anything, so that the file would change no picture ({rounds})"


def named(group: Sequence[Pair]) -> str:
    """A group by its first brief and how many more there are."""
    briefs = dict.fromkeys(pair.brief for pair in group)
    return next(iter(briefs)) + (f" +{len(briefs) - 1}" if len(briefs) > 1 else "")


def groups_told(folder: Path, plan: Plan, groups: Sequence[Sequence[Pair]]) -> str:
    """A table of all groups in Markdown: what LoRA 2 of each gained on its own briefs, and whether it was kept."""
    rows: list[str] = []
    for number in range(plan.rounds):
        files = [result_file(folder, number, i) for i in range(plan.groups)]
        there = [(i, file) for i, file in enumerate(files) if file.is_file()]
        for i, file in there[:MOST_PAIRS]:
            gain, _ = read_result(file)
            brief = named(groups[i]).replace("|", "/").replace("\n", " ")
            what = "pair" if len(groups[i]) == 1 else "group"
            verdict = "kept" if gain.passes else "dropped"
            rows.append(f"| round {number + 1}, {what} {i + 1}: {brief} | {gain}: {verdict} |")
        if len(there) > MOST_PAIRS:
            rows.append(f"| round {number + 1} | {len(there) - MOST_PAIRS} more: see the run's events |")
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""
