"""pydantic's complaints in our own form: field, value, what is allowed, the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from danqing.spec.errors import InvalidRequestError

KINDS = ("txt2img", "img2img", "inpaint", "outpaint", "drag", "words", "retouch")
_STEPS = ("detail", "restore_faces", "upscale", "cutout")
"""Kinds of steps of a retouch; like those of Requests, pydantic puts them into the place of a complaint."""

_FILE_NAME = r"^[^\\/:*?"
"""How the pattern of a name begins that is also a file's."""

_NEXT_STEPS = {
    "missing": "add the field",
    "union_tag_invalid": "use one of the kinds",
    "union_tag_not_found": "add `kind`",
}
_WORDS = {
    "extra_forbidden": "there is no such field",
    "missing": "the field is missing",
    "finite_number": "the number is not finite",
    "union_tag_invalid": "there is no such kind of request",
    "union_tag_not_found": "the kind of request is missing",
}
_ALLOWED = {
    "missing": "a value for this field",
    "finite_number": "a finite number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_attributes_type": "an object with named fields",
    "model_type": "an object with named fields",
    "dict_type": "an object with named values",
    "tuple_type": "a list",
}


@dataclass(frozen=True)
class Tags:
    """A union other than the one of Requests.

    Args:
        field: What tells its members apart.
        names: What can stand there.
        what: One of them, in words.
    """

    field: str
    names: tuple[str, ...]
    what: str


def from_validation_error(
    error: ValidationError, models: Sequence[type[BaseModel]] = (), tags: Tags | None = None
) -> InvalidRequestError:
    """Say the first of pydantic's complaints in our own form.

    Args:
        error: What pydantic says.
        models: Where known fields are looked up, so that a misspelt or misplaced one gets a hint.
        tags: The union that was read, if it is not the one of Requests.
    """
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if str(part) not in (*KINDS, *_STEPS)]
    if tags is not None and path[:1] and path[0] in tags.names:
        del path[0]
    context: dict[str, Any] = dict(first.get("ctx") or {})
    inner = context.get("error")
    if isinstance(inner, InvalidRequestError):
        return inner
    kind = first["type"]
    field = ".".join(path) or ("kind" if kind.startswith("union_tag") else None)
    words = _WORDS.get(kind, first["msg"][0].lower() + first["msg"][1:])
    if str(context.get("pattern")).startswith(_FILE_NAME):
        words = "no file can have this name"
    next_step = _NEXT_STEPS.get(kind, "change the value to an allowed one and send the request again")
    is_secret = bool(path) and path[-1] == "password"  # must not come back in an answer or a log
    value = None if kind == "missing" or is_secret else first.get("input")
    if kind.startswith("union_tag"):
        value = context.get("tag")
        if path:  # a step of a retouch is the only union inside a Request
            context["inside"], words = True, words.replace("request", "step")
        elif tags is not None:
            field, context["names"] = tags.field, tags.names
            words = words.replace("kind of request", tags.what)
            next_step = next_step.replace("kinds", f"{tags.field}s").replace("`kind`", f"`{tags.field}`")
    if kind == "extra_forbidden":
        next_step = _hint(path, models)
        value = None
        context = {"expected": _siblings(path, models)}
    return InvalidRequestError(
        f"{field}: {words}" if field else f"the request: {words}",
        field=field,
        value=value,
        allowed=_allowed(kind, context),
        next_step=next_step,
    )


def _allowed(kind: str, context: dict[str, Any]) -> str | None:
    if kind.startswith("union_tag"):
        return ", ".join(_STEPS if context.get("inside") else context.get("names", KINDS))
    if kind in _ALLOWED:
        return _ALLOWED[kind]
    if "expected" in context:
        return str(context["expected"])
    if "pattern" in context and "sha256" not in context["pattern"]:
        is_name = context["pattern"].startswith(_FILE_NAME)
        return 'none of / \\ : * ? " < > |, no dot at the beginning' if is_name else f"text like {context['pattern']}"
    if "pattern" in context:
        return "`sha256:<64 hex digits>` of an upload or `record:<id>`"
    if "max_length" in context:
        return f"at most {context['max_length']} {'characters' if kind.startswith('string') else 'entries'}"
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    bounds = [f"{sign} {context[key]}" for key, sign in signs if key in context]
    return " and ".join(bounds) or None


def _hint(path: Sequence[str], models: Sequence[type[BaseModel]]) -> str:
    """Where the field belongs, or what it was probably meant to be."""
    known = {".".join(entry) for model in models for entry in _paths(model)}
    wanted = ".".join(path)
    same = [entry for entry in known if path and entry.split(".")[-1] == path[-1]]
    elsewhere = sorted(same, key=lambda entry: (not entry.startswith("sampling."), entry))
    near = elsewhere or difflib.get_close_matches(wanted, sorted(known), n=1)
    return f"did you mean `{near[0]}`?" if near else "remove the field or correct its name"


def _siblings(path: Sequence[str], models: Sequence[type[BaseModel]]) -> str:
    """The names that are known where the unknown one stood."""
    known = {entry for model in models for entry in _paths(model)}
    names = sorted({entry[-1] for entry in known if entry[:-1] == tuple(path[:-1])})
    return ", ".join(names) or "the fields in the API's description"


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        yield (name,)
        for kind in (info.annotation, *get_args(info.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from ((name, *rest) for rest in _paths(kind))
