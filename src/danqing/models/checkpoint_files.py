"""Checkpoints and autoencoders in single files: where they lie, and what the catalogue says of them. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from danqing.models import controls, derived_files
from danqing.models.diffusers_folders import PATCH, family_defaults, few_steps_defaults
from danqing.models.foreign_folders import own_defaults
from danqing.models.hashes import HashCache
from danqing.models.headers import read_header
from danqing.models.ip_adapters import attention_widths
from danqing.models.singlefile.describe import Checkpoint, describe
from danqing.models.singlefile.facts import VAE_PREFIXES, facts_of
from danqing.models.singlefile.shapes import below, tensors_of, vae_config
from danqing.models.singlefile.sidecar import VAE_SUFFIXES, Sidecars
from danqing.models.singlefile.transformers import FLUX_PIPELINES, TransformerFile, describe_transformer
from danqing.spec.errors import BadFileError
from danqing.spec.model import ForeignParts, ModelDefaults, ModelInfo
from danqing.spec.registry.families import FAMILIES
from danqing.spec.registry.foreign import find_foreign
from danqing.spec.registry.foreign_info import ForeignInfo

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".gguf")
VAE_FILE_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth")
_MARKS = ("model_index.json", derived_files.ABOUT)


def checkpoint_files(root: Path) -> Iterator[Path]:
    """The files below a folder that may be checkpoints: not the parts of diffusers folders, and no autoencoders."""
    for path in _weights(root, SUFFIXES):
        if not path.name.lower().endswith(VAE_SUFFIXES):
            yield path


def vae_files(roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """(root, file) of the autoencoders: all in VAE folders, and those beside checkpoints."""
    for root in roots:
        for path in _weights(root, VAE_FILE_SUFFIXES):
            if root.name.lower() == "vae" or path.name.lower().endswith(VAE_SUFFIXES):
                yield root, path


def _weights(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        if path.suffix.lower() in suffixes and path.is_file() and not _in_a_model_folder(path, root):
            yield path


def _in_a_model_folder(path: Path, root: Path) -> bool:
    parents = [parent for parent in path.parents if root in parent.parents]
    return any((parent / mark).is_file() for parent in parents for mark in _MARKS)


def identify_checkpoint(path: Path, root: Path, hashes: HashCache, vae_root: Path | None) -> ModelInfo:
    """What a checkpoint in one file is.

    Args:
        path: The file.
        root: The folder below which its name counts.
        hashes: Remembers content hashes.
        vae_root: Where autoencoders with the checkpoint's name may lie.

    Raises:
        BadFileError: It is damaged.
        MissingWeightsError: It is not a whole checkpoint.
        UnsupportedError: It is of a kind that this version does not run.
    """
    header = read_header(path)
    transformer = describe_transformer(path, header)
    if transformer is not None:
        known = find_foreign(FLUX_PIPELINES.get(transformer.variant, "")) if transformer.family == "flux" else None
        if known is not None:
            return _identify_foreign(transformer, known, root, hashes)
        return _identify_transformer(transformer, root, hashes)
    found = describe(path, header)
    unet, vae = found.unet, found.vae or facts_of(found.config)["vae"]
    beside = found.sidecars.vae or _vae_of_the_same_name(path, vae_root)
    return ModelInfo(
        name=path.relative_to(root).as_posix(),
        family=found.family,
        path=str(path),
        sha256=hashes.file(path),
        variant=found.variant,
        vae_path=str(beside) if beside else None,
        prediction=found.prediction,
        latent_channels=int(unet["out_channels"]),
        latent_scale=2 ** (len(vae["block_out_channels"]) - 1),
        unet_in_channels=int(unet["in_channels"]),
        context_width=int(unet["cross_attention_dim"]),
        pooled_width=int(found.texts[-1].config.get("projection_dim", 512)) if found.family == "sdxl" else 0,
        block_widths=tuple(unet["block_out_channels"]),
        layers_per_block=controls.layers_of(unet),
        attention_widths=attention_widths(unet),
        defaults=_defaults(found),
        description=str(found.sidecars.about.get("description") or found.metadata.get("modelspec.description", "")),
        styles=tuple(str(style) for style in found.sidecars.about.get("styles", ())),
    )


def _identify_transformer(found: TransformerFile, root: Path, hashes: HashCache) -> ModelInfo:
    vae = facts_of(found.family)["vae"]
    patch = PATCH**2 if found.family == "flux" else 1
    return ModelInfo(
        name=found.path.relative_to(root).as_posix(),
        family=found.family,
        path=str(found.path),
        sha256=hashes.file(found.path),
        variant=found.variant if found.family == "flux" else "base",
        vae_path=str(found.sidecars.vae) if found.sidecars.vae else None,
        prediction="flow_prediction",
        latent_channels=int(vae["latent_channels"]),
        latent_scale=2 ** (len(vae["block_out_channels"]) - 1),
        unet_in_channels=int(found.config["in_channels"]) // patch,
        context_width=int(found.config["joint_attention_dim"]),
        defaults=_checked_defaults(
            found.path, found.sidecars, family_defaults(found.family, found.variant), _native_px(found.family)
        ),
        description=str(found.sidecars.about.get("description") or found.metadata.get("modelspec.description", "")),
        styles=tuple(str(style) for style in found.sidecars.about.get("styles", ())),
    )


def _identify_foreign(found: TransformerFile, known: ForeignInfo, root: Path, hashes: HashCache) -> ModelInfo:
    """A transformer that a pipeline of diffusers paints as a whole."""
    about = found.sidecars.about
    try:
        call = {str(key): value for key, value in dict(about.get("call") or {}).items()}
        parts = ForeignParts(index=known.index, next_stage=about.get("next_stage"), call=call)
        multiple_px = int(about.get("multiple_px", known.multiple_px))
    except (ValidationError, TypeError, ValueError) as error:
        raise BadFileError(f"{found.path.stem}.danqing.json cannot be used: {error}", value=str(found.path)) from error
    unsure = f" ({found.variant_from})" if found.variant_from else ""
    return ModelInfo(
        name=found.path.relative_to(root).as_posix(),
        family=known.family,
        path=str(found.path),
        sha256=hashes.file(found.path),
        variant=found.variant,
        foreign=parts,
        latent_scale=multiple_px,
        defaults=_checked_defaults(found.path, found.sidecars, own_defaults(known), known.size_px),
        description=str(about.get("description") or f"{known.name}{unsure}"),
    )


def identify_vae(path: Path, root: Path, hashes: HashCache) -> ModelInfo:
    """What an autoencoder in one file is; its family is not told from its shapes, so that it is left open.

    Raises:
        BadFileError: It is damaged, or no autoencoder.
    """
    tensors = tensors_of(read_header(path))
    prefix = next((one for one in VAE_PREFIXES if f"{one}decoder.conv_in.weight" in tensors), "")
    config = vae_config(below(tensors, prefix), facts_of("sd1")["vae"])
    return ModelInfo(
        name=path.relative_to(root).as_posix(),
        family="vae",
        path=str(path),
        sha256=hashes.file(path),
        variant="vae",
        latent_channels=int(config["latent_channels"]),
        latent_scale=2 ** (len(config["block_out_channels"]) - 1),
    )


def _vae_of_the_same_name(path: Path, vae_root: Path | None) -> Path | None:
    """`models/VAE/NAME.safetensors` or `NAME.vae.pt`, as A1111 chooses it by itself."""
    if vae_root is None:
        return None
    endings = (*VAE_SUFFIXES, *VAE_FILE_SUFFIXES)
    return next((found for ending in endings if (found := vae_root / f"{path.stem}{ending}").is_file()), None)


def _native_px(family: str) -> int:
    return next(info.native_px for info in FAMILIES if info.key == family)


def _defaults(found: Checkpoint) -> ModelDefaults:
    base = found.family == "sd2" and found.prediction == "epsilon"
    own = few_steps_defaults(found.family, found.path.stem, found.metadata.get("modelspec.title"))
    return _checked_defaults(found.path, found.sidecars, own, 512 if base else _native_px(found.family))


def _checked_defaults(path: Path, sidecars: Sidecars, own: Mapping[str, Any], size_px: int) -> ModelDefaults:
    said: Any = sidecars.about.get("defaults", {})
    try:
        return ModelDefaults.model_validate({"size_px": size_px, **own, **said})
    except (ValidationError, TypeError) as error:
        where = path.with_suffix(".danqing.json").name
        raise BadFileError(f"the defaults in {where} cannot be used: {error}", value=str(path)) from error
