"""ControlNet units resolved: the network found and seen to fit, the annotator's settings filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from danqing.planning.content import content_of
from danqing.spec.control import INPAINT_ANNOTATOR, ControlUnit, is_inpaint_annotator
from danqing.spec.errors import DanqingError, InvalidRequestError, UnsupportedError
from danqing.spec.model import ControlNetInfo, ModelInfo, ModelRef
from danqing.spec.painting import InpaintRequest, OutpaintRequest, Txt2ImgRequest
from danqing.spec.plan import ControlPlan
from danqing.spec.region import RegionEngine
from danqing.spec.registry.annotators import find_annotator, resolve_parameters
from danqing.spec.registry.control_filters import map_type
from danqing.spec.registry.controls import union_type
from danqing.spec.request import Request

CONTROL_FAMILY = "controlnet"
"""What stands for the family in a ControlNet's ModelRef."""
CONTROL_LORA = "control_lora"
"""The same for a Control-LoRA, which is loaded anew for each model."""

_UNET_FAMILIES = ("sd1", "sd2", "sdxl")
_WITHOUT_UNET = ("sd3", "flux")


class ControlFinder(Protocol):
    """What planning needs of the catalogue's ControlNets."""

    def find_controlnet(self, name: str) -> ControlNetInfo:
        """The ControlNet with this name.

        Raises:
            NotFoundError: There is none.
            UnsupportedError: It cannot be run.
        """
        ...


def plan_controls(
    request: Request, catalog: ControlFinder, models: Sequence[tuple[str, ModelInfo]]
) -> tuple[ControlPlan, ...]:
    """The units of a Request with everything filled in.

    Args:
        request: What a person asks for, with pictures named by content hash.
        catalog: Where ControlNets are found.
        models: Every model that paints, with its pass (`base` or `hires`).

    Raises:
        NotFoundError: A ControlNet that is not there.
        UnsupportedError: A ControlNet that does not fit a model, with the reason.
        InvalidRequestError: An annotator, setting or picture that makes no sense.
    """
    each = enumerate(request.controls)
    return tuple(_named(unit, f"controls.{index}", request, catalog, models) for index, unit in each)


def plan_region_controls(
    request: Request, engine: RegionEngine, catalog: ControlFinder, models: Sequence[tuple[str, ModelInfo]]
) -> tuple[ControlPlan | None, ...]:
    """The unit of each region of a Request; None where it has none. Arguments and errors as `plan_controls`.

    Raises:
        UnsupportedError: Also one that acts on the whole picture at once, under the attention engine.
    """
    planned: list[ControlPlan | None] = []
    for index, region in enumerate(request.regions):
        field = f"regions.{index}.control"
        unit = region.control
        found = None if unit is None else _named(unit, field, request, catalog, models)
        if unit is not None and engine == "attention" and catalog.find_controlnet(unit.model).global_pool:
            raise UnsupportedError(
                f"the ControlNet {unit.model} acts on the whole picture at once",
                field=f"{field}.model",
                value=unit.model,
                allowed="region engine `latent`, or another ControlNet",
                next_step="choose the engine `latent`, or another ControlNet",
            )
        planned.append(found)
    return tuple(planned)


def _named(
    unit: ControlUnit,
    field: str,
    request: Request,
    catalog: ControlFinder,
    models: Sequence[tuple[str, ModelInfo]],
) -> ControlPlan:
    """The unit's plan; errors name where in the Request it stands."""
    try:
        return _plan(unit, request, catalog, models)
    except DanqingError as error:
        error.field = f"{field}.{(error.field or 'model').removeprefix('controls.')}"
        raise


def _plan(
    unit: ControlUnit, request: Request, catalog: ControlFinder, models: Sequence[tuple[str, ModelInfo]]
) -> ControlPlan:
    net = catalog.find_controlnet(unit.model)
    for where, model in models:
        if unit.passes in ("both", where):
            check_fits(net, model)
    _check_picture(unit, request)
    if net.global_pool and unit.mask is not None:
        raise UnsupportedError(
            f"the ControlNet {net.name} acts on the whole picture at once and cannot be masked",
            field="controls.mask",
            value=unit.mask,
            next_step="leave the mask out, or choose another ControlNet",
        )
    annotator, params = INPAINT_ANNOTATOR, dict(unit.params)
    if not is_inpaint_annotator(unit.annotator):
        info = find_annotator(unit.annotator)
        annotator, params = info.key, resolve_parameters(info, unit.params)
    return ControlPlan(
        model=ModelRef(name=net.name, sha256=net.sha256, family=_family(net)),
        image=None if unit.image is None else content_of(unit.image, "controls.image"),
        mask=None if unit.mask is None else content_of(unit.mask, "controls.mask"),
        annotator=annotator,
        control_type=_union_type(net, unit, annotator),
        params=params,
        cond_only=unit.mode == "control" or net.global_pool,
        **unit.model_dump(exclude={"model", "image", "mask", "annotator", "control_type", "params"}),
    )


