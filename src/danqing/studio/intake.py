"""From a Request that names Records to one that names pictures by their hash, all of them present."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX
from danqing.spec.control import ControlUnit
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.geometry import SizePx
from danqing.spec.image_prompt import ImagePrompt
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.region import Region
from danqing.spec.request import Request
from danqing.spec.words_edit import WordsRequest
from danqing.store.base import Store
from danqing.store.blobs import BlobStore
from danqing.studio.recalling import recalled
from danqing.studio.stored import live_picture, picture_hash


@dataclass(frozen=True)
class Resolved:
    """A Request whose pictures are all `sha256:` and present, and their sizes."""

    request: Request
    image_size: SizePx | None = None
    mask_size: SizePx | None = None


def resolve(request: Request, store: Store, blobs: BlobStore) -> Resolved:
    """Replace `record:<id>` by the picture of that Record, and look at every picture.

    Raises:
        NotFoundError: A picture, a Record or the parent is not there.
        InvalidRequestError: A picture is too large or too small to start from.
    """
    if request.parent is not None:
        live_picture(request.parent, store, "parent")
    changes: dict[str, Any] = {}
    if request.controls:
        each = enumerate(request.controls)
        changes["controls"] = tuple(_control(unit, f"controls.{index}", store, blobs) for index, unit in each)
    if request.regions:
        changes["regions"] = _regions(request.regions, store, blobs)
    if request.image_prompts:
        changes["image_prompts"] = _image_prompts(request.image_prompts, store, blobs)
    if isinstance(request, Txt2ImgRequest):
        return Resolved(request.model_copy(update=changes))
    if isinstance(request, WordsRequest):
        return _words(request, changes, store, blobs)
    image = picture_hash(request.image, store, "image")
    changes["image"] = f"sha256:{image}"
    if request.parent is None and request.image.startswith("record:"):
        changes["parent"] = request.image.removeprefix("record:")
    mask_size = None
    reference: str | None = getattr(request, "mask", None)
    if reference is not None:
        mask = picture_hash(reference, store, "mask")
        changes["mask"] = f"sha256:{mask}"
        mask_size = _size(mask, "mask", store, blobs)
    return Resolved(request.model_copy(update=changes), _size(image, "image", store, blobs), mask_size)


def _words(request: WordsRequest, changes: dict[str, Any], store: Store, blobs: BlobStore) -> Resolved:
    """A change of words: a picture that says how it was painted is painted anew beside the change."""
    if request.image is None:
        return Resolved(request.model_copy(update=changes))
    sha256 = picture_hash(request.image, store, "image")
    if request.parent is None and request.image.startswith("record:"):
        changes["parent"] = request.image.removeprefix("record:")
    # What the source's Plan names is there already; what was asked for is resolved here.
    found = recalled(request.model_copy(update={**changes, "image": request.image}), store, blobs)
    if found.image is None:
        return Resolved(found)
    return Resolved(found.model_copy(update={"image": f"sha256:{sha256}"}), _size(sha256, "image", store, blobs))


def _control(unit: ControlUnit, where: str, store: Store, blobs: BlobStore) -> ControlUnit:
    changes: dict[str, str] = {}
    for name, reference in (("image", unit.image), ("mask", unit.mask)):
        if reference is not None:
            field = f"{where}.{name}"
            sha256 = picture_hash(reference, store, field)
            _size(sha256, field, store, blobs)
            changes[name] = f"sha256:{sha256}"
    return unit.model_copy(update=changes)


def _regions(regions: tuple[Region, ...], store: Store, blobs: BlobStore) -> tuple[Region, ...]:
    resolved: list[Region] = []
    for index, region in enumerate(regions):
        changes: dict[str, Any] = {}
        if region.mask is not None:
            field = f"regions.{index}.mask"
            sha256 = picture_hash(region.mask, store, field)
            _size(sha256, field, store, blobs)
            changes["mask"] = f"sha256:{sha256}"
        if region.control is not None:
            changes["control"] = _control(region.control, f"regions.{index}.control", store, blobs)
        resolved.append(region.model_copy(update=changes))
    return tuple(resolved)


def _image_prompts(prompts: tuple[ImagePrompt, ...], store: Store, blobs: BlobStore) -> tuple[ImagePrompt, ...]:
    resolved: list[ImagePrompt] = []
    for index, prompt in enumerate(prompts):
        field = f"image_prompts.{index}.image"
        sha256 = picture_hash(prompt.image, store, field)
        _size(sha256, field, store, blobs)
        resolved.append(prompt.model_copy(update={"image": f"sha256:{sha256}"}))
    return tuple(resolved)


def _size(sha256: str, field: str, store: Store, blobs: BlobStore) -> SizePx:
    upload = store.upload(sha256)
    if upload is not None and blobs.exists(sha256):
        width_px, height_px = upload.width_px, upload.height_px
    else:
        try:
            data = blobs.read(sha256)
        except NotFoundError as error:
            raise NotFoundError(error.message, field=field, value=sha256, next_step=error.next_step) from error
        with Image.open(io.BytesIO(data)) as image:
            width_px, height_px = image.size
    if not (min(width_px, height_px) >= MIN_SIDE_PX and max(width_px, height_px) <= MAX_SIDE_PX):
        raise InvalidRequestError(
            "this picture cannot be painted on at its size",
            field=field,
            value=f"{width_px}×{height_px} px",
            allowed=f"sides from {MIN_SIDE_PX} to {MAX_SIDE_PX} px",
            next_step="resize the picture and upload it again",
        )
    return SizePx(width_px=width_px, height_px=height_px)
