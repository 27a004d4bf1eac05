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
from danqing.training.evaluation.config import EvaluatorConfig

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True)
class SourceConfig:
    """One npm package: name, pinned version and the registry's integrity (`sha512-…`)."""

    package: str
    version: str
    integrity: str
    style: str = ""
    kind: str = "iconify"
    licence: str = ""
    attribution: str = ""


@dataclass(frozen=True)
class DataConfig:
    """What is drawn: packages, emoji subgroups kept (all when none), labels left out (regular expressions), size."""

    sources: tuple[SourceConfig, ...]
    subgroups: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_subgroups: tuple[str, ...] = ()
    size_px: int = 128


@dataclass(frozen=True)
class CaptionConfig:
    """How captions are drawn: shares of Chinese, of empty captions, of a tag standing for the label."""

    chinese: float = 0.34
    dropout: float = 0.1
    tag_as_label: float = 0.0
    vocab_size: int = 4096


@dataclass(frozen=True)
class SceneConfig:
    """What is painted around drawings: shares of backgrounds (white else), of turned hues, of several copies.

    `inset` is the drawing's size on a background that is not white; `variants` scenes are painted of every drawing.
    """

    flat: float = 0.32
    gradient: float = 0.08
    transparent: float = 0.02
    recolor: float = 0.15
    several: float = 0.04
    inset: float = 0.84
    variants: int = 10


@dataclass(frozen=True)
class StageConfig:
    """One optimiser run; `max_samples` ends it, the last `decay_samples` of them decay the rate linearly to zero.

    `optimizer` is `adamw`, or `muon` for matrices and kernels with AdamW for the rest.
    """

    batch: int
    lr: float
    max_samples: int
    decay_samples: int
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema: float = 0.999
    grad_clip: float = 1.0
    checkpoint_minutes: float = 5.0
    optimizer: str = "adamw"


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
class SmoothConfig:
    """The stage that makes latents easier to paint: weights of the Kullback-Leibler and scale-equivariance terms."""

    stage: StageConfig
    kl_weight: float = 1e-3
    equivariance_weight: float = 1.0


@dataclass(frozen=True)
class ClipConfig:
    """mini-CLIP: a vision transformer's size; its text tower is the text encoder's."""

    stage: StageConfig
    hidden_size: int = 192
    num_layers: int = 5
    num_heads: int = 3
    patch_px: int = 16
    projection_dim: int = 256
    variants: int = 3
    favored_share: float = 0.5


@dataclass(frozen=True)
class ControlConfig:
    """The ControlNets: how many channels the eightfold reduction of the control map has on its way."""

    stage: StageConfig
    hint_channels: tuple[int, ...] = (16, 32, 48, 64)


@dataclass(frozen=True)
class DistillConfig:
    """The few-step variant: LoRA rank, jumps of the student, solver steps of the teacher in each, its guidance scale.

    `data_share` of the trajectories start each jump from noised pictures, `student_share` go where the student goes.
    `stage.batch` counts jumps.
    """

    stage: StageConfig
    rank: int = 32
    steps: int = 4
    substeps: int = 2
    guidance: float = 4.0
    data_share: float = 0.25
    student_share: float = 0.5
    huber: float = 0.03


@dataclass(frozen=True)
class InpaintConfig:
    """The inpainting variant: LoRA rank, the loss's weight outside the mask, the share of pictures masked whole."""

    stage: StageConfig
    rank: int = 16
    outside_weight: float = 0.3
    whole_share: float = 0.1


@dataclass(frozen=True)
class IpAdapterConfig:
    """Image prompts: tokens of a picture; shares of rows that lose text, image or both, or are their own prompt."""

    stage: StageConfig
    tokens: int = 4
    drop_text: float = 0.5
    drop_image: float = 0.1
    drop_both: float = 0.05
    own_share: float = 0.5


