"""A training Request: a tagged union by `method`; and how it is read from data."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from danqing.spec.complaints import Tags, from_validation_error
from danqing.spec.training_methods import (
    ArtAugRequest,
    ControlNetRequest,
    DcganRequest,
    DdpmRequest,
    DistillRequest,
    DreamBoothRequest,
    EmbeddingRequest,
    FinetuneRequest,
    HypernetworkRequest,
    LoraRequest,
    SliderRequest,
    WganRequest,
)

AnyTraining = Annotated[
    LoraRequest
    | DreamBoothRequest
    | EmbeddingRequest
    | HypernetworkRequest
    | ControlNetRequest
    | FinetuneRequest
    | DistillRequest
    | SliderRequest
    | ArtAugRequest
    | DcganRequest
    | WganRequest
    | DdpmRequest,
    Field(discriminator="method"),
]
TRAINING: TypeAdapter[AnyTraining] = TypeAdapter(AnyTraining)
TRAINING_MODELS = (
    LoraRequest,
    DreamBoothRequest,
    EmbeddingRequest,
    HypernetworkRequest,
    ControlNetRequest,
    FinetuneRequest,
    DistillRequest,
    SliderRequest,
    ArtAugRequest,
    DcganRequest,
    WganRequest,
    DdpmRequest,
)
METHODS: tuple[str, ...] = tuple(model.model_fields["method"].default for model in TRAINING_MODELS)
TRAINING_TAGS = Tags("method", METHODS, "training method")


def parse_training(data: Any) -> AnyTraining:
    """A training Request from JSON-like data.

    Raises:
        InvalidRequestError: The first thing wrong with it: field, value, what is allowed, next step.
    """
    try:
        return TRAINING.validate_python(data)
    except ValidationError as error:
        raise from_validation_error(error, _models_of(data), TRAINING_TAGS) from error


def _models_of(data: Any) -> tuple[type[BaseModel], ...]:
    """The model that was meant, where it is known: hints name its fields, not those of other methods."""
    method: Any = cast("dict[str, Any]", data).get("method") if isinstance(data, dict) else None
    meant = tuple(model for model in TRAINING_MODELS if model.model_fields["method"].default == method)
    return meant or TRAINING_MODELS
