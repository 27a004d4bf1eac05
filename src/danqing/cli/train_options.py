"""The options of `danqing train METHOD`, and the training Request that they make."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from danqing.cli.options import WorkerOptions
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training import AnyTraining, parse_training

_SET_PANEL: Final = "Pictures"
_SHAPE_PANEL: Final = "What is learnt"
_RUN_PANEL: Final = "The run"


def _option(name: str, words: str, panel: str = _SHAPE_PANEL, metavar: str | None = None) -> Any:
    return typer.Option(name, help=words, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(WorkerOptions):
    """What every method takes. None leaves the choice to the method."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the run and of the file that it makes.")]
    steps: Annotated[int | None, _option("--steps", "Optimiser steps.", _RUN_PANEL)] = None
    batch: Annotated[int | None, _option("--batch", "Pictures in a step.", _RUN_PANEL)] = None
    rate: Annotated[float | None, _option("--rate", "Learning rate.", _RUN_PANEL)] = None
    seed: Annotated[int | None, _option("--seed", "Of everything random; 0 if unset.", _RUN_PANEL)] = None
    optimizer: Annotated[
        str | None, _option("--optimizer", "adamw, adamw8bit, muon or prodigy.", _RUN_PANEL, "NAME")
    ] = None
    prompt: Annotated[
        list[str] | None, _option("--prompt", "What samples show; several times.", _RUN_PANEL, "TEXT")
    ] = None
    sample_every: Annotated[
        int | None, _option("--sample-every", "Steps between samples; 0 for none.", _RUN_PANEL, "STEPS")
    ] = None
    set_: Annotated[
        list[str] | None,
        _option("--set", "Any other field, as network.dropout=0.1; several times.", _RUN_PANEL, "FIELD=VALUE"),
    ] = None
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Train also while pictures are painted.", rich_help_panel=_RUN_PANEL)
    ] = False
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what it would cost.", rich_help_panel=_RUN_PANEL)
    ] = False
    later: Annotated[
        bool, typer.Option("--later", help="Only queue it; `danqing serve` takes it.", rich_help_panel=_RUN_PANEL)
    ] = False


@dataclass(frozen=True, kw_only=True)
class PictureOptions(TrainOptions):
    """What methods that learn from a set take."""

    dataset: Annotated[
        str | None, _option("--dataset", "A training set; NAME, if there is one.", _SET_PANEL, "SET")
    ] = None
    pictures: Annotated[
        Path | None, _option("--pictures", "A folder or ZIP: the set is made from it.", _SET_PANEL, "FOLDER")
    ] = None
    trigger: Annotated[str | None, _option("--trigger", "The word that calls it.", _SET_PANEL, "WORD")] = None
    class_words: Annotated[
        str | None, _option("--class", "What it is one of: painting, cat …", _SET_PANEL, "WORDS")
    ] = None
    recipe: Annotated[str | None, _option("--recipe", "A style project: van-gogh …", _SET_PANEL, "NAME")] = None
    model: Annotated[
        str | None, _option("--model", "What it is trained on; danqing-mini if unset.", _SHAPE_PANEL, "NAME")
    ] = None
    size: Annotated[int | None, _option("--size", "Side of the pictures' area.", _SHAPE_PANEL, "PX")] = None
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Pictures are also shown mirrored.", rich_help_panel=_SET_PANEL)
    ] = False


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(PictureOptions):
    """What methods that train a network take."""

    rank: Annotated[int | None, _option("--rank", "Of the network.")] = None
    alpha: Annotated[float | None, _option("--alpha", "Its scale; the rank if unset.")] = None
    kind: Annotated[str | None, _option("--kind", "lora, dora, loha or lokr.", metavar="NAME")] = None
    conv_rank: Annotated[int | None, _option("--conv-rank", "Of convolutions; 0 leaves them alone.")] = None
    text_encoder: Annotated[
        bool, typer.Option("--text-encoder", help="Text encoders learn too.", rich_help_panel=_SHAPE_PANEL)
    ] = False


