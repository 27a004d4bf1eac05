"""Routes of the page's list of networks: LoRA, embeddings, hypernetworks, and the pictures beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from danqing.spec.errors import DanqingError
from danqing.spec.network import NetworkCard, ShelfKind
from danqing.spec.registry.families import FAMILIES
from danqing.store.thumbnails import THUMBNAIL_TYPE
from danqing.web.answers import PREFIX, refused
from danqing.web.looking import named_model

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_FAMILY_NAMES = {info.key: info.name for info in FAMILIES}
_LONG = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def networks_router(studio: Studio) -> APIRouter:
    """What a prompt can name besides the model."""
    router = APIRouter(prefix=f"{PREFIX}/networks", include_in_schema=False)

    @router.get("")
    def networks(request: Request, model: str = "") -> JSONResponse:
        base = named_model(studio, model)
        try:
            cards = studio.network_cards(base)
        except DanqingError as error:
            return refused(error, request)
        family = _FAMILY_NAMES.get(base.family, base.family)
        return JSONResponse({"base": base.name, "family": family, "networks": [_card(card) for card in cards]})

    @router.get("/preview")
    def preview(request: Request, kind: ShelfKind, name: Annotated[str, Query(max_length=1024)]) -> Response:
        try:
            data = studio.network_preview(kind, name)
        except DanqingError as error:
            return refused(error, request)
        return Response(data, media_type=THUMBNAIL_TYPE, headers=_LONG)  # its address names the file's time

    return router


def _card(card: NetworkCard) -> dict[str, Any]:
    query = urlencode({"kind": card.kind, "name": card.name, "v": card.preview or ""})
    made_for = _FAMILY_NAMES.get(card.family or "", card.family or "") or card.base_model
    shown = {"preview": f"web/networks/preview?{query}" if card.preview else None, "made_for": made_for}
    return card.model_dump() | shown
