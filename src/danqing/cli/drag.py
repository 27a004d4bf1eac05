"""`danqing drag`: points of a picture move to other places, and the picture follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danqing.cli.option_names import naming
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.painting import Painting, paint_and_tell
from danqing.spec.errors import InvalidRequestError

if TYPE_CHECKING:
    from danqing.studio.service import Studio

app = typer.Typer(add_completion=False)
SYNTAX = "X,Y:X,Y"
_POINT = re.compile(r"\s*(\d{1,5})\s*,\s*(\d{1,5})\s*(?::|->|→)\s*(\d{1,5})\s*,\s*(\d{1,5})\s*")
_ENDS = ("from_x_px", "from_y_px", "to_x_px", "to_y_px")
_OPTION_OF_FIELD = {
    "image": "IN",
    "points": "--point",
    "radius_px": "--radius",
    "mask_feather_px": "--feather",
    "prompt": "BRIEF",
    "sampling.steps": "--steps",
    "tuning.identity_steps": "--identity-steps",
    "tuning.rate": "--rate",
    "tuning.keep": "--keep",
    "tuning.iterations": "--iterations",
    "output.format": "--out",
}
_TUNING = {"identity_steps": "identity_steps", "rate": "rate", "keep": "keep", "iterations": "iterations"}


@dataclass(frozen=True, kw_only=True)
class DragOptions(WorkerOptions):
    """What `danqing drag` takes."""

    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, or record:ID.")]
    brief: Annotated[str, typer.Argument(metavar="[BRIEF]", help="What it shows; a Record's own words if unset.")] = ""
    point: Annotated[
        list[str],
        typer.Option("--point", "-p", metavar=SYNTAX, help="A handle and its target in pixels; repeatable."),
    ]
    mask: Annotated[str | None, typer.Option("--mask", metavar="IMG", help="White may change; the picture's size.")] = (
        None
    )
    mode: Annotated[str, typer.Option("--mode", help="fast (warp and repair) or quality (optimise).")] = "fast"
    method: Annotated[str | None, typer.Option("--method", help="quality: gooddrag or dragdiffusion.")] = None
    repair: Annotated[
        float | None, typer.Option("--repair", help="fast: how anew strained places are painted, 0 to 1.")
    ] = None
    strength: Annotated[
        float | None, typer.Option("--strength", help="quality: how far the picture is inverted, 0 to 1.")
    ] = None
    radius: Annotated[int | None, typer.Option("--radius", help="What moves with a handle as one piece, pixels.")] = (
        None
    )
    feather: Annotated[int | None, typer.Option("--feather", help="Soft edge inside the mask, pixels.")] = None
    identity: Annotated[bool, typer.Option("--identity/--no-identity", help="quality: learn the picture first.")] = True
    identity_steps: Annotated[int | None, typer.Option("--identity-steps", help="How long; 80 if unset.")] = None
    rate: Annotated[float | None, typer.Option("--rate", help="quality: learning rate of the latent.")] = None
    keep: Annotated[float | None, typer.Option("--keep", help="quality: hold outside the mask (λ), 0.1.")] = None
    iterations: Annotated[int | None, typer.Option("--iterations", help="dragdiffusion: at most so many, 80.")] = None
    negative: Annotated[str, typer.Option("--negative", "-n", help="What to keep out.")] = ""
    model: Annotated[str | None, typer.Option("--model", help="Name or hash; the built-in one if unset.")] = None
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None
    seed: Annotated[int | None, typer.Option("--seed", "-s", help="Random if unset.")] = None
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="FILE|DIR", help="File (.png .jpg .webp) or folder; here if unset."),
    ] = None


@app.command()
@takes(DragOptions)
def drag(options: DragOptions) -> None:
    """Drag points of a picture to other places; what lies around a handle follows it, the rest stays.

    A point whose handle is its target holds its place. Without --mask the points reach a little farther than they move.

    Examples: danqing drag apple.png "red apple, 3d" --point 40,22:60,18 -o leaf.png  ·
    danqing drag record:ID -p 43,42:43,30 -p 85,42:85,30 --mode quality
    """
    data = partial(request_data, options)
    paint_and_tell(Painting(options, options.out, data, partial(naming, _option), complete=_with_words_of_record))


def request_data(options: DragOptions, output_format: str | None) -> dict[str, Any]:
    """The Request as plain data, pictures still as file names.

    Raises:
        InvalidRequestError: A point that cannot be read.
    """
    tuning: dict[str, Any] = {name: getattr(options, option) for name, option in _TUNING.items()}
    tuning["identity"] = None if options.identity else False
    data: dict[str, Any] = {
        "kind": "drag",
        "prompt": options.brief,
        "negative_prompt": options.negative,
        "model": options.model,
        "image": options.source,
        "mask": options.mask,
        "points": [parse_point(text) for text in options.point],
        "mode": options.mode,
        "method": options.method,
        "repair": options.repair,
        "strength": options.strength,
        "radius_px": options.radius,
        "mask_feather_px": options.feather,
        "tuning": _given(tuning),
        "sampling": _given({"steps": options.steps}),
        "seed": options.seed,
        "output": _given({"format": output_format}),
    }
    return _given(data) or {}


def parse_point(text: str) -> dict[str, int]:
    """A handle and its target as typed.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_point("120,80:180,60")
    {'from_x_px': 120, 'from_y_px': 80, 'to_x_px': 180, 'to_y_px': 60}
    """
    found = _POINT.fullmatch(text)
    if found is None:
        raise InvalidRequestError(
            "the point cannot be read",
            field="--point",
            value=text,
            allowed=f"{SYNTAX}: the handle, then its target, in pixels from the left and from the top",
            next_step="for example --point 120,80:180,60",
        )
    return dict(zip(_ENDS, map(int, found.groups()), strict=True))


def _given(values: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _with_words_of_record(data: dict[str, Any], studio: Studio) -> dict[str, Any]:
    """With what a Record was painted from, where neither words nor a model were typed."""
    image = str(data["image"])
    if not image.startswith("record:") or data.get("prompt"):
        return data
    plan = studio.record(image.removeprefix("record:")).plan
    found = data | {"prompt": plan.base.text.prompt}
    return found if "model" in data else found | {"model": plan.base.model.sha256}


def _option(field: str) -> str:
    """The option that sets a field of the Request."""
    if field == "--init":
        return "IN"
    if field.startswith("--"):
        return field
    known = next((name for name in _OPTION_OF_FIELD if field == name or field.startswith(f"{name}.")), None)
    return _OPTION_OF_FIELD[known] if known else f"--{field}" if field.isidentifier() else field


if __name__ == "__main__":
    app()
