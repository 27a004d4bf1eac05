"""What a weight does to the text encoder's output: the four emphasis modes of A1111, with no torch."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, TypeVar

from danqing.prompt.attention import BREAK_TEXT, BREAK_WEIGHT, weighted_texts


class EmphasisMode(StrEnum):
    """How weights in brackets act; the values are A1111's option names."""

    NONE = "None"
    """Brackets are literal characters, and BREAK is a word."""
    IGNORE = "Ignore"
    """Brackets are read and removed, and every weight counts as 1."""
    ORIGINAL = "Original"
    """Multiply, then restore the mean of the chunk."""
    NO_NORM = "No norm"
    """Multiply only; better for SDXL."""

    @classmethod
    def _missing_(cls, value: object) -> EmphasisMode | None:
        wanted = str(value).casefold().replace("_", " ").replace("-", " ")
        return next((mode for mode in cls if mode.value.casefold() == wanted), None)


class ArrayLike(Protocol):
    """What `apply_emphasis` needs of an array; numpy arrays and torch tensors both have it."""

    @property
    def shape(self) -> Any:
        """Length of each axis."""
        ...

    def mean(self) -> Any:
        """Mean of all elements."""
        ...

    def reshape(self, *shape: Any) -> Any:
        """The same elements in another shape."""
        ...

    def __mul__(self, other: Any, /) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=ArrayLike)


def apply_emphasis(z: ArrayT, multipliers: ArrayT, mode: EmphasisMode) -> ArrayT:
    """The encoder's output with the weights applied.

    The mean is taken over everything in `z`, so pass one chunk of one prompt at a time (`[1, 77, d]`) where results
    must not depend on the company; A1111 passes a chunk of all prompts of a batch together. Use float32: a mean in
    half precision is rounded.

    Args:
        z: Output of the text encoder for one chunk, `[b, 77, d]`.
        multipliers: Weight of each token, `[b, 77]`, same kind of array.
        mode: The emphasis mode.

    Returns:
        An array like `z`.
    """
    if mode in {EmphasisMode.NONE, EmphasisMode.IGNORE}:
        return z
    weighted = z * multipliers.reshape((*multipliers.shape, 1))
    if mode is EmphasisMode.NO_NORM:
        return weighted
    return weighted * (z.mean() / weighted.mean())


def pieces_for(text: str, mode: EmphasisMode) -> list[tuple[str, float]]:
    """The (text, weight) pairs that the tokenizer sees under a mode.

    >>> pieces_for("a (b)", EmphasisMode.NONE)
    [('a (b)', 1.0)]
    """
    if mode is EmphasisMode.NONE:
        return [(text, 1.0)]
    pieces = weighted_texts(text)
    if mode is EmphasisMode.IGNORE:
        return [piece if piece == (BREAK_TEXT, BREAK_WEIGHT) else (piece[0], 1.0) for piece in pieces]
    return pieces
