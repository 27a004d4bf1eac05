"""`danqing annotate`: a picture's control map."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from danqing.cli.options import StudioOptions, takes
from danqing.cli.paint_request import read_file
from danqing.cli.pictures import FORMATS, write_atomically
from danqing.cli.session import settings_of, terminal_of
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.annotator_types import AnnotatorInfo
from danqing.spec.registry.annotators import ANNOTATORS, WEIGHTS_FOLDER, find_annotator, resolve_parameters
from danqing.studio.annotating import MapTask, picture_pixels
from danqing.studio.uploads import UploadLimits, check_picture

app = typer.Typer(add_completion=False)
_SAVE: dict[str, dict[str, Any]] = {"png": {}, "jpeg": {"quality": 95}, "webp": {"lossless": True}}


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions(StudioOptions):
    """What `danqing annotate` takes."""

    annotator: Annotated[str | None, typer.Argument(metavar="TYPE", help="canny, lineart_xdog, depth_relief …")] = None
    file: Annotated[Path | None, typer.Argument(metavar="IN", help="A PNG, JPEG or WebP picture.")] = None
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Where the map goes: .png, .webp or .jpg.")] = None
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A setting; repeatable.")
    ] = None
    resolution: Annotated[
        int | None, typer.Option("--resolution", metavar="PX", help="Shorter side to work at; the picture's if unset.")
    ] = None
    seed: Annotated[int, typer.Option("--seed", help="For annotators that draw at random.")] = 0
    show_list: Annotated[bool, typer.Option("--list", help="List every annotator, or with TYPE its settings.")] = False


@app.command()
@takes(AnnotateOptions)
def annotate(options: AnnotateOptions) -> None:
    """Make the control map of a picture (what A1111 calls a preprocessor)."""
    weights_dir = settings_of(options).models_path / Path(WEIGHTS_FOLDER).name
    if options.show_list:
        _show(options, weights_dir)
        return
    if options.annotator is None or options.file is None or options.out is None:
        raise InvalidRequestError(
            "something is missing",
            field="TYPE IN OUT",
            allowed="danqing annotate canny cat.png cat-canny.png",
            next_step="see the types with danqing annotate --list",
        )
    info = find_annotator(options.annotator)
    suffix = _suffix(options.out)
    params = resolve_parameters(info, _params(options.param or []))
    settings = settings_of(options)
    content = read_file(options.file, "IN", settings.upload_max_bytes)
    limits = UploadLimits(settings.upload_max_bytes, settings.upload_max_pixels)
    pixels = picture_pixels(check_picture(content, limits).data)
    task = MapTask(info, params, options.resolution, options.seed, weights_dir)
    found = task.run(pixels)
    buffer = io.BytesIO()
    Image.fromarray(found).save(buffer, suffix, **_SAVE[suffix])
    write_atomically(options.out, buffer.getvalue())
    data = {
        "annotator": info.key,
        "method": info.method,
        "class": info.control_class,
        "params": params,
        "path": str(options.out),
        "width_px": found.shape[1],
        "height_px": found.shape[0],
    }
    terminal_of(options).result(data, f"{options.out}  {info.name}  {found.shape[1]}×{found.shape[0]}")


def _suffix(out: Path) -> str:
    found = FORMATS.get(out.suffix.lower())
    if found is None:
        raise InvalidRequestError(
            "the map's file must be a picture",
            field="OUT",
            value=str(out),
            allowed=", ".join(FORMATS),
            next_step="end its name with .png",
        )
    return found


def _params(given: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name.strip() in values:
            raise InvalidRequestError(
                "this setting cannot be read" if not equals else "this setting is given twice",
                field="--param",
                value=text,
                allowed="NAME=VALUE, each name once",
                next_step="for example --param low_threshold=80",
            )
        values[name.strip()] = value.strip()
    return values


def _show(options: AnnotateOptions, weights_dir: Path) -> None:
    from danqing.annotators import is_installed

    terminal = terminal_of(options)
    if options.annotator is not None:
        info = find_annotator(options.annotator)
        terminal.table(
            {"annotator": _row(info, is_installed(info.key, weights_dir))},
            ("setting", "default", "allowed", "what it does"),
            [(item.key, str(item.default), item.allowed, item.hint) for item in info.parameters],
        )
        return
    rows = [_row(info, is_installed(info.key, weights_dir)) for info in ANNOTATORS]
    columns = ("key", "class", "method", "ready", "hint")
    ready = {True: "yes", False: "no"}
    shown = [(r["key"], r["class"], r["method"], ready[r["installed"]], r["hint"]) for r in rows]
    terminal.table({"annotators": rows}, columns, shown)


def _row(info: AnnotatorInfo, installed: bool) -> dict[str, Any]:
    return {
        "key": info.key,
        "name": info.name,
        "aliases": [*info.aliases],
        "class": info.control_class,
        "method": info.method,
        "map": info.map_kind,
        "hint": info.hint,
        "installed": installed,
        "weights": None if info.weights is None else [*info.weights.files],
        "source": None if info.weights is None else info.weights.source,
        "instead": info.instead,
        "parameters": [
            {"key": p.key, "name": p.name, "default": p.default, "allowed": p.allowed, "hint": p.hint}
            for p in info.parameters
        ],
    }
