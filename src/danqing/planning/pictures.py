"""The input pictures of a Request resolved: what it starts from, its mask, its margins."""

from __future__ import annotations

from danqing.planning.content import content_of
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import SizePx
from danqing.spec.painting import InpaintRequest, OutpaintRequest, Txt2ImgRequest
from danqing.spec.plan import InitPlan, MaskPlan, OutpaintPlan
from danqing.spec.request import Request
from danqing.spec.words_edit import WordsRequest


def init_plan(request: Request) -> InitPlan | None:
    """The picture that a Request starts from; None where it starts from noise.

    Raises:
        InvalidRequestError: The picture is not resolved to its content.
    """
    if isinstance(request, Txt2ImgRequest):
        return None
    if isinstance(request, WordsRequest):
        return None if request.image is None else InitPlan(image=content_of(request.image, "image"))
    return InitPlan(
        image=content_of(request.image, "image"),
        resize_mode=request.resize_mode,
        initial_noise_multiplier=request.initial_noise_multiplier,
        colour_correction=request.colour_correction,
    )


def mask_plan(request: Request) -> MaskPlan | None:
    """What an inpainting repaints.

    Raises:
        InvalidRequestError: The mask is not resolved to its content.
    """
    if not isinstance(request, InpaintRequest):
        return None
    return MaskPlan(
        mask=content_of(request.mask, "mask"),
        blur_px=request.mask_blur_px,
        inverted=request.mask_inverted,
        fill=request.fill,
        only_masked=request.only_masked,
        padding_px=request.padding_px,
        keep_size=keeps_size(request),
        soft=request.soft,
    )


def check_mask(mask: SizePx | None, picture: SizePx | None) -> None:
    """See that a mask is as large as its picture, where both are known.

    Raises:
        InvalidRequestError: It is not.
    """
    if mask is not None and picture is not None and mask != picture:
        raise InvalidRequestError(
            "mask and picture differ in size",
            field="mask",
            value=str(mask),
            allowed=str(picture),
            next_step="draw the mask on this picture, or scale it to the same size",
        )


def outpaint_plan(request: Request) -> OutpaintPlan | None:
    """How far an outpainting grows its picture."""
    if not isinstance(request, OutpaintRequest):
        return None
    return OutpaintPlan(margins=request.margins, feather_px=request.feather_px, fill=request.fill)


def keeps_size(request: InpaintRequest) -> bool:
    """Whether the result has the size of the picture."""
    return request.width_px is None and request.height_px is None
