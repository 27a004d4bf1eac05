"""The part of the Studio that knows the files people have: scan, resolve, hash. Loads no torch."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.spec.errors import NotFoundError
from danqing.spec.files import FileKind, ModelFile, ModelNotes
from danqing.spec.model import ModelInfo
from danqing.spec.network import NetworkCard, NetworkInfo, ShelfKind
from danqing.store.thumbnails import thumbnail_of_bytes
from danqing.studio.settings import Settings
from danqing.studio.uploads import UploadLimits, check_picture

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog
    from danqing.models.network_cards import NetworkCards
    from danqing.models.scan import Scanner

SCAN_STORE = "model-files.sqlite"
HASH_STORE = "model-hashes.json"
_NETWORK_KINDS: tuple[ShelfKind, ...] = ("lora", "hypernetwork", "embedding")


class ModelFiles(ABC):
    """Scanning for a Studio. What was seen is remembered in the data folder."""

    settings: Settings
    catalog: Catalog
    _made_cards: NetworkCards | None = None

    def networks(self) -> list[NetworkInfo]:
        """Every LoRA, hypernetwork and embedding that a prompt can name."""
        return [info for kind in _NETWORK_KINDS for info in self.catalog.networks.list(kind)]

    def network_cards(self, model: ModelInfo) -> list[NetworkCard]:
        """Every LoRA, embedding and hypernetwork file, with what stands beside it and whether it fits a model."""
        return self._cards().list(model)

    def network_notes(self, infos: Sequence[NetworkInfo]) -> Sequence[ModelNotes]:
        """What stands beside each of some networks: the strength that suits it, what calls it up."""
        return self._cards().notes(infos)

    def network_preview(self, kind: ShelfKind, name: str) -> bytes:
        """The picture beside a network as a small WebP.

        Args:
            kind: Of the network.
            name: Its name below its folder, as its card has it.

        Raises:
            NotFoundError: There is no such network, or no picture beside it inside the model folders.
            BadFileError: It is no picture, or too large a one.
        """
        path = self._cards().preview(kind, name)
        if path is None:
            raise NotFoundError("there is no picture beside this network", value=name, next_step="reload the list")
        limits = UploadLimits(self.settings.upload_max_bytes, self.settings.upload_max_pixels)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
        return thumbnail_of_bytes(check_picture(data, limits).data)

    def _cards(self) -> NetworkCards:
        from danqing.models.network_cards import NetworkCards

        if self._made_cards is None or self._made_cards.shelf is not self.catalog.networks:
            self._made_cards = NetworkCards(self.catalog.networks)
        return self._made_cards

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
