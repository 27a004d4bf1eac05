"""Which face restorers and detector files are there, in the folders of A1111, ADetailer and ComfyUI. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from danqing.models.hashes import HashCache
from danqing.spec.enhancer import EnhancerFile, EnhancerKind

FOLDERS: dict[EnhancerKind, tuple[str, ...]] = {
    "restorer": ("GFPGAN", "Codeformer", "RestoreFormer", "facerestore_models"),
    "detector": ("adetailer", "ultralytics/bbox", "ultralytics/segm", "ultralytics"),
}
SUFFIXES: dict[EnhancerKind, tuple[str, ...]] = {
    "restorer": (".safetensors", ".pth", ".pt", ".ckpt"),
    # the first one of a name counts: a .pt is found too, so that a person is told why it cannot be used
    "detector": (".onnx", ".pt"),
}
_NOT_RESTORERS = ("detection_", "parsing_")
"""Files that GFPGAN's own program keeps beside its weights: RetinaFace and ParseNet."""


class EnhancerShelf:
    """The files of a models folder that retouching uses.

    Args:
        models_dir: In A1111's layout, or None where there is none.
        hashes: Remembers content hashes.
    """

    def __init__(self, models_dir: Path | None, hashes: HashCache) -> None:
        self._models_dir = models_dir
        self._hashes = hashes

    def scan(self, kind: EnhancerKind) -> list[EnhancerFile]:
        """Every file of a kind; of two with one name the first counts."""
        found: dict[str, EnhancerFile] = {}
        for path in self._paths(kind):
            if path.stem.lower() not in found:
                sha256 = self._hashes.file(path)
                found[path.stem.lower()] = EnhancerFile(kind=kind, name=path.stem, path=str(path), sha256=sha256)
        self._hashes.save()
        return list(found.values())

    def find(self, wanted: str, kind: EnhancerKind) -> EnhancerFile | None:
        """The file with this name (with or without suffix) or hash; for a restorer also the start of its name."""
        name = wanted.strip().lower()
        stem = name.rsplit(".", 1)[0] if name.endswith(SUFFIXES[kind]) else name
        files = self.scan(kind)
        for file in files:
            if file.name.lower() in (stem, name) or (len(name) >= 8 and file.sha256.startswith(name)):
                return file
        if kind == "restorer" and stem:
            return next((file for file in files if file.name.lower().startswith(stem)), None)
        return None

    def _paths(self, kind: EnhancerKind) -> Iterator[Path]:
        roots = [] if self._models_dir is None else [self._models_dir / name for name in FOLDERS[kind]]
        # On a disk that ignores case two of the names are one folder.
        for root in {root.resolve(): root for root in roots if root.is_dir()}.values():
            for suffix in SUFFIXES[kind]:
                for path in sorted(root.iterdir()):
                    named = kind == "detector" or not path.name.startswith(_NOT_RESTORERS)
                    if path.suffix.lower() == suffix and named and path.is_file():
                        yield path