@dataclass(frozen=True, kw_only=True)
class DreamBoothOptions(NetworkOptions):
    """What DreamBooth takes."""

    full: Annotated[
        bool, typer.Option("--full", help="Change the weights themselves.", rich_help_panel=_SHAPE_PANEL)
    ] = False
    prior_pictures: Annotated[
        int | None, _option("--prior-pictures", "Pictures of the class that are painted.", _SET_PANEL)
    ] = None
    prior_weight: Annotated[float | None, _option("--prior-weight", "What they count; 0 for none.", _SET_PANEL)] = None


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions(PictureOptions):
    """What an embedding takes."""

    vectors: Annotated[int | None, _option("--vectors", "Of the word.")] = None
    initial_words: Annotated[str | None, _option("--init", "Words it begins with.", metavar="WORDS")] = None
    negative: Annotated[
        bool, typer.Option("--negative", help="For negative prompts.", rich_help_panel=_SHAPE_PANEL)
    ] = False


@dataclass(frozen=True, kw_only=True)
class HypernetworkOptions(PictureOptions):
    """What a hypernetwork takes."""

    layers: Annotated[str | None, _option("--layers", "Its shape, as 1,2,1.", metavar="NUMBERS")] = None
    activation: Annotated[str | None, _option("--activation", "linear, relu, swish …", metavar="NAME")] = None


@dataclass(frozen=True, kw_only=True)
class ControlNetOptions(PictureOptions):
    """What a ControlNet takes."""

    annotator: Annotated[
        str | None, _option("--annotator", "canny, depth_relief …; `none`: the set has its maps.", metavar="NAME")
    ] = None
    start_from: Annotated[str | None, _option("--start-from", "A ControlNet to train further.", metavar="NAME")] = None


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(PictureOptions):
    """What a fine-tune takes."""

    text_encoder: Annotated[
        bool, typer.Option("--text-encoder", help="Text encoders learn too.", rich_help_panel=_SHAPE_PANEL)
    ] = False


@dataclass(frozen=True, kw_only=True)
class DistillOptions(NetworkOptions):
    """What distillation takes."""

    way: Annotated[str | None, _option("--way", "lcm or tcd.", metavar="NAME")] = None


@dataclass(frozen=True, kw_only=True)
class SliderOptions(TrainOptions):
    """What a slider takes."""

    positive: Annotated[str | None, _option("--positive", "Where it leads to.", metavar="TEXT")] = None
    negative: Annotated[str | None, _option("--negative", "Where it leads away from.", metavar="TEXT")] = None
    target: Annotated[str | None, _option("--target", "What it changes.", metavar="TEXT")] = None
    model: Annotated[str | None, _option("--model", "danqing-mini if unset.", metavar="NAME")] = None
    rank: Annotated[int | None, _option("--rank", "Of the network.")] = None


@dataclass(frozen=True, kw_only=True)
class ArtAugOptions(TrainOptions):
    """What ArtAug takes."""

    pairs: Annotated[
        str | None, _option("--pairs", "A folder of `danqing refine --export`, or a set of pairs.", metavar="FOLDER")
    ] = None
    rounds: Annotated[int | None, _option("--rounds", "Pairs, LoRA, pairs painted with it, …")] = None
    group: Annotated[int | None, _option("--group", "Pairs learnt together; 1 for a LoRA each.")] = None
    model: Annotated[str | None, _option("--model", "danqing-mini if unset.", metavar="NAME")] = None
    rank: Annotated[int | None, _option("--rank", "Of the network.")] = None


@dataclass(frozen=True, kw_only=True)
class FoundationOptions(TrainOptions):
    """What models that show how learning works take."""

    dataset: Annotated[
        str | None, _option("--dataset", "A training set; the built-in drawings if unset.", metavar="SET")
    ] = None
    subject: Annotated[str | None, _option("--subject", "Of the built-in drawings only these.", metavar="WORDS")] = None
    size: Annotated[int | None, _option("--size", "32 or 64.", metavar="PX")] = None


