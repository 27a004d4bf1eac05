"""Which models are there: the built-in family and diffusers folders, identified from their configs. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from danqing.models import checkpoint_files, controls, derived_files
from danqing.models.diffusers_folders import BUILTIN_DIR, CHECKPOINT_DIRS, DENOISER_DIRS, identify, root_of
from danqing.models.enhancers import EnhancerShelf
from danqing.models.foreign_folders import identify_foreign, is_prior
from danqing.models.hashes import HashCache, file_stamp
from danqing.models.ip_adapters import IpAdapterShelf
from danqing.models.networks import NetworkShelf
from danqing.models.singlefile.sidecar import sidecar_paths
from danqing.models.upscalers import UpscalerShelf
from danqing.spec.enhancer import EnhancerFile, EnhancerKind
from danqing.spec.errors import BadFileError, DanqingError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.model import ControlNetInfo, IpAdapterInfo, ModelInfo
from danqing.spec.network import NetworkInfo, NetworkKind
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.spec.upscale import UpscalerFile

VAE_DIRS = ("VAE", "vae")

Identify = Callable[[Path, Path, HashCache, Path | None], ModelInfo]


class Catalog:
    """The models that can be used now.

    Args:
        models_dir: A folder in A1111's layout (`Stable-diffusion/`, …), or None for the built-in family alone.
    """

    def __init__(self, models_dir: Path | None = None) -> None:
        self._models_dir = models_dir
        self._hashes = HashCache(models_dir / ".danqing-hashes.json" if models_dir else None)
        self.networks = NetworkShelf(models_dir, self._hashes, BUILTIN_DIR)
        self._seen: dict[tuple[Any, ...], ModelInfo | DanqingError] = {}
        self._seen_controls: dict[tuple[Any, ...], ControlNetInfo | DanqingError] = {}

    @property
    def models_dir(self) -> Path | None:
        """The folder; None for the built-in family alone."""
        return self._models_dir

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

    def enhancers(self, kind: EnhancerKind) -> Sequence[EnhancerFile]:
        """Every face restorer, or every detector file."""
        return self._enhancers().scan(kind)

    def find_enhancer(self, name: str, kind: EnhancerKind) -> EnhancerFile | None:
        """The face restorer or detector file with this name or hash; None if there is none."""
        return self._enhancers().find(name, kind)

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

    def _enhancers(self) -> EnhancerShelf:
        return EnhancerShelf(self._models_dir, self._hashes)

    def _upscalers(self) -> UpscalerShelf:
        return UpscalerShelf(self._models_dir, BUILTIN_DIR, self._hashes)

    def _image_adapters(self) -> IpAdapterShelf:
        return IpAdapterShelf(self._models_dir, BUILTIN_DIR, self._hashes)

    def _controls(self) -> controls.ControlShelf:
        roots = controls.roots(self._models_dir, BUILTIN_DIR)
        return controls.ControlShelf(roots, self._hashes, BUILTIN_DIR, self._seen_controls)

    def _folders(self) -> Iterator[Path]:
        for root in (BUILTIN_DIR, *self._checkpoint_roots()):
            if root.is_dir():
                marks = (path for mark in ("model_index.json", derived_files.ABOUT) for path in root.glob(f"**/{mark}"))
                yield from sorted({path.parent for path in marks})

    def _checkpoint_roots(self) -> list[Path]:
        return [self._models_dir / name for name in CHECKPOINT_DIRS] if self._models_dir else []

    def _denoiser_roots(self) -> list[Path]:
        return [self._models_dir / name for name in DENOISER_DIRS] if self._models_dir else []

    def _vae_root(self) -> Path | None:
        """The folder of autoencoders; a file system that knows no capitals has only one of them."""
        places = [self._models_dir / name for name in VAE_DIRS] if self._models_dir else []
        return next((place for place in places if place.is_dir()), None)

    def _vae_roots(self) -> list[Path]:
        own = self._vae_root()
        return [*([own] if own else []), *self._checkpoint_roots()]

    def _scan_files(self) -> Iterator[tuple[Path, ModelInfo | DanqingError]]:
        for root in (*self._checkpoint_roots(), *self._denoiser_roots()):
            for path in checkpoint_files.checkpoint_files(root):
                yield path, self._remembered(path, root, _identify_file)

    def _remembered(self, path: Path, root: Path, identify: Identify) -> ModelInfo | DanqingError:
        """What a file is; looked at again only where it or something beside it has changed."""
        vae_root = self._vae_root()
        beside = (path, *sidecar_paths(path), *([vae_root] if vae_root else []))
        key = (identify.__name__, *(file_stamp(one) for one in beside))
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
            if is_prior(folder):
                return None
            return identify_foreign(folder, root_of(folder), self._hashes) or identify(folder, self._hashes)
        derivation = derived_files.read_derivation(folder)
        if derivation is None:
            return None
        roots = [*self._checkpoint_roots(), BUILTIN_DIR]
        base = identify(derived_files.find_base(derivation, roots), self._hashes)
        builtin = BUILTIN_DIR in folder.parents
        name = folder.name if builtin else folder.relative_to(root_of(folder)).as_posix()
        return derived_files.derive(base, derivation, name, self._hashes, builtin=builtin)


def _identify_file(path: Path, root: Path, hashes: HashCache, vae_root: Path | None) -> ModelInfo:
    return checkpoint_files.identify_checkpoint(path, root, hashes, vae_root)


def _identify_vae(path: Path, root: Path, hashes: HashCache, vae_root: Path | None) -> ModelInfo:
    del vae_root
    return checkpoint_files.identify_vae(path, root, hashes)


def _matches(info: ModelInfo, wanted: str) -> bool:
    lower = wanted.lower()
    last = Path(info.name)
    plain = {info.name.lower(), last.name.lower(), last.stem.lower()}
    names = plain | {f"{name} [{info.short_hash}]" for name in plain}
    return lower in names or (len(lower) >= 8 and info.sha256.startswith(lower))
