"""From a Request with references to Plans with hashes, and back from a Plan to the Request that would ask for it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX
from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.geometry import SizePx
from danqing.spec.plan import PassPlan, Plan
from danqing.spec.request import InpaintRequest, Request, Txt2ImgRequest, parse_request
from danqing.store.base import Store
from danqing.store.blobs import BlobStore


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
        _live_record(request.parent, "parent", store)
    if isinstance(request, Txt2ImgRequest):
        return Resolved(request)
    changes: dict[str, Any] = {}
    image = _sha256_of(request.image, "image", store)
    changes["image"] = f"sha256:{image}"
    if request.parent is None and request.image.startswith("record:"):
        changes["parent"] = request.image.removeprefix("record:")
    mask_size = None
    if isinstance(request, InpaintRequest):
        mask = _sha256_of(request.mask, "mask", store)
        changes["mask"] = f"sha256:{mask}"
        mask_size = _size(mask, "mask", store, blobs)
    return Resolved(request.model_copy(update=changes), _size(image, "image", store, blobs), mask_size)


def _live_record(record_id: str, field: str, store: Store) -> str:
    try:
        record = store.record(record_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, field=field, value=record_id, next_step=error.next_step) from error
    if record.deleted_at is not None:
        raise NotFoundError("that picture was deleted", field=field, value=record_id, next_step="restore it first")
    return record.picture


def _sha256_of(reference: str, field: str, store: Store) -> str:
    kind, _, name = reference.partition(":")
    return _live_record(name, field, store) if kind == "record" else name


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


def request_of_plan(plan: Plan) -> Request:
    """The Request that asks for exactly the picture of this Plan.

    Raises:
        InvalidRequestError: The Plan holds what no Request can ask for.
    """
    base = plan.base
    data: dict[str, Any] = {
        "kind": plan.kind,
        "prompt": base.text.prompt,
        "negative_prompt": base.text.negative_prompt,
        "emphasis": base.text.emphasis,
        "clip_skip": base.text.clip_skip,
        "model": base.model.name,
        "vae": plan.vae.name if plan.vae else None,
        "width_px": base.size.width_px,
        "height_px": base.size.height_px,
        "seed": plan.seeds.seed,
        "seed_resize": plan.seeds.resize_from,
        "noise": plan.seeds.source,
        "eta_noise_seed_delta": plan.seeds.eta_noise_seed_delta,
        "sampling": base.sampling.model_dump(),
        "guidance": {**base.guidance.model_dump(), "scale": base.guidance_scale},
        "precision": plan.precision,
        "output": plan.output,
        "parent": plan.parent,
    }
    if plan.seeds.variation_strength > 0:
        data["variation"] = {"seed": plan.seeds.variation_seed, "strength": plan.seeds.variation_strength}
    if base.refiner is not None:
        switch_at = base.refiner.switch_step / base.sampling.steps
        data["refiner"] = {"model": base.refiner.model.name, "switch_at": min(1.0, switch_at)}
    hires = next((part for part in plan.passes if part.kind == "hires"), None)
    if hires is not None:
        data["hires"] = _hires(hires)
    data.update(_init(plan))
    return parse_request(data)


def _hires(part: PassPlan) -> dict[str, Any]:
    return {
        "scale": None,
        "width_px": part.size.width_px,
        "height_px": part.size.height_px,
        **({"upscaler": part.upscaler} if part.upscaler else {}),
        **({"strength": part.strength} if part.strength is not None else {}),
        "steps": part.sampling.steps,
        "prompt": part.text.prompt,
        "negative_prompt": part.text.negative_prompt,
        "sampler": part.sampling.sampler,
        "schedule": part.sampling.schedule,
        "guidance_scale": part.guidance_scale,
        "model": part.model.name,
    }


def _init(plan: Plan) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if plan.init is not None:
        data |= {
            "image": f"sha256:{plan.init.image}",
            "resize_mode": plan.init.resize_mode,
            "exact_steps": plan.base.exact_steps,
            "initial_noise_multiplier": plan.init.initial_noise_multiplier,
            "colour_correction": plan.init.colour_correction,
        }
        if plan.base.strength is not None:
            data["strength"] = plan.base.strength
    if plan.mask is not None and plan.kind == "inpaint":
        mask = plan.mask
        data |= {
            "mask": f"sha256:{mask.mask}",
            "mask_blur_px": mask.blur_px,
            "mask_inverted": mask.inverted,
            "fill": mask.fill,
            "only_masked": mask.only_masked,
            "padding_px": mask.padding_px,
            "soft": mask.soft,
        }
    if plan.outpaint is not None:
        data |= {
            "margins": plan.outpaint.margins,
            "fill": plan.outpaint.fill,
            "feather_px": plan.outpaint.feather_px,
        }
        data.pop("width_px")
        data.pop("height_px")
        data |= {"width_px": None, "height_px": None}
    return data
