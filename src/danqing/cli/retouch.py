"""`danqing retouch`: details, faces, size and background of a picture, in the order of the options."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from danqing.cli.option_names import naming
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.painting import Painting, paint_and_tell
from danqing.cli.step_option import DEFAULT_HEADS, STEP_OPTIONS, SYNTAX, parse_step
from danqing.spec.errors import InvalidRequestError

if TYPE_CHECKING:
    from danqing.studio.service import Studio

app = typer.Typer(add_completion=False)
_ORDER: ContextVar[list[str]] = ContextVar("order", default=[])  # noqa: B039 - never changed in place
_KIND_OF_OPTION = {option: kind for kind, option in STEP_OPTIONS.items()}
_OPTION_OF_FIELD = {"image": "IN", "prompt": "BRIEF", "negative_prompt": "--negative", "output.format": "--out"}


class InOrder(TyperCommand):
    """A command that knows in which order its options were typed, and some of which may go without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note the order of the steps, then read the options as ever."""
        filled = with_defaults(args)
        _, _, order = self.make_parser(ctx).parse_args(args=list(filled))
        _ORDER.set([parameter.name for parameter in order if parameter.name in STEP_OPTIONS])
        return super().parse_args(ctx, filled)


def with_defaults(args: Sequence[str]) -> list[str]:
    """The arguments with a value behind every step's option that has none.

    >>> with_defaults(["in.png", "--cutout", "--upscale", "4"])
    ['in.png', '--cutout', 'auto', '--upscale', '4']
    """
    filled: list[str] = []
    for place, text in enumerate(args):
        filled.append(text)
        following = args[place + 1] if place + 1 < len(args) else "-"
        if text in _KIND_OF_OPTION and following.startswith("-"):
            filled.append(DEFAULT_HEADS[_KIND_OF_OPTION[text]])
    return filled


def _step_option(kind: str, help: str) -> Any:  # noqa: A002 - Typer's own word
    return typer.Option(STEP_OPTIONS[kind], metavar=SYNTAX[kind], help=help, rich_help_panel="Steps, in their order")


@dataclass(frozen=True, kw_only=True)
class RetouchOptions(WorkerOptions):
    """What `danqing retouch` takes."""

    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, or record:ID.")]
    brief: Annotated[str, typer.Argument(metavar="[BRIEF]", help="What it shows, for steps without words.")] = ""
    detail: Annotated[
        list[str] | None,
        _step_option("detail", "Find face, hand, person, subject or any words, and paint each again in detail."),
    ] = None
    restore_faces: Annotated[
        list[str] | None, _step_option("restore_faces", "Restore faces by GFPGAN, RestoreFormer or CodeFormer.")
    ] = None
    upscale: Annotated[
        list[str] | None, _step_option("upscale", "Make it larger; `tiled` paints it again in tiles after that.")
    ] = None
    cutout: Annotated[list[str] | None, _step_option("cutout", "Make the background transparent.")] = None
    negative: Annotated[str, typer.Option("--negative", "-n", help="What to keep out.")] = ""
    model: Annotated[str | None, typer.Option("--model", help="Name or hash; the built-in one if unset.")] = None
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="At which a detail is painted; the model's own.")
    ] = None
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None
    sampler: Annotated[str | None, typer.Option("--sampler", help='For example "DPM++ 2M".')] = None
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance scale.")] = None
    seed: Annotated[int | None, typer.Option("--seed", "-s", help="Random if unset.")] = None
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="FILE|DIR", help="File (.png .jpg .webp) or folder; here if unset."),
    ] = None


@app.command(cls=InOrder)
@takes(RetouchOptions)
def retouch(options: RetouchOptions) -> None:
    """Retouch a picture: details, faces, size, background, in the order of the options; each may be repeated.

    NAME=VALUE of a detail: strength (0.4), confidence (0.3), dilate (4), blur (4), padding (32), max, min-area,
    max-area, sort, merge, steps, cfg, model …; of an upscale: by, mode, strength, tile, overlap; of a cut-out: grow,
    trim, background; of faces: visibility, fidelity.

    Examples: danqing retouch portrait.png --detail face --detail "hand,strength=0.5" --upscale 2 -o out.png  ·
    danqing retouch record:ID --detail "apple:a green apple, 3d" --cutout -o sticker.png
    """
    data = partial(request_data, options, order=typed_order())
    paint_and_tell(Painting(options, options.out, data, partial(naming, _option_of), complete=_with_words_of_record))


def typed_order() -> list[str]:
    """Kinds of the steps as they were typed, one entry for each option."""
    return _ORDER.get()


def request_data(options: RetouchOptions, output_format: str | None, order: Sequence[str]) -> dict[str, Any]:
    """The Request as plain data, the picture still as a file name.

    Args:
        options: What was typed.
        output_format: png, jpeg or webp, if `-o` says so.
        order: Kinds of the steps as they were typed.

    Raises:
        InvalidRequestError: A step that cannot be read, or none.
    """
    texts = {kind: list(getattr(options, kind) or ()) for kind in STEP_OPTIONS}
    steps = [parse_step(kind, texts[kind].pop(0)) for kind in order]
    if not steps:
        raise InvalidRequestError(
            "there is nothing to do",
            field="--detail",
            allowed=", ".join(STEP_OPTIONS.values()),
            next_step="add at least one step, for example --cutout",
        )
    width, _, height = (options.size or "").lower().replace("×", "x").partition("x")
    sampling = {"steps": options.steps, "sampler": options.sampler}
    data: dict[str, Any] = {
        "kind": "retouch",
        "image": options.source,
        "prompt": options.brief or None,
        "negative_prompt": options.negative or None,
        "model": options.model,
        "width_px": width or None,
        "height_px": height or width or None,
        "sampling": {name: value for name, value in sampling.items() if value is not None} or None,
        "guidance": None if options.cfg is None else {"scale": options.cfg},
        "seed": options.seed,
        "steps": steps,
        "output": None if output_format is None else {"format": output_format},
    }
    return {name: value for name, value in data.items() if value is not None}


def _with_words_of_record(data: dict[str, Any], studio: Studio) -> dict[str, Any]:
    if data["image"].startswith("record:") and "prompt" not in data:
        return data | {"prompt": studio.record(data["image"].removeprefix("record:")).plan.base.text.prompt}
    return data


def _option_of(field: str) -> str:
    if field == "--init":
        return "IN"
    parts = field.split(".")
    if parts[0] == "steps" and len(parts) > 1 and parts[1].isdecimal():
        order = typed_order()
        place = int(parts[1])
        name = ".".join(part for part in parts[2:] if part != "tiled")
        option = STEP_OPTIONS[order[place]] if place < len(order) else "a step"
        return f"{option} (step {place + 1}){': ' if name else ''}{name}"
    if field in _OPTION_OF_FIELD or field.startswith("--"):
        return _OPTION_OF_FIELD.get(field, field)
    return f"--{parts[-1]}" if parts[-1].isidentifier() and field else field


if __name__ == "__main__":
    app()
