"""The options of `danqing paint` and the Request they make."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from danqing.cli.control_option import SYNTAX, parse_control
from danqing.cli.finish_option import FINISH_SYNTAX, parse_finish
from danqing.cli.image_option import SYNTAX as IMAGE_SYNTAX
from danqing.cli.image_option import parse_image_prompt
from danqing.cli.region_option import SYNTAX as REGION_SYNTAX
from danqing.cli.region_option import parse_region
from danqing.cli.shortcuts_option import SYNTAX as SHORTCUTS
from danqing.cli.shortcuts_option import parse_shortcuts
from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.studio.service import Studio

SIDES = ("left", "right", "top", "bottom")
_SIZE = re.compile(r"^(\d{1,9})\s*[x×]\s*(\d{1,9})$", re.IGNORECASE)


def _option(*names: str, help: str, panel: str, metavar: str | None = None) -> Any:  # noqa: A002 - Typer's own word
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


_BRIEF, _SIZES, _SAMPLING = "Brief", "Size and count", "Sampling"
_INIT, _HIRES, _VARIATION = "From a picture", "Second, larger pass", "Variation"
_CONTROL, _LIKE, _FINISH = "Control", "Like a picture", "When it is painted"
_NO_PICTURE = f"sha256:{'0' * 64}"


@dataclass(frozen=True, kw_only=True)
class PaintOptions:
    """What of a Request can be said on the command line; None leaves it to the model."""

    brief: Annotated[str, typer.Argument(metavar="BRIEF", help="What to paint, in words.")]
    negative: Annotated[str, _option("--negative", "-n", help="What to keep out.", panel=_BRIEF)] = ""
    style: Annotated[
        list[str] | None, _option("--style", help="A style of styles.csv; may be repeated.", panel=_BRIEF)
    ] = None
    syntax: Annotated[str | None, _option("--syntax", help="a1111 or midjourney.", panel=_BRIEF)] = None
    model: Annotated[str | None, _option("--model", help="Name or hash; the built-in one if unset.", panel=_BRIEF)] = (
        None
    )
    vae: Annotated[str | None, _option("--vae", help="The model's own if unset.", panel=_BRIEF)] = None
    clip_skip: Annotated[int | None, _option("--clip-skip", help="1 uses the last layer.", panel=_BRIEF)] = None
    size: Annotated[str | None, _option("--size", help="For example 128x128.", panel=_SIZES, metavar="WxH")] = None
    width: Annotated[int | None, _option("--width", help="In pixels.", panel=_SIZES)] = None
    height: Annotated[int | None, _option("--height", help="In pixels.", panel=_SIZES)] = None
    count: Annotated[int, _option("--count", "-c", help="Pictures, each with its own seed.", panel=_SIZES)] = 1
    format: Annotated[str | None, _option("--format", help="png, jpeg or webp.", panel=_SIZES)] = None
    seed: Annotated[
        int | None, _option("--seed", "-s", help="Of the first picture; random if unset.", panel=_SAMPLING)
    ] = None
    steps: Annotated[int | None, _option("--steps", help="Sampling steps.", panel=_SAMPLING)] = None
    quality: Annotated[
        str | None, _option("--quality", help="exact, fast or draft: what work is left out.", panel=_SAMPLING)
    ] = None
    shortcuts: Annotated[
        str | None,
        _option("--shortcuts", help="Single numbers in place of the quality's.", panel=_SAMPLING, metavar=SHORTCUTS),
    ] = None
    sampler: Annotated[str | None, _option("--sampler", help='For example "DPM++ 2M".', panel=_SAMPLING)] = None
    scheduler: Annotated[str | None, _option("--scheduler", help="For example karras.", panel=_SAMPLING)] = None
    cfg: Annotated[float | None, _option("--cfg", help="Guidance scale.", panel=_SAMPLING)] = None
    cfg_rescale: Annotated[float | None, _option("--cfg-rescale", help="0 to 1.", panel=_SAMPLING)] = None
    eta: Annotated[float | None, _option("--eta", help="Noise of ancestral samplers.", panel=_SAMPLING)] = None
    noise: Annotated[str | None, _option("--noise", help="cpu, gpu or nv.", panel=_SAMPLING)] = None
    init: Annotated[str | None, _option("--init", help="A picture, or record:ID.", panel=_INIT, metavar="IMG")] = None
    strength: Annotated[
        float | None, _option("--strength", help="0 keeps the picture, 1 repaints it.", panel=_INIT)
    ] = None
    resize: Annotated[str | None, _option("--resize", help="stretch, crop, fill or latent.", panel=_INIT)] = None
    mask: Annotated[
        str | None, _option("--mask", help="White is repainted; the picture's size.", panel=_INIT, metavar="IMG")
    ] = None
    mask_blur: Annotated[int | None, _option("--mask-blur", help="In pixels.", panel=_INIT)] = None
    mask_invert: Annotated[bool, _option("--mask-invert", help="Black is repainted.", panel=_INIT)] = False
    only_masked: Annotated[bool, _option("--only-masked", help="Paint the part at full size.", panel=_INIT)] = False
    padding: Annotated[int | None, _option("--padding", help="Around it, in pixels.", panel=_INIT)] = None
    fill: Annotated[
        str | None, _option("--fill", help="original, fill, latent_noise or latent_nothing.", panel=_INIT)
    ] = None
    expand: Annotated[
        str | None,
        _option("--expand", help="Extend sides by pixels.", panel=_INIT, metavar="left=64,right=64"),
    ] = None
    feather: Annotated[int | None, _option("--feather", help="Blend of new and old, in pixels.", panel=_INIT)] = None
    control: Annotated[
        list[str] | None,
        _option(
            "--control", help="A ControlNet and the picture it follows; repeatable.", panel=_CONTROL, metavar=SYNTAX
        ),
    ] = None
    region: Annotated[
        list[str] | None,
        _option(
            "--region", help="A box or a mask with words of its own; repeatable.", panel=_CONTROL, metavar=REGION_SYNTAX
        ),
    ] = None
    region_engine: Annotated[
        str | None, _option("--region-engine", help="attention or latent; what fits if unset.", panel=_CONTROL)
    ] = None
    image_prompt: Annotated[
        list[str] | None,
        _option("--image-prompt", help="A picture to paint like; repeatable.", panel=_LIKE, metavar=IMAGE_SYNTAX),
    ] = None
    image_mix: Annotated[
        str | None, _option("--image-mix", help="Several: tokens (side by side) or average (a blend).", panel=_LIKE)
    ] = None
    image_adapter: Annotated[
        str | None, _option("--image-adapter", help="An IP-Adapter; the one that fits if unset.", panel=_LIKE)
    ] = None
    hires: Annotated[float | None, _option("--hires", help="Scale, for example 2.", panel=_HIRES)] = None
    hires_upscaler: Annotated[str | None, _option("--hires-upscaler", help="latent, lanczos …", panel=_HIRES)] = None
    hires_steps: Annotated[int | None, _option("--hires-steps", help="As the first pass if unset.", panel=_HIRES)] = (
        None
    )
    hires_strength: Annotated[float | None, _option("--hires-strength", help="0 to 1.", panel=_HIRES)] = None
    hires_model: Annotated[
        str | None, _option("--hires-model", help="Another model for it; one that only enlarges, too.", panel=_HIRES)
    ] = None
    refiner: Annotated[str | None, _option("--refiner", help="A model for the last steps.", panel=_HIRES)] = None
    refiner_at: Annotated[
        float | None, _option("--refiner-at", help="Share of the steps before it, for example 0.8.", panel=_HIRES)
    ] = None
    finish: Annotated[
        list[str] | None,
        _option(
            "--finish",
            help='A step of `danqing retouch`: "detail face", "upscale 2", "cutout"; repeatable, in order.',
            panel=_FINISH,
            metavar=FINISH_SYNTAX,
        ),
    ] = None
    variation_seed: Annotated[int | None, _option("--variation-seed", help="Second seed.", panel=_VARIATION)] = None
    variation_strength: Annotated[
        float | None, _option("--variation-strength", help="Share of the second seed.", panel=_VARIATION)
    ] = None


def request_data(options: PaintOptions, output_format: str | None) -> dict[str, Any]:
    """The Request as plain data, pictures still as file names.

    Args:
        options: What was typed.
        output_format: png, jpeg or webp, if `-o` or `--format` says so.

    Raises:
        InvalidRequestError: Options that contradict each other or cannot be read.
    """
    width_px, height_px = _size(options)
    data: dict[str, Any] = {
        "kind": _kind(options),
        "prompt": options.brief,
        "negative_prompt": options.negative,
        "styles": options.style or None,
        "syntax": options.syntax,
        "model": options.model,
        "vae": options.vae,
        "clip_skip": options.clip_skip,
        "width_px": width_px,
        "height_px": height_px,
        "count": options.count,
        "seed": options.seed,
        "noise": options.noise,
        "sampling": _set(sampler=options.sampler, schedule=options.scheduler, steps=options.steps, eta=options.eta),
        "guidance": _set(scale=options.cfg, rescale=options.cfg_rescale),
        "quality": options.quality,
        "shortcuts": None if options.shortcuts is None else parse_shortcuts(options.shortcuts),
        "hires": _hires(options),
        "refiner": _refiner(options),
        "variation": _variation(options),
        "controls": [parse_control(text) for text in options.control or ()] or None,
        "regions": [parse_region(text) for text in options.region or ()] or None,
        "region_engine": options.region_engine,
        "image_prompts": [parse_image_prompt(text) for text in options.image_prompt or ()] or None,
        "image_mix": options.image_mix,
        "image_adapter": options.image_adapter,
        "finish": [parse_finish(text) for text in options.finish or ()] or None,
        "output": _set(format=output_format),
        **_init(options),
    }
    return {name: value for name, value in data.items() if value is not None}


def _set(**values: Any) -> dict[str, Any] | None:
    given = {name: value for name, value in values.items() if value is not None}
    return given or None


def _kind(options: PaintOptions) -> str:
    if options.expand is not None and options.mask is not None:
        raise InvalidRequestError(
            "--expand and --mask are two kinds of painting",
            field="--expand",
            allowed="one of them",
            next_step="extend the picture first, then repaint a part of the result with --init record:ID --mask …",
        )
    if options.init is None:
        for name in ("expand", "mask", "strength", "resize"):
            if getattr(options, name) is not None:
                raise InvalidRequestError(
                    f"--{name} needs a picture to work on",
                    field=f"--{name}",
                    value=getattr(options, name),
                    next_step="add --init PICTURE",
                )
        return "txt2img"
    if options.expand is not None:
        return "outpaint"
    return "img2img" if options.mask is None else "inpaint"


def _size(options: PaintOptions) -> tuple[int | None, int | None]:
    if options.size is None:
        return options.width, options.height
    found = _SIZE.match(options.size.strip())
    if found is None or options.width is not None or options.height is not None:
        raise InvalidRequestError(
            "the size cannot be read" if found is None else "--size already gives width and height",
            field="--size",
            value=options.size,
            allowed="WIDTHxHEIGHT in pixels, such as 128x128; or --width and --height",
        )
    return int(found[1]), int(found[2])


def _hires(options: PaintOptions) -> dict[str, Any] | None:
    others = _set(
        upscaler=options.hires_upscaler,
        steps=options.hires_steps,
        strength=options.hires_strength,
        model=options.hires_model,
    )
    if options.hires is None and others is None:
        return None
    return {"scale": 2.0 if options.hires is None else options.hires, **(others or {})}


def _refiner(options: PaintOptions) -> dict[str, Any] | None:
    if options.refiner is None and options.refiner_at is not None:
        raise InvalidRequestError(
            "--refiner-at needs a model that takes over", field="--refiner-at", next_step="add --refiner MODEL"
        )
    return None if options.refiner is None else _set(model=options.refiner, switch_at=options.refiner_at)


def _variation(options: PaintOptions) -> dict[str, Any] | None:
    if options.variation_strength is None:
        if options.variation_seed is not None:
            raise InvalidRequestError(
                "a variation seed without its strength changes nothing",
                field="--variation-strength",
                allowed="0 to 1",
                next_step="add --variation-strength, for example 0.2",
            )
        return None
    return _set(seed=options.variation_seed, strength=options.variation_strength)


def _init(options: PaintOptions) -> dict[str, Any]:
    if options.init is None:
        return {}
    data: dict[str, Any] = {"image": options.init, "strength": options.strength, "resize_mode": options.resize}
    if options.mask is not None:
        data |= {
            "mask": options.mask,
            "mask_blur_px": options.mask_blur,
            "mask_inverted": options.mask_invert,
            "only_masked": options.only_masked,
            "padding_px": options.padding,
            "fill": options.fill,
        }
    if options.expand is not None:
        data |= {"margins": parse_margins(options.expand), "feather_px": options.feather, "fill": options.fill}
    return data


def parse_margins(text: str) -> dict[str, int]:
    """Margins as typed: `left=64,right=64`, or `all=32`.

    Raises:
        InvalidRequestError: A side that does not exist, twice the same, or no whole number.

    >>> parse_margins("left=64, top=8")
    {'left_px': 64, 'top_px': 8}
    """
    margins: dict[str, int] = {}
    for part in text.split(","):
        side, _, number = (piece.strip().lower() for piece in part.partition("="))
        names = SIDES if side == "all" else (side,)
        if not set(names) <= set(SIDES) or f"{names[0]}_px" in margins or not number.isdecimal() or len(number) > 9:
            raise InvalidRequestError(
                "the margins cannot be read",
                field="--expand",
                value=text,
                allowed="left, right, top, bottom or all, each once, with pixels: left=64,right=64",
            )
        margins |= {f"{name}_px": int(number) for name in names}
    return margins


def upload_pictures(data: dict[str, Any], studio: Studio, max_bytes: int) -> dict[str, Any]:
    """The Request's data with every picture stored and named by its hash.

    Raises:
        NotFoundError: No such file.
        BadFileError: Not a picture, or too large.
    """

    def stored(given: str, option: str) -> str:
        if given.startswith("record:"):
            return given
        content = read_file(Path(given), option, max_bytes)
        try:
            return f"sha256:{studio.upload(content, name=Path(given).name).sha256}"
        except BadFileError as error:
            error.field, error.value = option, given
            raise

    return _with_pictures(data, stored)


def without_pictures(data: dict[str, Any]) -> dict[str, Any]:
    """The Request's data with stand-ins for pictures, to see what is wrong with it before anything is read."""
    return _with_pictures(data, lambda _given, _option: _NO_PICTURE)


