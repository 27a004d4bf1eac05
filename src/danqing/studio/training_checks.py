"""What can be said of a training Request before a trainer is asked: is there such a set, such a model, room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from danqing.sets.captions import trainer_caption
from danqing.sets.folder import read_set
from danqing.sets.names import is_plain_name, set_folder
from danqing.spec.errors import DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.training import AnyTraining
from danqing.spec.training_methods import ArtAugRequest, ControlNetRequest, EmbeddingRequest, SliderRequest
from danqing.spec.training_run import Estimate

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog

LEAST_FREE_BYTES: Final = 512 * 1024**2
_PROMPTS: Final = 3
_PLAIN_PROMPTS: Final = ("a red apple", "a house", "a cat")
_MIB: Final = 1024**2


def check_training(request: AnyTraining, sets_dir: Path, catalog: Catalog, *, free_bytes: int) -> None:
    """Refuse what cannot begin, before a trainer is started for it.

    Raises:
        NotFoundError: There is no such set, model or ControlNet.
        InvalidRequestError: The set is empty, or the name can be no file's.
        DanqingError: The disk is full.
    """
    if not is_plain_name(f"{request.name}.safetensors"):
        raise InvalidRequestError("no file can have this name", field="name", value=request.name, allowed="plain words")
    dataset: str | None = getattr(request, "dataset", None)
    if dataset is not None:
        _check_set(sets_dir, dataset)
    model: str | None = getattr(request, "model", None)
    if model is not None:
        catalog.find(model)
    if isinstance(request, ControlNetRequest) and request.start_from is not None:
        _check_controlnet(catalog, request.start_from)
    if isinstance(request, ArtAugRequest):
        _check_pairs(sets_dir, request.pairs)
    if free_bytes < LEAST_FREE_BYTES:
        raise DanqingError(
            f"only {free_bytes // _MIB} MiB are free where runs are kept",
            value=free_bytes,
            allowed=f"at least {LEAST_FREE_BYTES // _MIB} MiB",
            next_step="make room on the disk, or set another data folder",
        )


def check_door(request: AnyTraining) -> None:
    """Refuse a folder outside of the data folder from somebody who may not be the machine's owner.

    Raises:
        InvalidRequestError: The pairs are a path, not the name of a set.
    """
    if isinstance(request, ArtAugRequest) and not is_plain_name(request.pairs):
        raise InvalidRequestError(
            "the pairs are named by their training set here",
            field="pairs",
            value=request.pairs,
            allowed="the name of a training set of kind pairs",
            next_step="import the folder as a set, or run `danqing train artaug --pairs FOLDER` on the machine itself",
        )


def refuse(estimate: Estimate) -> None:
    """InvalidRequestError with every reason of an estimate; nothing where there is none."""
    if estimate.reasons:
        first, *more = estimate.reasons
        raise InvalidRequestError(
            f"this cannot be trained: {first}" + "".join(f"; {one}" for one in more),
            next_step="change what the reason names, then ask again",
        )


def sheet_prompts(request: AnyTraining, sets_dir: Path, product: str) -> tuple[str, ...]:
    """What the sheet by strength shows: the run's own prompts, else captions of its set, else plain things.

    Args:
        request: Of the run.
        sets_dir: Where sets lie.
        product: The word of a trained embedding is the name of its file, not the set's trigger.
    """
    if request.sample_prompts:
        return request.sample_prompts
    if isinstance(request, SliderRequest):
        return (request.target or request.positive,)
    dataset: str | None = getattr(request, "dataset", None)
    try:
        found = None if dataset is None else read_set(set_folder(sets_dir, dataset))
    except DanqingError:  # the set was deleted or damaged while the run learnt
        found = None
    if found is None:
        return _PLAIN_PROMPTS
    captions = [trainer_caption(found, picture) for picture in found.pictures if not picture.regularisation]
    if isinstance(request, EmbeddingRequest) and found.trigger:
        captions = [caption.replace(found.trigger, product) for caption in captions]
    distinct = list(dict.fromkeys(caption for caption in captions if caption))
    every = max(1, len(distinct) // _PROMPTS)
    return tuple(distinct[::every][:_PROMPTS]) or (found.trigger or _PLAIN_PROMPTS[0],)


def free_bytes_at(path: Path) -> int:
    """Room on the disk of a folder, or of the nearest one above it that is there."""
    place = next((one for one in (path, *path.parents) if one.exists()), Path())
    return shutil.disk_usage(place).free


def _check_set(sets_dir: Path, name: str) -> None:
    try:
        found = read_set(set_folder(sets_dir, name))
    except NotFoundError as error:
        raise NotFoundError(
            "there is no such training set", field="dataset", value=name, next_step=error.next_step
        ) from error
    if not any(picture.repeats for picture in found.pictures if not picture.regularisation):
        raise InvalidRequestError(
            "the training set has no pictures", field="dataset", value=name, next_step="import some pictures first"
        )


def _check_controlnet(catalog: Catalog, name: str) -> None:
    try:
        catalog.find_controlnet(name)
    except DanqingError as error:
        error.field = "start_from"
        raise


def _check_pairs(sets_dir: Path, pairs: str) -> None:
    if is_plain_name(pairs) and set_folder(sets_dir, pairs).is_dir():
        return
    if not pairs or not Path(pairs).is_absolute() or not Path(pairs).is_dir():
        raise NotFoundError(
            "there are no such pairs",
            field="pairs",
            value=pairs,
            allowed="the name of a training set of kind pairs, or a folder made by `danqing refine --export`",
            next_step="make some: danqing refine BRIEF --export FOLDER",
        )
