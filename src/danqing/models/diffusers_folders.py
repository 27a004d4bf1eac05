"""Models in diffusers' folders, identified from their configs. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from danqing.models import controls
from danqing.models.hashes import HashCache
from danqing.models.ip_adapters import attention_widths
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.model import ModelDefaults, ModelInfo, Prediction
from danqing.spec.registry.families import FAMILIES
from danqing.spec.registry.few_steps import FAMILIES as FEW_STEPS_FAMILIES
from danqing.spec.registry.few_steps import find_few_steps

BUILTIN_DIR = Path(__file__).parent / "builtin"
BUILTIN_FAMILY = "danqing"
# Found by looking at sheets of the built-in model: higher guidance burns its flat colours.
BUILTIN_DEFAULTS = ModelDefaults(sampler="DPM++ 2M", schedule="karras", steps=20, guidance_scale=3.0, size_px=128)
CHECKPOINT_DIR = "Stable-diffusion"
_CONTEXT_WIDTH = ("cross_attention_dim", "joint_attention_dim")
PATCH = 2
"""Side of a patch in latent pixels; FLUX counts the four pixels of a patch as channels."""
_TRANSFORMERS = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}
FLUX_CHANNELS = 64
"""What FLUX.1 dev and schnell take in for each patch; fill, canny and depth take more."""
_FLUX_PIPELINES = ("FluxPipeline", "Pipeline", "")
_FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "sd3": {"sampler": "Euler", "schedule": "simple", "steps": 28, "guidance_scale": 4.5},
    "flux-dev": {
        "sampler": "Euler",
        "schedule": "simple",
        "steps": 28,
        "guidance_scale": 1.0,
        "distilled_guidance": 3.5,
    },
    "flux-schnell": {"sampler": "Euler", "schedule": "simple", "steps": 4, "guidance_scale": 1.0},
}
CHECKPOINT_DIRS = (CHECKPOINT_DIR, "checkpoints")
"""Where checkpoints lie with A1111 and Forge, and with ComfyUI."""
DENOISER_DIRS = ("diffusion_models", "unet")
"""Where ComfyUI has denoisers without their text encoders and autoencoder."""
_FAMILY_BY_CONTEXT_WIDTH = {768: "sd1", 1024: "sd2"}
_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
    "sample": "sample",
    "flow_prediction": "flow_prediction",
}


def identify(folder: Path, hashes: HashCache | None = None) -> ModelInfo:
    """What a diffusers folder holds, from its configs.

    Raises:
        BadFileError: A config is missing or damaged.
        UnsupportedError: A pipeline this version does not know.
    """
    cache = hashes or HashCache(None)
    unet = _denoiser_config(folder)
    vae = _config(folder / "vae" / "config.json")
    scheduler = _config(folder / "scheduler" / "scheduler_config.json")
    about = _config(folder / "danqing.json") if (folder / "danqing.json").exists() else {}
    builtin = BUILTIN_DIR in folder.parents
    family = BUILTIN_FAMILY if builtin else str(about.get("family") or _family(unet, folder))
    flow = str(scheduler.get("_class_name", "")).startswith("FlowMatch")
    stated = "flow_prediction" if flow else str(scheduler.get("prediction_type", "epsilon"))
    prediction = _PREDICTIONS.get(stated)
    if prediction is None:
        raise UnsupportedError("this prediction type is not known", value=scheduler.get("prediction_type"))
    channels = int(vae.get("latent_channels", 4))
    inputs = int(unet.get("in_channels", channels)) // (PATCH**2 if family == "flux" else 1)
    variant = _flux_variant(folder, unet) if family == "flux" else _variant(folder, inputs, channels)
    is_unet = "joint_attention_dim" not in unet
    return ModelInfo(
        name=folder.name if builtin else folder.relative_to(root_of(folder)).as_posix(),
        family=family,
        path=str(folder),
        sha256=cache.folder(folder),
        builtin=builtin,
        variant=variant,
        prediction=prediction,
        latent_channels=channels,
        latent_scale=2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1),
        unet_in_channels=inputs,
        context_width=width if isinstance(width := unet.get(_CONTEXT_WIDTH[not is_unet]), int) else 0,
        pooled_width=_pooled_width(folder) if family == "sdxl" else 0,
        block_widths=tuple(int(one) for one in unet.get("block_out_channels", ())),
        layers_per_block=controls.layers_of(unet) if is_unet else (),
        attention_widths=attention_widths(unet) if is_unet else (),
        defaults=BUILTIN_DEFAULTS if builtin else _defaults(about, family, variant, folder),
        description=str(about.get("description", "")),
        styles=tuple(str(style) for style in about.get("styles", [])),
    )


def family_defaults(family: str, variant: str) -> dict[str, Any]:
    """What models of a family like, besides their size."""
    return _FAMILY_DEFAULTS.get(family) or _FAMILY_DEFAULTS.get(f"{family}-{variant}", {})


def few_steps_defaults(family: str, *names: str | None) -> dict[str, Any]:
    """What a checkpoint likes whose name says that it was distilled for few steps."""
    found = find_few_steps(*names) if family in FEW_STEPS_FAMILIES else None
    return {} if found is None else found.defaults


def _defaults(about: dict[str, Any], family: str, variant: str, folder: Path) -> ModelDefaults:
    """What the model likes: what `danqing.json` says, or its family's native size."""
    native_px = next((info.native_px for info in FAMILIES if info.key == family), None)
    if native_px is None:
        known = ", ".join(info.key for info in FAMILIES)
        raise UnsupportedError(f"{folder.name} is of a family that is not known", value=family, allowed=known)
    try:
        return ModelDefaults.model_validate(
            {
                "size_px": about.get("native_size_px", native_px),
                **family_defaults(family, variant),
                **few_steps_defaults(family, folder.name),
                **about.get("defaults", {}),
            }
        )
    except (ValidationError, TypeError) as error:
        raise BadFileError(f"the defaults in danqing.json cannot be used: {error}", value=str(folder)) from error


