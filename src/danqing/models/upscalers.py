"""Which super-resolution files are there, in A1111's folders and in the built-in family. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from danqing.models.hashes import HashCache
from danqing.spec.upscale import UpscalerFile

FOLDERS = ("ESRGAN", "RealESRGAN", "BSRGAN", "SwinIR", "ScuNET", "DAT", "HAT", "upscale_models", "upscalers")
"""Below the models folder: A1111's, Forge's and ComfyUI's names."""
SUFFIXES = (".safetensors", ".pth", ".pt")
BUILTIN_FOLDER = "upscalers"
_A1111_LABELS: dict[str, tuple[str, ...]] = {
    "realesrgan_x4plus": ("R-ESRGAN 4x+",),
    "realesrgan_x4plus_anime_6b": ("R-ESRGAN 4x+ Anime6B",),
    "realesrgan_x2plus": ("R-ESRGAN 2x+",),
    "realesr-general-x4v3": ("R-ESRGAN General 4xV3",),
    "realesr-general-wdn-x4v3": ("R-ESRGAN General WDN 4xV3",),
    "realesr-animevideov3": ("R-ESRGAN AnimeVideo",),
    "esrgan": ("ESRGAN_4x",),
    "esrgan_4x": ("ESRGAN",),
    "scunet_color_real_gan": ("ScuNET GAN", "ScuNET"),
    "scunet_color_real_psnr": ("ScuNET PSNR",),
    "003_realsr_bsrgan_dfowmfc_s64w8_swinir-l_x4_gan": ("SwinIR 4x", "SwinIR_4x"),
}


class UpscalerShelf:
    """The upscaler files of a models folder.

    Args:
        models_dir: In A1111's layout, or None for the built-in ones alone.
        builtin_dir: The built-in family.
        hashes: Remembers content hashes.
    """

    def __init__(self, models_dir: Path | None, builtin_dir: Path, hashes: HashCache) -> None:
        self._models_dir = models_dir
        self._builtin_dir = builtin_dir / BUILTIN_FOLDER
        self._hashes = hashes

    def scan(self) -> list[UpscalerFile]:
        """Every file, the built-in ones first; of two with one name the first counts."""
        found: dict[str, UpscalerFile] = {}
        for path in self._paths():
            if path.stem.lower() not in found:
                found[path.stem.lower()] = UpscalerFile(
                    name=path.stem,
                    path=str(path),
                    sha256=self._hashes.file(path),
                    builtin=path.parent == self._builtin_dir,
                    aliases=_A1111_LABELS.get(path.stem.lower(), ()),
                )
        self._hashes.save()
        return list(found.values())

    def find(self, wanted: str) -> UpscalerFile | None:
        """The file with this name, A1111 label or hash, whatever the case; None if there is none."""
        name = wanted.strip().lower()
        stem = name.rsplit(".", 1)[0] if name.endswith(SUFFIXES) else name
        for info in self.scan():
            names = {info.name.lower(), *(alias.lower() for alias in info.aliases)}
            if stem in names or name in names or (len(name) >= 8 and info.sha256.startswith(name)):
                return info
        return None

    def _paths(self) -> Iterator[Path]:
        roots = [self._builtin_dir]
        if self._models_dir is not None:
            roots += [self._models_dir / name for name in FOLDERS]
        # On a disk that ignores case two of the names are one folder.
        for root in {root.resolve(): root for root in roots if root.is_dir()}.values():
            yield from sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