def _with_pictures(data: dict[str, Any], named: Callable[[str, str], str]) -> dict[str, Any]:
    """The Request's data with every picture renamed by `named(picture, option)`."""
    changed: dict[str, Any] = {
        name: named(data[name], option) for name, option in (("image", "--init"), ("mask", "--mask")) if name in data
    }
    controls = [
        unit | {name: named(unit[name], "--control") for name in ("image", "mask") if name in unit}
        for unit in data.get("controls", ())
    ]
    prompts = [one | {"image": named(one["image"], "--image-prompt")} for one in data.get("image_prompts", ())]
    regions = [_with_region_pictures(one, named) for one in data.get("regions", ())]
    lists = {"controls": controls, "image_prompts": prompts, "regions": regions}
    return data | changed | {name: units for name, units in lists.items() if units}


def _with_region_pictures(region: dict[str, Any], named: Callable[[str, str], str]) -> dict[str, Any]:
    """A region with its mask renamed, and the pictures of its ControlNet."""
    changed: dict[str, Any] = {"mask": named(region["mask"], "--region")} if region.get("mask") else {}
    control = region.get("control")
    if isinstance(control, dict):
        unit: dict[str, Any] = dict(control)
        changed["control"] = unit | {key: named(unit[key], "--region") for key in ("image", "mask") if unit.get(key)}
    return region | changed


def read_file(path: Path, option: str, max_bytes: int) -> bytes:
    """The bytes of a person's own file.

    Raises:
        NotFoundError: No such file.
        BadFileError: A folder, unreadable, or too large.
    """
    try:
        size_bytes = path.stat().st_size
        if path.is_file() and size_bytes <= max_bytes:
            return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            "there is no such file", field=option, value=str(path), next_step="check the path and its spelling"
        ) from error
    except OSError as error:
        raise BadFileError(
            f"the file cannot be read: {error.strerror}",
            field=option,
            value=str(path),
            next_step="check its permissions",
        ) from error
    raise BadFileError(
        "the file is too large" if path.is_file() else "this is not a file",
        field=option,
        value=str(path),
        allowed=f"a PNG, JPEG or WebP file of at most {max_bytes} bytes",
    )
