"""What a picture says of itself, for a change of its words: how to paint it anew, or at least what it shows."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.spec.plan import Plan
from danqing.spec.request import Request
from danqing.spec.words_edit import WordsRequest
from danqing.store.base import Store
from danqing.store.blobs import BlobStore

_EDIT = ("technique", "alignment", "weights", "cross_share", "self_share", "local", "local_threshold")
_OWN = (*_EDIT, "output", "parent")
"""What the change itself says; everything else is the source's."""
_DECIDING = (
    "negative_prompt",
    "emphasis",
    "clip_skip",
    "model",
    "vae",
    "width_px",
    "height_px",
    "seed",
    "variation",
    "seed_resize",
    "noise",
    "eta_noise_seed_delta",
    "sampling",
    "guidance",
    "hires",
    "size_hints",
    "controls",
    "image_prompts",
    "image_mix",
    "image_adapter",
    "precision",
)
"""Fields that decide what the source looks like: whoever asks for others wants the picture, not its Plan."""
_BY_WORDS = ("txt2img", "img2img", "words", "drag")
_FAMILIES = ("sd1", "sd2", "sdxl", "danqing")


def recalled(request: WordsRequest, store: Store, blobs: BlobStore) -> WordsRequest:
    """The Request with what the picture's own Plan or infotext says.

    A picture that was painted from words alone, and that nothing in the Request contradicts, is painted anew: prompt,
    model, seed and sampling come from its Plan, and the picture itself is not needed. Of any other picture the prompt
    is taken, where the Request has none, and the model.

    Args:
        request: With the picture named by `record:` or `sha256:`.
        store: Where Records are.
        blobs: Where pictures are.

    Raises:
        InvalidRequestError: Several pictures are asked for where there is only one to be painted anew.
    """
    if request.image is None:
        return request
    plan, told = _told(request.image, store, blobs)
    if plan is not None and told is not None and _repeats(request, plan, told):
        if request.count > 1:
            raise InvalidRequestError(
                "the picture is painted anew from its own seed, so there is one of it",
                field="count",
                value=request.count,
                allowed="1",
                next_step="ask for one picture; change words, weights or shares for others",
            )
        own = {name: getattr(request, name) for name in _OWN}
        shared = {name: getattr(told, name) for name in _DECIDING}
        return request.model_copy(update={**shared, **own, "image": None, "source_prompt": told.prompt})
    changes: dict[str, Any] = {}
    if told is not None and not request.source_prompt:
        changes["source_prompt"] = told.prompt
    if plan is not None and request.model is None and plan.kind in _BY_WORDS and plan.base.model.family in _FAMILIES:
        changes["model"] = plan.base.model.name
    return request.model_copy(update=changes)


def _told(image: str, store: Store, blobs: BlobStore) -> tuple[Plan | None, Request | None]:
    """The Plan of a picture and the Request that it says it was painted from, as far as they are known."""
    from danqing.prompt.infotext import request_from_infotext
    from danqing.prompt.infotext_plan import request_of_plan
    from danqing.store.metadata import read_metadata

    kind, _, name = image.partition(":")
    if kind == "record":
        plan = store.record(name).plan
        return plan, request_of_plan(plan)
    try:
        found = read_metadata(blobs.read(name))
    except NotFoundError:
        return None, None
    if found.plan is not None:
        return found.plan, request_of_plan(found.plan)
    return None, request_from_infotext(found.infotext).request if found.infotext else None


def _repeats(request: WordsRequest, plan: Plan, told: Request) -> bool:
    """Whether the picture can be painted anew, and nothing that was asked for is against it."""
    foreign = any(one.pipeline is not None for one in plan.passes)
    if plan.kind != "txt2img" or plan.regions or plan.base.refiner is not None or foreign or len(plan.passes) > 2:
        return False
    if request.inversion is not None or request.technique != "prompt_to_prompt":
        return False
    if request.source_prompt.strip() not in ("", told.prompt.strip()):
        return False
    asked = request.model_fields_set
    return all(name not in asked or _agrees(getattr(request, name), getattr(told, name)) for name in _DECIDING)


def _agrees(asked: Any, told: Any) -> bool:
    """Whether two values are the same, as far as the first one says anything."""
    if isinstance(asked, BaseModel) and isinstance(told, BaseModel):
        return all(_agrees(getattr(asked, name), getattr(told, name)) for name in asked.model_fields_set)
    return asked == told
