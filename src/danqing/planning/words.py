"""The words of each picture: Midjourney's form read, styles applied, wildcards drawn from the picture's seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from danqing.planning.networks import KINDS
from danqing.prompt.dynamic import WildcardSource, expand
from danqing.prompt.midjourney import expand_midjourney
from danqing.prompt.midjourney_flags import size_for_aspect
from danqing.prompt.networks import parse_networks
from danqing.prompt.styles import Style, apply_styles
from danqing.spec.request import Request


@dataclass(frozen=True)
class PromptLibrary:
    """Styles and wildcards, wherever they are kept.

    Attributes:
        styles: By name.
        wildcards: What `__name__` draws from; literal text without it.
    """

    styles: Mapping[str, Style] = field(default_factory=dict[str, Style])
    wildcards: WildcardSource | None = None


@dataclass(frozen=True)
class Words:
    """What is said about one picture, and what its words ask for besides.

    Attributes:
        prompt: In A1111's grammar.
        negative_prompt: Likewise.
        aspect: Width : height, from `--ar`.
        seed: From `--seed`.
        guidance_factor: On the model's own guidance scale, from `--stylize`.
        notes: What was left out and why.
    """

    prompt: str
    negative_prompt: str
    aspect: tuple[int, int] | None = None
    seed: int | None = None
    guidance_factor: float | None = None
    notes: tuple[str, ...] = ()

    def sides(self, native_px: int, multiple_px: int) -> tuple[int, int]:
        """Width and height with the model's native area and this aspect."""
        return size_for_aspect(self.aspect or (1, 1), native_px, multiple_px)


def words_of(request: Request, seed: int, library: PromptLibrary | None) -> list[Words]:
    """The words of each picture of a Request, in order.

    Args:
        request: What a person asks for.
        seed: Of the first picture; picture i draws its wildcards from seed + i.
        library: Styles and wildcards.

    Raises:
        NotFoundError: A style is not there.
        InvalidRequestError: A wildcard is not there.
        PromptSyntaxError: A Midjourney flag or a dynamic prompt is malformed.
    """
    starts = (
        _midjourney(request) if request.syntax == "midjourney" else [Words(request.prompt, request.negative_prompt)]
    )
    return [_finished(words, request, seed + index, library) for index, words in enumerate(_counted(starts, request))]


def _counted(starts: list[Words], request: Request) -> list[Words]:
    return [words for words in starts for _ in range(request.count)][:64]


def _finished(words: Words, request: Request, seed: int, library: PromptLibrary | None) -> Words:
    known = library or PromptLibrary()
    prompt, negative = apply_styles(words.prompt, words.negative_prompt, request.styles, known.styles)
    if request.syntax == "a1111":
        prompt, negative = (expand(text, seed, known.wildcards) for text in (prompt, negative))
    _, tags = parse_networks(prompt)
    strange = [tag for tag in tags if tag.family not in KINDS]
    ignored = tuple(f"{tag.kind}:{tag.name} was left out: there are {', '.join(KINDS)} tags" for tag in strange)
    return replace(words, prompt=prompt, negative_prompt=negative, notes=words.notes + ignored)


def _midjourney(request: Request) -> list[Words]:
    return [
        Words(
            prompt=one.prompt,
            negative_prompt=", ".join(text for text in (request.negative_prompt, one.negative) if text),
            aspect=one.effects.aspect,
            seed=one.effects.seed,
            guidance_factor=one.effects.guidance_factor,
            notes=tuple(f"{flag} was left out: {reason}" for flag, reason in one.refused),
        )
        for one in expand_midjourney(request.prompt)
        for _ in range(one.effects.repeat or 1)
    ]
