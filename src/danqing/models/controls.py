"""Which ControlNets are there: files, told from their headers, and diffusers folders, told from configs. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, cast

from danqing.models import control_files
from danqing.models.control_files import SUFFIXES as SINGLE_FILE_SUFFIXES
from danqing.models.hashes import WEIGHT_SUFFIXES, HashCache, file_stamp
from danqing.models.shelf import Kind, find_one, look_at
from danqing.spec.errors import BadFileError, DanqingError, UnsupportedError
from danqing.spec.model import ControlKind, ControlNetInfo

FOLDERS = ("ControlNet", "controlnet")
"""Below the models folder: A1111's and ComfyUI's names."""
EXTENSION_FOLDER = Path("extensions/sd-webui-controlnet/models")
"""Beside the models folder: where A1111's extension keeps its own."""
_WEIGHTS = ("diffusion_pytorch_model", "model")
_CLASSES: dict[str, ControlKind] = {
    "ControlNetModel": "controlnet",
    "ControlNetUnionModel": "union",
    "T2IAdapter": "t2i_adapter",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "controlnet": {},
    "union": {"num_control_type": 6},
    "t2i_adapter": {"channels": (320, 640, 1280, 1280), "adapter_type": "full_adapter"},
}
"""What diffusers takes where a config is silent."""
Seen = MutableMapping[tuple[Any, ...], ControlNetInfo | DanqingError]


def roots(models_dir: Path | None, builtin_dir: Path) -> list[Path]:
    """The folders that may hold ControlNets, the built-in one first, none twice."""
    found = [builtin_dir / "controlnet"]
    if models_dir is not None:
        found += [models_dir / name for name in FOLDERS]
        found.append(models_dir.parent / EXTENSION_FOLDER)
    # On a disk that ignores case two of the names are one folder.
    return list({root.resolve(): root for root in found if root.is_dir()}.values())


_KIND = Kind(
    "ControlNets",
    "ControlNet",
    "controls.model",
    "put a ControlNet, a file or a diffusers folder, into models/ControlNet; `danqing models` lists what is there",
)


class ControlShelf:
    """The ControlNets below some folders.

    Args:
        folders: Where to look.
        hashes: Remembers content hashes.
        builtin_dir: What lies below it is built in.
        seen: What files were found to be, so that an unchanged one is not looked at again.
    """

    def __init__(self, folders: Sequence[Path], hashes: HashCache, builtin_dir: Path, seen: Seen | None = None) -> None:
        self._seen: Seen = {} if seen is None else seen
        self._folders = folders
        self._hashes = hashes
        self._builtin_dir = builtin_dir

    def scan(self) -> list[tuple[str, ControlNetInfo | DanqingError]]:
        """(name, what it is or why it can't be used) of everything that looks like a ControlNet."""
        candidates = ((path.relative_to(root).as_posix(), path) for root in self._folders for path in _candidates(root))
        found = look_at(candidates, self._identify)
        self._hashes.save()
        return found

    def find(self, wanted: str) -> ControlNetInfo:
        """The ControlNet with this name, stem, title or hash.

        Raises:
            NotFoundError: None or several answer to the name.
            DanqingError: It is there and cannot be used, with the reason.
        """
        return find_one(self.scan(), wanted, _KIND)

    def _identify(self, path: Path, name: str) -> ControlNetInfo:
        if path.is_file():
            found = self._remembered(path, name)
            if isinstance(found, DanqingError):
                raise found
            return found
        builtin = self._builtin_dir in path.parents
        return identify_controlnet(path, name=name, hashes=self._hashes, builtin=builtin)

    def _remembered(self, path: Path, name: str) -> ControlNetInfo | DanqingError:
        key = (name, *(file_stamp(one) for one in (path, path.with_suffix(".yaml"))))
        if key not in self._seen:
            try:
                self._seen[key] = control_files.identify_control_file(path, name, self._hashes)
            except DanqingError as error:
                self._seen[key] = error
            except OSError as error:
                self._seen[key] = BadFileError(f"{path.name} cannot be read: {error}", value=str(path))
        return self._seen[key]


