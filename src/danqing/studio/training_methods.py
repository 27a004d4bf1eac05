"""What can be trained, in words and limits for pages and command lines: read from the spec itself."""

from __future__ import annotations

import inspect
import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from danqing.spec.base import Data
from danqing.spec.training import TRAINING_MODELS
from danqing.studio.training_products import ProductKind, product_kind

FieldKind = Literal["integer", "number", "text", "boolean", "choice", "list"]
_HIDDEN = frozenset({"method"})
_ENTRY = re.compile(r"^(\w+): (.*)$")
_BOUNDS = {"ge": "minimum", "gt": "above", "le": "maximum", "lt": "below"}
_TITLES = {
    "lora": "LoRA",
    "dreambooth": "DreamBooth",
    "embedding": "Embedding",
    "hypernetwork": "Hypernetwork",
    "controlnet": "ControlNet",
    "finetune": "Fine-tune",
    "distill": "Few steps",
    "slider": "Slider",
    "artaug": "ArtAug",
    "dcgan": "DCGAN",
    "wgan": "WGAN",
    "ddpm": "DDPM",
}


class TrainingField(Data):
    """One thing that can be set.

    Attributes:
        name: Dotted where it stands inside another: `network.rank`.
        optional: Whether null is allowed: the method chooses then.
        default: What stands there if nothing is said; null also where it must be said.
        required: Whether it must be said.
        minimum: Least value; `above` where it must be greater.
        maximum: Greatest value; `below` where it must be less.
        words: One plain sentence; empty where the name says it.
    """

    name: str
    kind: FieldKind
    optional: bool = False
    required: bool = False
    default: Any = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    choices: tuple[str | int, ...] = ()
    words: str = ""


class TrainingMethod(Data):
    """A method and what can be set.

    Attributes:
        makes: What comes out and where it goes; null for models that only show how learning works.
        needs_set: Whether it learns from a training set.
    """

    method: str
    title: str
    words: str
    makes: ProductKind | None
    needs_set: bool
    fields: tuple[TrainingField, ...] = Field(description="what can be set, the important ones first")


@cache
def training_methods() -> tuple[TrainingMethod, ...]:
    """Every method, in the spec's order."""
    return tuple(_method(cast("type[BaseModel]", model)) for model in TRAINING_MODELS)


def _method(model: type[BaseModel]) -> TrainingMethod:
    name = str(model.model_fields["method"].default)
    fields = tuple(_fields(model))
    required = {field.name: "-" for field in fields if field.required}
    example: Any = model.model_validate(required)
    return TrainingMethod(
        method=name,
        title=_TITLES[name],
        words=(inspect.getdoc(model) or "").partition("\n")[0],
        makes=product_kind(example),
        needs_set="dataset" in required,
        fields=fields,
    )


def _fields(model: type[BaseModel], prefix: str = "", preset: Any = None) -> list[TrainingField]:
    """The fields of a model; inside another one with the values that it presets."""
    words = _words(model)
    own = [name for name in model.__annotations__ if name in model.model_fields]
    order = [*own, *(name for name in model.model_fields if name not in own)]
    found: list[TrainingField] = []
    for name in sorted(order, key=lambda one: not model.model_fields[one].is_required()):
        info = model.model_fields[name]
        inner = _inner_model(info.annotation)
        if name in _HIDDEN:
            continue
        if inner is not None:
            found += _fields(inner, f"{prefix}{name}.", info.get_default(call_default_factory=True))
        else:
            field = _field(f"{prefix}{name}", info, words.get(name, info.description or ""))
            chosen = {} if preset is None else {"default": _plain_value(getattr(preset, name))}
            found.append(field.model_copy(update=chosen))
    return found


def _field(name: str, info: FieldInfo, words: str) -> TrainingField:
    kinds = _plain_types(info.annotation)
    bounds = {_BOUNDS[key]: getattr(one, key) for one in _constraints(info) for key in _BOUNDS if hasattr(one, key)}
    choices = tuple(choice for one in kinds if get_origin(one) is Literal for choice in get_args(one))
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return TrainingField(
        name=name,
        kind="choice" if choices else _kind(kinds),
        optional=NoneType in kinds,
        required=info.is_required(),
        default=_plain_value(default),
        choices=choices,
        words=words,
        **bounds,
    )


def _plain_value(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _kind(kinds: list[Any]) -> FieldKind:
    plain = [one for one in kinds if one is not NoneType]
    if any(get_origin(one) is tuple for one in plain):
        return "list"
    names: dict[Any, FieldKind] = {bool: "boolean", int: "integer", float: "number"}
    found: list[FieldKind] = [names[one] for one in plain if one in names]
    return found[0] if found else "text"


def _plain_types(annotation: Any) -> list[Any]:
    """The alternatives of an annotation without their constraints."""
    if get_origin(annotation) in (Union, UnionType):
        return [kind for one in get_args(annotation) for kind in _plain_types(one)]
    if hasattr(annotation, "__metadata__"):
        return _plain_types(annotation.__origin__)
    return [annotation]


def _constraints(info: FieldInfo) -> list[Any]:
    """Limits of a field, also those of an alternative of `X | None`."""
    inner = [meta for one in get_args(info.annotation) for meta in getattr(one, "__metadata__", ())]
    nested = [meta for one in inner if isinstance(one, FieldInfo) for meta in one.metadata]
    return [*info.metadata, *inner, *nested]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    for one in _plain_types(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _words(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and its bases say of the fields."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        found.update(_attributes(inspect.cleandoc(one.__dict__.get("__doc__") or "")))
    return found


def _attributes(doc: str) -> dict[str, str]:
    r"""The entries below `Attributes:`.

    >>> _attributes("A thing.\n\nAttributes:\n    rank: How wide\n        it is.\n    alpha: Scale.")
    {'rank': 'How wide it is.', 'alpha': 'Scale.'}
    """
    found: dict[str, str] = {}
    last = ""
    for line in doc.partition("Attributes:\n")[2].splitlines():
        entry = _ENTRY.match(line.strip()) if line.startswith("    ") and not line.startswith("     ") else None
        if entry:
            last = entry[1]
            found[last] = entry[2]
        elif last and line.startswith("        "):
            found[last] += f" {line.strip()}"
    return found
