"""Pictures without what they say of themselves: every metadata block is cut out, no pixel is touched."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from danqing.spec.errors import BadFileError
from danqing.store.metadata import PNG_SIGNATURE

# What a decoder needs for the right pixels and colours; everything else is left out (PNG 3rd edition, section 11).
_PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"pHYs", b"cICP"}
)
_WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
_EXIF_FLAG, _XMP_FLAG = 0x08, 0x04
_SOS, _EOI, _APP0, _APP2, _APP14 = 0xDA, 0xD9, 0xE0, 0xE2, 0xEE
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def without_metadata(data: bytes) -> bytes:
    """The same picture with no text, Plan, EXIF, XMP or comment in it; colour profiles stay.

    Raises:
        BadFileError: It is no PNG, JPEG or WebP file, or a damaged one.
    """
    if data.startswith(PNG_SIGNATURE):
        return PNG_SIGNATURE + b"".join(_png(data))
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_jpeg(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        body = b"WEBP" + b"".join(_webp(data))
        return b"RIFF" + struct.pack("<I", len(body)) + body
    raise _damaged()


def _png(data: bytes) -> Iterator[bytes]:
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            break
        if name in _PNG_KEPT:
            yield data[place:end]
        if name == b"IEND":
            return
        place = end
    raise _damaged()


def _jpeg(data: bytes) -> Iterator[bytes]:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in _STANDALONE:
            yield data[place : place + 2]
            place += 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if end > len(data):
            break
        if marker == _SOS:  # the rest is picture data; progressive files have more segments within, none of them text
            yield data[place : data.rfind(b"\xff\xd9") + 2] if b"\xff\xd9" in data[end:] else data[place:]
            return
        if _is_kept(marker, data[place + 4 : end]):
            yield data[place:end]
        place = end
    raise _damaged()


def _is_kept(marker: int, body: bytes) -> bool:
    """Of the segments that an application may write: JFIF, Adobe's colour transform, colour profiles."""
    if marker == _APP2:
        return body.startswith(b"ICC_PROFILE\0")
    if marker == _APP0:
        return body.startswith(b"JFIF\0")
    if marker == _APP14:
        return body.startswith(b"Adobe")
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _webp(data: bytes) -> Iterator[bytes]:
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack("<4sI", data[place : place + 8])
        end = place + 8 + length + (length & 1)
        if place + 8 + length > len(data):
            raise _damaged()
        chunk = data[place:end]
        if name == b"VP8X" and length:
            chunk = chunk[:8] + bytes([chunk[8] & ~(_EXIF_FLAG | _XMP_FLAG)]) + chunk[9:]
        if name in _WEBP_KEPT:
            yield chunk
        place = end


def _damaged() -> BadFileError:
    return BadFileError(
        "this is no PNG, JPEG or WebP picture, or a damaged one", next_step="restore the file, or paint it again"
    )
