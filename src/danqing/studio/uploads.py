"""Pictures from outside: nothing is believed but the bytes, and little is decoded before it is known to be small."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps

from danqing.spec.errors import BadFileError

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_ORIENTATION_TAG = 0x0112
_ALLOWED = "a PNG, JPEG or WebP picture"


@dataclass(frozen=True)
class UploadLimits:
    """How large an upload may be."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True)
class CheckedPicture:
    """Bytes that are a picture of this size and type, upright."""

    data: bytes
    width_px: int
    height_px: int
    media_type: str


def check_picture(data: bytes, limits: UploadLimits) -> CheckedPicture:
    """Look at an upload and turn it upright by its EXIF orientation (then it becomes a PNG).

    Raises:
        BadFileError: It is empty, too large in bytes or pixels, no picture of a known type, or damaged.
    """
    if not data:
        raise BadFileError("the file is empty", allowed=_ALLOWED, next_step="choose another file")
    if len(data) > limits.max_bytes:
        raise BadFileError(
            "the file is too large",
            value=f"{len(data):,} bytes",
            allowed=f"up to {limits.max_bytes:,} bytes",
            next_step="make the picture smaller, or raise DANQING_UPLOAD_MAX_BYTES",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and of sizes that are checked here
        return _decode(data, limits)


def _decode(data: bytes, limits: UploadLimits) -> CheckedPicture:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES)) as image:
            _check_pixels(image, limits)
            image.load()
            media_type = MEDIA_TYPES[str(image.format)]
            if image.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9):
                return _upright(image)
            return CheckedPicture(data, image.width, image.height, media_type)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(str(error), limits) from error
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise BadFileError(
            "the file is no picture, or a damaged one",
            allowed=_ALLOWED,
            next_step="save it again as PNG and upload that",
        ) from error


def _check_pixels(image: Image.Image, limits: UploadLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise _too_many_pixels(f"{image.width}×{image.height} pixels", limits)


def _too_many_pixels(what: str, limits: UploadLimits) -> BadFileError:
    return BadFileError(
        "the picture has too many pixels",
        value=what,
        allowed=f"up to {limits.max_pixels:,} pixels (width × height)",
        next_step="make the picture smaller, or raise DANQING_UPLOAD_MAX_PIXELS",
    )


def _upright(image: Image.Image) -> CheckedPicture:
    turned = ImageOps.exif_transpose(image)
    if turned.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        turned = turned.convert("RGB")
    buffer = io.BytesIO()
    turned.save(buffer, "PNG")
    return CheckedPicture(buffer.getvalue(), turned.width, turned.height, "image/png")
