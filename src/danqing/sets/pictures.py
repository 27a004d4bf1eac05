"""The pictures of a set: checked when they come from outside, opened as the trainer sees them."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from danqing.sets.folder import MAX_PIXELS, mask_path, picture_path
from danqing.spec.errors import BadFileError
from danqing.spec.geometry import BoxPx
from danqing.spec.training_set import TrainingPicture

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
"""Formats that are kept as they are; others become PNG."""
READ_FORMATS = (*SUFFIXES, "BMP", "GIF", "TIFF")
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
ALLOWED = "PNG, JPEG, WebP, BMP, GIF or TIFF"
_KEPT_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_ORIENTATION_TAG = 0x0112
_BROKEN = (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError)


@dataclass(frozen=True)
class ReadyPicture:
    """A picture that may join a set: upright, in eight bits, with the suffix of what it is.

    Attributes:
        transparent: Some of it is not opaque.
    """

    data: bytes
    width_px: int
    height_px: int
    suffix: str
    transparent: bool


def ready_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> ReadyPicture:
    """Look at bytes from outside; what is turned, has 16 bits or is of a rarer format becomes PNG.

    Raises:
        BadFileError: No picture of a known format, damaged, or with too many pixels.
    """
    image, kind = _decoded(io.BytesIO(data), max_pixels)
    upright = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9) else image
    plain = upright if upright.mode in _KEPT_MODES else _eight_bits(upright)
    see_through = plain.has_transparency_data and _has_holes(plain)
    if kind in SUFFIXES and plain is image:
        return ReadyPicture(data, image.width, image.height, SUFFIXES[kind], see_through)
    buffer = io.BytesIO()
    if plain.mode == "P" and kind == "GIF":
        plain = plain.convert("RGBA" if see_through else "RGB")
    plain.save(buffer, "PNG")
    return ReadyPicture(buffer.getvalue(), plain.width, plain.height, ".png", see_through)


def open_rgb(folder: Path, picture: TrainingPicture, *, cropped: bool = True) -> Image.Image:
    """A picture of a set as the trainer sees it: upright, RGB, see-through parts over white, cut to its crop.

    Raises:
        BadFileError: It cannot be read, or its name leads out of the folder.
    """
    image = flat_rgb(open_file(picture_path(folder, picture)))
    return image.crop(_inside(picture.crop, image)) if cropped and picture.crop is not None else image


def open_mask(folder: Path, picture: TrainingPicture, *, cropped: bool = True) -> Image.Image | None:
    """Its mask (L, white where the picture counts), of the size that `open_rgb` gives; None if it has none.

    Raises:
        BadFileError: It cannot be read, or its name leads out of the folder.
    """
    path = mask_path(folder, picture)
    if path is None:
        return None
    mask = flat_rgb(open_file(path)).convert("L")
    if mask.size != (picture.width_px, picture.height_px):
        mask = mask.resize((picture.width_px, picture.height_px), Image.Resampling.BILINEAR)
    return mask.crop(_inside(picture.crop, mask)) if cropped and picture.crop is not None else mask


def open_file(path: Path) -> Image.Image:
    """A picture of the disk, upright. BadFileError."""
    try:
        with path.open("rb") as file:
            image, _ = _decoded(file, MAX_PIXELS)
    except OSError as error:
        raise BadFileError(
            f"the picture cannot be read: {error.strerror or error}", field="file", value=path.name
        ) from error
    except BadFileError as error:
        error.field, error.value = "file", error.value or path.name
        raise
    return ImageOps.exif_transpose(image)


def read_bytes(data: bytes) -> Image.Image:
    """A picture of bytes that were looked at, upright. BadFileError."""
    return ImageOps.exif_transpose(_decoded(io.BytesIO(data), MAX_PIXELS)[0])


def flat_rgb(image: Image.Image) -> Image.Image:
    """RGB, with see-through parts over white."""
    image = image if image.mode in _KEPT_MODES else _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    flat = Image.new("RGBA", seen.size, (255, 255, 255, 255))
    flat.alpha_composite(seen)
    return flat.convert("RGB")


def alpha_mask(data: bytes) -> bytes:
    """The alpha channel of a picture as a mask: PNG, white where it is opaque. BadFileError."""
    return png_bytes(read_bytes(data).convert("RGBA").getchannel("A"))


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def small_png(image: Image.Image, side_px: int) -> bytes:
    """A copy of at most `side_px` a side, as PNG."""
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return png_bytes(small)


def _decoded(file: io.BytesIO | object, max_pixels: int) -> tuple[Image.Image, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and of sizes that are checked here
        try:
            with Image.open(file, formats=READ_FORMATS) as image:  # type: ignore[arg-type]
                if image.width * image.height > max_pixels:
                    raise _too_many(f"{image.width}×{image.height} pixels", max_pixels)
                image.load()
                return image, str(image.format)
        except Image.DecompressionBombError as error:
            raise _too_many(str(error), max_pixels) from error
        except _BROKEN as error:
            raise BadFileError(
                "the file is no picture, or a damaged one", allowed=ALLOWED, next_step="save it again as PNG"
            ) from error


def _too_many(what: str, max_pixels: int) -> BadFileError:
    return BadFileError(
        "the picture has too many pixels",
        value=what,
        allowed=f"up to {max_pixels:,} pixels (width × height)",
        next_step="make it smaller; a model is trained at 512 or 1024 px",
    )


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
        return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.mode in {"PA", "La", "RGBa"} else "RGB")


def _has_holes(image: Image.Image) -> bool:
    return image.convert("RGBA").getchannel("A").getextrema()[0] < 255  # type: ignore[operator]


def _inside(crop: BoxPx, image: Image.Image) -> tuple[int, int, int, int]:
    """The crop, kept inside a picture that somebody made smaller by hand; the whole picture if nothing is left."""
    left, top, right, bottom = crop.as_tuple()
    right, bottom = min(right, image.width), min(bottom, image.height)
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, image.width, image.height)
