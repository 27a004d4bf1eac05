"""Which LoRA, LyCORIS, hypernetwork and embedding files are there, told from their headers. No torch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from danqing.models.hashes import HashCache
from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.models.network_keys import SECOND_TEXT, TEXT, UNET, EmbeddingKey, NetworkKey, read_key
from danqing.models.shelf import Kind, find_one, not_installed, spellings
from danqing.models.sidecars import trigger_words
from danqing.spec.errors import BadFileError, DanqingError, UnsupportedError
from danqing.spec.files import FileIdentity, Header
from danqing.spec.model import ModelRef
from danqing.spec.network import EmbeddingInfo, NetworkInfo, NetworkKind, ShelfKind

FOLDERS: Final[dict[ShelfKind, tuple[str, ...]]] = {
    "lora": ("Lora", "LyCORIS", "lora", "loras", "lycoris"),
    "hypernetwork": ("hypernetworks",),
    "embedding": ("embeddings", "../embeddings"),
}
"""Below the models folder, as A1111, Forge and ComfyUI name them; A1111 keeps embeddings beside it."""
SUFFIXES: Final = (".safetensors", ".pt", ".bin", ".ckpt", ".pth")
_SHELVES: Final[dict[NetworkKind, ShelfKind]] = {"lora": "lora", "hypernet": "hypernetwork"}
_ALLOWED: Final[dict[ShelfKind, tuple[str, ...]]] = {
    "lora": ("lora", "lycoris"),
    "hypernetwork": ("hypernetwork",),
    "embedding": ("embedding",),
}
_KINDS: Final[dict[ShelfKind, Kind]] = {
    "lora": Kind("LoRA files", "LoRA", "prompt", "put the file into models/Lora, or take its tag out of the prompt"),
    "hypernetwork": Kind(
        "hypernetworks", "hypernetwork", "prompt", "put the file into models/hypernetworks, or take its tag out"
    ),
    "embedding": Kind("embeddings", "embedding", "prompt", "put the file into embeddings"),
}
_TRIGGERS_SHOWN = 12
_HASH_DIGITS = 12
_INPUTS = {"down", "hada_w1_b", "diff"}


@dataclass(frozen=True)
class Glance:
    """A network file by its header alone.

    Attributes:
        name: Below its folder, without its ending.
        path: Where it lies.
        info: What it is, without its content hash; or why it cannot be used.
        trigger_words: What calls it up, from its own metadata.
    """

    name: str
    path: Path
    info: NetworkInfo | DanqingError
    trigger_words: tuple[str, ...] = ()


class NetworkShelf:
    """The network files of a models folder.

    Args:
        models_dir: In A1111's layout, or None for none.
        hashes: Remembers content hashes.
        builtin_dir: The built-in family: its samples stand behind the person's own files, and give way to their names.
    """

    def __init__(self, models_dir: Path | None, hashes: HashCache, builtin_dir: Path | None = None) -> None:
        self._models_dir = models_dir
        self._builtin_dir = builtin_dir
        self._hashes = hashes
        self._seen: dict[tuple[str, int, int], NetworkInfo | DanqingError] = {}
        self._described: dict[tuple[str, int, int], tuple[NetworkInfo, tuple[str, ...]] | DanqingError] = {}
        self._weights: dict[tuple[str, int, int], str] = {}

    def scan(self, kind: ShelfKind) -> list[tuple[str, NetworkInfo | DanqingError]]:
        """(name, what it is or why it can't be used) of every file in the folders of a kind."""
        found = [(name, self._look(path, name, kind)) for name, path in self._candidates(kind)]
        self._hashes.save()
        return found

    def list(self, kind: ShelfKind) -> Sequence[NetworkInfo]:
        """Every usable file of a kind."""
        return [info for _, info in self.scan(kind) if isinstance(info, NetworkInfo)]

    def glance(self, kind: ShelfKind) -> Iterator[Glance]:
        """Every file of a kind by its header alone: no file is read whole, so `sha256` is empty."""
        for name, path in self._candidates(kind):
            try:
                info, triggers = self._describe(path, name, kind)
            except DanqingError as error:
                yield Glance(name, path, error)
            except OSError as error:
                yield Glance(name, path, BadFileError(f"{path.name} cannot be read: {error}", value=str(path)))
            else:
                yield Glance(name, path, info, triggers)

    def file(self, name: str, kind: ShelfKind) -> Path | None:
        """The file with exactly this name below its folder."""
        return next((path for at, path in self._candidates(kind) if at == name), None)

    def find(self, name: str, kind: NetworkKind) -> NetworkInfo:
        """The network with this name, stem, trainer's name or hash, in this order.

        Raises:
            NotFoundError: None, or several.
            DanqingError: It is there and cannot be used, with the reason.
        """
        shelf, wanted = _SHELVES[kind], name.strip().lower()
        # Most names are file names: then no other file needs to be read or hashed.
        named = [(at, path) for at, path in self._candidates(shelf) if wanted in spellings(at)]
        exact = [(at, path) for at, path in named if at.lower() == wanted]
        if len(exact or named) == 1:
            at, path = (exact or named)[0]
            found = self._look(path, at, shelf)
            self._hashes.save()
            if isinstance(found, DanqingError):
                found.field = "prompt"
                raise found
            return found
        scanned = self.scan(shelf)
        if not named:
            known = [info for _, info in scanned if isinstance(info, NetworkInfo)]
            meant = [info for info in known if (info.alias or "").lower() == wanted]
            if not meant and _is_hash(wanted):
                meant = [info for info in known if self.network_hash(info).startswith(wanted[:_HASH_DIGITS])]
            if len(meant) == 1:
                return meant[0]
        return find_one(scanned, name, _KINDS[shelf])

    def of(self, ref: ModelRef) -> NetworkInfo:
        """The file that a Plan means: the same content, whatever it is called now.

        Raises:
            NotFoundError: It is not installed (any more).
        """
        shelf = cast("ShelfKind", ref.family)
        for name, path in sorted(self._candidates(shelf), key=lambda one: one[0] != ref.name):
            info = self._look(path, name, shelf)
            if isinstance(info, NetworkInfo) and info.sha256 == ref.sha256:
                return info
        raise not_installed("", ref, "prompt", _KINDS[shelf].next_step)

    def network_hash(self, info: NetworkInfo) -> str:
        """Twelve digits, as A1111 and model sites write them (AutoV3): of a safetensors file without its header."""
        path = Path(info.path)
        key = _stamp(path)
        if key not in self._weights:
            self._weights[key] = _weights_hash(path) if path.suffix.lower() == ".safetensors" else info.sha256
        return self._weights[key][:_HASH_DIGITS]

    def _candidates(self, kind: ShelfKind) -> Iterator[tuple[str, Path]]:
        own: set[str] = set()
        for name, path in _files(self._models_dir, kind):
            own |= spellings(name)
            yield name, path
        for name, path in _files(self._builtin_dir, kind):
            if name.lower() not in own:
                yield name, path

    def _look(self, path: Path, name: str, kind: ShelfKind) -> NetworkInfo | DanqingError:
        try:
            key = _stamp(path)
            if key not in self._seen:
                self._seen[key] = self._identify(path, name, kind)
            return self._seen[key]
        except DanqingError as error:
            return error
        except OSError as error:
            return BadFileError(f"{path.name} cannot be read: {error}", value=str(path))

    def _identify(self, path: Path, name: str, kind: ShelfKind) -> NetworkInfo:
        info, _ = self._describe(path, name, kind)
        return info.model_copy(update={"sha256": self._hashes.file(path)})

    def _describe(self, path: Path, name: str, kind: ShelfKind) -> tuple[NetworkInfo, tuple[str, ...]]:
        """What the header says, and the words that call the network up; remembered."""
        key = _stamp(path)
        if key not in self._described:
            try:
                self._described[key] = self._read(path, name, kind)
            except DanqingError as error:
                self._described[key] = error
        found = self._described[key]
        if isinstance(found, DanqingError):
            raise found
        return found

    def _read(self, path: Path, name: str, kind: ShelfKind) -> tuple[NetworkInfo, tuple[str, ...]]:
        header = read_header(path)
        identity = identify_header(header, path.name)
        if identity.kind not in _ALLOWED[kind]:
            raise UnsupportedError(
                f"{path.name} lies among the {_KINDS[kind].noun}, but is something else: {identity.kind}",
                field="prompt",
                value=identity.why or identity.kind,
                allowed=" or ".join(_ALLOWED[kind]),
                next_step="put it into the folder of its kind",
            )
        metadata = header.metadata
        facts: dict[str, Any] = dict(_network_facts(header) if kind == "lora" else {})
        if kind == "hypernetwork":
            facts["widths"] = tuple(sorted({int(key.split(".")[0]) for key in header.tensors if key[:1].isdigit()}))
        if kind == "embedding":
            facts["embeddings"] = _embeddings(header, Path(name).name)
        info = NetworkInfo(
            name=name,
            path=str(path),
            sha256="",
            kind=kind,
            alias=metadata.get("ss_output_name") or metadata.get("modelspec.title") or None,
            family=identity.family,
            algorithms=_algorithms(identity),
            rank=rank if isinstance(rank := identity.facts.get("rank"), int) else None,
            trigger_words=_trigger_words(metadata),
            **facts,
        )
        return info, trigger_words(metadata)


def _files(base: Path | None, kind: ShelfKind) -> Iterator[tuple[str, Path]]:
    """(name, file) of everything in the folders of a kind below `base`."""
    if base is None:
        return
    for root in {(base / name).resolve(): None for name in FOLDERS[kind]}:
        if root.is_dir():
            for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES):
                if path.is_file() and not (path.parent / "config.json").is_file():
                    yield path.relative_to(root).with_suffix("").as_posix(), path


