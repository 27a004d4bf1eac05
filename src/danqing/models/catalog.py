"""Which models are there: the built-in family and diffusers folders, identified from their configs. No torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from danqing.models import checkpoint_files, controls, derived_files
from danqing.models.hashes import HashCache
from danqing.models.ip_adapters import IpAdapterShelf, attention_widths
from danqing.models.networks import NetworkShelf
from danqing.models.singlefile.sidecar import sidecar_paths
from danqing.models.upscalers import UpscalerShelf
from danqing.spec.errors import BadFileError, DanqingError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.model import ControlNetInfo, IpAdapterInfo, ModelDefaults, ModelInfo, Prediction
from danqing.spec.network import NetworkInfo, NetworkKind
from danqing.spec.registry.families import BUILTIN_MODEL, FAMILIES
from danqing.spec.upscale import UpscalerFile

BUILTIN_DIR = Path(__file__).parent / "builtin"
BUILTIN_FAMILY = "danqing"
# Found by looking at sheets of the built-in model: higher guidance burns its flat colours.
BUILTIN_DEFAULTS = ModelDefaults(sampler="DPM++ 2M", schedule="karras", steps=20, guidance_scale=4.0, size_px=128)
CHECKPOINT_DIR = "Stable-diffusion"
_CONTEXT_WIDTH = ("cross_attention_dim", "joint_attention_dim")
_FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "sd3": {"sampler": "Euler", "schedule": "simple", "steps": 28, "guidance_scale": 4.5}
}
CHECKPOINT_DIRS = (CHECKPOINT_DIR, "checkpoints")
"""Where checkpoints lie with A1111 and Forge, and with ComfyUI."""
VAE_DIRS = ("VAE", "vae")
_FAMILY_BY_CONTEXT_WIDTH = {768: "sd1", 1024: "sd2"}
_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
    "sample": "sample",
    "flow_prediction": "flow_prediction",
}


Identify = Callable[[Path, Path, HashCache, Path | None], ModelInfo]


class Catalog:
    """The models that can be used now.

    Args:
        models_dir: A folder in A1111's layout (`Stable-diffusion/`, …), or None for the built-in family alone.
    """

    def __init__(self, models_dir: Path | None = None) -> None:
        self._models_dir = models_dir
        self._hashes = HashCache(models_dir / ".danqing-hashes.json" if models_dir else None)
        self.networks = NetworkShelf(models_dir, self._hashes)
        self._seen: dict[tuple[Any, ...], ModelInfo | DanqingError] = {}

    def list(self) -> list[ModelInfo]:
        """Every usable model, the built-in ones first. Damaged folders are left out (`problems` names them)."""
        return [info for _, info in self._scan() if isinstance(info, ModelInfo)]

    def problems(self) -> dict[str, str]:
        """Folder → why it can't be used."""
        found = {str(path): str(why) for path, why in self._scan() if not isinstance(why, ModelInfo)}
        images = self._image_adapters().scan()
        known = {name for name, _ in images}
        unusable = {
            name: str(why)
            for name, why in self._controls().scan()
            if not isinstance(why, ControlNetInfo) and Path(name).with_suffix("").as_posix() not in known
        }
        return found | unusable | {name: str(why) for name, why in images if not isinstance(why, IpAdapterInfo)}

    def find(self, name: str | None) -> ModelInfo:
        """The model with this name, title, stem or hash; the built-in one for None.

        Raises:
            NotFoundError: No model of this name, or several.
            MissingWeightsError: It is a change of a model that is not there.
        """
        scanned = self._scan()
        models = [info for _, info in scanned if isinstance(info, ModelInfo)]
        wanted = (name or BUILTIN_MODEL).strip()
        same = [info for info in models if info.name.lower() == wanted.lower()]
        found = same or [info for info in models if _matches(info, wanted)]
        if len({info.sha256 for info in found}) == 1:
            return found[0]
        for folder, why in scanned:
            if (
                not found
                and isinstance(why, DanqingError)
                and wanted.lower() in (folder.name.lower(), folder.stem.lower())
            ):
                raise why
        names = [info.name for info in models]
        near = difflib.get_close_matches(wanted, names, n=1)
        raise NotFoundError(
            "several models answer to this name" if found else "there is no such model",
            field="model",
            value=wanted,
            allowed=", ".join(names),
            next_step=f"did you mean {near[0]}?" if near else "run `danqing models` to see what is installed",
        )

    def vaes(self) -> Sequence[ModelInfo]:
        """Every autoencoder in a file of its own."""
        found = (
            self._remembered(path, root, _identify_vae) for root, path in checkpoint_files.vae_files(self._vae_roots())
        )
        return [info for info in found if isinstance(info, ModelInfo)]

    def find_vae(self, name: str) -> ModelInfo:
        """The autoencoder with this name, stem or hash: a file of its own, or the one of a checkpoint.

        Raises:
            NotFoundError: None of this name, or several.
        """
        found = [info for info in self.vaes() if _matches(info, name.strip())]
        if len({info.sha256 for info in found}) == 1:
            return found[0]
        try:
            return self.find(name)
        except NotFoundError as error:
            error.field = "vae"
            error.allowed = ", ".join([info.name for info in self.vaes()] + [info.name for info in self.list()])
            raise

    def controlnets(self) -> list[ControlNetInfo]:
        """Every usable ControlNet, the built-in ones first."""
        return [info for _, info in self._controls().scan() if isinstance(info, ControlNetInfo)]

    def find_controlnet(self, name: str) -> ControlNetInfo:
        """The ControlNet with this name, stem, title or hash.

        Raises:
            NotFoundError: None of this name, or several.
            UnsupportedError: It is there, and this version cannot run it.
            BadFileError: It is there, and damaged.
        """
        return self._controls().find(name)

    def image_adapters(self) -> Sequence[IpAdapterInfo]:
        """Every usable image adapter (IP-Adapter), the built-in one first."""
        return [info for _, info in self._image_adapters().scan() if isinstance(info, IpAdapterInfo)]

    def find_image_adapter(self, name: str) -> IpAdapterInfo:
        """The image adapter with this name, stem, title or hash.

        Raises:
            NotFoundError: None of this name, or several.
            DanqingError: It is there and cannot be used.
        """
        return self._image_adapters().find(name)

    def image_adapter_for(self, model: ModelInfo) -> IpAdapterInfo:
        """The image adapter that fits a model best.

        Raises:
            MissingWeightsError: None fits.
        """
        return self._image_adapters().fitting(model)

    def upscalers(self) -> Sequence[UpscalerFile]:
        """Every upscaler file, the built-in ones first."""
        return self._upscalers().scan()

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        """The upscaler file with this name, A1111 label or hash; None if there is none."""
        return self._upscalers().find(name)

    def find_network(self, name: str, kind: NetworkKind) -> NetworkInfo:
        """The LoRA or hypernetwork with this name, alias or hash.

        Raises:
            NotFoundError: None of this name, or several.
            DanqingError: It is there and cannot be used.
        """
        return self.networks.find(name, kind)

    def network_hash(self, info: NetworkInfo) -> str:
        """Twelve digits, as A1111 writes them into infotexts."""
        return self.networks.network_hash(info)

    def embeddings(self) -> Sequence[NetworkInfo]:
        """Every usable embedding file."""
        return self.networks.list("embedding")

    def _upscalers(self) -> UpscalerShelf:
        return UpscalerShelf(self._models_dir, BUILTIN_DIR, self._hashes)

    def _image_adapters(self) -> IpAdapterShelf:
        return IpAdapterShelf(self._models_dir, BUILTIN_DIR, self._hashes)

    def _controls(self) -> controls.ControlShelf:
        return controls.ControlShelf(controls.roots(self._models_dir, BUILTIN_DIR), self._hashes, BUILTIN_DIR)

    def _folders(self) -> Iterator[Path]:
        for root in (BUILTIN_DIR, *self._checkpoint_roots()):
            if root.is_dir():
                marks = (path for mark in ("model_index.json", derived_files.ABOUT) for path in root.glob(f"**/{mark}"))
                yield from sorted({path.parent for path in marks})

    def _checkpoint_roots(self) -> list[Path]:
        return [self._models_dir / name for name in CHECKPOINT_DIRS] if self._models_dir else []

    def _vae_root(self) -> Path | None:
        """The folder of autoencoders; a file system that knows no capitals has only one of them."""
        places = [self._models_dir / name for name in VAE_DIRS] if self._models_dir else []
        return next((place for place in places if place.is_dir()), None)

    def _vae_roots(self) -> list[Path]:
        own = self._vae_root()
        return [*([own] if own else []), *self._checkpoint_roots()]

    def _scan_files(self) -> Iterator[tuple[Path, ModelInfo | DanqingError]]:
        for root in self._checkpoint_roots():
            for path in checkpoint_files.checkpoint_files(root):
                yield path, self._remembered(path, root, _identify_file)

    def _remembered(self, path: Path, root: Path, identify: Identify) -> ModelInfo | DanqingError:
        """What a file is; looked at again only where it or something beside it has changed."""
        vae_root = self._vae_root()
        beside = (path, *sidecar_paths(path), *([vae_root] if vae_root else []))
        key = (identify.__name__, *(_stamp(one) for one in beside))
        if key not in self._seen:
            try:
                self._seen[key] = identify(path, root, self._hashes, vae_root)
            except DanqingError as error:
                self._seen[key] = error
            except OSError as error:
                self._seen[key] = BadFileError(f"{path.name} cannot be read: {error}", value=str(path))
        return self._seen[key]

    def _scan(self) -> list[tuple[Path, ModelInfo | DanqingError]]:
        found: list[tuple[Path, ModelInfo | DanqingError]] = []
        for folder in self._folders():
            try:
                info = self._identify(folder)
            except (BadFileError, UnsupportedError, MissingWeightsError) as error:
                found.append((folder, error))
            else:
                if info is not None:
                    found.append((folder, info))
        found.extend(self._scan_files())
        self._hashes.save()
        return found

    def _identify(self, folder: Path) -> ModelInfo | None:
        if (folder / "model_index.json").is_file():
            return identify(folder, self._hashes)
        derivation = derived_files.read_derivation(folder)
        if derivation is None:
            return None
        roots = [*self._checkpoint_roots(), BUILTIN_DIR]
        base = identify(derived_files.find_base(derivation, roots), self._hashes)
        builtin = BUILTIN_DIR in folder.parents
        name = folder.name if builtin else folder.relative_to(_root_of(folder)).as_posix()
        return derived_files.derive(base, derivation, name, self._hashes, builtin=builtin)


