"""A checkpoint in one file as configs of diffusers' classes, from its header and what lies beside it. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.models.singlefile import shapes
from danqing.models.singlefile.facts import EMA_PREFIX, UNET_PREFIX, VAE_PREFIXES, config_of, facts_of
from danqing.models.singlefile.sidecar import Sidecars, read_sidecars
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.files import Header
from danqing.spec.model import Prediction

_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "sample": "sample",
    "x0": "sample",
    "flow_prediction": "flow_prediction",
}
_NAMED_V = re.compile(r"v[-_ ]?pred|768[-_]?v|vpred", re.IGNORECASE)
_NAMED_512 = re.compile(r"(^|[^0-9])512([^0-9]|$)")
PLACES = {
    "lora": "models/Lora",
    "lycoris": "models/Lora",
    "embedding": "embeddings",
    "hypernetwork": "models/hypernetworks",
    "controlnet": "models/ControlNet",
    "controlnet_lllite": "models/ControlNet",
    "control_lora": "models/ControlNet",
    "t2i_adapter": "models/ControlNet",
    "ip_adapter": "models/ControlNet",
    "vae": "models/VAE",
    "upscaler": "models/ESRGAN",
    "face_restorer": "models/GFPGAN",
}
"""Where a file that is no checkpoint belongs, in A1111's layout."""
# The steps that Stable Diffusion 2's 512-pixel base was trained for; the file says so itself.
_SD2_BASE_STEPS = "875000"


