"""`danqing prompt`: what the prompt language makes of a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from danqing.cli.options import JsonOption, takes
from danqing.cli.terminal import Terminal
from danqing.prompt.explain import explain

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What `danqing prompt` takes."""

    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt as you would paint it.")]
    steps: Annotated[int, typer.Option("--steps", min=1, max=500, help="Steps of the first pass.")] = 20
    hires_steps: Annotated[
        int | None, typer.Option("--hires-steps", min=1, max=500, help="Steps of a hires pass; then its schedule.")
    ] = None
    syntax: Annotated[str, typer.Option("--syntax", help="a1111 or midjourney.")] = "a1111"
    json: JsonOption = False


@app.command()
@takes(PromptOptions)
def prompt(options: PromptOptions) -> None:
    """Explain a prompt: schedules, parts, weights, chunks and networks."""
    explained = explain(options.prompt, steps=options.steps, hires_steps=options.hires_steps, syntax=options.syntax)
    Terminal(json=options.json).result(explained, "\n".join(_lines(explained)))


def _lines(explained: dict[str, Any]) -> list[str]:
    lines = [f"until step {until}: {text}" for until, text in explained["schedules"]]
    if len(explained["parts"]) > 1:
        lines += [f"part ×{part['weight']:g}: {part['text']}" for part in explained["parts"]]
    lines += [f"weight {weight:.3g}: {text}" for text, weight in explained["weights"]]
    lines += [f"chunk {place}: {chunk['count']} tokens" for place, chunk in enumerate(explained["chunks"], start=1)]
    lines += [f"network {network['kind']}: {network['name']}" for network in explained["networks"]]
    return lines