def _identify_file(path: Path, root: Path, hashes: HashCache, vae_root: Path | None) -> ModelInfo:
    return checkpoint_files.identify_checkpoint(path, root, hashes, vae_root)


def _identify_vae(path: Path, root: Path, hashes: HashCache, vae_root: Path | None) -> ModelInfo:
    del vae_root
    return checkpoint_files.identify_vae(path, root, hashes)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_size, stat.st_mtime_ns


def _matches(info: ModelInfo, wanted: str) -> bool:
    lower = wanted.lower()
    last = Path(info.name)
    plain = {info.name.lower(), last.name.lower(), last.stem.lower()}
    names = plain | {f"{name} [{info.short_hash}]" for name in plain}
    return lower in names or (len(lower) >= 8 and info.sha256.startswith(lower))


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
    is_unet = "joint_attention_dim" not in unet
    return ModelInfo(
        name=folder.name if builtin else folder.relative_to(_root_of(folder)).as_posix(),
        family=family,
        path=str(folder),
        sha256=cache.folder(folder),
        builtin=builtin,
        variant=_variant(folder, unet, channels),
        prediction=prediction,
        latent_channels=channels,
        latent_scale=2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1),
        unet_in_channels=int(unet.get("in_channels", channels)),
        context_width=width if isinstance(width := unet.get(_CONTEXT_WIDTH[family == "sd3"]), int) else 0,
        block_widths=tuple(int(one) for one in unet.get("block_out_channels", ())),
        layers_per_block=controls.layers_of(unet) if is_unet else (),
        attention_widths=attention_widths(unet) if is_unet else (),
        defaults=BUILTIN_DEFAULTS if builtin else _defaults(about, family, folder),
        description=str(about.get("description", "")),
        styles=tuple(str(style) for style in about.get("styles", [])),
    )


