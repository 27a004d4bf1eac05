r"""EXIF UserComment and XMP, as bytes: just what pictures' metadata needs.

The comment is `UNICODE\0` and big-endian UTF-16, as A1111 writes it through piexif; others write little-endian.
Source of the layout: TIFF 6.0, §2; EXIF 2.32, §4.6.5.
"""

from __future__ import annotations

import html
import re
import struct
from typing import Final

_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_LONG: Final = 4
_UNDEFINED: Final = 7
_PREFIX: Final = b"Exif\0\0"
_UNICODE: Final = b"UNICODE\0"
_ENTRY_BYTES = 12
_MAX_ENTRIES = 1000
_NAMESPACE = "urn:danqing:plan:1"
_PLAN = re.compile(r"<danqing:plan>([^<]*)</danqing:plan>")


def exif_with_comment(text: str) -> bytes:
    """An EXIF block that holds one UserComment."""
    comment = _UNICODE + text.encode("utf-16-be", "replace")
    first_directory, second_directory = 8, 26
    comment_at = second_directory + 18
    return b"".join(
        (
            _PREFIX,
            b"MM\0*",
            struct.pack(">I", first_directory),
            struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, second_directory, 0),
            struct.pack(">HHHIII", 1, _USER_COMMENT, _UNDEFINED, len(comment), comment_at, 0),
            comment,
        )
    )


def read_comment(exif: object, max_bytes: int, notes: list[str]) -> str:
    """The UserComment of an EXIF block, "" if it has none or is damaged."""
    if not isinstance(exif, bytes) or not exif:
        return ""
    block = exif.removeprefix(_PREFIX)
    order = {b"MM": ">", b"II": "<"}.get(block[:2])
    if order is None:
        return ""
    try:
        pointer = _find(block, struct.unpack_from(order + "I", block, 4)[0], _EXIF_IFD, order)
        found = _find(block, pointer[1], _USER_COMMENT, order) if pointer else None
    except struct.error:
        notes.append("the EXIF block is damaged and was left out")
        return ""
    if found is None:
        return ""
    count, offset = found
    if count > max_bytes:
        notes.append("the EXIF comment is too large and was left out")
        return ""
    return _decode(block[offset : offset + count], order)


def xmp_with_plan(plan_json: str) -> bytes:
    """An XMP packet that holds a Plan's JSON."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:danqing="{_NAMESPACE}">'
        f"<danqing:plan>{html.escape(plan_json, quote=False)}</danqing:plan>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode("utf-8", "replace")


def read_xmp_plan(xmp: object, max_bytes: int) -> str:
    """The Plan's JSON in an XMP packet, "" if there is none. No XML parser sees the packet."""
    if isinstance(xmp, bytes) and len(xmp) <= 2 * max_bytes:
        xmp = xmp.decode("utf-8", "replace")
    if not isinstance(xmp, str) or len(xmp) > 2 * max_bytes:
        return ""
    found = _PLAN.search(xmp)
    return html.unescape(found[1]) if found else ""


def _find(block: bytes, directory: int, tag: int, order: str) -> tuple[int, int] | None:
    """(count, value or offset) of a tag in a directory."""
    (entries,) = struct.unpack_from(order + "H", block, directory)
    for index in range(min(entries, _MAX_ENTRIES)):
        at = directory + 2 + index * _ENTRY_BYTES
        name, _, count, value = struct.unpack_from(order + "HHII", block, at)
        if name == tag:
            return count, at + 8 if tag == _USER_COMMENT and count <= 4 else value
    return None


def _decode(comment: bytes, order: str) -> str:
    kind, text = comment[:8], comment[8:]
    if kind == _UNICODE:
        return _utf16(text, order).rstrip("\0")
    if kind not in {b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)}:
        text = comment
    encoding = "shift_jis" if kind.startswith(b"JIS") else "utf-8"
    return text.decode(encoding, "replace").rstrip("\0 ")


def _utf16(text: bytes, order: str) -> str:
    """UTF-16 whose byte order nobody marks: the one in which more characters are ASCII, else the block's own."""
    if text[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return text.decode("utf-16", "replace")
    text = text[: len(text) // 2 * 2]
    big, little = text[0::2].count(0), text[1::2].count(0)
    if big == little:
        return text.decode("utf-16-be" if order == ">" else "utf-16-le", "replace")
    return text.decode("utf-16-be" if big > little else "utf-16-le", "replace")
