"""The header of a GGUF file (llama.cpp's format, versions 2 and 3), as ComfyUI-GGUF and diffusers use it for denoisers.

Format: ggml's docs/gguf.md. A reader of our own, since the header is short and every length in it must be bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from danqing.spec.errors import BadFileError
from danqing.spec.files import Header, TensorInfo

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_TEXT_LIMIT_BYTES = 16_000_000
_COUNT_LIMIT = 1_000_000
_KEPT_ITEMS = 64
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TYPES = {
    0: "float32",
    1: "float16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "int8",
    25: "int16",
    26: "int32",
    27: "int64",
    28: "float64",
    29: "IQ1_M",
    30: "bfloat16",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}


@dataclass
class _Reader:
    """Little-endian numbers and strings, never past the end of the file."""

    file: BinaryIO
    left: int

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise BadFileError(
                "is cut off inside its GGUF header", next_step="the download was not finished: fetch it again"
            )
        self.left -= length
        return self.file.read(length)

    def number(self, form: str) -> int | float | bool:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def count(self, form: str, limit: int, what: str) -> int:
        value = int(self.number(form))
        if value > limit:
            raise BadFileError(f"has a damaged GGUF header: {value:,} {what}", next_step="download it again")
        return value

    def text(self) -> str:
        return self.take(self.count("Q", _TEXT_LIMIT_BYTES, "bytes of text")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> str:
        """A metadata value as text; of a long array only the beginning."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY and depth < 3:
            inner = int(self.number("I"))
            items: list[str] = []
            length = self.count("Q", self.left, "items")
            for index in range(length):
                item = self.value(inner, depth + 1)
                if index < _KEPT_ITEMS:
                    items.append(item)
            return ", ".join(items) + (f", … {length} in all" if length > _KEPT_ITEMS else "")
        if kind not in _SCALARS:
            raise BadFileError(
                "has a damaged GGUF header: a value of no known type", value=kind, next_step="download it again"
            )
        return str(self.number(_SCALARS[kind]))


def read_gguf(file: BinaryIO, size: int) -> Header:
    """The header of an open GGUF file.

    Raises:
        BadFileError: It is damaged or of a version that is not known.
    """
    reader = _Reader(file, size)
    reader.take(len(MAGIC))
    version = reader.number("I")
    if version not in _VERSIONS:
        raise BadFileError(
            "is a GGUF file of a version that is not known",
            value=version,
            allowed="2 or 3, little-endian",
            next_step="convert it with a current llama.cpp or ComfyUI-GGUF",
        )
    tensor_count = reader.count("Q", _COUNT_LIMIT, "tensors")
    value_count = reader.count("Q", _COUNT_LIMIT, "values")
    metadata: dict[str, str] = {}
    for _ in range(value_count):
        key = reader.text()
        metadata[key] = reader.value(int(reader.number("I")))
    tensors: dict[str, TensorInfo] = {}
    for _ in range(tensor_count):
        name = reader.text()
        sides = reader.count("I", 8, "sides of one tensor")
        # GGUF counts from the innermost side.
        shape = tuple(int(reader.number("Q")) for _ in range(sides))[::-1]
        kind = int(reader.number("I"))
        if int(reader.number("Q")) > size:
            raise BadFileError("is cut off: a tensor lies beyond its end", value=name, next_step="fetch it again")
        tensors[name] = TensorInfo(_TYPES.get(kind, f"ggml_{kind}"), _true_shape(metadata, name, shape))
    return Header("gguf", tensors, metadata)


def _true_shape(metadata: dict[str, str], name: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The shape before ComfyUI-GGUF flattened a tensor of more than four sides or of odd ones."""
    words = metadata.get(f"comfy.gguf.orig_shape.{name}", "").split(", ")
    return tuple(map(int, words)) if all(word.isdigit() for word in words) else stored