def root_of(folder: Path) -> Path:
    """The folder of checkpoints that a model lies in, below which its name counts."""
    for parent in folder.parents:
        if parent.name in CHECKPOINT_DIRS:
            return parent
    return folder.parent


def _family(unet: dict[str, Any], folder: Path) -> str:
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl"
    transformer = _TRANSFORMERS.get(str(unet.get("_class_name")))
    if transformer is not None:
        return transformer
    width = unet.get("cross_attention_dim")
    family = _FAMILY_BY_CONTEXT_WIDTH.get(width) if isinstance(width, int) else None
    if family is None:
        raise UnsupportedError(
            f"the denoiser in {folder.name} is of no family this version can run",
            value=f"cross_attention_dim={width}",
            allowed="768 (SD 1.x), 1024 (SD 2.x), SDXL, SD 3 or FLUX.1",
            next_step="use a Stable Diffusion 1.x, 2.x, XL or 3 folder, or one of FLUX.1",
        )
    return family


def _denoiser_config(folder: Path) -> dict[str, Any]:
    transformer = folder / "transformer" / "config.json"
    return _config(transformer if transformer.is_file() else folder / "unet" / "config.json")


def _flux_variant(folder: Path, transformer: dict[str, Any]) -> str:
    pipeline = str(_config(folder / "model_index.json").get("_class_name", ""))
    if int(transformer.get("in_channels", 64)) != FLUX_CHANNELS or pipeline not in _FLUX_PIPELINES:
        raise no_such_flux(folder.name, pipeline or f"{transformer.get('in_channels')} channels")
    return "dev" if transformer.get("guidance_embeds") else "schnell"


def no_such_flux(name: str, variant: str) -> UnsupportedError:
    """A folder of FLUX.1 whose transformer is none of dev's and whose index names no other class that is known."""
    return UnsupportedError(
        f"{name} is a FLUX.1 of another kind than its model_index.json says",
        field="model",
        value=variant,
        allowed="FluxPipeline, FluxFillPipeline, FluxKontextPipeline or FluxControlPipeline with its own transformer",
        next_step="copy the whole folder again",
    )


def _pooled_width(folder: Path) -> int:
    """Width of the pooled text of SDXL, which its second text encoder gives."""
    config = folder / "text_encoder_2" / "config.json"
    return int(_config(config).get("projection_dim", 512)) if config.is_file() else 0


def _variant(folder: Path, inputs: int, channels: int) -> str:
    # The SDXL refiner has only the second one of the base's text encoders.
    if (folder / "text_encoder_2").is_dir() and not (folder / "text_encoder").is_dir():
        return "refiner"
    return {2 * channels + 1: "inpaint", 2 * channels: "edit"}.get(inputs, "base")


def _config(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(
            "a model folder is incomplete", value=str(path), next_step="copy the folder again"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadFileError(f"a model config cannot be read: {error}", value=str(path)) from error
    if not isinstance(data, dict):
        raise BadFileError("a model config is not a JSON object", value=str(path))
    return cast("dict[str, Any]", data)
