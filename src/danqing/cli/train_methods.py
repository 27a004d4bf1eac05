"""`danqing train METHOD`: make the set if pictures are given, estimate, queue, and stay with the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from danqing.cli.option_names import naming
from danqing.cli.options import takes
from danqing.cli.progress import duration
from danqing.cli.session import open_studio, terminal_of
from danqing.cli.terminal import Terminal
from danqing.cli.train_options import (
    ArtAugOptions,
    ControlNetOptions,
    DistillOptions,
    DreamBoothOptions,
    EmbeddingOptions,
    FinetuneOptions,
    FoundationOptions,
    HypernetworkOptions,
    NetworkOptions,
    PictureOptions,
    SliderOptions,
    TrainOptions,
    option_of,
    request_of,
)
from danqing.cli.train_view import follow, tell_end
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.spec.registry.style_projects import find_style_project
from danqing.spec.training_edit import AutoCaptions, SetChanges
from danqing.spec.training_run import Estimate
from danqing.studio import set_works
from danqing.studio.service import Studio

_COMMANDS: tuple[tuple[str, type[TrainOptions], str], ...] = (
    ("lora", NetworkOptions, "Train a LoRA (or DoRA, LoHa, LoKr) of a style or subject."),
    ("dreambooth", DreamBoothOptions, "Bind a subject to a rare word, as a LoRA or in the whole model."),
    ("embedding", EmbeddingOptions, "Train a word of its own (textual inversion)."),
    ("hypernetwork", HypernetworkOptions, "Train a hypernetwork in A1111's format."),
    ("controlnet", ControlNetOptions, "Train a ControlNet from an annotator's maps, or the set's own."),
    ("finetune", FinetuneOptions, "Train the whole denoiser further; a checkpoint comes out."),
    ("distill", DistillOptions, "Train a LoRA that paints in few steps (LCM, TCD)."),
    ("slider", SliderOptions, "Train a LoRA whose strength is a slider between words; no pictures."),
    ("artaug", ArtAugOptions, "Train an enhancement LoRA from accepted before/after pairs."),
    ("dcgan", FoundationOptions, "Watch a DCGAN learn, from nothing."),
    ("wgan", FoundationOptions, "Watch a GAN with a Wasserstein critic learn, from nothing."),
    ("ddpm", FoundationOptions, "Watch a diffusion model learn, from nothing."),
)
_MIB = 1024**2


def register(app: typer.Typer) -> None:
    """Add a command for each method."""
    for method, kind, words in _COMMANDS:
        app.command(method, help=words)(takes(kind)(_command(method)))


def _command(method: str) -> Callable[[TrainOptions], None]:
    def command(options: TrainOptions) -> None:
        train(method, options)

    return command


def train(method: str, options: TrainOptions) -> None:
    """One training, from the command line to its product."""
    terminal = terminal_of(options)
    with naming(option_of), open_studio(options) as studio:
        stand_in = _dataset_name(options)
        request_of(method, options, stand_in)  # whatever is wrong with it is told before a set is made
        if isinstance(options, PictureOptions):
            _make_set(studio, options, terminal)
        request = request_of(method, options, stand_in, _project_settings(studio, method, options, terminal))
        if options.estimate:
            told = studio.estimate_training(request)
            terminal.result({"estimate": told.model_dump(mode="json")}, _words(told))
            return
        run = studio.submit_training(request)
        if run.estimate is not None:
            terminal.remark(f"run {run.id}: {_words(run.estimate)}")
        if options.later:
            terminal.result({"run": run.model_dump(mode="json")}, run.id)
            return
        tell_end(studio, follow(studio, run.id, terminal), terminal)


def _dataset_name(options: TrainOptions) -> str | None:
    if isinstance(options, PictureOptions):
        return options.dataset or options.name
    return options.dataset if isinstance(options, FoundationOptions) else None


def _make_set(studio: Studio, options: PictureOptions, terminal: Terminal) -> None:
    """Import `--pictures` into the set, which is made if it is not there; captions are made where none came along."""
    sets, name = studio.training_sets, options.dataset or options.name
    words = SetChanges(trigger=options.trigger, class_words=options.class_words)
    said = options.trigger is not None or options.class_words is not None
    try:
        sets.get(name)
    except NotFoundError:
        if options.pictures is None:
            raise NotFoundError(
                "there is no such training set",
                field="--dataset",
                value=name,
                next_step="give --pictures FOLDER, or see the sets with `danqing dataset list`",
            ) from None
        sets.create(name, recipe=options.recipe, changes=words if said else None)
    else:
        if options.recipe is not None:
            raise InvalidRequestError(
                "the set is there already, so that a recipe cannot begin it", field="--recipe", value=options.recipe
            )
        if said:
            sets.change(name, words)
    if options.pictures is None:
        return
    report = sets.import_path(name, options.pictures)
    terminal.remark(f"{len(report.added)} pictures joined the set {name}")
    for note in (*report.notes, *(f"{one.file}: {one.reason}" for one in report.skipped)):
        terminal.remark(f"  {note}")
    if not all(picture.caption for picture in sets.get(name).pictures):
        terminal.remark(set_works.caption(sets, name, studio, AutoCaptions(keep="empty")))


def _project_settings(studio: Studio, method: str, options: TrainOptions, terminal: Terminal) -> dict[str, Any]:
    """What the style project of a set says for a first run on this model; the page fills its form with the same."""
    if method != "lora" or not isinstance(options, PictureOptions):
        return {}
    key = studio.training_sets.get(options.dataset or options.name).recipe
    if key is None:
        return {}
    project, model = find_style_project(key), studio.catalog.find(options.model or BUILTIN_MODEL)
    said = project.for_base("builtin" if model.builtin else model.family)
    terminal.remark(f"settings of the project {project.name}; what you give yourself goes before")
    return {
        "steps": said.steps,
        "batch": said.batch,
        "learning_rate": said.learning_rate,
        "max_timestep": said.max_timestep,
        "network.rank": said.rank,
        "network.alpha": said.alpha,
    }


def _words(told: Estimate) -> str:
    parts = [f"about {duration(told.seconds)}" if told.seconds is not None else "time unknown"]
    parts += [f"{told.steps} steps"] if told.steps else []
    parts += [f"{told.memory_bytes / _MIB:,.0f} MiB of {told.free_bytes / _MIB:,.0f} free"] if told.free_bytes else []
    parts += [f"{told.trainable_parameters:,} numbers learnt"] if told.trainable_parameters else []
    lines = [", ".join(parts), *(f"note: {one}" for one in told.warnings)]
    return "\n".join([*lines, *(f"cannot begin: {one}" for one in told.reasons)])
