"""Looking through folders of models: what every file is, quickly, and again in no time.

What a file was found to be is kept in SQLite by path, size and modification time: one row can be written without
writing ten thousand, and a CLI and a server can share it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from danqing.models.hashes import HashCache
from danqing.models.header_memo import HeaderMemo
from danqing.models.headers import WEIGHT_FILE_SUFFIXES, read_header
from danqing.models.identity import identify
from danqing.models.layouts import expand, folder_kind
from danqing.models.scan_cache import ScanCache, Seen
from danqing.models.sidecars import Sidecars, find_sidecars, trigger_words
from danqing.spec.errors import DanqingError, NotFoundError
from danqing.spec.files import FileIdentity, Header, ModelFile
from danqing.spec.registry.foreign import find_foreign

Progress = Callable[[int], None]
_DEPTH_LIMIT = 24
_SKIPPED = frozenset(("__pycache__", "node_modules", "venv", ".venv", "site-packages"))
_INDEX = "model_index.json"
# Diffusers' and transformers' own names say nothing: the folder's does.
_NAMELESS = re.compile(r"^(diffusion_pytorch_model|pytorch_model|model|pytorch_lora_weights|learned_embeds)(\.fp16)?$")
# A large model in pieces, as diffusers and transformers write it: the first one stands for all.
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)$")
_MOST_SHARDS = 200
_HASHES_SAID = {"sshs_model_hash": "lora12", "modelspec.hash_sha256": "tensors_sha256"}
_PIPELINES = (
    ("StableDiffusionXL", "sdxl"),
    ("StableDiffusion3", "sd3"),
    ("StableDiffusion", "sd"),
    ("Flux2", "flux2"),
    ("Flux", "flux"),
    ("PixArt", "pixart"),
    ("Sana", "sana"),
    ("QwenImage", "qwen_image"),
    ("ZImage", "z_image"),
    ("Kandinsky", "kandinsky"),
    ("IF", "deepfloyd_if"),
)


@dataclass(frozen=True)
class _Candidate:
    """Something to look at."""

    root: Path
    path: str
    real_path: str
    size_bytes: int
    modified_ns: int
    stamp: str
    sidecars: Sidecars = field(default_factory=Sidecars)
    problem: str = ""

    @property
    def root_length(self) -> int:
        """Where the path below the root begins."""
        root = str(self.root)
        return len(root) if root.endswith(os.sep) else len(root) + 1


class Scanner:
    """Finds and identifies the files of weights below some folders.

    Args:
        store: Where to remember what was found, or None for this process only.
        hashes: Knows the hashes that were computed before.
    """

    def __init__(self, store: Path | None = None, hashes: HashCache | None = None) -> None:
        self._store = store
        self._hashes = hashes or HashCache(None)

    def scan(self, paths: Sequence[Path], on_progress: Progress | None = None) -> list[ModelFile]:
        """Every file of weights below these folders, by path; what cannot be read is listed with its reason.

        Args:
            paths: Folders, or whole installations of A1111, Forge or ComfyUI; also single files.
            on_progress: Told how many files were looked at.

        Raises:
            NotFoundError: One of the paths is not there.
        """
        roots = _roots(paths)
        with ScanCache(self._store) as cache:
            memo = HeaderMemo()
            found = [self._look(one, cache, memo) for one in _counted(_candidates(roots), on_progress)]
        return sorted(found, key=lambda file: file.path)

    def compute_hashes(self, files: Iterable[ModelFile], on_progress: Progress | None = None) -> list[ModelFile]:
        """The same files with every hash, reading those that are not known; remembered afterwards."""
        done: list[ModelFile] = []
        for count, file in enumerate(files, start=1):
            hashes = dict(file.hashes)
            if file.identity is not None and Path(file.path).is_file():
                with suppress(OSError, DanqingError):
                    hashes |= self._hashes.compute(Path(file.path))
            done.append(file.model_copy(update={"hashes": hashes, "title": _title(file.name, hashes)}))
            if on_progress is not None:
                on_progress(count)
        self._hashes.save()
        return done

    def _look(self, one: _Candidate, cache: ScanCache, memo: HeaderMemo) -> ModelFile:
        seen = Seen(problem=one.problem) if one.problem else cache.get(one.path, one.stamp)
        if seen is None:
            seen = _examine(Path(one.path), memo)
            cache.put(one.path, one.stamp, seen)
        # Ten thousand Path objects would cost more than everything else of a second scan.
        parts = (one.root.name, *one.path[one.root_length :].split(os.sep))  # noqa: PTH206
        kind, used = folder_kind(parts[:-1])
        name = _name(parts[max(used, 1) :])
        hashes = self._hashes.known(one.real_path, one.size_bytes, one.modified_ns) | seen.hashes
        folder = one.path.rpartition(os.sep)[0]
        return ModelFile(
            name=name,
            path=one.path,
            root=str(one.root),
            size_bytes=one.size_bytes,
            modified_s=one.modified_ns / 1e9,
            identity=seen.identity,
            problem=seen.problem,
            folder_kind=kind,
            title=_title(name, hashes),
            alias=seen.alias,
            hashes=hashes,
            trigger_words=seen.trigger_words,
            preview=f"{folder}{os.sep}{one.sidecars.preview}" if one.sidecars.preview else None,
            sidecars=one.sidecars.names,
        )


def _roots(paths: Sequence[Path]) -> list[Path]:
    roots: list[Path] = []
    for path in paths:
        whole = path.expanduser().absolute()
        if not whole.exists():
            raise NotFoundError("there is no such folder", value=str(path), next_step="check the path")
        roots += expand(whole)
    return list(dict.fromkeys(roots))


def _counted(items: Iterable[_Candidate], on_progress: Progress | None) -> Iterator[_Candidate]:
    for count, item in enumerate(items, start=1):
        if on_progress is not None:
            on_progress(count)
        yield item


# --- walking --------------------------------------------------------------------------------------------------------
def _candidates(roots: Sequence[Path]) -> Iterator[_Candidate]:
    walk = _Walk(tuple(os.path.realpath(root) for root in roots))
    for root in roots:
        if root.is_file():
            names = {entry.name for entry in os.scandir(root.parent)}
            for entry in os.scandir(root.parent):
                if entry.name == root.name:
                    yield walk.file(entry, root.parent, names, os.path.realpath(root.parent))
        else:
            yield from walk.folder(str(root), root, 0)


@dataclass
class _Walk:
    """A walk through several roots that stays inside them and enters no folder twice.

    Attributes:
        real_roots: Where links may lead.
        entered: Real paths of the folders that were walked.
    """

    real_roots: tuple[str, ...]
    entered: set[str] = field(default_factory=set[str])

    def folder(self, path: str, root: Path, depth: int) -> Iterator[_Candidate]:
        """Everything below a folder, files first."""
        real = os.path.realpath(path)
        if real in self.entered or depth > _DEPTH_LIMIT:
            return
        self.entered.add(real)
        try:
            with os.scandir(path) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield _unreadable(root, path, f"this folder cannot be read: {error.strerror}")
            return
        names = {entry.name for entry in inside}
        if _INDEX in names:
            yield _pipeline_folder(root, path, real)
            return
        for entry in inside:
            wanted = entry.name.lower().endswith(WEIGHT_FILE_SUFFIXES) and not entry.name.startswith(".")
            if wanted and not _is_later_shard(entry.name, names):
                yield self.file(entry, root, names, real)
        for entry in inside:
            if not entry.name.startswith(".") and entry.name not in _SKIPPED and _is_folder(entry):
                if self._leads_out(entry):
                    yield _unreadable(root, entry.path, _OUTSIDE)
                else:
                    yield from self.folder(entry.path, root, depth + 1)

    def file(self, entry: os.DirEntry[str], root: Path, names: set[str], real_folder: str) -> _Candidate:
        """One file of weights, or why it cannot be looked at."""
        link = entry.is_symlink()
        if link and self._leads_out(entry):
            return _unreadable(root, entry.path, _OUTSIDE)
        try:
            info = entry.stat()
            if not stat.S_ISREG(info.st_mode):
                return _unreadable(root, entry.path, "this is no file")
            stem = entry.name.rpartition(".")[0]
            stamp = f"{info.st_size}|{info.st_mtime_ns}"
            if f"{stem}.yaml" in names:
                stamp += f"|{Path(real_folder, f'{stem}.yaml').stat().st_mtime_ns}"
        except OSError as error:
            return _unreadable(root, entry.path, f"this file cannot be read: {error.strerror}")
        real = os.path.realpath(entry.path) if link else f"{real_folder}{os.sep}{entry.name}"
        sidecars = find_sidecars(stem, names)
        return _Candidate(root, entry.path, real, info.st_size, info.st_mtime_ns, stamp, sidecars)

    def _leads_out(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return False
        target = os.path.realpath(entry.path)
        return not any(target == root or target.startswith(root.rstrip(os.sep) + os.sep) for root in self.real_roots)


_OUTSIDE = "this link leads out of the scanned folders; scan the folder it leads to as well"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _unreadable(root: Path, path: str, problem: str) -> _Candidate:
    return _Candidate(root, path, path, 0, 0, "", problem=problem)


def _pipeline_folder(root: Path, path: str, real: str) -> _Candidate:
    try:
        info = Path(path, _INDEX).stat()
    except OSError as error:
        return _unreadable(root, path, f"its {_INDEX} cannot be read: {error.strerror}")
    return _Candidate(root, path, real, 0, info.st_mtime_ns, f"folder|{info.st_mtime_ns}")


# --- looking --------------------------------------------------------------------------------------------------------
def _examine(path: Path, memo: HeaderMemo) -> Seen:
    """What a file or a diffusers folder is, or why that cannot be told. Never raises: the scan goes on."""
    try:
        if path.is_dir():
            return Seen(identity=_pipeline(path))
        header = _read(path, memo)
        identity = identify(path, header)
    except DanqingError as error:
        step = f"; {error.next_step}" if error.next_step else ""
        return Seen(problem=f"{error.message}{step}")
    metadata = header.metadata
    said = {kind: metadata[key].lower().removeprefix("0x") for key, kind in _HASHES_SAID.items() if metadata.get(key)}
    if "lora12" in said:
        said["lora12"] = said["lora12"][:12]
    if metadata.get("sshs_legacy_hash"):
        said["addnet_legacy"] = metadata["sshs_legacy_hash"].lower()
    return Seen(identity, "", metadata.get("ss_output_name", ""), trigger_words(metadata), said)


def _is_later_shard(name: str, names: set[str]) -> bool:
    shard = _SHARD.match(name)
    return shard is not None and shard["number"] != "00001" and _shard_name(shard, 1) in names


def _shard_name(shard: re.Match[str], number: int) -> str:
    return f"{shard['stem']}-{number:05}-of-{shard['count']}{shard['ending']}"


def _read(path: Path, memo: HeaderMemo) -> Header:
    """The header of a file, or of all the pieces that the first one stands for."""
    first = read_header(path, memo)
    shard = _SHARD.match(path.name)
    if shard is None or shard["number"] != "00001" or int(shard["count"]) > _MOST_SHARDS:
        return first
    tensors = dict(first.tensors)
    for number in range(2, int(shard["count"]) + 1):
        tensors |= read_header(path.with_name(_shard_name(shard, number)), memo).tensors
    return Header(first.format, tensors, first.metadata)


def _pipeline(folder: Path) -> FileIdentity:
    """A diffusers folder, by the class that its index names."""
    try:
        data: Any = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DanqingError(
            f"{folder.name}/{_INDEX} cannot be read: {error}", next_step="copy the folder again"
        ) from error
    index = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    name = str(index.get("_class_name", ""))
    known = find_foreign(name)
    family = next((family for start, family in _PIPELINES if name.startswith(start)), None)
    family = family if known is None else known.family
    parts = tuple(part for part in index if not part.startswith("_") and (folder / part).is_dir())
    variant = "inpaint" if "Inpaint" in name else "edit" if "Pix2Pix" in name or "Edit" in name else "base"
    if family == "sd":
        family = _width_family(folder)
    return FileIdentity(
        kind="checkpoint",
        family=family,
        variant=variant,
        layout="diffusers folder",
        parts=parts,
        facts={} if known is None else {"pipeline": name, "kinds": known.kinds},
        why=f"{_INDEX} names {name or 'no class'}"
        + (f": {known.name}, painted by diffusers' own pipeline" if known else ""),
    )


def _width_family(folder: Path) -> str | None:
    try:
        config: Mapping[str, Any] = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        return {768: "sd1", 1024: "sd2"}.get(config.get("cross_attention_dim", 0), "sd1")
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _name(parts: tuple[str, ...]) -> str:
    """What a person types: the path below the folder of its kind, without the ending; a nameless file's folder."""
    last = parts[-1] if parts else ""
    ending = next((one for one in WEIGHT_FILE_SUFFIXES if last.lower().endswith(one)), "")
    shard = _SHARD.match(last)
    stem = shard["stem"] if shard is not None else last[: len(last) - len(ending)]
    if _NAMELESS.match(stem) and len(parts) > 1:
        return "/".join(parts[:-1])
    return "/".join((*parts[:-1], stem))


def _title(name: str, hashes: Mapping[str, str]) -> str:
    short = hashes.get("sha256", "")[:10]
    return f"{name} [{short}]" if short else name
