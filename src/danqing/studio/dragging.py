"""What a drag will roughly look like, while it is being drawn: the pull alone, without a model and in the front."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image
from pydantic import Field

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX, Data, PictureRef
from danqing.spec.drag import MAX_POINTS, DragPoint
from danqing.studio.stored import picture_hash

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_QUALITY = 80
_QUICK = 2


class DragPreviewRequest(Data):
    """A drag to look at before it is painted."""

    image: PictureRef
    points: tuple[DragPoint, ...] = Field(min_length=1, max_length=MAX_POINTS, description="handle → target pairs")
    mask: PictureRef | None = Field(default=None, description="white may change; the size of the picture")
    radius_px: int | None = Field(default=None, ge=1, le=MAX_SIDE_PX)
    max_side_px: int = Field(default=512, ge=MIN_SIDE_PX, le=2048, description="longer side of the answer at most")


@dataclass(frozen=True)
class DragPreview:
    """The pulled picture.

    Attributes:
        content: WebP.
        repaired: Share of the picture that the drag would paint anew in the mode `fast`.
    """

    content: bytes
    repaired: float


def preview_drag(studio: Studio, request: DragPreviewRequest) -> DragPreview:
    """The picture pulled, not repaired.

    Raises:
        NotFoundError: A picture is not there.
        InvalidRequestError: A point lies outside the picture or the mask, or the mask is of another size.
    """
    from danqing.enhance.warp import preview_with_share

    image = _open(studio, request.image, "image")
    mask = None if request.mask is None else _open(studio, request.mask, "mask")
    shown, share = preview_with_share(
        _flat(image),
        request.points,
        None if mask is None else _mask(mask),
        radius_px=request.radius_px,
        max_side_px=request.max_side_px,
    )
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=_QUALITY, method=_QUICK)
    return DragPreview(buffer.getvalue(), share)


def _open(studio: Studio, reference: str, field: str) -> Image.Image:
    return Image.open(io.BytesIO(studio.picture_bytes(picture_hash(reference, studio, field))))


def _flat(image: Image.Image) -> Image.Image:
    """RGB, transparent parts on white, as the drag itself sees it."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _mask(image: Image.Image) -> Image.Image:
    """Its opacity where it has transparent parts, else its brightness."""
    if "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
        return image.getchannel("A")
    return image.convert("L")
