"""What lies beside a checkpoint in one file and decides how it is read. No torch.

`NAME.danqing.json` is Danqing's own and decides over all: `prediction`, `zero_snr`, `ema`, `defaults`, `description`,
`styles`, and `unet`, `vae`, `text_encoder`, `text_encoder_2`, `scheduler` with values of diffusers' configs; for FLUX.1
`variant` and, where diffusers' pipeline paints it as a whole, `call`, `next_stage` and `multiple_px`.
`NAME.yaml` is latent diffusion's config, as A1111 reads it. `NAME.vae.safetensors`, `.vae.pt` or `.vae.ckpt` is an
autoencoder to use instead of the file's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from danqing.spec.errors import BadFileError

VAE_SUFFIXES = (".vae.safetensors", ".vae.pt", ".vae.ckpt", ".vae.pth")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Sidecars:
    """The small files beside a checkpoint.

    Attributes:
        about: Of `NAME.danqing.json`.
        ldm: `model` → `params` of `NAME.yaml`.
        vae: An autoencoder beside the checkpoint.
    """

    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ldm: Mapping[str, Any] = field(default_factory=dict[str, Any])
    vae: Path | None = None

    @property
    def prediction(self) -> str | None:
        """What the network predicts, where a sidecar says so."""
        said = self.about.get("prediction")
        if said is not None:
            return str(said)
        return {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}.get(str(self.ldm.get("parameterization")))

    @property
    def scheduler(self) -> dict[str, float]:
        """The noise schedule, where the YAML says so."""
        names = {"linear_start": "beta_start", "linear_end": "beta_end"}
        return {ours: float(self.ldm[theirs]) for theirs, ours in names.items() if theirs in self.ldm}


def sidecar_paths(path: Path) -> list[Path]:
    """All the files that `read_sidecars` looks at, whether they are there or not."""
    return [path.with_suffix(suffix) for suffix in (".danqing.json", ".yaml", ".yml", *VAE_SUFFIXES)]


def read_sidecars(path: Path) -> Sidecars:
    """What lies beside a checkpoint.

    Raises:
        BadFileError: A sidecar cannot be read.
    """
    vae = next((found for suffix in VAE_SUFFIXES if (found := path.with_suffix(suffix)).is_file()), None)
    return Sidecars(_about(path.with_suffix(".danqing.json")), _ldm(path), vae)


def _about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data: Any = json.loads(_text(path))
    except ValueError as error:
        raise BadFileError(f"{path.name} is no JSON: {error}", value=str(path)) from error
    if not isinstance(data, dict):
        raise BadFileError(f"{path.name} is not a JSON object", value=str(path))
    return cast("dict[str, Any]", data)


def _ldm(path: Path) -> dict[str, Any]:
    config = next((found for suffix in (".yaml", ".yml") if (found := path.with_suffix(suffix)).is_file()), None)
    if config is None:
        return {}
    try:
        data: Any = yaml.safe_load(_text(config))
    except yaml.YAMLError as error:
        raise BadFileError(f"{config.name} is no YAML: {error}", value=str(config)) from error
    for key in ("model", "params"):
        data = cast("dict[str, Any]", data).get(key) if isinstance(data, dict) else None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadFileError(f"{path.name} is too large", value=path.stat().st_size, allowed="1 MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path.name} cannot be read: {error}", value=str(path)) from error
