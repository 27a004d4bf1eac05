"""`danqing tools`: work on files of weights. torch runs in a process of its own, a tensor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from danqing.cli.options import JsonOption, QuietOption, takes
from danqing.cli.terminal import Terminal
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.studio.elsewhere import in_process

app = typer.Typer(add_completion=False, no_args_is_help=True)
_TIMEOUT_S = 24 * 3600.0
_MIB = 2**20

FormatOption = Annotated[
    str | None, typer.Option("--to", metavar="FORMAT", help="fp32, fp16, bf16 or fp8; the file's own if left out.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors or .ckpt file.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, .safetensors.")]


@dataclass(frozen=True, kw_only=True)
class ToolOptions:
    """What every tool takes."""

    json: JsonOption = False
    quiet: QuietOption = False
    overwrite: OverwriteOption = False


@dataclass(frozen=True, kw_only=True)
class MergeOptions(ToolOptions):
    """What `danqing tools merge` takes."""

    first: Annotated[Path, typer.Argument(metavar="A", help="The first checkpoint.")]
    second: Annotated[Path, typer.Argument(metavar="B", help="The second one.")]
    out: Out
    third: Annotated[Path | None, typer.Option("--third", metavar="C", help="What B was made from.")] = None
    method: Annotated[str, typer.Option("--method", help="weighted: A·(1−α)+B·α; difference: A+(B−C)·α.")] = "weighted"
    alpha: Annotated[float, typer.Option("--alpha", help="α, mostly 0 to 1.")] = 0.5
    blocks: Annotated[
        str | None,
        typer.Option("--blocks", help="α by block: 25 or 26 numbers, or IN00-IN05=0.2,M00=1,OUT=0.5,BASE=0."),
    ] = None
    to: FormatOption = None
    discard: Annotated[
        str | None, typer.Option("--discard", metavar="REGEX", help="Leave out tensors with such names.")
    ] = None


@app.command()
@takes(MergeOptions)
def merge(options: MergeOptions) -> None:
    """Merge two checkpoints, or add what one learnt to another.

    Examples: danqing tools merge a.safetensors b.safetensors ab.safetensors --alpha 0.3
    """
    if options.method not in ("weighted", "difference"):
        raise InvalidRequestError(
            "there is no such method", field="--method", value=options.method, allowed="weighted, difference"
        )
    task = {
        "tool": "merge",
        "first": options.first,
        "second": options.second,
        "third": options.third,
        "method": options.method,
        "alpha": options.alpha,
        "blocks": options.blocks,
        "to": options.to,
        "discard": options.discard,
    }
    result = _run(options, task, options.out)
    _terminal(options).result(
        result, f"{result['file']}  {result['merged']} tensors merged, {result['kept']} kept  {_size(result['bytes'])}"
    )


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(ToolOptions):
    """What `danqing tools convert` takes."""

    source: Checkpoint
    out: Out
    to: FormatOption = None
    prune: Annotated[bool, typer.Option("--prune", help="Leave out what painting does not need.")] = False
    average: Annotated[
        str, typer.Option("--ema", metavar="WHAT", help="Averages of training: keep, drop, or use for the weights.")
    ] = "keep"
    vae: Annotated[Path | None, typer.Option("--vae", metavar="FILE", help="Bake this VAE in.")] = None


@app.command()
@takes(ConvertOptions)
def convert(options: ConvertOptions) -> None:
    """Change a checkpoint's number format, make .ckpt a .safetensors, prune it, bake a VAE in.

    Examples: danqing tools convert old.ckpt new.safetensors --to fp16 --prune
    """
    if options.average not in ("keep", "drop", "use"):
        raise InvalidRequestError(
            "there is no such choice", field="--ema", value=options.average, allowed="keep, drop, use"
        )
    task = {
        "tool": "convert",
        "source": options.source,
        "to": options.to,
        "prune": options.prune,
        "average": options.average,
        "vae": options.vae,
    }
    result = _run(options, task, options.out)
    lines = [f"{result['file']}  {_size(result['before_bytes'])} → {_size(result['bytes'])}"]
    lines.append(f"{result['tensors']} tensors, {result['left_out']} left out")
    if result["overflowed"]:
        lines.append(f"{len(result['overflowed'])} hold values that the format cannot: {result['overflowed'][0]} …")
    _terminal(options).result(result, "\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(ToolOptions):
    """What `danqing tools extract-lora` takes."""

    tuned: Annotated[Path, typer.Argument(metavar="TUNED", help="The fine-tuned checkpoint.")]
    base: Annotated[Path, typer.Argument(metavar="BASE", help="What it was made from.")]
    out: Out
    rank: Annotated[int, typer.Option("--rank", help="Of linear layers, 1 to 1024.")] = 32
    conv_rank: Annotated[int, typer.Option("--conv-rank", help="Of 3×3 convolutions; 0 leaves them out.")] = 0
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="fp32, fp16 or bf16.")] = "fp16"


@app.command("extract-lora")
@takes(ExtractOptions)
def extract_lora(options: ExtractOptions) -> None:
    """Make a LoRA of what a fine-tuned checkpoint learnt beyond its base.

    Examples: danqing tools extract-lora anime.safetensors sd15.safetensors anime-lora.safetensors --rank 64
    """
    task = {
        "tool": "extract",
        "tuned": options.tuned,
        "base": options.base,
        "rank": options.rank,
        "conv_rank": options.conv_rank,
        "to": options.to,
    }
    result = _run(options, task, options.out)
    _terminal(options).result(
        result,
        f"{result['file']}  {result['layers']} layers, {100 * result['explained']:.1f} % of the difference held"
        f"  {_size(result['bytes'])}",
    )


def _terminal(options: ToolOptions) -> Terminal:
    return Terminal(json=options.json, quiet=options.quiet)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.1f} MiB"


def _run(options: ToolOptions, task: dict[str, Any], out: Path) -> dict[str, Any]:
    """The tool in its process, with a bar while it works."""
    for key, value in task.items():
        if isinstance(value, Path) and not value.is_file():
            raise NotFoundError("there is no such file", field=key, value=str(value), next_step="check the path")
    plain = {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in task.items()}
    plain |= {"out": str(out.resolve()), "overwrite": options.overwrite}
    terminal = _terminal(options)
    if not terminal.shows_progress:
        return in_process("danqing.models.tools", plain, what=str(task["tool"]), timeout_s=_TIMEOUT_S)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=terminal.error_console, transient=True) as bar:
        shown = bar.add_task(str(task["tool"]), total=1.0)
        return in_process(
            "danqing.models.tools",
            plain,
            what=str(task["tool"]),
            timeout_s=_TIMEOUT_S,
            progress=lambda share: bar.update(shown, completed=share),
        )
