"""Control networks in one file: what they are, and the configs of the classes that run them. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.models import control_shapes
from danqing.models.hashes import HashCache
from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.models.lllite_shapes import PREFIX, lllite_config
from danqing.models.singlefile.facts import facts_of
from danqing.models.singlefile.shapes import Shapes, below, tensors_of
from danqing.spec.errors import UnsupportedError
from danqing.spec.files import FileIdentity
from danqing.spec.model import ControlKind, ControlNetInfo
from danqing.spec.registry.controls import control_type_of, union_types

SUFFIXES = (".safetensors", ".sft", ".pth", ".pt", ".ckpt", ".bin")
UNET_FAMILIES = ("sd1", "sd2", "sdxl")
PUBLISHED_WIDTHS = (768, 1024, 1280, 2048)
"""Of the text states that Stable Diffusion 1, 2 and XL read."""
_LDM_PREFIX = "control_model."
_GLOBAL_POOL = re.compile(r"^\s*global_average_pooling:\s*true", re.MULTILINE | re.IGNORECASE)
_SIDECAR_LIMIT_BYTES = 200_000


@dataclass(frozen=True)
class ControlFile:
    """All that is needed to build a control network from a file.

    Attributes:
        path: The file.
        kind: Which class runs it.
        layout: `ldm`, `diffusers`, `sai`, `tencentarc` or `kohya`.
        prefix: What the names of its tensors begin with.
        config: Of the class; a Control-LoRA gets what is missing from the UNet it is built from.
        family: sd1, sd2 or sdxl.
    """

    path: Path
    kind: ControlKind
    layout: str
    prefix: str
    config: dict[str, Any]
    family: str


def describe_control(path: Path) -> ControlFile:
    """What a control network in one file holds.

    Raises:
        BadFileError: It is damaged or incomplete.
        UnsupportedError: It is no control network, or one that this version does not run; the reason is said.
    """
    header = read_header(path)
    identity = identify_header(header, path.name)
    tensors = tensors_of(header)
    kind = _kind(path, identity)
    if kind == "t2i_adapter":
        prefix = "adapter." if any(name.startswith("adapter.") for name in tensors) else ""
        config = control_shapes.adapter_config(below(tensors, prefix), diffusers=identity.layout == "diffusers")
        family = "sdxl" if config["adapter_type"] == "full_adapter_xl" else "sd1"
        return ControlFile(path, kind, identity.layout, prefix, config, family)
    if kind == "lllite":
        config = lllite_config(tensors)
        _check_map(path, config)
        return ControlFile(path, kind, identity.layout, PREFIX, config, identity.family or "sdxl")
    prefix = _LDM_PREFIX if any(name.startswith(_LDM_PREFIX) for name in tensors) else ""
    named = below(tensors, prefix)
    if kind == "control_lora":
        named = control_shapes.lora_tensors(named)
    family = _family(identity, named)
    base = facts_of(family)["unet"]
    read = control_shapes.diffusers_config if identity.layout == "diffusers" else control_shapes.ldm_config
    config = read(named, base)
    _check_map(path, config)
    config["global_pool_conditions"] = _pools(path)
    return ControlFile(path, kind, identity.layout, prefix, config, family)


def identify_control_file(path: Path, name: str, hashes: HashCache) -> ControlNetInfo:
    """What the catalogue says of a control network in one file.

    Raises:
        BadFileError: It is damaged or incomplete.
        UnsupportedError: It is no control network, or one that this version does not run.
    """
    found = describe_control(path)
    return ControlNetInfo(
        name=name,
        path=str(path),
        sha256=hashes.file(path),
        kind=found.kind,
        family=found.family,
        **facts(found.kind, found.config),
        **named(path.stem, found.kind, found.config),
    )


def facts(kind: ControlKind, config: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ControlNetInfo` that a config decides, for what is not an ordinary ControlNet's folder."""
    if kind == "t2i_adapter":
        return {"block_widths": control_shapes.adapter_widths(config), "in_channels": None}
    if kind == "lllite":
        return {"block_widths": config["block_widths"], "in_channels": None}
    attends = any("CrossAttn" in block for block in config["down_block_types"])
    attends = attends or "CrossAttn" in (config.get("mid_block_type") or "UNetMidBlock2DCrossAttn")
    widths = tuple(config["block_out_channels"])
    return {
        "context_width": int(config["cross_attention_dim"]) if attends else None,
        "block_widths": widths,
        "layers_per_block": (int(config["layers_per_block"]),) * len(widths),
        "in_channels": int(config["in_channels"]),
        "hint_scale": 2 ** (len(config["conditioning_embedding_out_channels"]) - 1),
        "global_pool": bool(config.get("global_pool_conditions", False)),
    }


