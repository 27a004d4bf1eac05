"""Pipelines of diffusers that paint as a whole: loading them, and a fresh one around the same weights for each picture.

Only classes that stand in `spec.registry.foreign` are loaded, their parts only from diffusers and transformers, never
code that lies in a folder.
"""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, pipelines
from torch import nn

from danqing.models.derived_files import variant_of
from danqing.models.families.flux_files import flux_parts
from danqing.models.families.parts import owned
from danqing.models.foreign_folders import INDEX
from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.model import ModelInfo
from danqing.spec.registry.foreign import FOREIGN, PRIORS

_LIBRARIES = ("diffusers", "transformers")
_CLASSES = {name for one in FOREIGN for name in (one.index, one.txt2img, one.img2img, one.inpaint, one.images)} | PRIORS
_MOVED = {"wuerstchen": "diffusers.pipelines.deprecated.wuerstchen"}
"""Where parts now lie that published folders (Stable Cascade's) name by an older place."""
_CODECS = ("vae", "movq", "vqgan")


@dataclass
class ForeignModel:
    """A loaded pipeline.

    Attributes:
        info: What the catalogue knows of it.
        precision: Its number formats; all parts are in the denoiser's.
        device: Where it computes.
        parts: Its modules, schedulers, tokenizers and processors, by name; those of its prior begin with `prior_`.
        settings: What its classes are told besides parts.
        offload: `model` or `sequential` where its parts wait in main memory; "" where they stay on the device.
    """

    info: ModelInfo
    precision: Precision
    device: torch.device
    parts: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    offload: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        modules = {id(part): part for part in self.parts.values() if isinstance(part, nn.Module)}
        listed = sum(p.numel() * p.element_size() for one in modules.values() for p in one.parameters())
        return listed + sum(packed_bytes(one) for one in modules.values())

    def pipeline(self, name: str) -> DiffusionPipeline:
        """A pipeline of a class around these weights, with schedulers of its own: pictures in flight share no state.

        Args:
            name: A class of diffusers that stands in the registry.

        Raises:
            UnsupportedError: The class is not known here, or takes a part that this model has not.
        """
        kind = pipeline_class(name)
        given: dict[str, Any] = {}
        for one in list(inspect.signature(kind.__init__).parameters.values())[1:]:
            if one.name in self.parts:
                given[one.name] = _fresh(self.parts[one.name])
            elif one.name in self.settings:
                given[one.name] = self.settings[one.name]
            elif one.default is inspect.Parameter.empty and one.kind is not inspect.Parameter.VAR_KEYWORD:
                raise UnsupportedError(
                    f"{self.info.name} has no {one.name}, which {name} needs",
                    field="model",
                    value=self.info.name,
                    next_step="choose another kind of painting, or another model",
                )
        found = kind(**given)
        found.set_progress_bar_config(disable=True)
        if self.offload == "model":
            found.enable_model_cpu_offload(device=self.device)
        elif self.offload == "sequential":
            found.enable_sequential_cpu_offload(device=self.device)
        return found

    def tile(self) -> bool:
        """Make its autoencoder work in tiles. False if it already does, or cannot."""
        for name in _CODECS:
            codec: Any = self.parts.get(name)
            if codec is not None and not getattr(codec, "use_tiling", True) and hasattr(codec, "enable_tiling"):
                codec.enable_tiling()
                return True
        return False


def pipeline_class(name: str) -> Any:
    """A class of diffusers by its name.

    Raises:
        UnsupportedError: It does not stand in the registry, or this diffusers has it not.
    """
    kind = getattr(diffusers, name, None) if name in _CLASSES and name else None
    if kind is None:
        raise UnsupportedError(
            "this pipeline is not one that may be loaded",
            field="model",
            value=name,
            allowed=", ".join(sorted(one.index for one in FOREIGN)),
            next_step=f"install a diffusers that has {name}" if name in _CLASSES else "choose another model",
        )
    return kind


def load(info: ModelInfo, precision: Precision, device: torch.device, offload: str = "") -> ForeignModel:
    """Load a folder and the one that belongs to it, or a transformer's file and its companions.

    Args:
        info: From the catalogue, with `foreign`.
        precision: Number formats.
        device: Where it shall compute.
        offload: As in `ForeignModel`.

    Raises:
        UnsupportedError: Its class may not be loaded.
        BadFileError: It brings code, or a file is damaged.
    """
    if info.foreign is None:
        raise BadFileError("this model has no pipeline of its own", value=info.path)
    place = Path(info.path)
    parts, settings = (
        (flux_parts(place, precision), {}) if place.is_file() else _parts_of(_load_folder(place, precision))
    )
    if info.foreign.prior_path is not None:
        prior, more = _parts_of(_load_folder(Path(info.foreign.prior_path), precision))
        parts |= {f"prior_{name}": part for name, part in prior.items()}
        settings = more | settings
    for part in parts.values():
        if isinstance(part, nn.Module):
            owned(part).to(torch.device("cpu") if offload else device).eval().requires_grad_(requires_grad=False)
    return ForeignModel(info, precision, device, parts, settings, offload)


def _load_folder(folder: Path, precision: Precision) -> Any:
    index = checked_index(folder)
    kind = pipeline_class(str(index["_class_name"]))
    parts = [one for one in folder.iterdir() if one.is_dir()]
    half = {"variant": "fp16"} if any(variant_of(one) for one in parts) else {}
    for name, place in _MOVED.items():
        if not hasattr(pipelines, name):
            setattr(pipelines, name, importlib.import_module(place))
    return kind.from_pretrained(
        folder,
        torch_dtype=precision.denoiser,
        local_files_only=True,
        use_safetensors=True,
        low_cpu_mem_usage=True,
        **half,
    )


def checked_index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` of a folder whose parts are all classes of diffusers and transformers.

    Raises:
        BadFileError: It names others, or a file of code lies in the folder.
    """
    index: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    code = next(folder.rglob("*.py"), None)
    if not isinstance(index, dict) or code is not None:
        raise BadFileError(
            "this folder brings code of its own, which is never run" if code else f"{INDEX} is not a JSON object",
            field="model",
            value=str(code or folder),
            next_step="use a folder with weights and configs alone",
        )
    for name, part in cast("dict[str, Any]", index).items():
        library = part[0] if isinstance(part, list) and len(part) == 2 else None
        known = library in _LIBRARIES or hasattr(pipelines, str(library)) or library in _MOVED
        if name.startswith("_") or library is None or known:
            continue
        raise BadFileError(
            f"the part {name} of this folder is of a library that is not loaded",
            field="model",
            value=str(library),
            allowed="diffusers, transformers",
            next_step="use a folder with weights and configs alone",
        )
    return index


def _parts_of(pipeline: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(its parts, what it was told besides)."""
    parts: dict[str, Any] = pipeline.components
    told = {name: value for name, value in dict(pipeline.config).items() if not name.startswith("_")}
    return parts, {name: value for name, value in told.items() if name not in parts}


def _fresh(part: Any) -> Any:
    return type(part).from_config(part.config) if isinstance(part, SchedulerMixin) else part