def _network_facts(header: Header) -> dict[str, Any]:
    """Which parts a LoRA changes, and the widths by which a model is seen to fit."""
    parts: list[str] = []
    widths: dict[str, int] = {}
    embeddings: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, info in header.tensors.items():
        what = read_key(key, info.shape)
        if isinstance(what, EmbeddingKey):
            embeddings.setdefault(what.name, {})[what.encoder] = info.shape
        elif what is not None:
            parts.append(what.part)
            _measure(what, info.shape, widths)
    text = {part: widths[part] for part in (TEXT, SECOND_TEXT) if part in widths}
    words = tuple(_embedding(name, shapes) for name, shapes in embeddings.items())
    return {
        "parts": tuple(part for part in (UNET, TEXT, SECOND_TEXT) if part in parts),
        "context_width": widths.get(UNET),
        "text_widths": text,
        "embeddings": words,
    }


def _measure(key: NetworkKey, shape: tuple[int, ...], widths: dict[str, int]) -> None:
    """Note the width of a part where a layer that reads text states, or is a text encoder's, tells it."""
    if key.number not in _INPUTS or len(shape) < 2:
        return
    if key.part == UNET and key.layer.endswith("attn2_to_k"):
        widths.setdefault(UNET, shape[1])
    elif key.part != UNET and (key.layer.endswith(("q_proj", "k_proj")) or (key.layer == "0" and key.number == "down")):
        widths.setdefault(key.part, shape[1])


