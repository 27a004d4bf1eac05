"""Small pictures for the gallery: WebP, at most 256 px on a side."""

from __future__ import annotations

import io

from PIL import Image

THUMBNAIL_SIDE_PX = 256
THUMBNAIL_TYPE = "image/webp"


def make_thumbnail(image: Image.Image) -> bytes:
    """A WebP no larger than 256×256 px; a smaller picture keeps its size, transparency is kept."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    small = image.convert(mode)
    small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=4)
    return buffer.getvalue()


def thumbnail_of_bytes(data: bytes) -> bytes:
    """As `make_thumbnail`, from the bytes of a picture of our own (never of an unchecked upload)."""
    with Image.open(io.BytesIO(data)) as image:
        return make_thumbnail(image)
