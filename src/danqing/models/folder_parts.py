"""The parts of models in folders: each weight is copied once from its mapped file into its number format.

The libraries' own `from_pretrained` keeps the whole file mapped beside the module, and leaves weights of the file's
format in that mapping. It still reads whatever is laid out in another way than usual.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedModel

from danqing.models.derived_files import variant_of
from danqing.models.mapped import let_go
from danqing.models.precision import Precision
from danqing.models.singlefile.build import filled
from danqing.models.singlefile.weights import Weights
from danqing.models.storage import stored_dtypes
from danqing.spec.errors import BadFileError

_TEXT_MODEL = "text_model."
_NOT_KEPT = ("position_ids", "logit_scale")
"""What old files of text encoders hold that no module has any more."""


def load_part(kind: Any, folder: Path, dtype: torch.dtype, denoiser: Precision | None = None) -> Any:
    """A module, not trained, in memory of its own.

    Args:
        kind: A class of diffusers or transformers.
        folder: With `config.json` and `.safetensors`.
        dtype: Number format.
        denoiser: Number formats of a denoiser, whose weights may be kept in a smaller one.

    Raises:
        OSError: A file is not there, or cannot be read.
        ValueError: The folder holds another network than its config says.
    """
    files = _files(folder, "model" if issubclass(kind, PreTrainedModel) else "diffusion_pytorch_model")
    if not files or _keeps_apart(kind, dtype) or "quantization_config" in _config(folder):
        return _by_library(kind, folder, dtype)
    with init_empty_weights():
        module = _made(kind, folder)
    known = {name: tuple(one.shape) for name, one in module.state_dict().items()}
    try:
        tensors = _named({name: one for path in files for name, one in Weights(path).items()}, known)
    except BadFileError:
        # The library says in its own words what it misses.
        return _by_library(kind, folder, dtype)
    if {name: tuple(one.shape) for name, one in tensors.items()} != known:
        return _by_library(kind, folder, dtype)
    stored = {} if denoiser is None else stored_dtypes(lambda: _made(kind, folder), denoiser)
    module = filled(lambda: module, tensors, dtype, folder, stored=stored)
    if issubclass(kind, PreTrainedModel):
        module.tie_weights()
    return module.eval()


def _made(kind: Any, folder: Path) -> nn.Module:
    if issubclass(kind, PreTrainedModel):
        return kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    return kind.from_config(kind.load_config(folder, local_files_only=True))


def _by_library(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    name = "dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"
    module = kind.from_pretrained(
        folder, **{name: dtype}, local_files_only=True, use_safetensors=True, **variant_of(folder)
    )
    let_go(folder)
    return module


def _keeps_apart(kind: Any, dtype: torch.dtype) -> bool:
    """Whether some of its layers stay in float32, which the library sees to."""
    return dtype is not torch.float32 and bool(getattr(kind, "_keep_in_fp32_modules", None))


def _named(tensors: Mapping[str, Tensor], known: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under the names that this version of the library has; tied ones stand in both places."""
    known = set(known)
    flat = not any(name.startswith(_TEXT_MODEL) for name in known)
    renamed = {name.removeprefix(_TEXT_MODEL) if flat else name: one for name, one in tensors.items()}
    kept = {name: one for name, one in renamed.items() if name in known or not name.endswith(_NOT_KEPT)}
    words, tied = kept.get("shared.weight"), "encoder.embed_tokens.weight"
    return {**kept, tied: words} if words is not None and tied in known else kept


def _files(folder: Path, stem: str) -> list[Path]:
    """The files of the weights; none where they are not laid out as usual."""
    ending = "".join(f".{name}" for name in variant_of(folder).values())
    whole = folder / f"{stem}{ending}.safetensors"
    if whole.is_file():
        return [whole]
    try:
        index = json.loads((folder / f"{stem}.safetensors.index{ending}.json").read_text(encoding="utf-8"))
        names = sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    paths = [folder / name for name in names]
    # An index from anywhere must not name files outside its folder.
    return paths if all(path.name == name and path.is_file() for path, name in zip(paths, names, strict=True)) else []


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
