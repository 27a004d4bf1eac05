"""Reading bodies: strict JSON, pictures inside JSON, multipart files."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, TypeVar, cast

from fastapi import Request as HttpRequest
from pydantic import Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from danqing.server.deps import StudioDep
from danqing.server.errors import MalformedBodyError, MediaTypeError
from danqing.spec.base import Data
from danqing.spec.complaints import from_validation_error
from danqing.spec.control import MAX_CONTROLS
from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.spec.image_prompt import MAX_IMAGE_PROMPTS
from danqing.spec.plan import Plan
from danqing.spec.region import MAX_REGIONS
from danqing.spec.registry.interrogators import BUILTIN
from danqing.spec.request import REQUEST, REQUEST_MODELS, Request
from danqing.studio.sight import MAX_TEXT_CHARS

T = TypeVar("T")
PICTURE_FIELDS = ("image", "mask")
_SHOWN_CHARS = 60
_REFERENCE = re.compile(r"sha256:[0-9a-f]{64}|record:[0-9A-Za-z_-]{1,64}")


class ReproduceBody(Data):
    """What to paint again: exactly one of the three."""

    record: str | None = Field(default=None, max_length=64, description="id of a Record")
    plan: Plan | None = Field(default=None, description="a Plan, as a Record shows it")
    picture: str | None = Field(default=None, description="a painted picture as a data: URI; its embedded Plan is used")


class ExplainBody(Data):
    """A prompt to be explained."""

    prompt: str = Field(max_length=20_000)
    steps: int = Field(default=20, ge=1, le=500)
    hires_steps: int | None = Field(default=None, ge=1, le=500)
    syntax: str = Field(default="a1111", pattern="^(a1111|midjourney)$")


class LookBody(Data):
    """A picture to be put into words."""

    image: str = Field(description="`record:<id>`, `sha256:<hex>`, or the picture itself as a data: URI")
    tags: int | None = Field(
        default=None, ge=0, le=100, description="at most so many tags in each language; the interrogator's own if unset"
    )
    interrogator: str = Field(default=BUILTIN, max_length=64, description="`builtin`, `wd14`, `deepdanbooru` or `clip`")
    threshold: float | None = Field(default=None, ge=0, le=1, description="of a tagger: less likely tags are left out")
    character_threshold: float | None = Field(default=None, ge=0, le=1, description="the same for characters")


class ScoreBody(Data):
    """A picture and a prompt to be compared."""

    image: str = Field(description="`record:<id>`, `sha256:<hex>`, or the picture itself as a data: URI")
    prompt: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)


class SearchBody(Data):
    """What to look for in the gallery: words, a picture, or both."""

    search: str = Field(default="", max_length=MAX_TEXT_CHARS, description="what the picture shows")
    like: str | None = Field(default=None, description="a picture that it resembles, in the forms of `image`")
    limit: int = Field(default=20, ge=1, le=500)
    kind: str | None = Field(default=None, max_length=32)
    model: str | None = Field(default=None, max_length=256)


def parse_json(raw: bytes) -> Any:
    """Finite JSON in UTF-8.

    Raises:
        MalformedBodyError: It is something else.
        InvalidRequestError: A number in it is NaN or infinite, or a text holds half a character.

    >>> parse_json(b'{"steps": 4}')
    {'steps': 4}
    """
    try:
        return _checked(json.loads(raw.decode("utf-8")))
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - _SHOWN_CHARS // 2) : error.pos + _SHOWN_CHARS // 2]
        raise _malformed(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}", near
        ) from error
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8: byte {error.start} cannot be read", None) from error
    except RecursionError as error:
        raise _malformed("the body is nested too deeply", None) from error
    except ValueError as error:  # an integer with more digits than Python reads
        raise _malformed("the body holds a number with too many digits", None) from error


def _checked(data: Any) -> Any:
    # Python's reader takes NaN and Infinity, and turns 1e999 into infinity; JSON knows none of them.
    found: list[tuple[str, Any]] = [("", data)]
    while found:
        path, item = found.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise InvalidRequestError(
                f"{path or 'the body'}: {item} is not a finite number",
                field=path or None,
                value=repr(item),
                allowed="finite numbers",
                next_step="send a finite number, or leave the field out",
            )
        if isinstance(item, str) and not _is_unicode(item):
            raise InvalidRequestError(
                f"{path or 'the body'}: the text holds half of a surrogate pair",
                field=path or None,
                value=ascii(item),
                allowed="Unicode text",
                next_step="send the text as UTF-8",
            )
        if isinstance(item, dict):
            entries = cast("dict[str, Any]", item).items()
            found.extend((f"{path}.{key}".lstrip("."), value) for key, value in entries)
        elif isinstance(item, list):
            found.extend((f"{path}.{place}", value) for place, value in enumerate(cast("list[Any]", item)))
    return data


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _malformed(message: str, near: str | None) -> MalformedBodyError:
    return MalformedBodyError(
        message, value=near, allowed="one JSON object in UTF-8", next_step="correct the body and send it again"
    )


async def read_json_object(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        MediaTypeError: The body says that it is not JSON.
        MalformedBodyError: It is not a JSON object.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise MediaTypeError(
            "this address takes JSON",
            field="Content-Type",
            value=media_type or None,
            allowed="application/json",
            next_step="add the header Content-Type: application/json",
        )
    data = parse_json(await request.body())
    if not isinstance(data, dict):
        raise _malformed("the body is JSON, but not an object", json.dumps(data)[:_SHOWN_CHARS])
    return cast("dict[str, Any]", data)


def validated(adapter: TypeAdapter[T], data: dict[str, Any]) -> T:
    """The typed body; strict, so that `"4"` and `true` are not taken for numbers.

    Raises:
        InvalidRequestError: The first thing wrong with it.
    """
    try:
        return adapter.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise from_validation_error(error, REQUEST_MODELS) from error


def decode_data_uri(uri: str, field: str) -> bytes:
    """The bytes of a base64 data: URI.

    Raises:
        InvalidRequestError: It is not `data:image/…;base64,…`.
    """
    head, comma, body = uri.partition(",")
    problem = InvalidRequestError(
        "this data: URI cannot be read as a picture",
        field=field,
        value=uri[:_SHOWN_CHARS],
        allowed="data:image/png;base64,… (PNG, JPEG or WebP)",
        next_step="encode the picture's bytes as base64, or POST them to /api/v1/uploads first",
    )
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise problem
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise problem from error


def picture_of(reference: str, field: str) -> bytes | str:
    """A data: URI's bytes, or the reference as it stands.

    Raises:
        InvalidRequestError: It is neither a data: URI nor `record:<id>` nor `sha256:<hex>`.
    """
    if reference.startswith("data:"):
        return decode_data_uri(reference, field)
    if _REFERENCE.fullmatch(reference):
        return reference
    raise InvalidRequestError(
        "this names no picture",
        field=field,
        value=reference[:_SHOWN_CHARS],
        allowed="record:<id>, sha256:<64 hex digits> or a data: URI",
        next_step="upload the picture to /api/v1/uploads and use the `ref` in the answer",
    )


async def read_paint_request(request: HttpRequest, studio: StudioDep) -> Request:
    """The Request in the body, with pictures given as data: URIs already uploaded."""
    data = await read_json_object(request)
    data.setdefault("kind", "txt2img")
    await upload_pictures(data, studio)
    return validated(REQUEST, data)


async def upload_pictures(data: dict[str, Any], studio: StudioDep) -> None:
    """Puts references where a Request holds pictures as data: URIs."""
    for holder, prefix in _picture_holders(data):
        for name in PICTURE_FIELDS:
            await upload_inline(holder, name, studio, prefix)


async def upload_inline(holder: dict[str, Any], name: str, studio: StudioDep, prefix: str = "") -> None:
    """Where `holder[name]` is a data: URI, uploads it and puts its reference there; `prefix` is for messages."""
    uri, field = holder.get(name), f"{prefix}{name}"
    if not isinstance(uri, str) or not uri.startswith("data:"):
        return
    content = decode_data_uri(uri, field)
    try:
        upload = await run_in_threadpool(studio.upload, content, name=field)
    except BadFileError as error:
        error.field = field
        raise
    holder[name] = f"sha256:{upload.sha256}"


def _picture_holders(data: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """The objects of a body that may hold pictures, and what their field names begin with."""
    holders = [(data, "")]
    units = data.get("controls")
    if isinstance(units, list):
        # What is beyond the limit is refused anyway, before any of it is kept.
        for index, unit in enumerate(cast("list[Any]", units)[:MAX_CONTROLS]):
            if isinstance(unit, dict):
                holders.append((cast("dict[str, Any]", unit), f"controls.{index}."))
    prompts = data.get("image_prompts")
    if isinstance(prompts, list):
        for index, prompt in enumerate(cast("list[Any]", prompts)[:MAX_IMAGE_PROMPTS]):
            if isinstance(prompt, dict):
                holders.append((cast("dict[str, Any]", prompt), f"image_prompts.{index}."))
    regions = data.get("regions")
    if isinstance(regions, list):
        for index, region in enumerate(cast("list[Any]", regions)[:MAX_REGIONS]):
            if isinstance(region, dict):
                place = cast("dict[str, Any]", region)
                holders.append((place, f"regions.{index}."))
                if isinstance(place.get("control"), dict):
                    holders.append((cast("dict[str, Any]", place["control"]), f"regions.{index}.control."))
    return holders


async def read_multipart_file(request: HttpRequest) -> tuple[bytes, str]:
    """Content and name of the form field `file`; the guard has counted the bytes while they came.

    Raises:
        MediaTypeError: The body is no multipart form.
        InvalidRequestError: The form has no such file.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise MediaTypeError(
            "this address takes a file in a multipart form",
            field="Content-Type",
            value=request.headers.get("content-type"),
            allowed="multipart/form-data with a file in the field `file`",
            next_step="for example: curl -F file=@picture.png …",
        )
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidRequestError(
                "the form has no file",
                field="file",
                value=file,
                allowed="one PNG, JPEG or WebP picture",
                next_step="send the picture in the form field `file`",
            )
        return await file.read(), file.filename or ""
