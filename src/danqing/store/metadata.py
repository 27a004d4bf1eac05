"""What a picture file says of itself: A1111's infotext, and the full Plan as JSON.

| file | infotext | Plan |
|---|---|---|
| PNG | text chunk `parameters` | text chunk `danqing` |
| JPEG, WebP | EXIF UserComment, UTF-16 | XMP property `danqing:plan` |

Reading decodes no pixels, opens nothing but the bytes it is given, and answers hostile files with BadFileError or with
notes, never with a traceback.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from PIL import Image, PngImagePlugin
from pydantic import ValidationError

from danqing.prompt.infotext import ReadInfotext, request_from_infotext
from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.errors import BadFileError
from danqing.spec.painting import Output
from danqing.spec.plan import Plan
from danqing.store.exif import exif_with_comment, read_comment, read_xmp_plan, xmp_with_plan

MAX_FILE_BYTES: Final = 256 * 2**20
MAX_TEXT_BYTES: Final = 2 * 2**20
"""Of one text chunk, uncompressed; larger ones are left out and noted."""
MAX_TEXTS: Final = 64

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
INFOTEXT_KEY: Final = "parameters"
PLAN_KEY: Final = "danqing"
_JPEG_SEGMENT_BYTES = 65_000
_MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """What was found in a picture file.

    Attributes:
        format: `png`, `jpeg`, `webp` or another of Pillow's names, lower-case.
        width_px: Width of the picture.
        height_px: Height of the picture.
        infotext: A1111's infotext, "" if there is none.
        plan: The Plan, if the file holds one that this version reads.
        texts: Other text chunks, such as another program's workflow.
        notes: What was unreadable, for the person.
    """

    format: str
    width_px: int
    height_px: int
    infotext: str = ""
    plan: Plan | None = None
    texts: dict[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()

    def request(self) -> ReadInfotext | None:
        """The Request that paints such a picture again, from the Plan or else the infotext; None if it says nothing."""
        if self.plan is not None:
            return ReadInfotext(request_of_plan(self.plan), self.notes)
        return request_from_infotext(self.infotext) if self.infotext else None


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture file in memory."""

    data: bytes
    media_type: str


def encode_picture(
    image: Image.Image, output: Output, *, infotext: str = "", plan: Plan | None = None
) -> EncodedPicture:
    """A picture file with its metadata.

    A JPEG segment holds 64 KiB: an infotext or Plan beyond that is left out of the JPEG (the Record keeps it).

    Args:
        image: The picture; JPEG gets it without alpha, on white.
        output: Format and quality.
        infotext: For `parameters` or UserComment; none if empty.
        plan: The Plan of this picture.
    """
    plan_json = plan.model_dump_json() if plan is not None else ""
    target = io.BytesIO()
    if output.format == "png":
        chunks = PngImagePlugin.PngInfo()
        for key, text in ((INFOTEXT_KEY, infotext), (PLAN_KEY, plan_json)):
            if text:
                chunks.add_text(key, text)
        image.save(target, "PNG", pnginfo=chunks)
    else:
        _save_with_exif(image, output, infotext, plan_json, target)
    return EncodedPicture(target.getvalue(), _MEDIA_TYPES[output.format])


def read_metadata(data: bytes) -> PictureMetadata:
    """What a picture file says of itself.

    Raises:
        BadFileError: It is no picture, is damaged before its size is known, or is larger than 256 MiB.
    """
    if len(data) > MAX_FILE_BYTES:
        raise BadFileError("the picture file is too large", value=f"{len(data)} bytes", allowed="256 MiB")
    return _read_png(data) if data.startswith(PNG_SIGNATURE) else _read_other(data)


def _save_with_exif(image: Image.Image, output: Output, infotext: str, plan_json: str, target: io.BytesIO) -> None:
    kind: Literal["JPEG", "WEBP"] = "JPEG" if output.format == "jpeg" else "WEBP"
    options: dict[str, Any] = {"quality": output.quality}
    exif, xmp = exif_with_comment(infotext), xmp_with_plan(plan_json)
    limit = _JPEG_SEGMENT_BYTES if kind == "JPEG" else MAX_TEXT_BYTES
    if infotext and len(exif) <= limit:
        options["exif"] = exif
    if plan_json and len(xmp) <= limit:
        options["xmp"] = xmp
    _without_alpha(image, kind).save(target, kind, **options)