@dataclass(frozen=True)
class UNetConfig:
    """UNet architecture and the diffusion loss."""

    stage: StageConfig
    block_out_channels: tuple[int, ...] = (128, 256, 256)
    attention_levels: tuple[bool, ...] = (False, True, True)
    layers_per_block: int = 2
    heads: int = 4
    labels: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
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
    scenes: SceneConfig
    vae: VaeConfig
    smooth: SmoothConfig
    clip: ClipConfig
    text: TextConfig
    unet: UNetConfig
    control: ControlConfig
    distill: DistillConfig
    inpaint: InpaintConfig
    ip_adapter: IpAdapterConfig
    beta_start: float = 1e-4
    beta_end: float = 0.02
    precision: str = "bf16"
    evaluator: EvaluatorConfig | None = None
    source: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def digest(self) -> str:
        """SHA-256 of the configuration as canonical JSON."""
        data = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("source", "evaluator")}
        return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


STAGE_TABLES: dict[str, type[Any]] = {
    "vae": VaeConfig,
    "smooth": SmoothConfig,
    "clip": ClipConfig,
    "unet": UNetConfig,
    "control": ControlConfig,
    "distill": DistillConfig,
    "inpaint": InpaintConfig,
    "ip_adapter": IpAdapterConfig,
}


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


def read_data(own: dict[str, Any]) -> dict[str, Any]:
    """The `[data]` table, laid over the shipped file that its `base` names (`base = "data-builtin"`)."""
    base = own.pop("base", None)
    return (read_toml(base)["data"] if base else {}) | own


def parse_data(raw: dict[str, Any]) -> DataConfig:
    """The checked `[data]` table of a TOML document, for a run that only makes data.

    Raises:
        InvalidRequestError: A key is unknown or missing.
    """
    data = read_data(dict(raw.get("data", {})))
    data["sources"] = [_build(SourceConfig, s, "data.sources.") for s in data.get("sources", [])]
    return _build(DataConfig, data, "data.")


def laid_over(raw: dict[str, Any]) -> dict[str, Any]:
    """A document laid over the whole configuration that its `base` names, table by table."""
    top = dict(raw)
    base = top.pop("base", None)
    return _merged(laid_over(read_toml(base)), top) if base else top


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = below | above
    shared = {
        key for key in below.keys() & above.keys() if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return both | {key: _merged(below[key], above[key]) for key in shared}


def parse_config(raw: dict[str, Any]) -> TrainConfig:
    """A checked TrainConfig from a TOML document.

    Raises:
        InvalidRequestError: A key is unknown or missing.
    """
    source = laid_over(raw)
    top = dict(source)
    data = read_data(dict(top.pop("data", {})))
    data["sources"] = [_build(SourceConfig, s, "data.sources.") for s in data.get("sources", [])]
    if "evaluator" in top:
        judge = dict(top["evaluator"])
        judge["stage"] = _build(StageConfig, dict(judge.pop("stage", {})), "evaluator.stage.")
        top["evaluator"] = _build(EvaluatorConfig, judge, "evaluator.")
    for name, kind in STAGE_TABLES.items():
        table = dict(top.pop(name, {}))
        table["stage"] = _build(StageConfig, table.pop("stage", {}), f"{name}.stage.")
        top[name] = _build(kind, table, f"{name}.")
    top["data"] = _build(DataConfig, data, "data.")
    top["captions"] = _build(CaptionConfig, top.pop("captions", {}), "captions.")
    top["scenes"] = _build(SceneConfig, top.pop("scenes", {}), "scenes.")
    top["text"] = _build(TextConfig, top.pop("text", {}), "text.")
    return _build(TrainConfig, top | {"source": source}, "")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Reads a TOML file; a bare name (`builtin-cpu`) means one of the shipped files.

    Raises:
        NotFoundError: There is no such file.
        InvalidRequestError: It is not TOML.
    """
    file = Path(path)
    if not file.is_file():
        shipped = CONFIG_DIR / f"{file.name.removesuffix('.toml')}.toml"
        if not shipped.is_file():
            names = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.toml")))
            raise NotFoundError("no such training configuration", field="config", value=str(path), allowed=names)
        file = shipped
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequestError(f"not a TOML file: {error}", field="config", value=str(file)) from error


def load_config(path: str | Path) -> TrainConfig:
    """A checked TrainConfig from a TOML file or a shipped name; raises as `read_toml` and `parse_config` do."""
    return parse_config(read_toml(path))
