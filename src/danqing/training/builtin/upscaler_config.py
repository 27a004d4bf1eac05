"""The section `[upscaler]` of a training configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.spec.errors import InvalidRequestError

if TYPE_CHECKING:  # config.py may hold an UpscalerConfig, so it is not imported while this module is
    from danqing.training.builtin.config import StageConfig

_STAGE: dict[str, Any] = {
    "batch": 16,
    "lr": 1e-3,
    "max_samples": 400_000,
    "decay_samples": 150_000,
    "warmup_steps": 200,
    "weight_decay": 0.0,
    "ema": 0.999,
    "checkpoint_minutes": 3.0,
}


def upscaler_stage(**values: Any) -> StageConfig:
    """A StageConfig with the upscaler's defaults where nothing is given."""
    from danqing.training.builtin.config import StageConfig

    return StageConfig(**(_STAGE | values))


@dataclass(frozen=True)
class UpscalerConfig:
    """Network, crops, loss and degradations of the ×4 upscaler.

    Attributes:
        stage: The optimiser run.
        num_feat: Channels of the inner layers.
        num_conv: Inner convolutions.
        crop_px: Side of a high-resolution crop, a multiple of 16.
        gradient_weight: Of the differences between neighbours, at three scales.
        held_out: Share of the pictures that are only measured.
        clean: Share of the crops that are reduced and nothing else.
        blur: Share of the others that are blurred.
        jpeg: Share of the others that are compressed.
        noise: Share of the others that are noisy.
    """

    stage: StageConfig = field(default_factory=upscaler_stage)
    num_feat: int = 32
    num_conv: int = 14
    crop_px: int = 128
    gradient_weight: float = 0.5
    held_out: float = 0.03
    clean: float = 0.3
    blur: float = 0.4
    jpeg: float = 0.5
    noise: float = 0.3


@dataclass(frozen=True)
class UpscalerRun:
    """What a configuration says to this trainer; equal runs give equal weights.

    Attributes:
        name: Of the configuration.
        seed: Of every random choice.
        precision: `bf16` or `fp32`.
        upscaler: The section `[upscaler]`.
    """

    name: str
    seed: int
    precision: str
    upscaler: UpscalerConfig


def upscaler_config(section: dict[str, Any]) -> UpscalerConfig:
    """The checked section `[upscaler]`; what it leaves out has the defaults above.

    Raises:
        InvalidRequestError: A key is unknown.
    """
    from danqing.training.builtin.config import StageConfig

    own = dict(section)
    stage = _known(StageConfig, dict(own.pop("stage", {})), "upscaler.stage.")
    return UpscalerConfig(**_known(UpscalerConfig, own, "upscaler."), stage=upscaler_stage(**stage))


def load_upscaler_config(path: str | Path) -> UpscalerRun:
    """Reads a TOML file, or one of the shipped ones by its name.

    Raises:
        NotFoundError: There is no such file.
        InvalidRequestError: It is not TOML, or a key is unknown.
    """
    from danqing.training.builtin.config import read_toml

    raw = read_toml(path)
    return UpscalerRun(
        name=str(raw.get("name", Path(path).stem)),
        seed=int(raw.get("seed", 0)),
        precision=str(raw.get("precision", "bf16")),
        upscaler=upscaler_config(raw.get("upscaler", {})),
    )


def _known(kind: type[Any], values: dict[str, Any], where: str) -> dict[str, Any]:
    names = {item.name for item in dataclasses.fields(kind)} - {"stage"}
    for name, value in values.items():
        if name not in names:
            raise InvalidRequestError(
                "unknown key in the training configuration",
                field=f"{where}{name}",
                value=value,
                allowed=", ".join(sorted(names)),
            )
    return values
