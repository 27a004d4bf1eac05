"""The words of each picture: Midjourney's form read, styles applied, wildcards drawn from the picture's seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from danqing.prompt.midjourney import expand_midjourney
from danqing.prompt.midjourney_flags import size_for_aspect
from danqing.prompt.networks import parse_networks
from danqing.spec.errors import NotFoundError
from danqing.spec.request import Request


class PromptLibrary(Protocol):
    """Styles and wildcards, wherever they are kept."""

    def apply_styles(self, prompt: str, negative_prompt: str, names: tuple[str, ...]) -> tuple[str, str]:
        """Prompt and negative prompt with styles applied in order.

        Raises:
            NotFoundError: There is no such style.
        """
        ...

    def expand(self, text: str, seed: int) -> str:
        """The text with its wildcards and dynamic parts drawn from `seed`."""
        ...


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
        PromptSyntaxError: A Midjourney flag or a dynamic prompt is malformed.
    """
    starts = (
        _midjourney(request) if request.syntax == "midjourney" else [Words(request.prompt, request.negative_prompt)]
    )
    return [_finished(words, request, seed + index, library) for index, words in enumerate(_counted(starts, request))]


def _counted(starts: list[Words], request: Request) -> list[Words]:
    return [words for words in starts for _ in range(request.count)][:64]


def _finished(words: Words, request: Request, seed: int, library: PromptLibrary | None) -> Words:
    prompt, negative = words.prompt, words.negative_prompt
    if library is not None:
        prompt, negative = library.apply_styles(prompt, negative, request.styles)
        prompt, negative = library.expand(prompt, seed), library.expand(negative, seed)
    elif request.styles:
        raise NotFoundError(
            "there is no such style",
            field="styles",
            value=request.styles[0],
            allowed="the names in styles.csv",
            next_step="add the style to styles.csv, or leave it out",
        )
    _, networks = parse_networks(prompt)
    ignored = tuple(f"{tag.kind}:{tag.name} was left out: this version loads no such files" for tag in networks)
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
