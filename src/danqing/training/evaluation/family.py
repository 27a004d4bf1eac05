"""The family that is measured: the folder of the model, and what lies beside it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from danqing.models.catalog import Catalog
from danqing.models.diffusers_folders import BUILTIN_DEFAULTS, BUILTIN_DIR, CHECKPOINT_DIR
from danqing.spec.errors import NotFoundError
from danqing.spec.model import ModelDefaults
from danqing.spec.registry.families import BUILTIN_MODEL

ALIAS = "evaluated"
KINDS = ("line", "block", "detail")
CONTROLS = "controlnet"
CLIP = "danqing-mini-clip"
LIMIT_MB = 90.0
# Every part that the package should have: its place below the family's folder.
PARTS = {
    "model": BUILTIN_MODEL,
    "4-step": f"{BUILTIN_MODEL}-4step",
    "inpainting": f"{BUILTIN_MODEL}-inpaint",
    "mini-CLIP": CLIP,
    **{f"ControlNet {kind}": f"{CONTROLS}/{BUILTIN_MODEL}-{kind}" for kind in (*KINDS, "inpaint")},
    "image prompt": "ip-adapter/danqing-mini.safetensors",
    "upscaler": "upscalers/danqing-draw-x4.safetensors",
}


@dataclass(frozen=True)
class Family:
    """Where the parts are and what they are called in the catalogue that paints them.

    Attributes:
        folder: The model's folder; the other parts lie beside it.
        catalog: Knows them.
        model: The model's name there.
        four_step: The 4-step variant's name there.
        control_prefix: ControlNets' names without their kind.
        defaults: How the model paints unless told otherwise.
    """

    folder: Path
    catalog: Catalog
    model: str
    four_step: str
    control_prefix: str
    defaults: ModelDefaults

    def part(self, name: str) -> Path | None:
        """A part's file or folder, or None where it is not there."""
        path = self.folder if name == "model" else self.folder.parent / PARTS[name]
        return path if path.exists() else None

    def parts(self) -> dict[str, float | None]:
        """Every part's size in megabytes (10⁶ bytes), None where it is not there."""
        return {name: None if (path := self.part(name)) is None else _size_mb(path) for name in PARTS}


def _size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return round(sum(p.stat().st_size for p in files) / 1e6, 2)


def open_family(folder: Path | None, scratch: Path) -> Family:
    """The family around a model folder; the one in the package for None.

    Args:
        folder: `danqing-mini`, as the trainer exports it.
        scratch: Where a models folder of links is made for one that is not in the package.

    Raises:
        NotFoundError: There is no model in the folder.
    """
    if folder is None or folder.resolve() == (BUILTIN_DIR / BUILTIN_MODEL).resolve():
        name, catalog = BUILTIN_MODEL, Catalog(None)
        info = catalog.find(name)
        return Family(BUILTIN_DIR / name, catalog, name, f"{name}-4step", name, info.defaults)
    if not (folder / "model_index.json").is_file():
        raise NotFoundError(
            "there is no model in this folder",
            field="--model-dir",
            value=str(folder),
            allowed="a diffusers folder with model_index.json, as `danqing train builtin` writes it",
        )
    links = scratch / "models"
    shutil.rmtree(links, ignore_errors=True)
    home = links / CHECKPOINT_DIR
    _link(folder, home / ALIAS)
    four = folder.parent / PARTS["4-step"]
    if four.is_dir():
        _link(four, home / f"{ALIAS}-4step", base=ALIAS)
    for kind in KINDS:
        net = folder.parent / CONTROLS / f"{BUILTIN_MODEL}-{kind}"
        if net.is_dir():
            _link(net, links / "ControlNet" / f"{ALIAS}-{kind}", base=ALIAS)
    catalog = Catalog(links)
    about = json.loads((folder / "danqing.json").read_text("utf-8")) if (folder / "danqing.json").is_file() else {}
    size_px = int(about.get("native_size_px", BUILTIN_DEFAULTS.size_px))
    defaults = BUILTIN_DEFAULTS.model_copy(update={"size_px": size_px})
    info = catalog.find(ALIAS)
    return Family(folder, catalog, ALIAS, f"{ALIAS}-4step", ALIAS, info.defaults if "defaults" in about else defaults)


def _link(source: Path, target: Path, base: str | None = None) -> None:
    """A twin of a folder whose files are hard links, copies where the disk has none; its `base` renamed."""

    def take(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copyfile(one, other)

    shutil.copytree(source, target, copy_function=take)
    about = target / "danqing.json"
    if base is not None and about.is_file():
        said = json.loads(about.read_text(encoding="utf-8"))
        about.unlink()
        about.write_text(json.dumps(said | {"base": base}), encoding="utf-8")
