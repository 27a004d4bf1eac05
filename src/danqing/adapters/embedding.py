"""Textual-inversion embeddings: new words for text encoders (Gal et al. 2022, arXiv 2208.01618).

Files: A1111's (`string_to_param`), {token: vector} of diffusers and others, and SDXL's with `clip_l` and `clip_g`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from danqing.adapters.network_file import load_pickle, read_tensors
from danqing.spec.errors import BadFileError

ENCODERS = ("clip_l", "clip_g")


def read_embedding(path: Path) -> dict[str, dict[str, Tensor]]:
    """Word → vectors float32 [n, width] by encoder (`clip_l`, `clip_g`, or "").

    The word is the token that the file names, or the file's name where it names none.

    Raises:
        BadFileError: It is damaged or holds no embedding.
    """
    if path.suffix.lower() == ".safetensors":
        found: Mapping[str, Any] = read_tensors(path)
    else:
        data = load_pickle(path)
        if "string_to_param" in data:
            params: Any = data["string_to_param"]
            params = getattr(params, "_parameters", params)
            found = {str(key): value for key, value in cast("dict[Any, Any]", params).items()}
        else:
            found = {str(key): value for key, value in data.items() if isinstance(value, Tensor)}
    return _by_word(found, path)


def write_embedding(
    path: Path, vectors: Mapping[str, Tensor], *, name: str, step: int = 0, about: Mapping[str, str] | None = None
) -> None:
    """Write an embedding as A1111 reads it: `.pt` in its own form, or `.safetensors`, also with SDXL's two names.

    Args:
        path: Where.
        vectors: [n, width] by encoder.
        name: The word.
        step: How long it was trained.
        about: Further facts, for example `sd_checkpoint` (first ten digits of the model's hash), `sd_checkpoint_name`.
    """
    plain = {encoder: tensor.detach().cpu().contiguous() for encoder, tensor in vectors.items()}
    if path.suffix.lower() == ".safetensors" or set(plain) != {""}:
        said = {"format": "pt", "name": name, "step": str(step), **(about or {})}
        save_file({encoder or "emb_params": tensor for encoder, tensor in plain.items()}, path, said)
        return
    data = {"string_to_token": {"*": 265}, "string_to_param": {"*": plain[""]}, "name": name, "step": step}
    torch.save(data | {"sd_checkpoint": None, "sd_checkpoint_name": None} | dict(about or {}), path)


def _by_word(found: Mapping[str, Any], path: Path) -> dict[str, dict[str, Tensor]]:
    tensors = {
        key: torch.atleast_2d(value.detach().float())
        for key, value in found.items()
        if isinstance(value, Tensor) and value.ndim in (1, 2)
    }
    if not tensors:
        raise BadFileError(
            f"{path.name} holds no embedding",
            value=", ".join(list(found)[:4]),
            allowed="string_to_param, {token: vector}, or clip_l and clip_g",
            next_step="choose another file",
        )
    if set(tensors) <= set(ENCODERS):
        return {path.stem: tensors}
    return {path.stem if key in ("*", "emb_params") else key: {"": tensor} for key, tensor in tensors.items()}
