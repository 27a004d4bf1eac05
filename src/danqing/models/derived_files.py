"""Models that are kept as a small change of another one: where their files lie and what they say. No torch.

Such a folder holds `danqing.json` with `base` (the other model's folder) and at least one of `lora` (a LoRA of its UNet
in diffusers' format) and `conv_in` (another first convolution, for an inpainting UNet).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from danqing.models.hashes import HashCache
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.model import ModelDefaults, ModelInfo

ABOUT = "danqing.json"
CONV_IN = "conv_in.weight"
MAX_HEADER_BYTES = 1 << 20
_PARTS = ("lora", "conv_in")


@dataclass(frozen=True)
class Derivation:
    """What a derived model's folder says.

    Attributes:
        folder: Where it lies.
        base: The name of the folder of the model that it changes.
        lora: Low-rank changes of the UNet's weights.
        conv_in: Another first convolution of the UNet: `conv_in.weight` [out, in, kh, kw] and `conv_in.bias` [out].
        about: All of `danqing.json`.
    """

    folder: Path
    base: str
    lora: Path | None
    conv_in: Path | None
    about: dict[str, Any]


def variant_of(folder: Path) -> dict[str, str]:
    """Diffusers' `variant` for a part of a model: some folders hold half precision alone, under names of its own."""
    names = [path.name for path in folder.glob("*.safetensors")]
    return {"variant": "fp16"} if names and all(".fp16" in name for name in names) else {}


def read_derivation(folder: Path) -> Derivation | None:
    """What `danqing.json` says, or None where the folder is no derived model.

    Raises:
        BadFileError: A file is damaged, or named outside the folder.
        MissingWeightsError: A file that it names is not there.
    """
    path = folder / ABOUT
    if not path.is_file() or (folder / "model_index.json").is_file():
        return None
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(f"a model's danqing.json cannot be read: {error}", value=str(path)) from error
    if not isinstance(data, dict):
        return None
    about = cast("dict[str, Any]", data)
    if "base" not in about or not any(part in about for part in _PARTS):
        return None
    lora, conv_in = (_file(folder, about, part) for part in _PARTS)
    return Derivation(folder, _plain_name(folder, "base", about["base"]), lora, conv_in, about)


def find_base(derivation: Derivation, roots: Sequence[Path]) -> Path:
    """The folder of the model that is changed: beside the derived one, or below one of the roots.

    Raises:
        MissingWeightsError: It is in none of them.
    """
    places = [derivation.folder.parent, *roots]
    for place in places:
        if (place / derivation.base / "model_index.json").is_file():
            return place / derivation.base
    raise MissingWeightsError(
        f"{derivation.folder.name} is a change of the model {derivation.base}, which is not installed",
        field="model",
        value=derivation.base,
        allowed=", ".join(str(place / derivation.base) for place in dict.fromkeys(places)),
        next_step=f"put the folder {derivation.base} beside {derivation.folder}",
    )


def derive(base: ModelInfo, derivation: Derivation, name: str, hashes: HashCache, *, builtin: bool) -> ModelInfo:
    """What the catalogue says of the derived model: the base's facts with its own name, hash and defaults.

    Raises:
        BadFileError: The defaults or the first convolution make no sense.
    """
    about = derivation.about
    own = hashlib.sha256(f"{base.sha256} {hashes.folder(derivation.folder)}".encode())
    return base.model_copy(
        update={
            "name": name,
            "path": str(derivation.folder),
            "base_path": base.path,
            "sha256": own.hexdigest(),
            "builtin": builtin,
            "unet_in_channels": _channels(derivation.conv_in) if derivation.conv_in else base.unet_in_channels,
            "defaults": _defaults(base.defaults, derivation),
            "description": str(about.get("description", base.description)),
        }
    )


def _defaults(base: ModelDefaults, derivation: Derivation) -> ModelDefaults:
    """The base's, under what `defaults` or the top of `danqing.json` says; a new sampler brings its own schedule."""
    about = derivation.about
    nested: Any = about.get("defaults", {})
    said = {key: about[key] for key in ModelDefaults.model_fields if key in about}
    try:
        said = {**nested, **said}
        schedule = {"schedule": "automatic"} if "sampler" in said else {}
        return ModelDefaults.model_validate({**base.model_dump(), **schedule, **said})
    except (ValidationError, TypeError) as error:
        where = str(derivation.folder / ABOUT)
        raise BadFileError(f"the defaults in danqing.json cannot be used: {error}", value=where) from error


def _file(folder: Path, about: dict[str, Any], part: str) -> Path | None:
    if about.get(part) is None:
        return None
    path = folder / _plain_name(folder, part, about[part])
    if path.suffix != ".safetensors":
        raise BadFileError(
            f"the weights of {folder.name} are not in a safe format",
            value=path.name,
            allowed="a .safetensors file",
            next_step="convert the file to safetensors",
        )
    if not path.is_file():
        raise MissingWeightsError(
            f"{folder.name} lacks its weights", value=str(path), next_step="copy the folder again, with its weights"
        )
    return path


def _plain_name(folder: Path, part: str, value: Any) -> str:
    """A name without any path in it: danqing.json may come from anywhere and must not open other folders."""
    name = str(value)
    if not name or name.startswith(".") or Path(name).name != name or "\\" in name:
        raise BadFileError(
            f"`{part}` in {folder.name}/{ABOUT} is not a plain name", value=name, allowed="a name without folders"
        )
    return name


def _channels(path: Path) -> int:
    """Input channels of the convolution in this file, from the safetensors header."""
    try:
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header: Any = json.loads(stream.read(min(size, MAX_HEADER_BYTES)))
        _, channels, _, _ = header[CONV_IN]["shape"]
        return int(channels)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise BadFileError(
            f"the first convolution cannot be read: {error!r}",
            value=str(path),
            allowed=f"a safetensors file with {CONV_IN}, [out, in, height, width]",
        ) from error


def unknown_change(folder: Path, what: str, value: str) -> UnsupportedError:
    """What to say of a change that this version cannot make."""
    return UnsupportedError(
        f"the LoRA of {folder.name} {what}",
        value=value,
        allowed="lora_A and lora_B of the UNet's linear and convolution layers, in diffusers' format",
        next_step="save it with diffusers' save_lora_weights, for the UNet alone",
    )
