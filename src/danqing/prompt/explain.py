"""Explain a prompt: everything that the prompt language makes of it, as JSON-ready data."""

from __future__ import annotations

from typing import Any

from danqing.prompt.chunks import Chunk, EmbeddingLookup, TokenizerLike, chunk_prompt
from danqing.prompt.composable import composable_parts
from danqing.prompt.emphasis import EmphasisMode, pieces_for
from danqing.prompt.midjourney import expand_midjourney
from danqing.prompt.networks import NetworkTag, parse_networks
from danqing.prompt.schedule import schedules
from danqing.prompt.tokenizer import builtin_tokenizer_folder, default_tokenizer
from danqing.spec.errors import InvalidRequestError


def explain(
    prompt: str,
    *,
    steps: int,
    hires_steps: int | None = None,
    tokenizer: TokenizerLike | None = None,
    syntax: str = "a1111",
    emphasis: str = "Original",
) -> dict[str, Any]:
    """What the prompt language makes of a prompt.

    Args:
        prompt: The prompt as a person writes it.
        steps: Steps of the base pass.
        hires_steps: Steps of the hires pass; then the schedule is the hires pass's.
        tokenizer: For `chunks`; the built-in family's if None.
        syntax: `a1111` or `midjourney`.
        emphasis: The emphasis mode: Original, No norm, Ignore or None.

    Returns:
        `schedules` as `[[until_step, text], …]`; `parts` of AND as `{text, weight}`; `weights` of the first schedule
        entry as `[[text, weight], …]`; `chunks` of it; `networks`. Where there are several parts, `part_schedules` too;
        for Midjourney, `midjourney` with the flags' effects.

    Raises:
        PromptSyntaxError: What A1111 could not run either, or a malformed Midjourney flag.
        InvalidRequestError: Steps, syntax or emphasis out of range.
    """
    mode = _mode(emphasis)
    if syntax == "midjourney":
        return _explain_midjourney(prompt, steps, hires_steps, tokenizer)
    if syntax != "a1111":
        raise InvalidRequestError("unknown prompt syntax", field="syntax", value=syntax, allowed="a1111, midjourney")
    text, networks = parse_networks(prompt)
    whole = schedules(text, steps, hires_steps)
    parts = composable_parts(text)
    pieces = pieces_for(whole[0][1], mode)
    explained: dict[str, Any] = {
        "schedules": [list(entry) for entry in whole],
        "parts": [{"text": part.text, "weight": part.weight} for part in parts],
        "weights": [list(piece) for piece in pieces],
        "chunks": chunks_as_data(pieces, tokenizer),
        "networks": [_network(tag) for tag in networks],
    }
    if len(parts) > 1:
        explained["part_schedules"] = [
            [list(entry) for entry in schedules(part.text, steps, hires_steps)] for part in parts
        ]
    return explained


def chunks_as_data(
    pieces: list[tuple[str, float]], tokenizer: TokenizerLike | None = None, embeddings: EmbeddingLookup | None = None
) -> list[dict[str, Any]]:
    """The chunks of weighted texts as JSON-ready data; empty where no tokenizer is installed."""
    if tokenizer is None:
        if builtin_tokenizer_folder() is None:
            return []
        tokenizer = default_tokenizer()
    return [_chunk(chunk, tokenizer) for chunk in chunk_prompt(pieces, tokenizer, embeddings=embeddings)]


def _chunk(chunk: Chunk, tokenizer: TokenizerLike) -> dict[str, Any]:
    used = range(1, chunk.count + 1)
    return {
        "count": chunk.count,
        "tokens": [
            {"id": chunk.ids[place], "text": tokenizer.token(chunk.ids[place]), "multiplier": chunk.multipliers[place]}
            for place in used
        ],
        "ids": list(chunk.ids),
        "multipliers": list(chunk.multipliers),
        "embeddings": [{"name": slot.name, "position": slot.position, "vectors": slot.vectors} for slot in chunk.slots],
    }


def _network(tag: NetworkTag) -> dict[str, Any]:
    data: dict[str, Any] = {
        "kind": tag.kind,
        "name": tag.name,
        "positional": list(tag.positional),
        "named": dict(tag.named),
    }
    if tag.problem is not None:
        return {**data, "problem": tag.problem}
    return {**data, "te": tag.te, "unet": tag.unet, "dyn": tag.dyn}


def _explain_midjourney(
    prompt: str, steps: int, hires_steps: int | None, tokenizer: TokenizerLike | None
) -> dict[str, Any]:
    expanded = expand_midjourney(prompt)
    effects = expanded[0]
    # In Midjourney brackets are literal and nothing is scheduled.
    text = effects.text
    pieces = pieces_for(text, EmphasisMode.NONE)
    return {
        "schedules": [[hires_steps or steps, text]],
        "parts": [{"text": part.text, "weight": part.weight} for part in effects.parts],
        "weights": [list(piece) for piece in pieces],
        "chunks": chunks_as_data(pieces, tokenizer),
        "networks": [],
        "midjourney": {**effects.as_dict(), "permutations": [other.prompt for other in expanded]},
    }


def _mode(emphasis: str) -> EmphasisMode:
    try:
        return EmphasisMode(emphasis)
    except ValueError as error:
        raise InvalidRequestError(
            "unknown emphasis mode", field="emphasis", value=emphasis, allowed=", ".join(EmphasisMode)
        ) from error
