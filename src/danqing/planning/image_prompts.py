"""Image prompts resolved: for every model that paints an image adapter, seen to fit before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Protocol

from danqing.planning.content import content_of
from danqing.spec.errors import UnsupportedError
from danqing.spec.model import IpAdapterInfo, ModelInfo, ModelRef
from danqing.spec.plan import ImageAdapterPlan, ImagePromptPlan
from danqing.spec.registry.foreign import find_foreign
from danqing.spec.request import Request

ADAPTER_FAMILY = "ip_adapter"
ENCODER_FAMILY = "image_encoder"
REVISION_FAMILY = "revision"
"""What stands for the family in the ModelRefs of an image adapter, of its image tower, and of a tower alone."""


_FAMILIES = {"ip_adapter": ADAPTER_FAMILY, "revision": REVISION_FAMILY}


class ImageAdapterFinder(Protocol):
    """What planning needs of the catalogue's image adapters."""

    def find_image_adapter(self, name: str) -> IpAdapterInfo:
        """The image adapter with this name.

        Raises:
            NotFoundError: There is none.
        """
        ...

    def image_adapter_for(self, model: ModelInfo) -> IpAdapterInfo:
        """The image adapter that fits a model best.

        Raises:
            MissingWeightsError: None fits.
        """
        ...


def plan_image_prompts(request: Request) -> tuple[ImagePromptPlan, ...]:
    """The image prompts of a Request; those of weight 0 say nothing and are left out.

    Raises:
        InvalidRequestError: A picture is not resolved to its content.
    """
    return tuple(
        ImagePromptPlan(
            image=content_of(prompt.image, f"image_prompts.{index}.image"),
            weight=prompt.weight,
            start=prompt.start,
            end=prompt.end,
        )
        for index, prompt in enumerate(request.image_prompts)
        if prompt.weight > 0
    )


def adapter_for(request: Request, catalog: ImageAdapterFinder, model: ModelInfo) -> ImageAdapterPlan | None:
    """The image adapter for a model; None where the Request has no image prompt that says anything.

    Raises:
        NotFoundError: The adapter that was asked for is not there.
        UnsupportedError: It does not fit the model; every difference is named.
        MissingWeightsError: None was asked for, and none fits.
    """
    if not any(prompt.weight > 0 for prompt in request.image_prompts):
        return None
    if request.image_adapter is None:
        found = catalog.image_adapter_for(model)
    else:
        found = catalog.find_image_adapter(request.image_adapter)
        check_fits(found, model)
    return ImageAdapterPlan(
        model=ModelRef(name=found.name, sha256=found.sha256, family=_FAMILIES[found.kind]),
        encoder=ModelRef(name=f"{found.name} image encoder", sha256=found.encoder.sha256, family=ENCODER_FAMILY),
    )


def misfits(adapter: IpAdapterInfo, model: ModelInfo) -> list[str]:
    """Why an image adapter cannot work in a model; empty where nothing speaks against it."""
    if model.foreign is not None:
        return ["the model's own pipeline reads pictures by itself, or not at all"]
    if adapter.kind == "revision":
        return _revision_misfits(adapter, model)
    reasons: list[str] = []
    if model.context_width and adapter.context_width != model.context_width:
        reasons.append(
            f"its tokens are {adapter.context_width} wide, the model's text states are {model.context_width}"
        )
    if model.attention_widths and adapter.layer_widths != model.attention_widths:
        ours, theirs = (_counted(widths) for widths in (adapter.layer_widths, model.attention_widths))
        reasons.append(f"it is made for cross-attentions of width {ours}, the model's are {theirs}")
    return reasons


def _revision_misfits(adapter: IpAdapterInfo, model: ModelInfo) -> list[str]:
    if not model.pooled_width:
        return [f"Revision puts a picture in place of SDXL's pooled text, which a model of {model.family} has not"]
    if adapter.encoder.embedding_width != model.pooled_width:
        widths = f"{adapter.encoder.embedding_width} wide, the model's pooled texts are {model.pooled_width}"
        return [f"its pictures' vectors are {widths}"]
    return []


def likes_pictures(adapters: Iterable[IpAdapterInfo], model: ModelInfo) -> bool:
    """Whether a model can paint like pictures with what is installed."""
    if model.foreign is not None:
        known = find_foreign(model.foreign.index)
        return known is not None and known.most_images > 0
    return any(not misfits(adapter, model) for adapter in adapters)


def _counted(widths: tuple[int, ...]) -> str:
    """Widths with how often each stands in a row: `3×32, 64`."""
    runs = [(width, len(list(run))) for width, run in groupby(widths)]
    return ", ".join(f"{count}×{width}" if count > 1 else str(width) for width, count in runs)


def check_fits(adapter: IpAdapterInfo, model: ModelInfo) -> None:
    """See that an image adapter can work in a model.

    Raises:
        UnsupportedError: It cannot, with every reason.
    """
    reasons = misfits(adapter, model)
    if reasons:
        raise UnsupportedError(
            f"the image adapter {adapter.name} is not made for the model {model.name}: {'; '.join(reasons)}",
            field="image_adapter",
            value=adapter.name,
            allowed=f"an IP-Adapter trained for {model.family}",
            next_step="leave `image_adapter` out, or choose one of the model's family",
        )