def _family(net: ControlNetInfo) -> str:
    return CONTROL_LORA if net.kind == "control_lora" else CONTROL_FAMILY


def _union_type(net: ControlNetInfo, unit: ControlUnit, annotator: str) -> str | None:
    """What a union ControlNet is told that the map shows: what the unit says, or what its annotator makes.

    Raises:
        InvalidRequestError: Neither is of a type that it knows.
    """
    if net.kind != "union":
        return None
    found = union_type(map_type(unit.control_type) if unit.control_type else annotator, net.control_types)
    if found is None:
        raise InvalidRequestError(
            f"the union ControlNet {net.name} must know what the map shows",
            field="controls.control_type",
            value=unit.control_type or annotator,
            allowed=", ".join(net.control_types),
            next_step="name the type, or choose an annotator that makes such maps",
        )
    return found.key


def check_fits(net: ControlNetInfo, model: ModelInfo) -> None:
    """See that a ControlNet's outputs can be added to a model's UNet.

    Raises:
        UnsupportedError: They differ in width, levels, layers, latent channels or scale; every difference is named.
    """
    differences: list[str] = []
    known = model.family in _UNET_FAMILIES or net.kind == "lllite"
    if net.family is not None and known and net.family != model.family:
        differences.append(f"it is made for {net.family}, the model is {model.family}")
    if model.family in _WITHOUT_UNET:
        differences.append(f"it steers a UNet, which {model.family} has not")
    if net.context_width is not None and model.context_width and net.context_width != model.context_width:
        differences.append(f"it reads text states {net.context_width} wide, the model's are {model.context_width}")
    if net.kind == "lllite":
        differences += _lllite_differences(net, model)
    elif model.block_widths and net.block_widths != model.block_widths:
        differences.append(f"its levels are {_list(net.block_widths)} wide, the model's {_list(model.block_widths)}")
    elif model.layers_per_block and net.layers_per_block and net.layers_per_block != model.layers_per_block:
        differences.append(
            f"its levels have {_list(net.layers_per_block)} layers, the model's {_list(model.layers_per_block)}"
        )
    if net.in_channels is not None and net.in_channels not in (model.latent_channels, model.unet_in_channels):
        differences.append(f"it takes {net.in_channels} latent channels, the model has {model.latent_channels}")
    if net.hint_scale != model.latent_scale:
        differences.append(f"it shrinks its map {net.hint_scale} times, the model's latents are {model.latent_scale}")
    if differences:
        raise UnsupportedError(
            f"the ControlNet {net.name} is not made for the model {model.name}: {'; '.join(differences)}",
            field="controls.model",
            value=net.name,
            allowed=f"a ControlNet trained for {model.family}",
            next_step="choose a ControlNet of the model's family, or another model",
        )


def _lllite_differences(net: ControlNetInfo, model: ModelInfo) -> list[str]:
    """A ControlNet-LLLite acts in some levels only; of the others it has no width."""
    theirs = (*model.block_widths, *(0 for _ in net.block_widths))
    wrong = [
        f"it acts on {own} channels in level {level}, the model has {width or 'none'} there"
        for level, (own, width) in enumerate(zip(net.block_widths, theirs, strict=False))
        if own not in (0, width)
    ]
    return wrong if model.block_widths else []


def _check_picture(unit: ControlUnit, request: Request) -> None:
    if unit.image is None and isinstance(request, Txt2ImgRequest):
        raise InvalidRequestError(
            "this ControlNet unit has no picture to follow",
            field="controls.image",
            allowed="`sha256:<64 hex digits>` of an upload or `record:<id>`",
            next_step="give it a picture; only img2img, inpaint and outpaint can follow the picture they start from",
        )
    if is_inpaint_annotator(unit.annotator):
        masked = isinstance(request, InpaintRequest | OutpaintRequest) and unit.image is None
        if not masked or unit.params:
            raise InvalidRequestError(
                f"{INPAINT_ANNOTATOR} shows the ControlNet what is kept and what is repainted",
                field="controls.params" if masked else "controls.annotator",
                value=unit.annotator,
                allowed="inpaint and outpaint requests, with no control picture and no settings of its own",
                next_step="paint with --mask or --expand, or choose another annotator",
            )


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