def _defaults(about: dict[str, Any], family: str, folder: Path) -> ModelDefaults:
    """What the model likes: what `danqing.json` says, or its family's native size."""
    native_px = next((info.native_px for info in FAMILIES if info.key == family), None)
    if native_px is None:
        known = ", ".join(info.key for info in FAMILIES)
        raise UnsupportedError(f"{folder.name} is of a family that is not known", value=family, allowed=known)
    try:
        return ModelDefaults.model_validate(
            {
                "size_px": about.get("native_size_px", native_px),
                **_FAMILY_DEFAULTS.get(family, {}),
                **about.get("defaults", {}),
            }
        )
    except (ValidationError, TypeError) as error:
        raise BadFileError(f"the defaults in danqing.json cannot be used: {error}", value=str(folder)) from error


def _root_of(folder: Path) -> Path:
    for parent in folder.parents:
        if parent.name in CHECKPOINT_DIRS:
            return parent
    return folder.parent


def _family(unet: dict[str, Any], folder: Path) -> str:
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl"
    if unet.get("_class_name") == "SD3Transformer2DModel":
        return "sd3"
    width = unet.get("cross_attention_dim")
    family = _FAMILY_BY_CONTEXT_WIDTH.get(width) if isinstance(width, int) else None
    if family is None:
        raise UnsupportedError(
            f"the denoiser in {folder.name} is of no family this version can run",
            value=f"cross_attention_dim={width}",
            allowed="768 (SD 1.x), 1024 (SD 2.x), SDXL or SD 3",
            next_step="use a Stable Diffusion 1.x, 2.x, XL or 3 folder",
        )
    return family


def _denoiser_config(folder: Path) -> dict[str, Any]:
    transformer = folder / "transformer" / "config.json"
    return _config(transformer if transformer.is_file() else folder / "unet" / "config.json")


def _variant(folder: Path, unet: dict[str, Any], channels: int) -> str:
    # The SDXL refiner has only the second one of the base's text encoders.
    if (folder / "text_encoder_2").is_dir() and not (folder / "text_encoder").is_dir():
        return "refiner"
    return {2 * channels + 1: "inpaint", 2 * channels: "edit"}.get(int(unet.get("in_channels", channels)), "base")


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
