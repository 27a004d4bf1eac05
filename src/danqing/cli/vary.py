"""`danqing vary`: pictures like a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from danqing.cli.image_option import parse_image_prompt
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint import PaintCommand, run_paint
from danqing.spec.errors import InvalidRequestError

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class LikeOptions(WorkerOptions):
    """What painting like pictures takes, beside the pictures."""

    count: Annotated[int, typer.Option("-n", "-c", "--count", help="Pictures, each with its own seed.")] = 4
    negative: Annotated[str, typer.Option("--negative", help="What to keep out.")] = ""
    model: Annotated[str | None, typer.Option("--model", help="Name or hash; the built-in one if unset.")] = None
    adapter: Annotated[
        str | None, typer.Option("--image-adapter", metavar="NAME", help="An IP-Adapter; the one that fits if unset.")
    ] = None
    size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="For example 128x128.")] = None
    seed: Annotated[int | None, typer.Option("-s", "--seed", help="Of the first picture; random if unset.")] = None
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance scale.")] = None
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="FILE|DIR", help="File (.png .jpg .webp) or folder; here if unset."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class VaryOptions(LikeOptions):
    """What `danqing vary` takes."""

    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A picture, or record:ID.")]
    brief: Annotated[str, typer.Argument(metavar="[BRIEF]", help="Words beside it, if any.")] = ""
    strength: Annotated[
        float, typer.Option("--strength", help="How far from it, 0 to 1; below 1 its layout shines through.")
    ] = 1.0
    weight: Annotated[float, typer.Option("--weight", help="How much it counts beside the words, 0 to 2.")] = 1.0


def paint_like(options: LikeOptions, brief: str, prompts: list[str], mix: str, init: tuple[str, float] | None) -> None:
    """Paint like some pictures.

    Args:
        options: What was typed.
        brief: Words beside the pictures.
        prompts: The pictures, as `--image-prompt` takes them.
        mix: As `--image-mix`.
        init: A picture to start from and how far to go from it; None starts from noise.
    """
    run_paint(
        PaintCommand(
            brief=brief,
            negative=options.negative,
            model=options.model,
            size=options.size,
            count=options.count,
            seed=options.seed,
            steps=options.steps,
            cfg=options.cfg,
            init=None if init is None else init[0],
            strength=None if init is None else init[1],
            image_prompt=prompts,
            image_mix=mix,
            image_adapter=options.adapter,
            out=options.out,
            json=options.json,
            quiet=options.quiet,
            data=options.data,
            models=options.models,
            device=options.device,
            precision=options.precision,
            memory=options.memory,
            vram=options.vram,
        )
    )


@app.command()
@takes(VaryOptions)
def vary(options: VaryOptions) -> None:
    """Paint pictures like a picture: its subject and style, another drawing each time.

    Words may steer it ("at night"); --strength below 1 starts from the picture itself and keeps its layout.

    Examples: danqing vary apple.png  ·  danqing vary record:ID "in winter" -n 8 --strength 0.7
    """
    if not 0 < options.strength <= 1:
        raise InvalidRequestError(
            "there is no such strength",
            field="--strength",
            value=options.strength,
            allowed="above 0, at most 1",
            next_step="leave it out for free variations, or take 0.7 to keep the layout",
        )
    parse_image_prompt(options.picture, "PICTURE")
    init = None if options.strength == 1 else (options.picture, options.strength)
    paint_like(options, options.brief, [f"{options.picture}@{options.weight}"], "tokens", init)


if __name__ == "__main__":
    app()