def _embeddings(header: Header, stem: str) -> tuple[EmbeddingInfo, ...]:
    shapes = {name.removeprefix("string_to_param."): info.shape for name, info in header.tensors.items()}
    if any(name.startswith("string_to_param.") for name in header.tensors):
        shapes = {name: shape for name, shape in shapes.items() if f"string_to_param.{name}" in header.tensors}
    shapes = {name: shape for name, shape in shapes.items() if len(shape) in (1, 2)}
    if set(shapes) <= {"clip_l", "clip_g"}:
        return (_embedding(stem, shapes),) if shapes else ()
    return tuple(
        _embedding(stem if name in ("*", "emb_params") else name, {"": shape}) for name, shape in shapes.items()
    )


def _embedding(name: str, shapes: dict[str, tuple[int, ...]]) -> EmbeddingInfo:
    vectors = max(shape[0] if len(shape) == 2 else 1 for shape in shapes.values())
    return EmbeddingInfo(name=name, vectors=vectors, widths={part: shape[-1] for part, shape in shapes.items()})


def _algorithms(identity: FileIdentity) -> tuple[str, ...]:
    named = identity.facts.get("algorithms")
    found = tuple(str(one) for one in named) if isinstance(named, tuple) else ()
    return (*found, "dora") if identity.facts.get("dora") else found


def _trigger_words(metadata: dict[str, str]) -> tuple[str, ...]:
    """What the file asks to be written, or the most frequent tags of its training captions."""
    if asked := metadata.get("modelspec.trigger_phrase", "").strip():
        return tuple(word.strip() for word in asked.split(",") if word.strip())
    try:
        folders: Any = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: Counter[str] = Counter()
        for tags in folders.values():
            for tag, count in tags.items():
                counts[str(tag).strip()] += int(count)
    except (ValueError, TypeError, AttributeError):
        return ()
    return tuple(tag for tag, _ in counts.most_common(_TRIGGERS_SHOWN) if tag)


def _weights_hash(path: Path) -> str:
    """sha256 of a safetensors file behind its header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_hash(text: str) -> bool:
    return len(text) >= 8 and all(digit in "0123456789abcdef" for digit in text)


def _stamp(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns
