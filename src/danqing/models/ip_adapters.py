"""Which image adapters (IP-Adapters) are there, and the image tower that feeds each. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from danqing.models.hashes import WEIGHT_SUFFIXES, HashCache
from danqing.models.shelf import Kind, find_one, look_at
from danqing.planning.image_prompts import misfits
from danqing.spec.errors import BadFileError, DanqingError, MissingWeightsError, UnsupportedError
from danqing.spec.model import ImageEncoderInfo, IpAdapterInfo, ModelInfo

BUILTIN_FOLDER = "ip-adapter"
BUILTIN_ENCODER = Path("danqing-mini-clip/image_encoder")
FOLDERS = ("IP-Adapter", "ip-adapter", "ipadapter", "ip_adapter")
"""Below the models folder: the publisher's, ComfyUI's and Forge's names."""
SHARED_FOLDERS = ("ControlNet", "controlnet")
"""Where A1111's extension keeps image adapters among its ControlNets."""
ENCODER_FOLDERS = ("clip_vision", "CLIPVision", "image_encoder")
REVISION = "revision"
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_PROJECTION, _NORM = "image_proj.proj.weight", "image_proj.norm.weight"
_LAYER = "ip_adapter.{}.to_k_ip.weight"
_HEADER_LIMIT_BYTES = 100_000_000

_PER_LEVEL = (("layers_per_block", 2), ("transformer_layers_per_block", 1))

Shapes = dict[str, tuple[int, ...]]

_KIND = Kind("image adapters", "image adapter", "image_adapter", "put an IP-Adapter file into models/IP-Adapter")


