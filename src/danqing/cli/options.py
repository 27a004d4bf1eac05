"""Options as dataclasses: a command takes one object, Typer sees one option per field."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

Options = TypeVar("Options")


class ListsByDefault(TyperGroup):
    """A group whose `list` runs when no command is named: `danqing models --json` is `danqing models list --json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` where a command is missing."""
        if not args or (args[0].startswith("-") and args[0] not in {"-h", "--help"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object on stdout.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder (DANQING_DATA_DIR, else the user's).")
]
ModelsOption = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Models folder, as A1111 lays it out.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the result.")]
DeviceOption = Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda:0, mps …")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", metavar="NAME", help="auto, float32, bfloat16, float16, float8, int8, nf4")
]

MemoryOption = Annotated[
    float | None, typer.Option("--memory", metavar="GIB", help="Main memory that a worker may take, at most.")
]
VramOption = Annotated[
    float | None, typer.Option("--vram", metavar="GIB", help="A GPU's memory that a worker may take, at most.")
]


@dataclass(frozen=True, kw_only=True)
class StudioOptions:
    """What every command that opens the studio takes."""

    json: JsonOption = False
    quiet: QuietOption = False
    data: DataOption = None
    models: ModelsOption = None


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(StudioOptions):
    """What every command that paints takes."""

    device: DeviceOption = None
    precision: PrecisionOption = None
    memory: MemoryOption = None
    vram: VramOption = None


def takes(kind: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Make a function of one options object look to Typer like a function of its fields.

    Args:
        kind: The options dataclass; each field is `Annotated[…, typer.Option(…)]` with a default, or an argument.

    Returns:
        The decorator.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(typing.cast("Any", kind))
    ]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(kind(**values))

        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate
