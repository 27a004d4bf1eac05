"""Reading a picture back: the Request it was painted from, and whether this machine has what its Plan needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from danqing.spec.errors import BadFileError, MissingWeightsError, NotFoundError
from danqing.spec.model import ModelRef
from danqing.spec.plan import ControlPlan, ImageAdapterPlan, Plan
from danqing.spec.request import Request
from danqing.spec.upscale import UPSCALER_FAMILY
from danqing.store.blobs import BlobStore

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog


def request_of_picture(data: bytes) -> Request:
    """From the Plan inside a picture, else from its infotext.

    Raises:
        BadFileError: It holds neither.
    """
    from danqing.prompt.infotext import request_from_infotext
    from danqing.store.metadata import read_metadata

    found = read_metadata(data)
    if found.plan is not None:
        return request_of_plan(found.plan)
    if found.infotext:
        return request_from_infotext(found.infotext).request
    raise BadFileError(
        "this picture does not say how it was painted",
        allowed="a picture from Danqing or A1111 whose metadata was kept",
        next_step="use it as an init picture instead; pictures lose their metadata in chat apps and screenshots",
    )


def plan_of_picture(data: bytes) -> Plan:
    """The Plan inside a picture.

    Raises:
        BadFileError: It holds none.
    """
    from danqing.store.metadata import read_metadata

    plan = read_metadata(data).plan
    if plan is None:
        raise BadFileError(
            "this picture carries no Plan",
            field="picture",
            allowed="a picture painted by Danqing whose metadata was kept",
            next_step="an A1111 picture can be dropped on the page, which fills the form from its infotext",
        )
    return plan


def request_of_plan(plan: Plan) -> Request:
    """The Request that asks for the picture of a Plan, with every number given."""
    from danqing.prompt.infotext_plan import request_of_plan as request_of

    return request_of(plan)


def check_reproducible(plan: Plan, catalog: Catalog, blobs: BlobStore) -> None:
    """See that every model of a Plan is here, the same to the byte, and every picture it starts from.

    Raises:
        MissingWeightsError: A model is not here, or another one has its name.
        NotFoundError: A picture is not here.
    """
    for model in _models(plan):
        _check_model(model, catalog)
    for unit in _controls(plan):
        _check_controlnet(unit.model, catalog)
    for adapter in _image_adapters(plan):
        _check_image_adapter(adapter, catalog)
    for network in _networks(plan):
        _check_network(network, catalog)
    for part in plan.passes:
        if part.upscaler_file is not None:
            _check_upscaler(part.upscaler_file, catalog)
    for step in plan.retouch.steps if plan.retouch is not None else ():
        if step.file is not None:
            _check_helper(step.file, catalog)
    pictures = [plan.init.image if plan.init else None, plan.mask.mask if plan.mask else None]
    pictures += [plan.drag.mask if plan.drag else None]
    pictures += [picture for unit in _controls(plan) for picture in (unit.image, unit.mask)]
    pictures += [region.mask for region in plan.regions]
    pictures += [prompt.image for prompt in plan.image_prompts]
    for sha256 in filter(None, pictures):
        if not blobs.exists(sha256):
            raise NotFoundError(
                "a picture that this one was painted over is not in this studio",
                field="image",
                value=f"sha256:{sha256}",
                next_step="upload the same file, then reproduce again",
            )


def _controls(plan: Plan) -> list[ControlPlan]:
    """The units of the whole picture and of its regions."""
    return [*plan.controls, *(region.control for region in plan.regions if region.control is not None)]


def _models(plan: Plan) -> list[ModelRef]:
    refs = [part.model for part in plan.passes]
    refs += [part.refiner.model for part in plan.passes if part.refiner is not None]
    return refs + ([plan.vae] if plan.vae is not None else [])


def _networks(plan: Plan) -> list[ModelRef]:
    """The LoRA, hypernetwork and embedding files of a Plan."""
    parts = [*plan.passes, *(part.refiner for part in plan.passes if part.refiner is not None)]
    parts += [words for part in plan.passes for words in part.regions]
    return [one.model for part in parts for one in (*part.networks, *part.embeddings)]


def _check_network(wanted: ModelRef, catalog: Catalog) -> None:
    try:
        catalog.networks.of(wanted)
    except NotFoundError as error:
        raise MissingWeightsError(
            f"the picture was painted with {wanted.name} ({wanted.family}), which is not here",
            field="prompt",
            value=f"{wanted.name} [{wanted.sha256[:10]}]",
            allowed="the same file, to the byte",
            next_step=error.next_step,
        ) from error


def _check_model(wanted: ModelRef, catalog: Catalog) -> None:
    # An autoencoder in a file of its own is no model that one could paint with.
    find = catalog.find_vae if wanted.family == "vae" else catalog.find
    try:
        there = find(wanted.sha256)
    except NotFoundError:
        there = None
    if there is None:
        try:
            there = find(wanted.name)
        except NotFoundError:
            there = None
    if there is not None and there.sha256 == wanted.sha256:
        return
    raise MissingWeightsError(
        f"the picture was painted with the model {wanted.name}, which is not here"
        if there is None
        else f"the model {wanted.name} here is not the one that painted the picture",
        field="model",
        value=f"{wanted.name} [{wanted.sha256[:10]}]",
        allowed="the same weights, to the byte" if there is None else f"here is {there.name} [{there.short_hash}]",
        next_step="put that model into models/Stable-diffusion, or paint its Request with another model",
    )


def _check_helper(wanted: ModelRef, catalog: Catalog) -> None:
    """A file of a retouch's step: an upscaler, a face restorer or a detector."""
    if wanted.family == UPSCALER_FAMILY:
        _check_upscaler(wanted, catalog)
        return
    kind, folder = ("restorer", "models/GFPGAN") if wanted.family == "restorer" else ("detector", "models/adetailer")
    if catalog.find_enhancer(wanted.sha256, kind) is None:
        raise MissingWeightsError(
            f"the picture was retouched with the {kind} {wanted.name}, which is not here",
            field="steps",
            value=f"{wanted.name} [{wanted.sha256[:10]}]",
            allowed="the same file, to the byte",
            next_step=f"put that file into {folder}, or retouch with another one",
        )


