"""The parts of a FLUX.1 or SD3 whose transformer lies in one file: inside it, or in files of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn

from danqing.models.families.parts import load_vae, ready
from danqing.models.precision import Precision
from danqing.models.singlefile import companions
from danqing.models.singlefile.build_transformers import (
    build_clip,
    build_own_vae,
    build_t5,
    build_transformer,
    clip_facts,
)
from danqing.models.singlefile.companions import Companions
from danqing.models.singlefile.facts import CLIP_TOKENIZER
from danqing.models.singlefile.transformers import TransformerFile, describe_transformer
from danqing.models.t5 import T5Reader, t5_dtype
from danqing.models.text import TextEncoder, TextOptions
from danqing.spec.errors import BadFileError, MissingWeightsError


@dataclass
class FileParts:
    """What a model is made of.

    Attributes:
        transformer: The denoiser, in its number format but not yet on its device.
        vae: The autoencoder, on its device.
        clips: CLIP's text encoders, on their device.
        t5: T5, on its device; None where there is none.
    """

    transformer: nn.Module
    vae: AutoencoderKL
    clips: tuple[TextEncoder, ...]
    t5: T5Reader | None


@dataclass(frozen=True)
class Reading:
    """How a family reads words.

    Attributes:
        clips: Its CLIP text encoders: clip_l, clip_g.
        options: How they are read.
        t5_tokens: To how many tokens T5 reads.
        needs_t5: Whether it cannot do without.
    """

    clips: tuple[str, ...]
    options: TextOptions
    t5_tokens: int
    needs_t5: bool


def load_file(
    path: Path, precision: Precision, device: torch.device, vae_path: Path | None, reading: Reading
) -> FileParts:
    """Read a transformer's file and what belongs to it.

    Args:
        path: The file.
        precision: Number formats.
        device: Where text encoders and autoencoder shall compute.
        vae_path: An autoencoder to use instead of the file's own: a diffusers folder or a file.
        reading: How the family reads words.

    Raises:
        MissingWeightsError: A part is nowhere; it says which file to put where.
        BadFileError: A file is damaged.
    """
    file = describe_transformer(path)
    if file is None:
        raise BadFileError(f"{path.name} is no transformer of FLUX.1 or SD3", value=str(path))
    # What is missing is said before gigabytes are read.
    beside = Companions(path)
    places = {name: _encoder(file, beside, name) for name in reading.clips}
    t5 = _t5_place(file, beside, reading)
    vae = _vae_place(file, beside, vae_path)
    clips = tuple(_clip(file.family, name, place, reading, precision) for name, place in places.items())
    reader = None
    if t5 is not None:
        tokenizer = beside.t5_tokenizer()
        encoder = ready(build_t5(t5.path, t5.prefix, t5_dtype(precision)), device)
        reader = T5Reader(tokenizer, encoder, device, reading.t5_tokens)
    return FileParts(
        transformer=build_transformer(file, precision),
        vae=ready(_vae(file, vae, precision.vae), device),
        clips=tuple(TextEncoder(CLIP_TOKENIZER, ready(one, device), device, options) for one, options in clips),
        t5=reader,
    )


@dataclass(frozen=True)
class _Place:
    """A part: its file, and what its names there begin with."""

    path: Path
    prefix: str = ""


def _encoder(file: TransformerFile, beside: Companions, name: str) -> _Place:
    if name in file.encoders:
        return _Place(file.path, file.encoders[name])
    found = beside.encoder(name)
    if found is None:
        raise beside.missing(companions.ENCODERS[name])
    return _Place(found)


def _t5_place(file: TransformerFile, beside: Companions, reading: Reading) -> _Place | None:
    """Where T5 lies, with its tokenizer looked for; None where it is left out."""
    if not reading.needs_t5 and file.sidecars.about.get("t5") is False:
        return None
    if not reading.needs_t5 and "t5xxl" not in file.encoders and beside.encoder("t5xxl") is None:
        return None
    found = _encoder(file, beside, "t5xxl")
    try:
        beside.t5_tokenizer()
    except MissingWeightsError as error:
        if not reading.needs_t5:
            about = file.path.with_suffix(".danqing.json").name
            error.next_step = f'{error.next_step}; or write {{"t5": false}} into {about} beside it to paint without T5'
        raise
    return found


def _vae_place(file: TransformerFile, beside: Companions, vae_path: Path | None) -> Path | None:
    """The autoencoder's file or folder; None for the one inside."""
    if vae_path is not None or file.vae_prefix is not None:
        return vae_path
    found = file.sidecars.vae or beside.vae(file.family)
    if found is None:
        raise beside.missing(companions.VAES[file.family])
    return found


def _vae(file: TransformerFile, place: Path | None, dtype: torch.dtype) -> AutoencoderKL:
    return build_own_vae(file, dtype) if place is None else load_vae(place, file.family, dtype)


def _clip(
    family: str, name: str, place: _Place, reading: Reading, precision: Precision
) -> tuple[nn.Module, TextOptions]:
    facts = clip_facts(family, name)
    model = build_clip(place.path, place.prefix, facts, precision.text)
    return model, replace(reading.options, pad_id=facts["pad_id"])
