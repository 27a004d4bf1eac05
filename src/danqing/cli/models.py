"""`danqing models`: what can paint, and what the files in a folder are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing.cli.options import ListsByDefault, StudioOptions, takes
from danqing.cli.session import make_studio, open_studio, settings_of, terminal_of
from danqing.cli.terminal import Terminal
from danqing.spec.files import FileIdentity, ModelFile, ModelNotes
from danqing.spec.model import ControlNetInfo, IpAdapterInfo
from danqing.spec.network import NetworkInfo, ShelfKind

app = typer.Typer(cls=ListsByDefault, add_completion=False)
_MIB = 1024 * 1024
_SHOWN_FACT_CHARS = 200
_KINDS: dict[ShelfKind, str] = {"lora": "LoRA", "hypernetwork": "hypernetwork", "embedding": "embedding"}


@app.callback()
def models() -> None:
    """List the models that can paint and what can be added to them; look into model files."""


@app.command("list")
@takes(StudioOptions)
def list_models(options: StudioOptions) -> None:
    """List every checkpoint, ControlNet, image adapter, LoRA, hypernetwork and embedding in the catalogue."""
    with open_studio(options) as studio:
        found = list(studio.models())
        nets = list(studio.controlnets())
        adapters = list(studio.image_adapters())
        networks = studio.networks()
        notes = studio.network_notes(networks)
    data = {
        "models": [info.model_dump(mode="json") | {"short_hash": info.short_hash} for info in found],
        "controlnets": [net.model_dump(mode="json") | {"short_hash": net.short_hash} for net in nets],
        "image_adapters": [one.model_dump(mode="json") | {"short_hash": one.short_hash} for one in adapters],
        "networks": [
            one.model_dump(mode="json") | {"short_hash": one.short_hash, "preferred_weight": said.preferred_weight}
            for one, said in zip(networks, notes, strict=True)
        ],
    }
    terminal_of(options).table(
        data,
        ("name", "family", "hash", "native size", "description"),
        [(info.name, info.family, info.short_hash, f"{info.defaults.size_px} px", info.description) for info in found]
        + [(net.name, "ControlNet", net.short_hash, "", net.description or _levels(net)) for net in nets]
        + [(one.name, "IP-Adapter", one.short_hash, "", one.description or _base(one)) for one in adapters]
        + [
            (one.name, _KINDS[one.kind], one.short_hash, "", _network(one, said))
            for one, said in zip(networks, notes, strict=True)
        ],
    )


@dataclass(frozen=True, kw_only=True)
class ScanOptions(StudioOptions):
    """What `scan` takes."""

    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Folders, or whole A1111, Forge or ComfyUI folders.")
    ] = None
    hash: Annotated[bool, typer.Option("--hash", help="Compute every file's hashes: reads every file once.")] = False


@dataclass(frozen=True, kw_only=True)
class ShowOptions(StudioOptions):
    """What `show` takes."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, title, hash or path of a file.")]
    paths: Annotated[
        list[Path] | None, typer.Option("--in", metavar="PATH", help="Where to look; the models folder if unset.")
    ] = None
    hash: Annotated[bool, typer.Option("--hash", help="Compute its hashes: reads it once.")] = False


@app.command("scan")
@takes(ScanOptions)
def scan(options: ScanOptions) -> None:
    """Say what every model file below some folders is, from its tensors' names and shapes; nothing is loaded."""
    terminal = terminal_of(options)
    studio = make_studio(settings_of(options))
    files = studio.scan_models(options.paths or None, hashes=options.hash)
    counts = Counter(_kind(file) for file in files)
    data: dict[str, Any] = {
        "files": [file.model_dump(mode="json") for file in files],
        "kinds": dict(counts.most_common()),
    }
    terminal.table(data, ("name", "kind", "family", "variant", "layout", "precision", "MiB", "hash"), _rows(files))
    _remark(terminal, files, counts)


