"""`danqing words`: change a picture by changing its words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from danqing.cli.option_names import naming
from danqing.cli.options import WorkerOptions, takes
from danqing.cli.painting import Painting, paint_and_tell
from danqing.spec.errors import InvalidRequestError

app = typer.Typer(add_completion=False)
_SIZE = re.compile(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class WordsOptions(WorkerOptions):
    """What `danqing words` takes."""

    picture: Annotated[
        str | None,
        typer.Argument(metavar="[IN]", help="A picture, or record:ID; without it, what --from paints from --seed."),
    ] = None
    source: Annotated[
        str | None, typer.Option("--from", metavar="WORDS", help="What it shows now; known where Danqing painted it.")
    ] = None
    target: Annotated[str, typer.Option("--to", metavar="WORDS", help="What it is to show.")] = ""
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="WORD=N", help="How much a word of --to counts; 1 as it is; repeatable."),
    ] = None
    local: Annotated[
        list[str] | None,
        typer.Option("--local", metavar="OLD:NEW", help="Change only where these words are seen; repeatable."),
    ] = None
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Of --local, 0 to 1; lower changes a larger part.")
    ] = None
    cross: Annotated[float | None, typer.Option("--cross", help="Share of the steps that keep where words act.")] = None
    self_share: Annotated[float | None, typer.Option("--self", help="Share of the steps that keep the layout.")] = None
    align: Annotated[
        str | None, typer.Option("--align", help="replace (word for word) or refine; what fits if unset.")
    ] = None
    inversion: Annotated[
        str | None,
        typer.Option("--inversion", help="direct, ddim, null_text or negative_prompt; only where there is no Plan."),
    ] = None
    technique: Annotated[str | None, typer.Option("--technique", help="prompt_to_prompt, or ledits (LEDITS++).")] = None
    negative: Annotated[str | None, typer.Option("--negative", help="What to keep out.")] = None
    model: Annotated[str | None, typer.Option("--model", help="Name or hash; the picture's own, or the built-in.")] = (
        None
    )
    size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="For example 128x128.")] = None
    seed: Annotated[int | None, typer.Option("-s", "--seed", help="Of what --from paints; random if unset.")] = None
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.")] = None
    sampler: Annotated[str | None, typer.Option("--sampler", help='For example "DPM++ 2M".')] = None
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance scale.")] = None
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="FILE|DIR", help="File (.png .jpg .webp) or folder; here if unset."),
    ] = None


@app.command()
@takes(WordsOptions)
def words(options: WordsOptions) -> None:
    """Change a picture by changing its words: its layout stays, what the words say changes.

    A picture that Danqing painted from words is painted anew beside the change: prompt, model, seed and sampling come
    from its Plan, and --from may be left out. Any other picture is inverted into noise first (--inversion).

    Examples: danqing words record:ID --to "a dog on grass"  ·  danqing words cat.png --from "a cat on grass"
    --to "a dog on grass" --local cat:dog  ·  danqing words --seed 7 --from "red apple, 3d" --to "green apple, 3d"
    --weight green=1.5
    """
    paint_and_tell(Painting(options, options.out, partial(words_data, options), partial(naming, _option)))


_OPTION_OF_FIELD = {
    "source_prompt": "--from",
    "prompt": "--to",
    "weights": "--weight",
    "local": "--local",
    "local_threshold": "--threshold",
    "cross_share": "--cross",
    "self_share": "--self",
    "alignment": "--align",
    "inversion": "--inversion",
    "technique": "--technique",
    "negative_prompt": "--negative",
    "guidance.scale": "--cfg",
    "sampling.steps": "--steps",
    "sampling.sampler": "--sampler",
    "width_px": "--size",
    "height_px": "--size",
    "output.format": "--out",
    "model": "--model",
    "seed": "--seed",
    "image": "IN",
    "--init": "IN",
}


def _option(field: str) -> str:
    """The option that sets a field of the Request."""
    known = next((name for name in _OPTION_OF_FIELD if field == name or field.startswith(f"{name}.")), None)
    return _OPTION_OF_FIELD[known] if known else field


def words_data(options: WordsOptions, output_format: str | None) -> dict[str, Any]:
    """The Request as plain data, the picture still as a file name.

    Args:
        options: What was typed.
        output_format: png, jpeg or webp, if `-o` says so.

    Raises:
        InvalidRequestError: An option that cannot be read.
    """
    data: dict[str, Any] = {
        "kind": "words",
        "image": options.picture,
        "source_prompt": options.source,
        "prompt": options.target,
        "weights": [parse_weight(text) for text in options.weight or ()] or None,
        "local": [parse_local(text) for text in options.local or ()] or None,
        "local_threshold": options.threshold,
        "cross_share": options.cross,
        "self_share": options.self_share,
        "alignment": options.align,
        "inversion": options.inversion,
        "technique": options.technique,
        "negative_prompt": options.negative,
        "model": options.model,
        "seed": options.seed,
        "sampling": _given(steps=options.steps, sampler=options.sampler),
        "guidance": _given(scale=options.cfg),
        "output": _given(format=output_format),
        **_sides(options.size),
    }
    return {name: value for name, value in data.items() if value is not None}


def parse_weight(text: str) -> dict[str, Any]:
    """A word and how much it counts, as typed.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_weight("long grass=1.5")
    {'word': 'long grass', 'weight': 1.5}
    """
    word, equals, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = None
    if not equals or weight is None or not word.strip():
        raise InvalidRequestError(
            "the weight cannot be read",
            field="--weight",
            value=text,
            allowed="WORD=NUMBER",
            next_step="for example --weight grass=1.5",
        )
    return {"word": word.strip(), "weight": weight}


def parse_local(text: str) -> dict[str, Any]:
    """A word of the source and the one in its place, as typed; one word stands for both.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_local("cat:dog"), parse_local("apple")
    ({'source': 'cat', 'target': 'dog'}, {'source': 'apple', 'target': 'apple'})
    """
    parts = [part.strip() for part in text.split(":")]
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise InvalidRequestError(
            "the words cannot be read",
            field="--local",
            value=text,
            allowed="OLD:NEW, or one word that stands in both prompts",
            next_step="for example --local cat:dog",
        )
    return {"source": parts[0], "target": parts[-1]}


def _given(**values: Any) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _sides(size: str | None) -> dict[str, int]:
    if size is None:
        return {}
    found = _SIZE.fullmatch(size.strip())
    if found is None:
        raise InvalidRequestError(
            "the size cannot be read", field="--size", value=size, allowed="WIDTHxHEIGHT in pixels, such as 128x128"
        )
    return {"width_px": int(found[1]), "height_px": int(found[2])}


if __name__ == "__main__":
    app()
