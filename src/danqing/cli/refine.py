"""`danqing refine`: paint, review, paint again, keep what the judge accepts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.option_names import in_option_words
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import PaintOptions, request_data, upload_pictures, without_pictures
from danqing.cli.pictures import plan_target, save_pictures
from danqing.cli.review import box_text
from danqing.cli.session import open_studio, settings_of, terminal_of
from danqing.cli.terminal import Terminal
from danqing.review.base import BUILTIN, find_reviewer
from danqing.spec.errors import InvalidRequestError
from danqing.spec.refine import Refinement, RefineOptions, RefineRound, RefineRules, Scores
from danqing.spec.request import parse_request
from danqing.studio.pairs import export_pairs
from danqing.studio.refiner import Watch

app = typer.Typer(add_completion=False)
_PANEL = "Refining"
_RULES = RefineRules()
_RECORD = "record:"


@dataclass(frozen=True, kw_only=True)
class RefineCommand(WorkerOptions, PaintOptions):
    """Everything `danqing refine` takes: what `danqing paint` does, and when to accept."""

    words: Annotated[
        str | None,
        typer.Option("--brief", metavar="TEXT", help="What it is to show, if not the prompt.", rich_help_panel=_PANEL),
    ] = None
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=20, help="Pictures painted at most.", rich_help_panel=_PANEL)
    ] = 4
    reviewer: Annotated[
        str, typer.Option("--reviewer", metavar="NAME", help="builtin, openai or qwen.", rich_help_panel=_PANEL)
    ] = BUILTIN
    gain: Annotated[
        float, typer.Option("--gain", min=0, max=1, help="Least gain of the prompt score.", rich_help_panel=_PANEL)
    ] = _RULES.prompt_gain
    similarity: Annotated[
        float,
        typer.Option("--similarity", min=-1, max=1, help="Least likeness to the one before.", rich_help_panel=_PANEL),
    ] = _RULES.similarity_floor
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Add accepted pairs to a training set.", rich_help_panel=_PANEL),
    ] = None
    out: Annotated[
        str | None, typer.Option("-o", "--out", metavar="FILE|DIR", help="Where the best version goes; here if unset.")
    ] = None


@app.command()
@takes(RefineCommand)
def refine(options: RefineCommand) -> None:
    """Paint, have it reviewed, paint again what the reviewer names, keep what the judge accepts.

    Each accepted round is a version in the gallery, with the one before as its parent; a rejected one leaves nothing.
    Instead of a brief, record:ID goes on from a picture of the gallery.

    Examples: danqing refine "a red apple, 3d, blue background" --seed 7  ·  danqing refine record:ID --rounds 6
    """
    terminal = terminal_of(options)
    target = plan_target(options.out, options.format)
    record_id = options.brief.removeprefix(_RECORD) if options.brief.startswith(_RECORD) else None
    how = RefineOptions(
        rounds=options.rounds,
        reviewer=find_reviewer(options.reviewer).key,
        rules=RefineRules(prompt_gain=options.gain, similarity_floor=options.similarity),
    )
    if record_id is None:
        with in_option_words():
            data = request_data(options, target.format)
            if parse_request(without_pictures(data)).count != 1:
                raise InvalidRequestError(
                    "one picture at a time is refined", field="--count", value=options.count, allowed="1"
                )
    settings = settings_of(options)
    with open_studio(options) as studio:
        start = record_id
        watch = Watch(report=_Teller(terminal).hear)
        if start is None:
            with in_option_words():
                request = parse_request(upload_pictures(data, studio, settings.upload_max_bytes))
                done = studio.refine(request, how, brief=options.words, watch=watch)
        else:
            done = studio.refine(start, how, brief=options.words, watch=watch)
        pictures = save_pictures(studio, [studio.record(done.best or "")], target)
        pairs = 0 if options.export is None else export_pairs([done], options.export, studio)
    if options.export is not None:
        terminal.remark(f"{pairs} new pairs in {options.export}")
    terminal.remark(_summary(done))
    told = {"refinement": done.model_dump(mode="json"), "pictures": pictures, "pairs": pairs}
    terminal.result(told, "\n".join(str(picture["path"]) for picture in pictures))


class _Teller:
    """Says each round once, as it ends."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._said = -1

    def hear(self, state: Refinement) -> None:
        """See `Watch.report`."""
        if state.scores_first is not None and self._said < 0:
            self._said = 0
            self._terminal.remark(f"first: {state.first} {_scores(state.scores_first)}")
        for done in state.rounds[max(0, self._said) :]:
            self._terminal.remark(_round(done))
            self._said = done.number


def _round(done: RefineRound) -> str:
    verdict = f"accepted as {done.after}" if done.accepted else "rejected"
    one = done.suggestion
    return (
        f"round {done.number}: {done.way} of {box_text(one.box)}: {one.prompt} ({one.reason})\n"
        f"  {verdict}: {done.verdict}"
    )


def _scores(scores: Scores) -> str:
    return f"prompt {scores.prompt:.3f}, aesthetic {scores.aesthetic:.3f}"


def _summary(done: Refinement) -> str:
    kept = sum(one.accepted for one in done.rounds)
    best = "" if done.scores_best is None else f": {_scores(done.scores_best)}"
    return f"{kept} of {len(done.rounds)} rounds accepted{best}; {done.note}"
