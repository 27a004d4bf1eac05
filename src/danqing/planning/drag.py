"""A drag resolved: its points seen to lie in the picture, its method's numbers filled in."""

from __future__ import annotations

from typing import Any

from danqing.planning.content import content_of
from danqing.planning.pictures import check_mask
from danqing.prompt.composable import composable_parts
from danqing.prompt.networks import parse_networks
from danqing.spec.drag import DragMethod, DragPlan, DragRequest, DragTuning, check_points
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo
from danqing.spec.request import Request

FAMILIES = frozenset({"sd1", "sd2", "sdxl", "danqing"})
"""Families with a UNet whose features points can be followed on."""
QUALITY_STEPS = 50
PUBLISHED_PX = 512
"""Shorter side of the pictures that the published radii are for."""
_STORAGES = ("float8", "int8", "nf4")
_PUBLISHED: dict[DragMethod, dict[str, float]] = {
    "pulled": {},
    "dragdiffusion": {"rate": 0.01, "supervision_radius": 1, "tracking_radius": 3},
    "gooddrag": {"rate": 0.02, "supervision_radius": 4, "tracking_radius": 12},
}
_UNTOUCHED = ("controls", "regions", "image_prompts", "hires", "refiner")


def prepared(request: Request, model: ModelInfo) -> Request:
    """A Request to drag with what its mode decides: sampler, steps, guidance, number format. Others stay as they are.

    Raises:
        UnsupportedError: This model cannot drag, or not together with something that was asked for.
        InvalidRequestError: The prompt is composed with AND.
    """
    if not isinstance(request, DragRequest):
        return request
    _check_model(request, model)
    for name in _UNTOUCHED:
        if getattr(request, name):
            raise UnsupportedError(
                "a drag has none of these beside it",
                field=name,
                allowed="points, a mask and words",
                next_step="drag first, then start from the result",
            )
    if len(composable_parts(parse_networks(request.prompt)[0])) > 1:
        raise InvalidRequestError(
            "a drag has one prompt",
            field="prompt",
            value=request.prompt,
            allowed="words without AND",
            next_step="say in one prompt what the picture shows",
        )
    if request.mode == "fast":
        # Guidance would paint what the words name into every place that was emptied.
        scale = 1.0 if request.guidance.scale is None else request.guidance.scale
        guidance = request.guidance.model_copy(update={"scale": scale})
        return request.model_copy(update={"strength": request.repair, "guidance": guidance})
    changes: dict[str, Any] = {
        "sampling": request.sampling.model_copy(
            update={"sampler": "DDIM", "schedule": "DDIM", "steps": request.sampling.steps or QUALITY_STEPS}
        ),
        "guidance": request.guidance.model_copy(update={"scale": 1.0}),
        "exact_steps": False,
    }
    if request.precision == "auto":
        # Gradients of a few thousandths vanish in bfloat16; DragDiffusion optimises in float32, too.
        changes["precision"] = "float32"
    return request.model_copy(update=changes)


def notes(request: Request) -> list[str]:
    """What the mode decides against what was asked for."""
    if not isinstance(request, DragRequest) or request.mode == "fast":
        return []
    asked = request.sampling.sampler, request.guidance.scale
    if asked[0] in (None, "DDIM") and asked[1] in (None, 1.0):
        return []
    return ["a drag of quality is painted by DDIM at guidance scale 1, which its inversion needs"]


def drag_plan(request: Request, size: SizePx, image_size: SizePx | None, mask_size: SizePx | None) -> DragPlan | None:
    """The drag of a Request that is worked at this size; None for other kinds.

    Raises:
        InvalidRequestError: A point lies outside the picture, or the mask is of another size.
    """
    if not isinstance(request, DragRequest):
        return None
    if image_size is not None:
        check_points(request.points, image_size.width_px, image_size.height_px)
    check_mask(mask_size, image_size)
    return DragPlan(
        points=request.points,
        mask=None if request.mask is None else content_of(request.mask, "mask"),
        mode=request.mode,
        method=request.method,
        radius_px=request.radius_px,
        mask_feather_px=request.mask_feather_px,
        tuning=_filled(request.tuning, request.method, size),
    )


def _filled(tuning: DragTuning, method: DragMethod, size: SizePx) -> DragTuning:
    share = min(1.0, min(size.width_px, size.height_px) / PUBLISHED_PX)
    numbers: dict[str, float] = {
        name: value if name == "rate" else max(1, round(value * share)) for name, value in _PUBLISHED[method].items()
    }
    return tuning.model_copy(update={name: one for name, one in numbers.items() if getattr(tuning, name) is None})


def _check_model(request: DragRequest, model: ModelInfo) -> None:
    if model.family not in FAMILIES or model.foreign is not None or model.variant != "base":
        raise UnsupportedError(
            f"{model.name} cannot drag",
            field="model",
            value=model.name,
            allowed="Stable Diffusion 1.x, 2.x and XL as they paint from words, and the built-in model",
            next_step="choose such a model; the picture may come from any other",
        )
    if request.mode == "quality" and request.precision in _STORAGES:
        raise UnsupportedError(
            "this number format has no gradients, which a drag of quality needs",
            field="precision",
            value=request.precision,
            allowed="auto, float32, bfloat16, float16",
            next_step="leave it at auto, or drag in the mode fast",
        )