def named(name: str, kind: ControlKind, config: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ControlNetInfo` that a name decides: what the network follows."""
    if kind == "union":
        types = union_types(int(config["num_control_type"]))
        makers = dict.fromkeys(maker for one in types for maker in one.annotators)
        return {"control_types": tuple(one.key for one in types), "annotators": tuple(makers)}
    found = control_type_of(name)
    return {} if found is None else {"control_type": found.key, "annotators": found.annotators}


def _kind(path: Path, identity: FileIdentity) -> ControlKind:
    """Which class runs a file.

    Raises:
        UnsupportedError: None does.
    """
    reason = _REASONS.get((identity.kind, identity.variant)) or _REASONS.get((identity.kind, ""))
    if reason is None and identity.kind not in _KINDS:
        reason = f"is {identity.kind.replace('_', ' ')} and no control network ({identity.why})"
    if reason is None and identity.family not in (None, *UNET_FAMILIES):
        reason = f"is a ControlNet for {identity.family}, which this version does not run"
    if reason is not None:
        raise UnsupportedError(
            f"{path.name} {reason}",
            value=path.name,
            allowed="ControlNet, union ControlNet, Control-LoRA, T2I-Adapter or ControlNet-LLLite for SD 1.x, SD 2.x "
            "or SDXL",
            next_step="choose another ControlNet for the same kind of map",
        )
    if identity.kind == "controlnet":
        return "union" if identity.variant == "union" else "controlnet"
    return _KINDS[identity.kind]


_KINDS: dict[str, ControlKind] = {
    "controlnet": "controlnet",
    "control_lora": "control_lora",
    "t2i_adapter": "t2i_adapter",
    "controlnet_lllite": "lllite",
}
_REASONS: dict[tuple[str, str], str] = {
    ("controlnet", "difference"): "holds only the difference from Stable Diffusion 1.5's own weights, without which it "
    "cannot be read; the full file of the same name (without `_diff` or `difference`) works",
    ("controlnet", "sparsectrl"): "is a SparseCtrl for videos, which this version does not paint",
    ("t2i_adapter", "style"): "is a style adapter: it reads tokens of a CLIP image encoder and no map",
}


def _family(identity: FileIdentity, tensors: Shapes) -> str:
    """Whose denoiser it is shaped after; unusual widths are told by structure."""
    if identity.family is not None and identity.facts.get("context_width") in PUBLISHED_WIDTHS:
        return identity.family
    added = any(key.startswith(("label_emb.", "add_embedding.linear_1")) for key in tensors)
    # The small ControlNets for SDXL have no attention: three levels and no fourth.
    levels = {key.split(".")[1] for key in tensors if key.startswith("down_blocks.")}
    if added or len(levels) == 3:
        return "sdxl"
    linear = next((len(one.shape) == 2 for key, one in tensors.items() if key.endswith("proj_in.weight")), False)
    return "sd2" if linear else "sd1"


def _check_map(path: Path, config: dict[str, Any]) -> None:
    if config["conditioning_channels"] != 3:
        raise UnsupportedError(
            f"{path.name} takes control maps of another kind",
            value=f"conditioning_channels={config['conditioning_channels']}",
            allowed="3 (RGB)",
            next_step="use a ControlNet that takes an RGB map",
        )


def _pools(path: Path) -> bool:
    """Whether its residuals are averaged over the picture: said by a `.yaml` beside it, or by its name."""
    try:
        with path.with_suffix(".yaml").open(encoding="utf-8", errors="replace") as file:
            return bool(_GLOBAL_POOL.search(file.read(_SIDECAR_LIMIT_BYTES)))
    except OSError:
        return "shuffle" in path.stem.lower()
