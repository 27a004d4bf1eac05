"""Where text encoders and autoencoder of a transformer's file lie, in A1111's and ComfyUI's folders. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from danqing.models.diffusers_folders import CHECKPOINT_DIRS, DENOISER_DIRS
from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.spec.errors import DanqingError, MissingWeightsError

ENCODER_DIRS = ("text_encoders", "text_encoder", "clip")
VAE_DIRS = ("VAE", "vae")
_SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".bin", ".ckpt", ".gguf")
_T5_DIRS = ("t5", "t5xxl", "t5_tokenizer", "")
_T5_FILES = ("tokenizer.json", "spiece.model")


@dataclass(frozen=True)
class Wanted:
    """A file that a transformer needs beside it.

    Attributes:
        what: In words.
        file: How it is usually called.
        folder: Where it belongs.
    """

    what: str
    file: str
    folder: str


ENCODERS = {
    "clip_l": Wanted("CLIP-L's text encoder", "clip_l.safetensors", "models/text_encoders"),
    "clip_g": Wanted("OpenCLIP-G's text encoder", "clip_g.safetensors", "models/text_encoders"),
    "t5xxl": Wanted("T5-XXL", "t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors", "models/text_encoders"),
}
VAES = {
    "flux": Wanted("FLUX's autoencoder", "ae.safetensors", "models/VAE"),
    "sd3": Wanted("Stable Diffusion 3's autoencoder", "sd3_vae.safetensors", "models/VAE"),
}


class Companions:
    """The files that may belong to a transformer.

    Args:
        path: The transformer's file, below `diffusion_models`, `unet`, `Stable-diffusion` or `checkpoints`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        homes = {name.lower() for name in (*CHECKPOINT_DIRS, *DENOISER_DIRS)}
        self.models_dir = next((one.parent for one in path.parents if one.name.lower() in homes), path.parent)

    def encoder(self, name: str) -> Path | None:
        """The file of a text encoder: the one that is called so, or else the first one that is one.

        Args:
            name: clip_l, clip_g or t5xxl.
        """
        files = list(self._files(ENCODER_DIRS))
        called = [path for path in files if path.stem.lower().startswith(name)]
        return next((path for path in called if _is_encoder(path, name)), None) or next(
            (path for path in files if path not in called and _is_encoder(path, name)), None
        )

    def vae(self, family: str) -> Path | None:
        """The autoencoder's file of a family.

        Args:
            family: flux or sd3, whose autoencoders have the same shapes: the name decides.
        """
        usual = Path(VAES[family].file).stem
        files = list(self._files(VAE_DIRS))
        named = [path for path in files if path.stem.lower() == usual]
        return next((path for path in (*named, *files) if _is_vae(path, family)), None)

    def t5_tokenizer(self) -> Path:
        """The folder of T5's tokenizer.

        Raises:
            MissingWeightsError: There is none.
        """
        places = [self.models_dir / one / below for one in ENCODER_DIRS for below in _T5_DIRS]
        found = next((place for place in places if any((place / name).is_file() for name in _T5_FILES)), None)
        if found is not None:
            return found
        wanted = self.models_dir / ENCODER_DIRS[0] / "t5"
        raise MissingWeightsError(
            f"{self.path.name} needs T5's tokenizer, which no file of weights has",
            field="model",
            value=str(wanted),
            allowed="tokenizer.json or spiece.model",
            next_step=f"copy tokenizer_2/tokenizer.json of FLUX.1 (tokenizer_3's of SD 3) or spiece.model to {wanted}",
        )

    def missing(self, wanted: Wanted) -> MissingWeightsError:
        """The error for a file that is not there."""
        folder = self.models_dir / Path(wanted.folder).name
        return MissingWeightsError(
            f"{self.path.name} needs {wanted.what}, which is not in it and not installed",
            field="model",
            value=wanted.file,
            allowed=f"a file in {wanted.folder}",
            next_step=f"put {wanted.file} into {folder}",
        )

    def _files(self, folders: tuple[str, ...]) -> Iterator[Path]:
        for name in folders:
            root = self.models_dir / name
            for path in sorted(root.rglob("*")) if root.is_dir() else ():
                if path.suffix.lower() in _SUFFIXES and path.is_file():
                    yield path


def _is_encoder(path: Path, name: str) -> bool:
    try:
        found = identify_header(read_header(path), path.name)
    except DanqingError:
        return False
    if found.kind != "text_encoder":
        return False
    # Encoders of unusual width (a test's) are told by their file's name.
    unusual = found.variant in {"clip", "t5"} and name.startswith(found.variant)
    return found.variant == name or (unusual and path.stem.lower().startswith(name))


def _is_vae(path: Path, family: str) -> bool:
    try:
        found = identify_header(read_header(path), path.name)
    except DanqingError:
        return False
    return found.kind == "vae" and found.family == family
