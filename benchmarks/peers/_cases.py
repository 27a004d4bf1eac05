"""What is measured: every case with its checkpoint, jobs and the numbers that grow. Quick forms are the same, tiny."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.peers import _checkpoints
from benchmarks.peers._jobs import Checkpoint, Job

Kind = Literal["paint", "together", "switch", "cold"]
BRIEFS = ("red apple, 3d", "grinning face, flat", "rocket, 3d", "penguin, 3d", "guitar, flat", "lion, flat")
SD15, SD15_B, BUILTIN, FOUR_STEP = "sd15", "sd15-b", "builtin", "builtin-4step"
SEED = 20261122


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        label: What is special about it.
        checkpoint: Key on the shelf.
        jobs: One, or one for each user.
        kind: `paint` one job, several `together`, a `switch` to another checkpoint and back, a `cold` start.
        x: Where it stands on the axis of what grows; 0 for none.
        other: Key of the checkpoint that is switched to.
    """

    label: str
    checkpoint: str
    jobs: tuple[Job, ...]
    kind: Kind = "paint"
    x: float = 0.0
    other: str = ""


@dataclass(frozen=True)
class Case:
    """Points that belong together.

    Attributes:
        name: As a person asks for it.
        about: What it is, for a person.
        points: In the order they are measured: the cheapest first where something grows.
        axis: What grows; empty for none.
    """

    name: str
    about: str
    points: tuple[Point, ...]
    axis: str = ""


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        side_px: Of SD1.5's pictures.
        builtin_px: Of the built-in model's.
        steps: Of a whole picture.
        sizes_px: Sides that are tried.
        step_counts: Numbers of steps that are tried.
        batches: Pictures at once that are tried.
        users: How many people are tried.
        few: Steps where something else is looked at than the steps.
    """

    side_px: int = 512
    builtin_px: int = 128
    steps: int = 20
    sizes_px: tuple[int, ...] = (256, 384, 512, 768, 1024)
    step_counts: tuple[int, ...] = (1, 4, 10, 20, 50)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    users: tuple[int, ...] = (1, 4, 16, 64)
    few: int = 4


FULL = Scale()
QUICK = Scale(64, 64, 3, (64, 128), (1, 2), (1, 2), (1, 2), 2)


class Shelf:
    """The checkpoints, written when they are first asked for.

    Args:
        folder: Where they lie.
        quick: Tiny ones in the place of all.
        say: Tells a person.
    """

    def __init__(self, folder: Path, *, quick: bool, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._quick = quick
        self._say = say
        self._found: dict[str, Checkpoint | None] = {}

    def get(self, key: str) -> Checkpoint | None:
        """The checkpoint; None where the built-in model is not installed."""
        if key not in self._found:
            self._found[key] = self._make(key)
        return self._found[key]

    def _make(self, key: str) -> Checkpoint | None:
        if key in {BUILTIN, FOUR_STEP} and not self._quick:
            return _checkpoints.builtin(few_steps=key == FOUR_STEP)
        second = key == SD15_B
        name = f"danqing-bench-{'tiny' if self._quick else 'sd15'}{'-b' if second else ''}"
        self._say(f"checkpoint {name}: random weights …")
        asked = (self._folder / "models", name, self._quick, second)
        if self._quick:
            return _checkpoints.made(*asked)
        # Elsewhere: the memory that 2 GB of weights went through would stay with this process, and lack to the sides.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as writer:
            return writer.submit(_checkpoints.made, *asked).result()

    def pictures(self, side_px: int) -> tuple[Path, Path]:
        """An init picture and a control map."""
        return _checkpoints.pictures(self._folder / "pictures", side_px)


def cases(scale: Scale, shelf: Shelf) -> tuple[Case, ...]:
    """All cases in the order they are run: those of one checkpoint beside each other."""
    return (*_builtin_cases(scale), *_sd15_cases(scale, shelf), *_growing(scale))


def _sd15(scale: Scale, steps: int | None = None) -> Job:
    side = scale.side_px
    return Job("a house on a hill, oil painting", SEED, steps or scale.steps, 7.5, side, side)


def _small(scale: Scale, at: int = 0, steps: int | None = None) -> Job:
    side = scale.builtin_px
    return Job(BRIEFS[at % len(BRIEFS)], SEED + at, steps or scale.steps, 3.0, side, side, negative="")


def _crowd(jobs: Sequence[Job]) -> str:
    return f"{len(jobs)} users, {', '.join(sorted({str(job.steps) for job in jobs}, key=int))} steps"


def _builtin_cases(scale: Scale) -> tuple[Case, ...]:
    px = f"{scale.builtin_px}²"
    crowd = tuple(_small(scale, at, scale.few if at % 2 else scale.steps) for at in range(8))
    draft = replace(_small(scale), steps=scale.few, guidance=1.0)
    return (
        Case(
            "builtin",
            f"the built-in model, {px}, {scale.steps} steps",
            (Point(f"built-in {px}", BUILTIN, (_small(scale),)),),
        ),
        Case(
            "draft",
            f"{scale.few} steps without guidance: the built-in 4-step model, and Stable Diffusion 1.5's shape",
            (
                Point(f"built-in {px}", FOUR_STEP, (draft,)),
                Point("SD1.5", SD15, (replace(_sd15(scale, scale.few), guidance=1.0),)),
            ),
        ),
        Case(
            "users8",
            "eight people ask at the same moment: seconds until the last one has a picture, and on average",
            (
                Point(f"built-in {px}, {_crowd(crowd)}", BUILTIN, crowd, "together"),
                Point(
                    f"SD1.5, 8 users, {scale.few} steps",
                    SD15,
                    tuple(replace(_sd15(scale, scale.few), seed=SEED + at) for at in range(8)),
                    "together",
                ),
            ),
        ),
    )


def _sd15_cases(scale: Scale, shelf: Shelf) -> tuple[Case, ...]:
    job, px = _sd15(scale), f"{scale.side_px}²"
    init, control = shelf.pictures(scale.side_px)
    one = f"SD1.5 {px}, {scale.steps} steps"
    few = _sd15(scale, scale.few)
    return (
        Case("sd15", f"Stable Diffusion 1.5's shape, {px}, {scale.steps} steps", (Point(one, SD15, (job,)),)),
        Case("img2img", "the same from a picture, strength 0.5", (Point(one, SD15, (replace(job, init=str(init)),)),)),
        Case("controlnet", "the same with a ControlNet", (Point(one, SD15, (replace(job, control=str(control)),)),)),
        Case("lora", "the same with a LoRA of rank 16", (Point(one, SD15, (replace(job, lora=True),)),)),
        Case(
            "switch",
            f"change to another checkpoint of 2 GB and back, each to its picture of {scale.few} steps",
            (Point(f"SD1.5 {px}", SD15, (few,), "switch", other=SD15_B),),
        ),
        Case(
            "cold",
            "a new process to its first picture; conversion of the checkpoint is told apart",
            (
                Point(f"built-in {scale.builtin_px}²", BUILTIN, (_small(scale),), "cold"),
                Point(f"SD1.5 {px}, {scale.few} steps", SD15, (few,), "cold"),
            ),
        ),
    )


def _growing(scale: Scale) -> tuple[Case, ...]:
    few = _sd15(scale, scale.few)
    return (
        Case(
            "size",
            f"SD1.5's shape, {scale.few} steps, by the picture's side",
            tuple(
                Point(f"{px}²", SD15, (replace(few, width_px=px, height_px=px),), x=float(px)) for px in scale.sizes_px
            ),
            "side, px",
        ),
        Case(
            "steps",
            f"SD1.5's shape, {scale.side_px}², by the number of steps",
            tuple(Point(f"{n} steps", SD15, (_sd15(scale, n),), x=float(n)) for n in scale.step_counts),
            "steps",
        ),
        Case(
            "batch",
            f"the built-in model, {scale.steps} steps, by pictures at once",
            tuple(
                Point(f"{n} pictures", BUILTIN, (replace(_small(scale), count=n),), x=float(n)) for n in scale.batches
            ),
            "pictures",
        ),
        Case(
            "users",
            f"the built-in model, {scale.steps} steps each, by people who ask at the same moment",
            tuple(
                Point(f"{n} users", BUILTIN, tuple(_small(scale, at) for at in range(n)), "together", x=float(n))
                for n in scale.users
            ),
            "users",
        ),
    )


NAMES = (
    "builtin",
    "draft",
    "users8",
    "sd15",
    "img2img",
    "controlnet",
    "lora",
    "switch",
    "cold",
    "size",
    "steps",
    "batch",
    "users",
)