class IpAdapterShelf:
    """The image adapters of a models folder.

    Args:
        models_dir: In A1111's layout, or None for the built-in ones alone.
        builtin_dir: The built-in family.
        hashes: Remembers content hashes.
    """

    def __init__(self, models_dir: Path | None, builtin_dir: Path, hashes: HashCache) -> None:
        self._models_dir = models_dir
        self._builtin_dir = builtin_dir
        self._hashes = hashes

    def scan(self) -> list[tuple[str, IpAdapterInfo | DanqingError]]:
        """(name, what it is or why it can't be used) of every image adapter, the built-in ones first."""
        candidates = ((path.relative_to(root).with_suffix("").as_posix(), path) for root, path in self._paths())
        found = look_at(candidates, self._identify)
        found += [(info.name, info) for info in self._revisions()]
        self._hashes.save()
        return found

    def find(self, wanted: str) -> IpAdapterInfo:
        """The image adapter with this name, stem or hash.

        Raises:
            NotFoundError: None or several answer to the name.
            DanqingError: It is there and cannot be used, with the reason.
        """
        return find_one(self.scan(), wanted, _KIND)

    def fitting(self, model: ModelInfo) -> IpAdapterInfo:
        """The first image adapter for this model: one that names it or its base, else one that fits.

        Raises:
            MissingWeightsError: There is none; it says why those that are there do not serve.
        """
        scanned = self.scan()
        usable = [info for _, info in scanned if isinstance(info, IpAdapterInfo)]
        fitting = [info for info in usable if not misfits(info, model)]
        own = {Path(model.weights_path).name, model.name}
        fitting.sort(key=lambda info: (info.kind, 0 if info.base in own else 1 if info.base is None else 2))
        if fitting:
            return fitting[0]
        why = [f"{name}: {error.message}" for name, error in scanned if isinstance(error, DanqingError)]
        why += [f"{info.name}: {'; '.join(misfits(info, model))}" for info in usable]
        raise MissingWeightsError(
            f"image prompts need an image adapter (IP-Adapter) for the model {model.name}, and none is installed",
            field="image_prompts",
            value=" · ".join(why) or None,
            allowed="an IP-Adapter file trained for this model, with its image encoder",
            next_step=f"put ip-adapter_….safetensors into models/{FOLDERS[0]} and its image_encoder folder beside it; "
            "for the built-in model, reinstall Danqing from a complete checkout",
        )

    def _paths(self) -> Iterator[tuple[Path, Path]]:
        roots = [self._builtin_dir / BUILTIN_FOLDER]
        if self._models_dir is not None:
            roots += [self._models_dir / name for name in (*FOLDERS, *SHARED_FOLDERS)]
        # On a disk that ignores case two of the names are one folder.
        for root in {root.resolve(): root for root in roots if root.is_dir()}.values():
            for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
                # A folder with a config is a network of another kind: an image tower, a ControlNet.
                alone = not (path.parent / "config.json").is_file()
                if alone and (root.name not in SHARED_FOLDERS or is_ip_adapter(path)):
                    yield root, path

    def _identify(self, path: Path, name: str) -> IpAdapterInfo:
        if path.suffix.lower() != ".safetensors":
            raise UnsupportedError(
                f"{path.name} is a pickled file, which is not loaded",
                value=path.name,
                allowed=".safetensors",
                next_step="use the safetensors file of the same name, which the publisher offers beside it",
            )
        shapes = read_shapes(path)
        embedding, width, layers = _measure(shapes, path)
        about = _about(path)
        return IpAdapterInfo(
            name=name,
            path=str(path),
            sha256=self._hashes.file(path),
            encoder=self._encoder(path, embedding),
            builtin=self._builtin_dir in path.parents,
            base=str(about["base"]) if "base" in about else None,
            context_width=width,
            layer_widths=layers,
            description=str(about.get("description", "")),
        )

    def _revisions(self) -> Iterator[IpAdapterInfo]:
        """Every image tower of the models folder, for SDXL Revision, which needs nothing else."""
        roots = [self._models_dir / name for name in ENCODER_FOLDERS] if self._models_dir is not None else []
        for root in {root.resolve(): root for root in roots if root.is_dir()}.values():
            for place in (root, *sorted(child for child in root.glob("*") if child.is_dir())):
                width = _projection(place)
                if width is None:
                    continue
                sha256 = self._hashes.folder(place)
                name = REVISION if place == root else f"{REVISION}/{place.name}"
                yield IpAdapterInfo(
                    name=name,
                    path=str(place),
                    sha256=hashlib.sha256(f"{REVISION} {sha256}".encode()).hexdigest(),
                    kind="revision",
                    encoder=ImageEncoderInfo(path=str(place), sha256=sha256, embedding_width=width),
                    context_width=width,
                    layer_widths=(),
                    description="SDXL Revision: a picture's vector in place of the pooled text",
                )

    def _encoder(self, path: Path, embedding: int) -> ImageEncoderInfo:
        """The image tower beside an adapter, or the built-in one, whichever has the width it reads."""
        builtin = self._builtin_dir / BUILTIN_ENCODER
        places = [path.parent / "image_encoder", path.parent.parent / "image_encoder"]
        if self._builtin_dir in path.parents:
            places = [builtin]
        elif self._models_dir is not None:
            for name in ENCODER_FOLDERS:
                root = self._models_dir / name
                places += [root, *sorted(child for child in root.glob("*") if child.is_dir())]
            places.append(builtin)
        for place in places:
            if _projection(place) == embedding:
                return ImageEncoderInfo(
                    path=str(place),
                    sha256=self._hashes.folder(place),
                    embedding_width=embedding,
                    whole_picture=place == builtin or (place.parent / "text_projection.safetensors").is_file(),
                )
        raise MissingWeightsError(
            f"the image adapter {path.stem} has no image encoder whose embeddings are {embedding} wide",
            field="image_adapter",
            value=" · ".join(str(place) for place in places[:3]),
            allowed="a transformers folder with a CLIP image tower: config.json and model.safetensors",
            next_step="put the folder `image_encoder` that the adapter was published with beside its file",
        )


