"""Tensor tables that were read before: files of one trainer often differ in metadata and weights alone."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, TypeVar, cast

import orjson

from danqing.spec.files import TensorInfo

T = TypeVar("T")
_KEPT = 128
_METADATA = b'{"__metadata__":{'
_END = b'"}'


class TensorTable(dict[str, TensorInfo]):
    """Tensor by name, with room for what was worked out from it (it is not changed once it is read)."""

    __slots__ = ("derived",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.derived: dict[Any, Any] = {}


class HeaderMemo:
    """The last tables that were read, by the digest of the text that describes them."""

    def __init__(self) -> None:
        self._tables: OrderedDict[bytes, tuple[TensorTable, int]] = OrderedDict()

    def get(self, digest: bytes) -> tuple[TensorTable, int] | None:
        """(table, length of the weights in bytes) of the same description, if it was read lately."""
        found = self._tables.get(digest)
        if found is not None:
            self._tables.move_to_end(digest)
        return found

    def put(self, digest: bytes, table: TensorTable, length: int) -> None:
        """Remember a table, and forget the one that was not asked for the longest."""
        self._tables[digest] = (table, length)
        if len(self._tables) > _KEPT:
            self._tables.popitem(last=False)


def split(text: bytes) -> tuple[dict[str, str], bytes] | None:
    """(metadata, digest of the rest) of a safetensors header; None where its metadata does not stand in front alone.

    The rest is not looked into: a digest that is known belongs to a text that was read and found good.
    """
    if not text.startswith(_METADATA):
        return None if b'"__metadata__"' in text else ({}, hashlib.sha1(text, usedforsecurity=False).digest())
    at = text.find(_END, len(_METADATA) - 1)
    while at >= 0 and text[at - 1 : at] == b"\\":
        at = text.find(_END, at + 1)
    if at < 0:
        return None
    end = at + len(_END)
    try:
        words: Any = orjson.loads(text[len(_METADATA) - 1 : end])
    except ValueError:
        return None
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in cast("dict[str, Any]", words).values()):
        return None
    rest = hashlib.sha1(memoryview(text)[end:], usedforsecurity=False).digest()
    return cast("dict[str, str]", words), rest
