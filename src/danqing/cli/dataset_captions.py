"""`danqing dataset captions`: what the pictures of a training set are said to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from danqing.cli.dataset_options import FilesOption, NameArgument
from danqing.cli.dataset_sets import counting, files_of, made, sets_of
from danqing.cli.interrogate import language_of
from danqing.cli.options import StudioOptions, WorkerOptions, takes
from danqing.cli.session import open_studio, terminal_of
from danqing.sets.captions import fill, trainer_caption
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.interrogators import BUILTIN
from danqing.spec.training_edit import AutoCaptions, CaptionEdit, SetChanges
from danqing.studio.set_works import caption

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Captions: by looking, by hand, by template.")


@dataclass(frozen=True, kw_only=True)
class AutoOptions(WorkerOptions):
    """What `captions auto` takes."""

    name: NameArgument
    by: Annotated[str, typer.Option("--with", metavar="NAME", help="builtin, wd14, deepdanbooru or clip.")] = BUILTIN
    language: Annotated[str, typer.Option("--language", "-l", metavar="LANG", help="en, zh-Hans or zh-Hant.")] = "en"
    form: Annotated[str, typer.Option("--form", help="caption, tags or both.")] = "caption"
    keep: Annotated[str, typer.Option("--keep", help="Caption those that are empty, add, or replace.")] = "empty"
    tags: Annotated[int | None, typer.Option("--tags", min=0, max=100, help="How many tags at most.")] = None
    threshold: Annotated[float | None, typer.Option("--threshold", min=0, max=1, help="Of a tagger.")] = None
    leave_out: Annotated[
        str, typer.Option("--leave-out", metavar="TAGS", help="Not wanted: what the trigger stands for.")
    ] = ""
    files: FilesOption = None


@dataclass(frozen=True, kw_only=True)
class EditOptions(StudioOptions):
    """What `captions edit` takes."""

    name: NameArgument
    put: Annotated[str | None, typer.Option("--set", metavar="TEXT", help="The whole caption.")] = None
    add: Annotated[str | None, typer.Option("--add", metavar="TAGS", help="Tags that are not there yet.")] = None
    first: Annotated[bool, typer.Option("--first", help="--add puts them in front.")] = False
    remove: Annotated[str | None, typer.Option("--remove", metavar="TAGS", help="Tags to take away.")] = None
    replace: Annotated[str | None, typer.Option("--replace", metavar="TAG", help="A tag, replaced --by others.")] = None
    find: Annotated[str | None, typer.Option("--find", metavar="TEXT", help="Letters, replaced --by others.")] = None
    by: Annotated[str, typer.Option("--by", metavar="TEXT", help="What is put there; nothing if unset.")] = ""
    files: FilesOption = None


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(StudioOptions):
    """What `captions template` takes."""

    name: NameArgument
    template: Annotated[
        str | None, typer.Argument(metavar="[TEMPLATE]", help='Such as "{trigger}, {caption}"; shows it if unset.')
    ] = None


@dataclass(frozen=True, kw_only=True)
class TagOptions(StudioOptions):
    """What `captions tags` takes."""

    name: NameArgument


@app.command()
@takes(AutoOptions)
def auto(options: AutoOptions) -> None:
    """Put the pictures into words, by whoever is installed to look at them."""
    asked = made(
        AutoCaptions,
        interrogator=options.by,
        language=language_of(options.language),
        form=options.form,
        keep=options.keep,
        tags=options.tags,
        threshold=options.threshold,
        leave_out=options.leave_out,
    )
    terminal = terminal_of(options)
    sets_of(options).folder(options.name)  # before a worker starts
    with open_studio(options) as studio, counting(terminal, "looking") as tell:
        note = caption(studio.training_sets, options.name, studio, asked, tell, files_of(options.files))
        found = studio.training_sets.get(options.name)
    data = {"note": note, "captions": {picture.file: picture.caption for picture in found.pictures}}
    terminal.result(data, f"{note}; to undo: danqing dataset undo {options.name!r}")


@app.command()
@takes(EditOptions)
def edit(options: EditOptions) -> None:
    """Change captions, of all pictures or of some."""
    given = {
        "set": options.put,
        "add": options.add,
        "remove": options.remove,
        "replace": options.replace,
        "replace_text": options.find,
    }
    asked = [(action, text) for action, text in given.items() if text is not None]
    if len(asked) != 1:
        raise InvalidRequestError(
            "one change at a time",
            field="--set, --add, --remove, --replace, --find",
            value=len(asked),
            allowed="exactly one of them",
            next_step='for example --add "night" --first',
        )
    action, text = asked[0]
    where = "start" if options.first else "end"
    change = made(CaptionEdit, action=action, text=text, by=options.by, where=where)
    report = sets_of(options).edit_captions(options.name, change, files_of(options.files))
    text = f"{report.changed} captions; to undo: danqing dataset undo {options.name!r}"
    terminal_of(options).result(report.model_dump(), text)


@app.command()
@takes(TemplateOptions)
def template(options: TemplateOptions) -> None:
    """Show or set how the trainer's captions are made, and what it reads."""
    sets = sets_of(options)
    found = sets.get(options.name)
    if options.template is not None:
        found = sets.change(options.name, SetChanges(caption_template=options.template))
    reads = {picture.file: trainer_caption(found, picture) for picture in found.pictures}
    example = fill(found.caption_template, "a red apple", found.trigger, found.class_words)
    lines = [found.caption_template, f"for example: {example}", *(f"{file}\t{text}" for file, text in reads.items())]
    terminal_of(options).result({"template": found.caption_template, "reads": reads}, "\n".join(lines))


@app.command()
@takes(TagOptions)
def tags(options: TagOptions) -> None:
    """Count tags."""
    counted = sets_of(options).tags(options.name)
    data = {"tags": [one.model_dump() for one in counted]}
    terminal_of(options).table(data, ("tag", "captions"), [(one.tag, str(one.count)) for one in counted])