@app.command("show")
@takes(ShowOptions)
def show(options: ShowOptions) -> None:
    """Explain one model file: what it is, how that was told, its hashes, and what lies beside it."""
    studio = make_studio(settings_of(options))
    path = Path(options.name)
    if path.exists():
        file = studio.scan_models([path])[0]
    else:
        file = studio.find_model_file(options.name, options.paths or None)
    if options.hash:
        file = studio.hash_model_file(file)
    notes = studio.model_notes(file)
    data = {"file": file.model_dump(mode="json"), "notes": notes.model_dump(mode="json")}
    terminal_of(options).result(data, "\n".join(f"{name:16} {value}" for name, value in _lines(file, notes)))


def _network(info: NetworkInfo, notes: ModelNotes) -> str:
    """For whom it is and how a prompt calls it, at the strength that whoever wrote the notes beside it prefers."""
    made_for = f"for {info.family}, " if info.family else ""
    weight = 1.0 if notes.preferred_weight is None else notes.preferred_weight
    if info.kind == "embedding":
        names = [word.name for word in info.embeddings] or [info.name]
        return f"{made_for}write {', '.join(name if weight == 1 else f'({name}:{weight:g})' for name in names)}"
    words = f"; trigger words {', '.join(notes.trigger_words[:5])}" if notes.trigger_words else ""
    return f"{made_for}write <{'lora' if info.kind == 'lora' else 'hypernet'}:{info.name}:{weight:g}>{words}"


def _levels(net: ControlNetInfo) -> str:
    if net.base is not None:
        return f"for {net.base}"
    return f"for UNets of {', '.join(map(str, net.block_widths))} channels"


def _base(adapter: IpAdapterInfo) -> str:
    return f"for {adapter.base}" if adapter.base else f"for text states {adapter.context_width} wide"


def _kind(file: ModelFile) -> str:
    return file.identity.kind if file.identity is not None else "unreadable"


def _rows(files: Sequence[ModelFile]) -> list[tuple[str, ...]]:
    return [
        (
            file.name,
            _kind(file),
            (file.identity.family or "") if file.identity else "",
            file.identity.variant if file.identity else "",
            file.identity.layout if file.identity else "",
            file.identity.precision if file.identity else "",
            f"{file.size_bytes / _MIB:.1f}",
            file.hashes.get("autov2", ""),
        )
        for file in files
    ]


def _remark(terminal: Terminal, files: Sequence[ModelFile], counts: Counter[str]) -> None:
    """What a person wants to know after the table: how many of which kind, and what is wrong with the rest."""
    terminal.remark(f"{len(files)} files: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    for file in files:
        if file.problem:
            terminal.remark(f"  {file.path}: {file.problem}")
        elif file.identity is not None and file.identity.kind == "unknown":
            terminal.remark(f"  {file.path}: unknown; {file.identity.why}")


def _lines(file: ModelFile, notes: ModelNotes) -> list[tuple[str, str]]:
    lines = [("name", file.title or file.name), ("path", file.path), ("size", f"{file.size_bytes / _MIB:.1f} MiB")]
    if file.problem:
        lines.append(("problem", file.problem))
    if file.identity is not None:
        lines += _identity_lines(file.identity)
    lines += [(f"hash {name}", value) for name, value in file.hashes.items()]
    lines += [("alias", file.alias), ("preview", file.preview or ""), ("beside it", ", ".join(file.sidecars))]
    weight = "" if notes.preferred_weight is None else f"{notes.preferred_weight:g}"
    lines += [("trigger words", ", ".join(notes.trigger_words)), ("preferred weight", weight)]
    lines += [("base model", notes.base_model), ("negative words", notes.negative_text), ("notes", notes.notes)]
    lines += [("description", notes.description), ("training tags", ", ".join(notes.tags))]
    return [(name, value) for name, value in lines if value]


def _identity_lines(identity: FileIdentity) -> list[tuple[str, str]]:
    lines = [
        ("kind", identity.kind),
        ("family", identity.family or "not told"),
        ("variant", identity.variant),
        ("layout", identity.layout),
        ("prediction", identity.prediction or ""),
        ("precision", identity.precision),
        ("parts", ", ".join(identity.parts)),
    ]
    for name, value in identity.facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        lines.append((name.replace("_", " "), text[:_SHOWN_FACT_CHARS]))
    return [*lines, ("told by", identity.why)]