@dataclass(frozen=True)
class TextTower:
    """A text encoder of a checkpoint.

    Attributes:
        prefix: What its tensors' names begin with.
        layout: `transformers` or `open_clip`.
        config: Of transformers' class.
        projection: Whether its pooled answer is used (`CLIPTextModelWithProjection`).
        pad_id: The token that fills a chunk up.
    """

    prefix: str
    layout: str
    config: dict[str, Any]
    projection: bool = False
    pad_id: int = 49407


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to build a model from a file.

    Attributes:
        path: The file.
        config: Which facts it follows: sd1, sd2, sdxl, sdxl-refiner.
        prediction: What its network predicts.
        zero_snr: Whether its last noise level is pure noise.
        unet: Config of the denoiser.
        vae: Config of the autoencoder in the file; None where it has none.
        vae_prefix: What the names of its tensors begin with.
        texts: Its text encoders.
        scheduler: Its noise schedule.
        ema: Whether to take the averaged weights, where the file has both.
        sidecars: What lies beside it.
        metadata: The header's own words.
    """

    path: Path
    config: str
    prediction: Prediction
    zero_snr: bool
    unet: dict[str, Any]
    vae: dict[str, Any] | None
    vae_prefix: str
    texts: tuple[TextTower, ...]
    scheduler: dict[str, Any]
    ema: bool = False
    sidecars: Sidecars = field(default_factory=Sidecars)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def family(self) -> str:
        """Key in `spec.registry.families`."""
        return self.config.split("-", maxsplit=1)[0]

    @property
    def variant(self) -> str:
        """base, refiner, inpaint or edit."""
        if self.config.endswith("-refiner"):
            return "refiner"
        return {9: "inpaint", 8: "edit"}.get(int(self.unet["in_channels"]), "base")


def describe(path: Path, header: Header | None = None) -> Checkpoint:
    """What a checkpoint in one file holds.

    Args:
        path: The file.
        header: Its header, if it was read already.

    Raises:
        BadFileError: It is damaged or incomplete, or something beside it is.
        MissingWeightsError: It is a denoiser alone.
        UnsupportedError: Its denoiser is of no kind that this version runs.
    """
    header = header or read_header(path)
    sidecars = read_sidecars(path)
    about = sidecars.about
    tensors = shapes.tensors_of(header)
    config = _config(path, header)
    facts = facts_of(config)
    unet = {**shapes.unet_config(shapes.below(tensors, UNET_PREFIX), facts["unet"]), **_said(about, "unet")}
    _check_inputs(path, unet)
    vae_prefix = next((one for one in VAE_PREFIXES if f"{one}decoder.conv_in.weight" in tensors), "")
    vae = {**shapes.vae_config(shapes.below(tensors, vae_prefix), facts["vae"])} if vae_prefix else None
    prediction = sidecars.prediction or _prediction(path, config, unet, header)
    if prediction not in _PREDICTIONS:
        raise UnsupportedError("this prediction type is not known", value=prediction, allowed=", ".join(_PREDICTIONS))
    return Checkpoint(
        path=path,
        config=config,
        prediction=_PREDICTIONS[prediction],
        zero_snr=bool(about.get("zero_snr", "ztsnr" in tensors)),
        unet=unet,
        vae=None if vae is None else {**vae, **_said(about, "vae")},
        vae_prefix=vae_prefix,
        texts=tuple(_text(tensors, text, about, at) for at, text in enumerate(facts["texts"])),
        scheduler={**facts["scheduler"], **sidecars.scheduler, **_said(about, "scheduler")},
        ema=bool(about.get("ema", False)) and any(name.startswith(EMA_PREFIX) for name in tensors),
        sidecars=sidecars,
        metadata=header.metadata,
    )


def vae_of_file(path: Path, config: str, header: Header | None = None) -> tuple[dict[str, Any], str]:
    """The config of the autoencoder in a file of its own (or in a checkpoint), and the prefix of its names.

    Args:
        path: The file.
        config: Whose latents: sd1, sd2, sdxl, sdxl-refiner.
        header: The file's header, if it was read already.

    Raises:
        BadFileError: It is damaged, or no autoencoder.
    """
    tensors = shapes.tensors_of(header or read_header(path))
    prefix = next((one for one in VAE_PREFIXES if f"{one}decoder.conv_in.weight" in tensors), "")
    facts = facts_of(config)["vae"]
    said = _said(read_sidecars(path).about, "vae")
    return {**shapes.vae_config(shapes.below(tensors, prefix), facts), **said}, prefix


def _config(path: Path, header: Header) -> str:
    tensors = shapes.tensors_of(header)
    config = config_of(tensors)
    if config is None:
        identity = identify_header(header, path.name)
        if identity.kind not in ("checkpoint", "denoiser"):
            raise BadFileError(
                f"{path.name} is no checkpoint ({identity.kind.replace('_', ' ')}: {identity.why})",
                field="model",
                value=path.name,
                next_step=f"move it to {PLACES.get(identity.kind, 'another folder')}",
            )
        if identity.family not in (None, "sd1", "sd2", "sdxl"):
            raise UnsupportedError(
                f"{path.name} is a {identity.family} model in one file, which this version does not load",
                field="model",
                value=identity.family,
                allowed="Stable Diffusion 1.x, 2.x, XL and 3, FLUX.1",
                next_step="choose another checkpoint",
            )
        raise MissingWeightsError(
            f"{path.name} holds a denoiser without its text encoder",
            field="model",
            value=path.name,
            allowed="a whole checkpoint: denoiser, text encoder and autoencoder in one file",
            next_step="download the full checkpoint, or its folder in diffusers' layout",
        )
    return config


def _check_inputs(path: Path, unet: Mapping[str, Any]) -> None:
    if unet["in_channels"] not in (4, 8, 9):
        raise UnsupportedError(
            f"the denoiser of {path.name} takes inputs that this version does not make",
            field="model",
            value=f"{unet['in_channels']} channels",
            allowed="4 (base), 8 (instruct-pix2pix), 9 (inpainting)",
            next_step="choose another checkpoint",
        )


def _prediction(path: Path, config: str, unet: Mapping[str, Any], header: Header) -> str:
    """What the network predicts, where nothing beside the file says so."""
    said = next((value for key, value in header.metadata.items() if key.startswith("modelspec.predict")), None)
    if said is not None and said.lower() in _PREDICTIONS:
        return said.lower()
    if "v_pred" in shapes.tensors_of(header) or _NAMED_V.search(path.stem):
        return "v_prediction"
    if config != "sd2":
        return "epsilon"
    steps = header.metadata.get("global_step")
    is_base = unet["in_channels"] != 4 or steps == _SD2_BASE_STEPS or _NAMED_512.search(path.stem)
    return "epsilon" if is_base else "v_prediction"


def _text(tensors: shapes.Shapes, text: Mapping[str, Any], about: Mapping[str, Any], at: int) -> TextTower:
    own = shapes.text_config(shapes.below(tensors, text["prefix"]), text)
    return TextTower(
        prefix=text["prefix"],
        layout=text["layout"],
        config={**own, **_said(about, "text_encoder" if at == 0 else f"text_encoder_{at + 1}")},
        projection=bool(text.get("projection", False)),
        pad_id=text["pad_id"],
    )


def _said(about: Mapping[str, Any], part: str) -> dict[str, Any]:
    found: Any = about.get(part, {})
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
