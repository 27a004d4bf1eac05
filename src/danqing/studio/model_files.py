"""The part of the Studio that knows the files people have: scan, resolve, hash. Loads no torch."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.spec.files import FileKind, ModelFile, ModelNotes
from danqing.spec.network import NetworkInfo, ShelfKind
from danqing.studio.settings import Settings

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog
    from danqing.models.scan import Scanner

SCAN_STORE = "model-files.sqlite"
HASH_STORE = "model-hashes.json"
_NETWORK_KINDS: tuple[ShelfKind, ...] = ("lora", "hypernetwork", "embedding")


class ModelFiles(ABC):
    """Scanning for a Studio. What was seen is remembered in the data folder."""

    settings: Settings
    catalog: Catalog

    def networks(self) -> list[NetworkInfo]:
        """Every LoRA, hypernetwork and embedding that a prompt can name."""
        return [info for kind in _NETWORK_KINDS for info in self.catalog.networks.list(kind)]

    def scan_models(
        self,
        paths: Sequence[Path] | None = None,
        *,
        hashes: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[ModelFile]:
        """Every file of weights below some folders, identified.

        Args:
            paths: Folders or whole installations; the studio's models folder and what A1111 keeps beside it for None.
            hashes: Compute every hash, which reads every file once.
            on_progress: Told how many files were looked at.

        Raises:
            NotFoundError: One of the folders is not there.
        """
        from danqing.models.layouts import studio_roots

        scanner = self._scanner()
        found = scanner.scan(studio_roots(self.settings.models_path) if paths is None else paths, on_progress)
        return scanner.compute_hashes(found, on_progress) if hashes else found

    def find_model_file(
        self, name: str, paths: Sequence[Path] | None = None, kinds: Collection[FileKind] | None = None
    ) -> ModelFile:
        """The file with this title, name, alias or hash. NotFoundError."""
        from danqing.models.resolve import resolve

        return resolve(self.scan_models(paths), name, kinds)

    def hash_model_file(self, file: ModelFile) -> ModelFile:
        """The file with every hash, which reads it once."""
        return self._scanner().compute_hashes([file])[0]

    def model_notes(self, file: ModelFile) -> ModelNotes:
        """What the files beside a model and its own metadata say."""
        from danqing.models.headers import read_header
        from danqing.models.sidecars import read_notes

        path = Path(file.path)
        metadata = read_header(path).metadata if file.identity is not None and path.is_file() else None
        return read_notes(path, metadata)

    def _scanner(self) -> Scanner:
        from danqing.models.hashes import HashCache
        from danqing.models.scan import Scanner

        folder = self.settings.data_dir
        return Scanner(folder / SCAN_STORE, HashCache(folder / HASH_STORE))
