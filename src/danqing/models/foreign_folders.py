"""Diffusers folders that their own pipeline paints: told by the class in `model_index.json`. No torch.

`danqing.json` beside it may name `prior` (the folder that is loaded with this one, where it is not found by its class),
`next_stage` (a model that enlarges each picture), `call` (arguments of the pipeline's own that every picture is painted
with), `defaults` and `description`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from danqing.models.hashes import HashCache
from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.spec.model import ForeignParts, ModelDefaults, ModelInfo
from danqing.spec.registry.foreign import PIPELINE_SAMPLER, PRIORS, find_foreign
from danqing.spec.registry.foreign_info import ForeignInfo

INDEX = "model_index.json"
ABOUT = "danqing.json"
_MAX_BYTES = 1 << 20


def class_of(folder: Path) -> str:
    """The class that a folder's index names; "" where it names none or cannot be read."""
    try:
        return str(_json(folder / INDEX).get("_class_name", ""))
    except BadFileError:
        return ""


def is_prior(folder: Path) -> bool:
    """Whether a folder is only loaded with another one."""
    return class_of(folder) in PRIORS


def identify_foreign(folder: Path, root: Path, hashes: HashCache) -> ModelInfo | None:
    """What a folder holds whose pipeline paints by itself; None where Danqing's own engine paints it.

    Args:
        folder: With a `model_index.json`.
        root: The folder of checkpoints that it lies in.
        hashes: Knows the hashes that were computed before.

    Raises:
        BadFileError: Its `danqing.json` cannot be used.
        MissingWeightsError: The folder that belongs to it is not there.
    """
    known = find_foreign(class_of(folder))
    if known is None:
        return None
    about = _json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    prior = _prior(folder, root, known, about) if known.prior else None
    sha256 = hashes.folder(folder)
    if prior is not None:
        sha256 = hashlib.sha256(f"{sha256} {hashes.folder(prior)}".encode()).hexdigest()
    try:
        call = {str(key): value for key, value in dict(about.get("call") or {}).items()}
        parts = ForeignParts(
            index=known.index,
            prior_path=None if prior is None else str(prior),
            next_stage=about.get("next_stage"),
            call=call,
        )
        defaults = ModelDefaults.model_validate({**own_defaults(known), **dict(about.get("defaults") or {})})
    except (ValidationError, TypeError, ValueError) as error:
        raise BadFileError(f"danqing.json of {folder.name} cannot be used: {error}", value=str(folder)) from error
    return ModelInfo(
        name=folder.relative_to(root).as_posix(),
        family=known.family,
        path=str(folder),
        sha256=sha256,
        foreign=parts,
        latent_scale=int(about.get("multiple_px", known.multiple_px)),
        defaults=defaults,
        description=str(about.get("description", "") or known.name),
    )


def own_defaults(known: ForeignInfo) -> dict[str, Any]:
    """What a pipeline likes, as `ModelDefaults` has it."""
    return {
        "sampler": PIPELINE_SAMPLER,
        "schedule": PIPELINE_SAMPLER,
        "steps": known.steps,
        "guidance_scale": known.guidance,
        "size_px": known.size_px,
    }


def _prior(folder: Path, root: Path, known: ForeignInfo, about: Mapping[str, Any]) -> Path:
    """The folder that is loaded with this one: the one it names, or the most alike of those with the right class."""
    named = about.get("prior")
    places = [folder.parent, root]
    if named is not None:
        found = [place / str(named) for place in places if (place / str(named) / INDEX).is_file()]
        inside = [path for path in found if root.resolve() in path.resolve().parents]
        if inside:
            return inside[0]
    else:
        beside = {path.parent for place in places for path in place.glob(f"*/{INDEX}")}
        alike = [path for path in sorted(beside) if class_of(path) == known.prior]
        if alike:
            return max(alike, key=lambda path: _alike(path.name, folder.name))
    raise MissingWeightsError(
        f"{folder.name} is the second half of {known.name}; its first half is not there",
        field="model",
        value=named or known.prior,
        allowed=f"a folder beside it whose {INDEX} names {known.prior}",
        next_step=f"put the prior's folder beside it, or name it in {folder.name}/{ABOUT} as `prior`",
    )


def _alike(one: str, other: str) -> int:
    """How many letters two names begin with alike."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadFileError(f"{path.name} is too large", value=str(path), allowed="1 MiB")
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path.name} cannot be read: {error}", value=str(path)) from error
    if not isinstance(data, dict):
        raise BadFileError(f"{path.name} is not a JSON object", value=str(path))
    return cast("dict[str, Any]", data)
