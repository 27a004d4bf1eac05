"""`danqing review`: what a model would change in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from danqing.cli.interrogate import picture_argument
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.session import open_studio, settings_of, terminal_of
from danqing.review.base import BUILTIN, find_reviewer
from danqing.review.findings import Findings
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class ReviewOptions(WorkerOptions):
    """What `danqing review` takes."""

    picture: Annotated[str, typer.Argument(metavar="RECORD|PICTURE", help="A file, or record:ID from the gallery.")]
    brief: Annotated[
        str | None, typer.Option("--brief", metavar="TEXT", help="What it is to show; a Record's own words if unset.")
    ] = None
    reviewer: Annotated[
        str, typer.Option("--reviewer", metavar="NAME", help="builtin, openai (your endpoint) or qwen.")
    ] = BUILTIN


@app.command()
@takes(ReviewOptions)
def review(options: ReviewOptions) -> None:
    """Say what to change in a picture so that it fits its brief: boxes, words, reasons.

    builtin works offline. openai asks the address in DANQING_REVIEW_URL for the model DANQING_REVIEW_MODEL. qwen is a
    Qwen2-VL or Qwen2.5-VL in models/VLM.

    Examples: danqing review record:ID  ·  danqing review apple.png --brief "a red apple, 3d" --reviewer openai
    """
    info = find_reviewer(options.reviewer)
    picture = picture_argument(options.picture, "RECORD|PICTURE", settings_of(options).upload_max_bytes)
    named = isinstance(picture, str) and picture.startswith("record:")
    if options.brief is None and not named:
        raise InvalidRequestError(
            "a picture from outside has no brief of its own",
            field="--brief",
            next_step='say what it is to show: --brief "a red apple, 3d"',
        )
    with open_studio(options) as studio:
        found = studio.review_by_model(picture, options.brief, reviewer=info.key)
    tell(found, options)


def tell(found: Findings, options: WorkerOptions) -> None:
    """The findings as a table or as JSON."""
    terminal = terminal_of(options)
    data = found.model_dump(mode="json")
    if not found.suggestions:
        terminal.result(data, found.note or "nothing to change")
        return
    rows = [(box_text(one.box), one.prompt, f"{one.strength:.2f}", one.reason) for one in found.suggestions]
    terminal.table(data, ("box", "change to", "strength", "reason"), rows)
    if found.note:
        terminal.remark(found.note)


def box_text(box: BoxPx | None) -> str:
    """A box in the words of `--region`; `whole` for none.

    >>> box_text(None)
    'whole'
    """
    return "whole" if box is None else ",".join(str(side) for side in box.as_tuple())
