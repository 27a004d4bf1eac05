"""Prompt editing and alternation: which text each sampling step sees.

`[from:to:when]` changes at a step (an integer) or at a fraction of the steps (a number with a decimal point),
`[a|b]` changes every step. In a hires pass, step numbers go on from the base pass and fractions run from 1 to 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from danqing.prompt.ast import WHEN, Alternate, Escape, Node, Round, Scheduled, Square, Stray, parse_nodes
from danqing.prompt.printer import to_text
from danqing.spec.errors import InvalidRequestError, PromptSyntaxError

MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class _Clock:
    """How a written number becomes a step of this pass."""

    steps: int
    first_step: int = 0
    first_fraction: float = 0.0
    old: bool = False

    def step_of(self, written: str) -> int:
        """The last step that still sees the text before the change; below 1 means never."""
        found = WHEN.match(written)
        number = float(found[1]) if found else 0.0
        if self.old:
            number = number * self.steps if number < 1 else number
        elif "." in written:
            number = (number - self.first_fraction) * self.steps
        else:
            number -= self.first_step
        try:
            return min(self.steps, int(number))
        except OverflowError as error:
            raise PromptSyntaxError(
                "a prompt edit changes at a step that is no finite number",
                field="prompt",
                value=written.strip(),
                allowed="a step number such as 12, or a fraction of the steps such as 0.4",
                next_step="write a smaller number in [from:to:when]",
            ) from error


def schedules(
    prompt: str, base_steps: int, hires_steps: int | None = None, use_old_scheduling: bool = False
) -> list[tuple[int, str]]:
    """Which text applies until which step, the step included; steps count from 1.

    A text that the grammar cannot read (a bar outside `[a|b]`, a backslash at the end) is used literally at every step.

    Args:
        prompt: The text of one part, without network tags.
        base_steps: Steps of the base pass.
        hires_steps: Steps of the hires pass, if the schedule of the hires pass is wanted.
        use_old_scheduling: A1111's rule before 1.6: numbers below 1 are fractions, and hires counts as the base pass.

    Returns:
        (last step, text) in ascending order; the last entry's step is the number of steps.

    Raises:
        InvalidRequestError: The number of steps is not between 1 and 10000.
        PromptSyntaxError: A change at a step that overflows.

    >>> schedules("a [b:c:.5] d", 10)
    [(5, 'a b d'), (10, 'a c d')]
    """
    _check_steps("steps", base_steps)
    if hires_steps is None or use_old_scheduling:
        clock = _Clock(base_steps, old=use_old_scheduling)
    else:
        _check_steps("hires.steps", hires_steps)
        clock = _Clock(hires_steps, first_step=base_steps, first_fraction=1.0)
    nodes = parse_nodes(prompt, tags=False)
    if not _readable(nodes):
        return [(clock.steps, prompt)]
    changes = {clock.steps}
    for node in _walk(nodes):
        if isinstance(node, Alternate):
            changes.update(range(1, clock.steps + 1))
        elif isinstance(node, Scheduled) and (step := clock.step_of(node.when)) >= 1:
            changes.add(step)
    pieces = _compiled(nodes, clock)
    return [(step, _text_at(pieces, step)) for step in sorted(changes)]


def text_at_step(schedule: Sequence[tuple[int, str]], step: int) -> str:
    """The text that a step (counted from 1) sees; steps after the last entry see the last text."""
    return next((text for last, text in schedule if step <= last), schedule[-1][1])


def _check_steps(field: str, steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidRequestError(
            "the number of steps is out of range", field=field, value=steps, allowed=f"1 to {MAX_STEPS}"
        )


def _children(node: Node) -> Iterator[Sequence[Node]]:
    match node:
        case Round(body, tail):
            yield body
            if tail is not None:
                yield tail
        case Square(body):
            yield body
        case Scheduled(before, after, _):
            if before is not None:
                yield before
            yield after
        case Alternate(options):
            yield from options
        case _:
            return


def _walk(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        for child in _children(node):
            yield from _walk(child)
        yield node


def _readable(nodes: Sequence[Node]) -> bool:
    bar = any(isinstance(node, Stray) and node.text == "|" for node in nodes)
    return not bar and not any(isinstance(node, Escape) and len(node.text) == 1 for node in _walk(nodes))


@dataclass(frozen=True, slots=True)
class _Switch:
    """Text that changes: the choice at a step is `choices[step - 1]`, around again where they run out."""

    choices: tuple[tuple[_Piece, ...], ...]
    last_step: int | None = None

    def at(self, step: int) -> tuple[_Piece, ...]:
        if self.last_step is not None:
            return self.choices[0 if step <= self.last_step else 1]
        return self.choices[(step - 1) % len(self.choices)]


_Piece: TypeAlias = str | _Switch


def _compiled(nodes: Sequence[Node], clock: _Clock) -> tuple[_Piece, ...]:
    """The nodes as runs of text and switches, for a text each step costs little."""
    pieces: list[_Piece] = []
    for node in nodes:
        match node:
            case Scheduled(before, after, when):
                choices = (_compiled(before or (), clock), _compiled(after, clock))
                pieces.append(_Switch(choices, clock.step_of(when)))
            case Alternate(options):
                pieces.append(_Switch(tuple(_compiled(option, clock) for option in options)))
            case Round(body, None):
                pieces += ["(", *_compiled(body, clock), ")"]
            case Round(body, tail):
                pieces += ["(", *_compiled(body, clock), ":", *_compiled(tail or (), clock), ")"]
            case Square(body):
                pieces += ["[", *_compiled(body, clock), "]"]
            case _:
                pieces.append(to_text((node,)))
    return tuple(pieces)


def _text_at(pieces: Sequence[_Piece], step: int) -> str:
    return "".join(piece if isinstance(piece, str) else _text_at(piece.at(step), step) for piece in pieces)
