"""`danqing blend`: something between two to five pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from danqing.cli.options import takes
from danqing.cli.vary import LikeOptions, paint_like
from danqing.spec.errors import InvalidRequestError
from danqing.spec.image_prompt import MAX_IMAGE_PROMPTS, MAX_IMAGE_WEIGHT

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class BlendOptions(LikeOptions):
    """What `danqing blend` takes."""

    pictures: Annotated[list[str], typer.Argument(metavar="A B [C D E]", help="Two to five pictures, or record:IDs.")]
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="W,W,…", help="How much of each, for example 70,30; even if unset."),
    ] = None
    brief: Annotated[str, typer.Option("--brief", help="Words beside them, if any.")] = ""
    mix: Annotated[
        str, typer.Option("--mix", help="average: something between them; tokens: parts of each, side by side.")
    ] = "average"
    strength: Annotated[float, typer.Option("--strength", help="How much they count beside the words, 0 to 2.")] = 1.0


@app.command()
@takes(BlendOptions)
def blend(options: BlendOptions) -> None:
    """Paint something between two to five pictures.

    Examples: danqing blend cat.png lion.png  ·  danqing blend a.png b.png c.png --weights 50,30,20 --mix tokens
    """
    if not 2 <= len(options.pictures) <= MAX_IMAGE_PROMPTS:
        raise InvalidRequestError(
            "a blend needs some pictures to lie between",
            field="A B [C D E]",
            value=len(options.pictures),
            allowed=f"2 to {MAX_IMAGE_PROMPTS} pictures",
            next_step="for one picture there is `danqing vary`",
        )
    weights = parse_weights(options.weights, len(options.pictures))
    if not 0 < options.strength <= MAX_IMAGE_WEIGHT:
        raise InvalidRequestError(
            "there is no such strength",
            field="--strength",
            value=options.strength,
            allowed=f"above 0, at most {MAX_IMAGE_WEIGHT:g}",
        )
    # Of several pictures the strongest sets the strength.
    prompts = [
        f"{picture}@{options.strength * weight / max(weights):.6g}"
        for picture, weight in zip(options.pictures, weights, strict=True)
    ]
    paint_like(options, options.brief, prompts, options.mix, None)


def parse_weights(text: str | None, count: int) -> list[float]:
    """Weights as typed, in any scale; even ones for None.

    Raises:
        InvalidRequestError: Not as many positive numbers as there are pictures.

    >>> parse_weights("70, 30", 2)
    [70.0, 30.0]
    """
    if text is None:
        return [1.0] * count
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != count or not all(0 < weight < 1e6 for weight in weights):
        raise InvalidRequestError(
            "the weights cannot be read",
            field="--weights",
            value=text,
            allowed=f"{count} numbers above 0 with commas between, one for each picture",
            next_step="for example --weights " + ",".join(["70", "30", "20", "20", "20"][:count]),
        )
    return weights


if __name__ == "__main__":
    app()