_FIELDS: Final[dict[str, str]] = {
    "rate": "learning_rate",
    "prompt": "sample_prompts",
    "size": "size_px",
    "rank": "network.rank",
    "alpha": "network.alpha",
    "kind": "network.kind",
    "conv_rank": "network.conv_rank",
    "layers": "layer_structure",
}
"""Options whose field is called differently."""
_NOT_FIELDS: Final = frozenset(
    {"json", "quiet", "data", "models", "device", "memory", "vram", "estimate", "later", "foreground", "set_", "full"}
    | {"pictures", "trigger", "class_words", "recipe", "text_encoder"}
)
_BOOLEANS: Final = frozenset({"mirror", "negative"})


def request_of(
    method: str, options: TrainOptions, dataset: str | None = None, first: Mapping[str, Any] | None = None
) -> AnyTraining:
    """The Request that a command line means.

    Args:
        method: Of the spec.
        options: As typed.
        dataset: Of methods that learn from a set.
        first: Fields by their dotted names that hold where nothing else is typed.

    Raises:
        InvalidRequestError: The first thing wrong with it, named by its option.
    """
    data: dict[str, Any] = {"method": method}
    for path, value in (first or {}).items():
        put(data, path, value)
    for field in dataclasses.fields(options):
        value: Any = getattr(options, field.name)
        if field.name in _NOT_FIELDS or value is None or (value is False and field.name in _BOOLEANS):
            continue
        put(data, _FIELDS.get(field.name, field.name), _plain(field.name, value))
    if dataset is not None:
        data["dataset"] = dataset
    if options.foreground:
        data["background"] = False
    whole = isinstance(options, DreamBoothOptions) and options.full
    if whole:
        data["network"] = None
    if getattr(options, "text_encoder", False):
        inside = isinstance(options, NetworkOptions) and not whole
        put(data, "network.text_encoder" if inside else "train_text_encoder", value=True)
    for text in options.set_ or ():
        path, sign, value = text.partition("=")
        if not sign or not path.strip():
            raise InvalidRequestError(
                "this sets no field", field="--set", value=text, allowed="FIELD=VALUE", next_step="as --set ema=0.999"
            )
        put(data, path.strip(), read_value(value.strip()))
    return parse_training(data)


def put(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a field by its dotted path.

    >>> data = {}
    >>> put(data, "network.rank", 4)
    >>> data
    {'network': {'rank': 4}}
    """
    *parents, last = path.split(".")
    place: Any = data
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    place[last] = value


def read_value(text: str) -> Any:
    """A value as typed: JSON where it is some, else the text itself.

    >>> read_value("0.1"), read_value("null"), read_value("cosine"), read_value("[1, 2]")
    (0.1, None, 'cosine', [1, 2])
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def option_of(field: str) -> str:
    """The option that sets a field of a training Request.

    >>> option_of("network.rank"), option_of("layer_structure.1"), option_of("ema"), option_of("name")
    ('--rank', '--layers', '--set ema=…', 'NAME')
    """
    if field.startswith("--") or field in ("NAME", ""):
        return field
    if field == "name":
        return "NAME"
    while field.rpartition(".")[2].isdecimal():  # one of a list
        field = field.rpartition(".")[0]
    names = {path: option for option, path in _FIELDS.items()}
    known = {option.name for kind in _ALL for option in dataclasses.fields(kind)} - _NOT_FIELDS
    option = names.get(field, field)
    if option in known:
        written = {"initial_words": "init"}.get(option, option)
        return f"--{written.replace('_', '-')}"
    return f"--set {field}=…"


def _plain(name: str, value: Any) -> Any:
    if name == "annotator" and value == "none":
        return None
    if name == "pairs" and Path(value).is_dir():
        return str(Path(value).absolute())
    if name == "layers":
        return [read_value(part.strip()) for part in str(value).split(",")]
    return value


_ALL: Final = (
    NetworkOptions,
    DreamBoothOptions,
    EmbeddingOptions,
    HypernetworkOptions,
    ControlNetOptions,
    FinetuneOptions,
    DistillOptions,
    SliderOptions,
    ArtAugOptions,
    FoundationOptions,
)
