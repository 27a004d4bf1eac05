"""The trainer's configuration: one TOML file decides everything that reaches the weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danqing.spec.errors import InvalidRequestError, NotFoundError

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True)
class SourceConfig:
    """One npm package: name, pinned version and the registry's integrity (`sha512-…`)."""

    package: str
    version: str
    integrity: str
    style: str = ""
    kind: str = "iconify"


@dataclass(frozen=True)
class DataConfig:
    """What is drawn: packages, emoji subgroups kept, labels left out (regular expressions), picture size."""

    sources: tuple[SourceConfig, ...]
    subgroups: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    size_px: int = 128
    backgrounds: int = 1


@dataclass(frozen=True)
class CaptionConfig:
    """How captions are drawn: shares of Chinese, of empty captions and of coloured backgrounds."""

    chinese: float = 0.34
    dropout: float = 0.1
    background: float = 0.15
    vocab_size: int = 4096


@dataclass(frozen=True)
class StageConfig:
    """One optimiser run; `max_samples` ends it, the last `decay_samples` of them decay the rate linearly to zero."""

    batch: int
    lr: float
    max_samples: int
    decay_samples: int
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema: float = 0.999
    grad_clip: float = 1.0
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class VaeConfig:
    """Autoencoder architecture and its loss weights."""

    stage: StageConfig
    latent_channels: int = 8
    block_out_channels: tuple[int, ...] = (32, 64, 128, 128)
    layers_per_block: int = 1
    norm_num_groups: int = 16
    crop_px: int = 64
    gradient_weight: float = 0.5
    kl_weight: float = 2e-4
    color_weight: float = 4.0


@dataclass(frozen=True)
class TextConfig:
    """Text encoder architecture, its initial spread and its share of the learning rate."""

    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    token_std: float = 1.0
    position_std: float = 0.1
    lr_scale: float = 0.4
    token_lr_scale: float = 2.0


@dataclass(frozen=True)
class UNetConfig:
    """UNet architecture and the diffusion loss."""

    stage: StageConfig
    block_out_channels: tuple[int, ...] = (128, 256, 256)
    attention_levels: tuple[bool, ...] = (False, True, True)
    layers_per_block: int = 2
    heads: int = 4
    labels: tuple[str, ...] = ()
    padding_logit: float = -3.0
    pooled_text: bool = False
    min_snr_gamma: float = 0.0
    log_sigma_mean: float = 0.3
    log_sigma_std: float = 1.4
    uniform_share: float = 0.15
    sample_minutes: float = 15.0
    first_sample_minutes: float = 4.0
    prompts: tuple[str, ...] = ("red apple, 3d", "red apple, flat")


@dataclass(frozen=True)
class TrainConfig:
    """Everything; `digest()` names it in the exported model."""

    name: str
    seed: int
    data: DataConfig
    captions: CaptionConfig
    vae: VaeConfig
    text: TextConfig
    unet: UNetConfig
    beta_start: float = 1e-4
    beta_end: float = 0.02
    precision: str = "bf16"
    source: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def digest(self) -> str:
        """SHA-256 of the configuration as canonical JSON."""
        data = {k: v for k, v in dataclasses.asdict(self).items() if k != "source"}
        return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _build(kind: type[Any], data: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise InvalidRequestError(
            "unknown key in the training configuration",
            field=f"{where}{unknown[0]}",
            value=data[unknown[0]],
            allowed=", ".join(sorted(known)),
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidRequestError(f"incomplete training configuration: {error}", field=where.rstrip(".")) from error


def parse_config(raw: dict[str, Any]) -> TrainConfig:
    """A checked TrainConfig from a TOML document.

    Raises:
        InvalidRequestError: A key is unknown or missing.
    """
    top = dict(raw)
    data = dict(top.pop("data", {}))
    data["sources"] = [_build(SourceConfig, s, "data.sources.") for s in data.get("sources", [])]
    vae, unet = dict(top.pop("vae", {})), dict(top.pop("unet", {}))
    vae["stage"] = _build(StageConfig, vae.pop("stage", {}), "vae.stage.")
    unet["stage"] = _build(StageConfig, unet.pop("stage", {}), "unet.stage.")
    top["data"] = _build(DataConfig, data, "data.")
    top["captions"] = _build(CaptionConfig, top.pop("captions", {}), "captions.")
    top["vae"] = _build(VaeConfig, vae, "vae.")
    top["text"] = _build(TextConfig, top.pop("text", {}), "text.")
    top["unet"] = _build(UNetConfig, unet, "unet.")
    return _build(TrainConfig, top | {"source": raw}, "")


def load_config(path: str | Path) -> TrainConfig:
    """Reads a TOML file; a bare name (`builtin-cpu`) means one of the shipped files.

    Raises:
        NotFoundError: There is no such file.
        InvalidRequestError: It is not TOML, or a key is unknown or missing.
    """
    file = Path(path)
    if not file.is_file():
        shipped = CONFIG_DIR / f"{file.name.removesuffix('.toml')}.toml"
        if not shipped.is_file():
            names = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.toml")))
            raise NotFoundError("no such training configuration", field="config", value=str(path), allowed=names)
        file = shipped
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequestError(f"not a TOML file: {error}", field="config", value=str(file)) from error
    return parse_config(raw)