def attention_widths(unet: dict[str, Any]) -> tuple[int, ...]:
    """Width of every cross-attention of a UNet config, in the order in which diffusers and IP-Adapter files have them.

    Empty where the config leaves things to diffusers' defaults that are not told here.

    >>> attention_widths({"block_out_channels": [32, 64], "layers_per_block": 1,
    ...     "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    ...     "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]})
    (32, 32, 32, 64)
    """
    channels: list[int] = unet.get("block_out_channels") or []
    down: list[str] = unet.get("down_block_types") or []
    up: list[str] = unet.get("up_block_types") or []
    layers, depths = (_each(unet.get(name, default), len(channels)) for name, default in _PER_LEVEL)
    if not len(channels) == len(down) == len(up) == len(layers) == len(depths):
        return ()
    found: list[int] = []
    for block, width, count, depth in zip(down, channels, layers, depths, strict=True):
        found += [width] * (count * depth if "CrossAttn" in block else 0)
    for block, width, count, depth in zip(up, reversed(channels), reversed(layers), reversed(depths), strict=True):
        found += [width] * ((count + 1) * depth if "CrossAttn" in block else 0)
    middle = unet.get("mid_block_type", "UNetMidBlock2DCrossAttn") or ""
    return tuple(found + [channels[-1]] * (depths[-1] if "CrossAttn" in middle else 0))


def _each(value: Any, levels: int) -> list[int]:
    if isinstance(value, int):
        return [value] * levels
    return [int(one) for one in cast("list[Any]", value)] if isinstance(value, list) else []


def is_ip_adapter(path: Path) -> bool:
    """Whether a file is an image adapter of any kind, by its header."""
    try:
        return path.suffix.lower() == ".safetensors" and any(
            name.startswith("image_proj.") for name in read_shapes(path)
        )
    except BadFileError:
        return False


def read_shapes(path: Path) -> Shapes:
    """Name → shape of every tensor in a safetensors file, from its header alone.

    Raises:
        BadFileError: It has none that can be read.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: Any = json.loads(file.read(min(size, _HEADER_LIMIT_BYTES)))
        return {
            str(name): tuple(int(side) for side in entry["shape"])
            for name, entry in cast("dict[str, Any]", header).items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(
            f"this safetensors file cannot be read: {error}", value=str(path), next_step="copy the file again"
        ) from error


def _measure(shapes: Shapes, path: Path) -> tuple[int, int, tuple[int, ...]]:
    """Widths of the embedding, of a token and of each layer."""
    projection, norm = shapes.get(_PROJECTION, ()), shapes.get(_NORM, ())
    count = sum(name.endswith(".to_k_ip.weight") for name in shapes)
    layers = [shapes.get(_LAYER.format(2 * i + 1), ()) for i in range(count)]
    if len(projection) != 2 or len(norm) != 1 or not layers or not all(len(layer) == 2 for layer in layers):
        raise UnsupportedError(
            f"{path.name} is an image adapter of a kind that this version cannot run",
            field="image_adapter",
            value=path.name,
            allowed="an ordinary IP-Adapter with one linear projection (ip-adapter_sd15, ip-adapter_sd15_light)",
            next_step="use the ordinary file instead of the Plus, Full Face or FaceID one",
        )
    if projection[0] % norm[0]:
        raise BadFileError("the projection makes no whole number of tokens", value=f"{projection[0]} / {norm[0]}")
    return projection[1], norm[0], tuple(layer[0] for layer in layers)


def _projection(folder: Path) -> int | None:
    """The embedding's width of an image tower; None where there is none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = any(path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir())
        return int(config.get("projection_dim", 512)) if weights else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _about(path: Path) -> dict[str, Any]:
    """What `<stem>.json` or, where it names this file, `danqing.json` beside it says."""
    for file in (path.with_suffix(".json"), path.parent / "danqing.json"):
        try:
            data: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and (file.stem == path.stem or data.get("name") == path.stem):
            return cast("dict[str, Any]", data)
    return {}
