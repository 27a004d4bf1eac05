"""What a person asks for: a tagged union by `kind`. All fields but a few are optional; `plan()` resolves the rest."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import Field, TypeAdapter, ValidationError

from danqing.spec.complaints import from_validation_error
from danqing.spec.drag import DragRequest
from danqing.spec.painting import Img2ImgRequest, InpaintRequest, OutpaintRequest, Txt2ImgRequest
from danqing.spec.retouch import RetouchRequest
from danqing.spec.words_edit import WordsRequest

Request = Annotated[
    Txt2ImgRequest | Img2ImgRequest | InpaintRequest | OutpaintRequest | DragRequest | RetouchRequest | WordsRequest,
    Field(discriminator="kind"),
]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
REQUEST_MODELS = (
    Txt2ImgRequest,
    Img2ImgRequest,
    InpaintRequest,
    OutpaintRequest,
    DragRequest,
    RetouchRequest,
    WordsRequest,
)


def parse_request(data: Any) -> Request:
    """A Request from JSON-like data.

    Raises:
        InvalidRequestError: The first thing wrong with it: field, value, what is allowed, next step.
    """
    if isinstance(data, dict) and "kind" not in data:
        data = {**cast("dict[str, Any]", data), "kind": "txt2img"}
    try:
        return REQUEST.validate_python(data)
    except ValidationError as error:
        raise from_validation_error(error, REQUEST_MODELS) from error
