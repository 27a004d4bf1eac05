"""Routes that say what can be chosen for a base model: networks with their previews, and control types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from danqing.server.deps import StudioDep
from danqing.spec.network import NetworkCard, ShelfKind
from danqing.spec.registry.control_filters import ALL
from danqing.store.thumbnails import THUMBNAIL_TYPE
from danqing.studio.controlling import base_model, control_choices

router = APIRouter(tags=["catalogue"])
Base = Annotated[str | None, Query(max_length=256, description="name of the base model; the built-in one if unset")]
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture, at most 256 px on a side",
        "content": {THUMBNAIL_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class NetworkList(BaseModel):
    """LoRA, embeddings and hypernetworks, in this order; of each kind those that fit the model first."""

    model: str
    networks: list[NetworkCard]


class ControlTypeAnswer(BaseModel):
    """What a control type narrows a unit to; names as A1111's `/controlnet/control_types` has them."""

    key: str | None = Field(description="also accepted as `control_type` of a unit; null for all of them")
    module_list: list[str] = Field(description="annotators that can run here and make such maps, the best one first")
    model_list: list[str] = Field(description="ControlNets that fit the model and follow them, the best one first")
    default_option: str = Field(description="the annotator to begin with; `none` where the map must be brought")
    default_model: str | None = Field(description="the ControlNet to begin with; null where none fits")


class ControlTypeList(BaseModel):
    """Every control type of A1111's extension that Danqing has a kind of map for."""

    model: str
    control_types: dict[str, ControlTypeAnswer]


@router.get("/networks")
def networks(
    studio: StudioDep,
    model: Base = None,
    kind: Annotated[ShelfKind | None, Query(description="only this kind")] = None,
    fitting: Annotated[bool, Query(description="only those that fit the model")] = False,
) -> NetworkList:
    """What a prompt can name besides a model, with trigger words and whether it fits; no file is read whole."""
    base = base_model(studio, model)
    cards = [card for card in studio.network_cards(base) if kind in (None, card.kind)]
    return NetworkList(model=base.name, networks=[card for card in cards if not fitting or card.misfit is None])


@router.get("/networks/preview", response_class=Response, responses=_PICTURE)
def network_preview(
    studio: StudioDep, kind: ShelfKind, name: Annotated[str, Query(min_length=1, max_length=1024)]
) -> Response:
    """The picture beside a network's file, if it lies inside the model folders."""
    data = studio.network_preview(kind, name)
    return Response(data, media_type=THUMBNAIL_TYPE, headers={"Cache-Control": "private, max-age=3600"})


@router.get("/control-types")
def control_types(studio: StudioDep, model: Base = None) -> ControlTypeList:
    """Annotators and ControlNets by kind of map, as the ControlNet extension's *control type* buttons choose them."""
    base = base_model(studio, model)
    return ControlTypeList(
        model=base.name,
        control_types={
            choice.info.name if choice.info else ALL: ControlTypeAnswer(
                key=choice.info.key if choice.info else None,
                module_list=list(choice.annotators),
                model_list=list(choice.networks),
                default_option=choice.annotator,
                default_model=choice.network,
            )
            for choice in control_choices(studio, base)
        },
    )
