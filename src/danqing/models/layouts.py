"""Which folders of an installation hold models, and what each subfolder is for: A1111, Forge, ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from danqing.spec.files import FileKind

FOLDER_KINDS: dict[str, FileKind] = {
    "stable-diffusion": "checkpoint",
    "checkpoints": "checkpoint",
    "diffusion_models": "denoiser",
    "unet": "denoiser",
    "vae": "vae",
    "vae-approx": "taesd",
    "vae_approx": "taesd",
    "lora": "lora",
    "loras": "lora",
    "lycoris": "lycoris",
    "embeddings": "embedding",
    "hypernetworks": "hypernetwork",
    "controlnet": "controlnet",
    "control-lora": "control_lora",
    "t2i_adapter": "t2i_adapter",
    "t2i-adapter": "t2i_adapter",
    "ipadapter": "ip_adapter",
    "ip-adapter": "ip_adapter",
    "ip_adapter": "ip_adapter",
    "controlnetpreprocessor": "annotator",
    "annotators": "annotator",
    "sams": "annotator",
    "esrgan": "upscaler",
    "realesrgan": "upscaler",
    "swinir": "upscaler",
    "scunet": "upscaler",
    "dat": "upscaler",
    "hat": "upscaler",
    "ldsr": "upscaler",
    "upscale_models": "upscaler",
    "gfpgan": "face_restorer",
    "codeformer": "face_restorer",
    "facerestore_models": "face_restorer",
    "facedetection": "annotator",
    "clip": "text_encoder",
    "text_encoder": "text_encoder",
    "text_encoders": "text_encoder",
    "clip_vision": "image_encoder",
    "animatediff": "motion_module",
    "animatediff_models": "motion_module",
    "animatediff_motion_lora": "motion_module",
}
"""Folder name, lower-case, to kind. A hint: the tensors decide."""

# What an installation's own folder has, besides `models`.
_INSTALLATION = ("webui.py", "launch.py", "webui-user.sh", "webui-user.bat", "main.py", "comfy", "modules_forge")
_BESIDE_MODELS = ("embeddings", "extensions/sd-webui-controlnet/models", "extensions/sd-webui-animatediff/model")
_EXTRA_PATHS = ("extra_model_paths.yaml", "extra_model_paths.yml")
_LIMIT_BYTES = 1_000_000


def expand(path: Path) -> list[Path]:
    """The folders to walk for one that a person named.

    The folder of an installation (A1111, Forge, ComfyUI) stands for its models, its embeddings, its extensions' models
    and what ComfyUI's `extra_model_paths.yaml` names; any other folder stands for itself.
    """
    models = path / "models"
    if not models.is_dir() or not any((path / name).exists() for name in _INSTALLATION):
        return [path]
    found = [models, *(path / name for name in _BESIDE_MODELS), *sorted(path.glob("custom_nodes/*/models"))]
    found += [extra for name in _EXTRA_PATHS for extra in extra_paths(path / name)]
    return list(dict.fromkeys(folder for folder in found if folder.is_dir()))


def studio_roots(models_path: Path) -> list[Path]:
    """A models folder and what A1111 keeps beside it."""
    beside = [models_path.parent / name for name in _BESIDE_MODELS]
    return [folder for folder in (models_path, *beside) if folder.is_dir()]


def folder_kind(parts: tuple[str, ...]) -> tuple[FileKind | None, int]:
    """(what the folders on the way to a file say it is, how many of them are used up by that).

    >>> folder_kind(("models", "Lora", "styles"))
    ('lora', 2)
    """
    for index, part in enumerate(parts):
        kind = FOLDER_KINDS.get(part.lower())
        if kind is not None:
            return kind, index + 1
    return None, 0


def extra_paths(config: Path) -> Iterator[Path]:
    """The folders that a ComfyUI `extra_model_paths.yaml` names; none where it cannot be read."""
    try:
        text = config.read_text(encoding="utf-8") if config.stat().st_size <= _LIMIT_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return
    import yaml

    try:
        data: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return
    sections = cast("dict[Any, Any]", data).values() if isinstance(data, dict) else ()
    for section in sections:
        if not isinstance(section, dict):
            continue
        entries = cast("dict[str, Any]", section)
        base = (config.parent / str(entries.get("base_path") or "")).expanduser()
        for key, value in entries.items():
            if key not in {"base_path", "is_default", "custom_nodes"} and isinstance(value, str):
                yield from (base / Path(line.strip()).expanduser() for line in value.splitlines() if line.strip())
