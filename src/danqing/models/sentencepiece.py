"""A SentencePiece unigram model (`spiece.model`) as a tokenizer of the tokenizers library.

The file is a protocol buffer, `ModelProto` of sentencepiece_model.proto: pieces (field 1: text, score, kind) and the
normaliser (field 3, whose field 2 is its table of characters). Only these are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from danqing.spec.errors import BadFileError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECES, _NORMALIZER = 1, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_CHARACTERS = 2
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_SPACE = "▁"
_LIMIT_BYTES = 64 << 20


def read_spiece(path: Path) -> Tokenizer:
    """The tokenizer in a file.

    Raises:
        BadFileError: It is no such file, or no unigram model with an unknown piece.
    """
    try:
        with path.open("rb") as stream:
            fields = list(_fields(stream.read(_LIMIT_BYTES)))
        pieces = [_piece(body) for number, body in fields if number == _PIECES and isinstance(body, bytes)]
        unknown = next(at for at, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN)
        tokenizer = Tokenizer(models.Unigram([(text, score) for text, score, _ in pieces], unknown))
    except (OSError, ValueError, IndexError, StopIteration, struct.error) as error:
        raise BadFileError(
            f"{path.name} is no SentencePiece model: {error}", value=str(path), next_step="download the file again"
        ) from error
    tables = [body for number, body in fields if number == _NORMALIZER and isinstance(body, bytes)]
    characters = b"".join(body for table in tables for number, body in _fields(table) if number == _CHARACTERS)
    steps: list[normalizers.Normalizer] = [normalizers.Precompiled(characters)] if characters else []
    steps += [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), _SPACE)]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text, _, kind in pieces if kind == _CONTROL])
    return tokenizer


def _piece(body: bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, _NORMAL
    for number, value in _fields(body):
        if number == _TEXT and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == _SCORE and isinstance(value, bytes):
            score = float(struct.unpack("<f", value)[0])
        elif number == _KIND and isinstance(value, int):
            kind = value
    return text, score, kind


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of the fields of a protocol buffer, in order."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            length, at = _varint(data, at)
        if length is None or at + length > len(data):
            raise ValueError("damaged")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("damaged")