def _check_upscaler(wanted: ModelRef, catalog: Catalog) -> None:
    if catalog.find_upscaler(wanted.sha256) is None:
        raise MissingWeightsError(
            f"the picture was enlarged with the upscaler {wanted.name}, which is not here",
            field="hires.upscaler",
            value=f"{wanted.name} [{wanted.sha256[:10]}]",
            allowed="the same file, to the byte",
            next_step="put that file into models/ESRGAN, or paint its Request with another upscaler",
        )


def _image_adapters(plan: Plan) -> list[ImageAdapterPlan]:
    found = [part.image_adapter for part in plan.passes]
    found += [part.refiner.image_adapter for part in plan.passes if part.refiner is not None]
    return [adapter for adapter in found if adapter is not None]


def _check_image_adapter(wanted: ImageAdapterPlan, catalog: Catalog) -> None:
    for info in catalog.image_adapters():
        if (info.sha256, info.encoder.sha256) == (wanted.model.sha256, wanted.encoder.sha256):
            return
    raise MissingWeightsError(
        f"the picture was painted with the image adapter {wanted.model.name}, which is not here",
        field="image_adapter",
        value=f"{wanted.model.name} [{wanted.model.sha256[:10]}]",
        allowed="the same file and the same image encoder, to the byte",
        next_step="put both into models/IP-Adapter, or paint its Request with another image adapter",
    )


def _check_controlnet(wanted: ModelRef, catalog: Catalog) -> None:
    if any(info.sha256 == wanted.sha256 for info in catalog.controlnets()):
        return
    raise MissingWeightsError(
        f"the picture was painted with the ControlNet {wanted.name}, which is not here",
        field="controls.model",
        value=f"{wanted.name} [{wanted.sha256[:10]}]",
        allowed="the same weights, to the byte",
        next_step="put that ControlNet into models/ControlNet, or paint its Request with another one",
    )