def identify_controlnet(
    folder: Path, *, name: str | None = None, hashes: HashCache | None = None, builtin: bool = False
) -> ControlNetInfo:
    """What a diffusers folder of a ControlNet, union ControlNet or T2I-Adapter holds, from its config.

    Raises:
        BadFileError: The config or the weights are missing or damaged.
        UnsupportedError: A kind of control network that this version cannot run.
    """
    config = _json(folder / "config.json")
    about = _json(folder / "danqing.json") if (folder / "danqing.json").is_file() else {}
    kind = _CLASSES.get(str(config.get("_class_name")))
    if kind is None:
        raise UnsupportedError(
            f"{folder.name} is not a ControlNet that this version runs",
            value=config.get("_class_name"),
            allowed=", ".join(_CLASSES),
            next_step="use a ControlNet for Stable Diffusion 1.x, 2.x or XL in diffusers' layout",
        )
    config = {**_DEFAULTS[kind], **config}
    if not any((folder / f"{stem}{suffix}").is_file() for stem in _WEIGHTS for suffix in WEIGHT_SUFFIXES):
        raise BadFileError(
            f"{folder.name} has no weights",
            value=str(folder),
            allowed="diffusion_pytorch_model.safetensors beside config.json",
            next_step="copy the folder again, with its weights",
        )
    try:
        shape = control_files.facts(kind, config) if kind == "t2i_adapter" else _shape(config)
        told = control_files.named(folder.name, kind, config)
    except (TypeError, ValueError) as error:
        raise BadFileError(f"the config of {folder.name} makes no sense: {error}", value=str(folder)) from error
    if int(config.get("conditioning_channels", 3)) != 3:
        raise UnsupportedError(
            f"{folder.name} takes control maps of another kind",
            value=f"conditioning_channels={config.get('conditioning_channels')}",
            allowed="3 (RGB)",
            next_step="use a ControlNet that takes an RGB map",
        )
    cache = hashes or HashCache(None)
    if "annotators" in about:
        told["annotators"] = tuple(str(one) for one in about["annotators"])
    return ControlNetInfo(
        name=name or folder.name,
        path=str(folder),
        sha256=cache.folder(folder),
        builtin=builtin,
        base=str(about["base"]) if "base" in about else None,
        description=str(about.get("description", "")),
        kind=kind,
        family=_adapter_family(config) if kind == "t2i_adapter" else None,
        global_pool=bool(config.get("global_pool_conditions", False)),
        **shape,
        **told,
    )


def _adapter_family(config: dict[str, Any]) -> str:
    return "sdxl" if config["adapter_type"] == "full_adapter_xl" else "sd1"


def layers_of(config: dict[str, Any]) -> tuple[int, ...]:
    """Layers of each level on the way down of a UNet or ControlNet config."""
    layers = config.get("layers_per_block", 2)
    levels = len(config.get("block_out_channels", (320, 640, 1280, 1280)))
    if isinstance(layers, int):
        return (layers,) * levels
    return tuple(int(one) for one in cast("Sequence[Any]", layers))


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    blocks: Sequence[str] = config.get("down_block_types", ("CrossAttnDownBlock2D",))
    mid: str = config.get("mid_block_type") or "UNetMidBlock2DCrossAttn"
    reads_text = (
        any("CrossAttn" in str(block) for block in (*blocks, mid)) or config.get("addition_embed_type") == "text"
    )
    hint = config.get("conditioning_embedding_out_channels") or (16, 32, 96, 256)
    return {
        "context_width": int(config.get("cross_attention_dim", 1280)) if reads_text else None,
        "block_widths": tuple(int(one) for one in config.get("block_out_channels", (320, 640, 1280, 1280))),
        "layers_per_block": layers_of(config),
        "in_channels": int(config.get("in_channels", 4)),
        "hint_scale": 2 ** (len(hint) - 1),
    }


def _candidates(root: Path) -> Iterator[Path]:
    folders = sorted(path.parent for path in root.glob("**/config.json"))
    yield from folders
    for path in sorted(root.rglob("*")):
        loose = path.suffix.lower() in SINGLE_FILE_SUFFIXES and path.is_file()
        if loose and not any(folder == path.parent or folder in path.parents for folder in folders):
            yield path


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadFileError(f"a ControlNet's config cannot be read: {error}", value=str(path)) from error
    if not isinstance(data, dict):
        raise BadFileError("a ControlNet's config is not a JSON object", value=str(path))
    return cast("dict[str, Any]", data)
