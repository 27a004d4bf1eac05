"""What the commands of `danqing dataset` take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.dataset_sets import made
from danqing.cli.options import StudioOptions
from danqing.sets.buckets import STEP_PX
from danqing.sets.checks import DEFAULT_SIZE_PX
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.style_projects import STYLE_PROJECTS
from danqing.spec.training_edit import SetChanges

NameArgument = Annotated[str, typer.Argument(metavar="SET", help="Name of a training set.")]
FilesOption = Annotated[
    list[str] | None, typer.Option("--file", metavar="FILE", help="Only this picture; repeatable. All if unset.")
]


@dataclass(frozen=True, kw_only=True)
class OneSet(StudioOptions):
    """A set."""

    name: NameArgument


@dataclass(frozen=True, kw_only=True)
class WordOptions(StudioOptions):
    """The words of a set."""

    trigger: Annotated[str | None, typer.Option("--trigger", help="The word that calls what is learnt.")] = None
    class_words: Annotated[str | None, typer.Option("--class", help="What it is one of: painting, dog …")] = None
    template: Annotated[
        str | None, typer.Option("--template", help="Of captions, with {trigger}, {caption} and {class}.")
    ] = None
    mirror: Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="Pictures are also shown mirrored.")] = (
        None
    )
    licence: Annotated[str | None, typer.Option("--licence", help="Where the pictures come from; whose they are.")] = (
        None
    )
    kind: Annotated[
        str | None, typer.Option("--kind", help="What it teaches: style, subject, control, pairs or plain.")
    ] = None

    def changes(self) -> SetChanges:
        """What is to be changed. InvalidRequestError."""
        return made(
            SetChanges,
            kind=self.kind,
            trigger=self.trigger,
            class_words=self.class_words,
            caption_template=self.template,
            mirror=self.mirror,
            licence_note=self.licence,
        )


@dataclass(frozen=True, kw_only=True)
class NewOptions(WordOptions):
    """What `dataset new` takes."""

    name: NameArgument
    recipe: Annotated[
        str | None, typer.Option("--recipe", help=f"Begin as: {', '.join(one.key for one in STYLE_PROJECTS)}.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ChangeOptions(WordOptions):
    """What `dataset change` takes."""

    name: NameArgument
    rename: Annotated[str | None, typer.Option("--rename", metavar="NAME", help="Another name.")] = None


@dataclass(frozen=True, kw_only=True)
class ImportCommand(StudioOptions):
    """What `dataset import` takes."""

    name: NameArgument
    source: Annotated[list[Path] | None, typer.Argument(metavar="SOURCE…", help="Folders, ZIPs or pictures.")] = None
    records: Annotated[list[str] | None, typer.Option("--record", metavar="ID", help="A Record; repeatable.")] = None
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="Every version of a project.")] = None
    new: Annotated[bool, typer.Option("--new", help="Make the set if there is none.")] = False
    regularisation: Annotated[
        bool, typer.Option("--regularisation", help="Pictures of the class, not of the subject.")
    ] = False
    alpha_masks: Annotated[bool, typer.Option("--alpha-masks", help="What is see-through does not count.")] = False
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=0, max=10_000, help="What folder names say if unset.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class CheckOptions(StudioOptions):
    """What `dataset check` takes."""

    name: NameArgument
    size: Annotated[
        int, typer.Option("--size", metavar="PX", min=32, max=4096, help="Pictures of a smaller area are small.")
    ] = DEFAULT_SIZE_PX


@dataclass(frozen=True, kw_only=True)
class CropOptions(StudioOptions):
    """What `dataset crop` takes."""

    name: NameArgument
    way: Annotated[
        str, typer.Option("--way", help="subject (largest part around it), tight, centre, or none for the whole.")
    ] = "subject"
    aspect: Annotated[str, typer.Option("--aspect", metavar="W:H", help="Shape of the part; own keeps it.")] = "1:1"
    files: FilesOption = None


@dataclass(frozen=True, kw_only=True)
class PicturesOptions(StudioOptions):
    """What `dataset pictures` takes."""

    name: NameArgument
    files: FilesOption = None
    repeats: Annotated[int | None, typer.Option("--repeats", min=0, max=10_000, help="Showings in an epoch.")] = None
    regularisation: Annotated[
        bool | None, typer.Option("--regularisation/--subject", help="Pictures of the class, or of the subject.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class BucketOptions(StudioOptions):
    """What `dataset buckets` takes."""

    name: NameArgument
    size: Annotated[int, typer.Option("--size", metavar="PX", min=32, max=2048, help="Side of the square.")] = 512
    step: Annotated[int, typer.Option("--step", metavar="PX", min=8, max=256, help="Sides are multiples of.")] = STEP_PX


@dataclass(frozen=True, kw_only=True)
class RemoveOptions(StudioOptions):
    """What `dataset remove` takes."""

    name: NameArgument
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE…]", help="Pictures; the set if none.")] = None


def aspect_of(text: str) -> float | None:
    """Width ÷ height of `4:3`, or None for `own`. InvalidRequestError."""
    if text == "own":
        return None
    across, colon, down = text.partition(":")
    try:
        aspect = float(across) / float(down or 1)
    except (ValueError, ZeroDivisionError):
        aspect = 0.0
    if (colon or down == "") and 0.125 <= aspect <= 8:
        return aspect
    raise InvalidRequestError(
        "this shape cannot be cut", field="--aspect", value=text, allowed="1:1, 3:4 … from 1:8 to 8:1, or own"
    )
