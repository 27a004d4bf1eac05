"""The training sets that a command works on, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from danqing.cli.options import StudioOptions
from danqing.cli.session import settings_of
from danqing.cli.terminal import Terminal
from danqing.spec.complaints import from_validation_error
from danqing.spec.training_set import TrainingSet
from danqing.studio.opening import make_folder
from danqing.studio.set_shelf import SETS_FOLDER
from danqing.studio.training_sets import TrainingSets

Tell = Callable[[int, int], None]
Model = TypeVar("Model", bound=BaseModel)


def made(model: type[Model], /, **fields: object) -> Model:
    """Checked data from options. InvalidRequestError says which one is wrong."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise from_validation_error(error, (model,)) from error


def sets_of(options: StudioOptions) -> TrainingSets:
    """The training sets of the data folder; no studio is opened, for none paints here."""
    settings = settings_of(options)
    make_folder(settings.data_dir)
    return TrainingSets(settings.data_dir.joinpath(*SETS_FOLDER), settings.undo_window_s)


def files_of(files: Sequence[str] | None) -> list[str] | None:
    """The pictures that are meant; None for all."""
    return list(files) if files else None


@contextmanager
def counting(terminal: Terminal, what: str) -> Generator[Tell]:
    """A bar that counts pictures, where a person watches."""
    if not terminal.shows_progress:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.error_console, transient=True) as progress:
        task = progress.add_task(what)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def picture_rows(found: TrainingSet) -> list[tuple[str, ...]]:
    """Pictures as rows: name, size, repeats, notes, caption."""
    return [
        (
            picture.file,
            f"{picture.width_px}x{picture.height_px}",
            str(picture.repeats),
            ", ".join(
                [
                    *(one.replace("_", " ") for one in picture.complaints),
                    *(["class"] if picture.regularisation else []),
                    *(["mask"] if picture.mask else []),
                    *(["map"] if picture.conditioning else []),
                    *(["cropped"] if picture.crop else []),
                ]
            ),
            " ".join(picture.caption.split()),
        )
        for picture in found.pictures
    ]