def _without_alpha(image: Image.Image, kind: str) -> Image.Image:
    if kind == "WEBP" or image.mode in {"RGB", "L"}:
        return image
    paper = Image.new("RGB", image.size, "white")
    overlay = image.convert("RGBA")
    paper.paste(overlay, mask=overlay.getchannel("A"))
    return paper


def _read_png(data: bytes) -> PictureMetadata:
    notes: list[str] = []
    texts: dict[str, str] = {}
    size = (0, 0)
    for name, body in _png_chunks(data):
        if name == b"IHDR" and len(body) == 13:
            size = struct.unpack(">II", body[:8])
        elif name in {b"tEXt", b"zTXt", b"iTXt"} and len(texts) < MAX_TEXTS:
            key, text = _png_text(name, body, notes)
            if key and text is not None:
                texts.setdefault(key, text)
    if not (0 < size[0] < 2**31 and 0 < size[1] < 2**31):
        raise BadFileError("the PNG file is damaged: it has no size", next_step="use the original file")
    infotext = texts.pop(INFOTEXT_KEY, "")
    plan = _plan(texts.pop(PLAN_KEY, ""), notes)
    return PictureMetadata("png", *size, infotext, plan, texts, tuple(notes))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, body) of each chunk up to the end or the first damage."""
    view = memoryview(data)
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(view):
        length, name = struct.unpack(">I4s", view[position : position + 8])
        end = position + 8 + length
        if end + 4 > len(view):
            return
        # Picture data is skipped, not copied.
        yield name, b"" if name == b"IDAT" else bytes(view[position + 8 : end])
        if name == b"IEND":
            return
        position = end + 4


def _png_text(name: bytes, body: bytes, notes: list[str]) -> tuple[str, str | None]:
    """Key and text of a text chunk; the text is None if it is unreadable or too large."""
    key_bytes, _, rest = body.partition(b"\0")
    key = key_bytes[:79].decode("latin-1")
    encoding, packed = "latin-1", False
    if name == b"zTXt":
        packed, rest = True, rest[1:]
    elif name == b"iTXt":
        encoding, packed = "utf-8", rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed:
        unpacked = _unpack(rest)
        if unpacked is None:
            notes.append(f"the text {key!r} is damaged or larger than 2 MiB and was left out")
            return key, None
        rest = unpacked
    if len(rest) > MAX_TEXT_BYTES:
        notes.append(f"the text {key!r} is larger than 2 MiB and was left out")
        return key, None
    return key, rest.decode(encoding, "replace")


def _unpack(packed: bytes) -> bytes | None:
    """The unpacked bytes, or None if they are damaged or would be too many."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, MAX_TEXT_BYTES + 1)
    except zlib.error:
        return None
    return text if len(text) <= MAX_TEXT_BYTES and unpacker.eof else None


def _read_other(data: bytes) -> PictureMetadata:
    notes: list[str] = []
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, size, info = (image.format or "").lower(), image.size, dict(image.info)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadFileError("the picture has too many pixels", allowed="178 megapixels") from error
    # Pillow's readers raise whatever their parsing of a damaged file runs into.
    except Exception as error:
        raise BadFileError(
            "this is not a picture that can be read",
            allowed="PNG, JPEG, WebP and what Pillow reads",
            next_step="check the file, or save it as PNG",
        ) from error
    infotext = read_comment(info.get("exif"), MAX_TEXT_BYTES, notes)
    if not infotext and isinstance(info.get("comment"), (bytes, str)):
        comment = cast("bytes | str", info["comment"])[:MAX_TEXT_BYTES]
        infotext = comment if isinstance(comment, str) else comment.decode("utf-8", "replace")
    plan = _plan(read_xmp_plan(info.get("xmp"), MAX_TEXT_BYTES), notes)
    return PictureMetadata(kind, *size, infotext, plan, {}, tuple(notes))


def _plan(text: str, notes: list[str]) -> Plan | None:
    if not text:
        return None
    try:
        return Plan.model_validate_json(text)
    except (ValidationError, ValueError, RecursionError):
        notes.append("the Plan in the file is damaged or from another version of Danqing; the infotext is used")
        return None
