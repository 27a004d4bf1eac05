"""Network tags: `<lora:name:0.8>`, `<lora:name:te=0.5:unet=0.7:dyn=4>`, `<hypernet:name:0.8>`, `<lyco:name>`.

A weight may change over the steps, a habit of the extension sd-webui-lora-ctl: `<lora:name:0@0,1@0.5>` or
`unet=0@0,1@0.5` is 0 at the beginning, 1 from the middle on, and linear in between. Moments up to 1 are parts of the
pass, above 1 they are step numbers. A text encoder reads once, before the first step: it gets the strongest weight of
a schedule.

`lbw=` takes a factor for each block, or a preset's name, as the extension sd-webui-lora-block-weight has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from danqing.prompt.ast import find_networks
from danqing.spec.errors import PromptSyntaxError

_POSITIONS = {"te": 1, "unet": 2, "dyn": 3}
_SAME_AS = {"lyco": "lora", "locon": "lora", "hypernetwork": "hypernet"}
KNOWN_ARGUMENTS = frozenset({"te", "unet", "dyn", "lbw"})


@dataclass(frozen=True, slots=True)
class NetworkTag:
    """One network tag of a prompt.

    Attributes:
        kind: The word after `<`, as written.
        positional: Arguments without a name; the first is the network's name.
        named: Arguments written `name=value`.
        position: Where the tag began in the prompt, in characters.
    """

    kind: str
    positional: tuple[str, ...]
    named: dict[str, str] = field(default_factory=dict[str, str])
    position: int = 0

    @property
    def family(self) -> str:
        """The kind with its aliases resolved: `lora` for lyco and locon."""
        return _SAME_AS.get(self.kind, self.kind)

    @property
    def name(self) -> str:
        """The network's name, as the person wrote it; "" if none is given."""
        return self.positional[0] if self.positional else ""

    @property
    def te(self) -> float:
        """Strength for the text encoder (1 if not given); for a hypernetwork, its strength."""
        return _strongest(self._schedule("te") or ((0.0, 1.0),))

    @property
    def unet(self) -> float:
        """Strength for the denoiser, the strongest of a schedule; the text encoder's if not given."""
        return _strongest(self.unet_schedule)

    @property
    def unet_schedule(self) -> tuple[tuple[float, float], ...]:
        """Strength for the denoiser over the steps, as (moment, weight); the text encoder's if not given."""
        return self._schedule("unet") or self._schedule("te") or ((0.0, 1.0),)

    @property
    def blocks(self) -> tuple[float, ...] | str:
        """Factors of the blocks, a preset's name in upper case, or () where none are given."""
        written = self.named.get("lbw", "").strip()
        if not written:
            return ()
        try:
            factors = tuple(float(number) for number in written.split(","))
        except ValueError:
            if written.isalpha():
                return written.upper()
            raise self._bad("lbw", written, "numbers with commas between them, or a preset's name") from None
        if not all(math.isfinite(factor) for factor in factors):
            raise self._bad("lbw", written, "finite numbers")
        return factors

    @property
    def unknown_arguments(self) -> tuple[str, ...]:
        """Named arguments that mean nothing here."""
        return tuple(name for name in self.named if name not in KNOWN_ARGUMENTS)

    @property
    def dyn(self) -> int | None:
        """Rank to reduce a LoRA to, or None."""
        written = self._written("dyn")
        if written is None:
            return None
        try:
            return int(written)
        except ValueError as error:
            raise self._bad("dyn", written, "a whole number") from error

    @property
    def problem(self) -> str | None:
        """Why the tag cannot be used, in one line, or None."""
        try:
            _ = (self.te, self.unet, self.dyn, self.blocks)
        except PromptSyntaxError as error:
            return str(error)
        return None if self.name.strip() else f"the tag <{self.kind}:…> names no network"

    def _written(self, argument: str) -> str | None:
        if argument in self.named:
            return self.named[argument]
        position = _POSITIONS[argument]
        return self.positional[position] if len(self.positional) > position else None

    def _schedule(self, argument: str) -> tuple[tuple[float, float], ...]:
        """(moment, weight) pairs in order of their moments; () where the argument is not given."""
        written = self._written(argument)
        if written is None:
            return ()
        points: list[tuple[float, float]] = []
        for entry in written.split(",") if "@" in written else (written,):
            weight, _, moment = entry.partition("@")
            try:
                point = (float(moment) if moment else 0.0, float(weight))
            except ValueError as error:
                raise self._bad(argument, written, "a number, or numbers such as 0@0,1@0.5") from error
            if not all(math.isfinite(number) for number in point) or point[0] < 0:
                raise self._bad(argument, written, "finite numbers, with moments from 0 on")
            points.append(point)
        return tuple(sorted(points))

    def _bad(self, argument: str, written: str, allowed: str) -> PromptSyntaxError:
        return PromptSyntaxError(
            f"the tag <{self.kind}:{self.name}> at character {self.position} has an unreadable {argument}",
            field="prompt",
            value=written,
            allowed=allowed,
            next_step=f"write it as <{self.kind}:{self.name}:0.8>",
        )


def _strongest(points: tuple[tuple[float, float], ...]) -> float:
    return max((weight for _, weight in points), key=abs)


def parse_networks(prompt: str) -> tuple[str, list[NetworkTag]]:
    """The prompt without its network tags, and the tags in order.

    Every `<word:…>` is a tag, known or not, as in A1111. An argument with exactly one `=` is named. Nothing is checked
    here: reading `te`, `unet` or `dyn` of a tag with unreadable numbers raises PromptSyntaxError, and `problem` tells.

    >>> parse_networks("a cat<lora:ink:0.8:unet=0.5>")
    ('a cat', [NetworkTag(kind='lora', positional=('ink', '0.8'), named={'unet': '0.5'}, position=5)])
    """
    tags: list[NetworkTag] = []
    kept: list[str] = []
    position = 0
    for found in find_networks(prompt):
        kept.append(prompt[position : found.start()])
        position = found.end()
        positional: list[str] = []
        named: dict[str, str] = {}
        for argument in found[2].split(":"):
            key, equals, value = argument.partition("=")
            if equals and "=" not in value:
                named[key] = value
            else:
                positional.append(argument)
        tags.append(NetworkTag(found[1], tuple(positional), named, found.start()))
    return "".join((*kept, prompt[position:])), tags
