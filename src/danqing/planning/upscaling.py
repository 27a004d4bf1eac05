"""Which upscaler a name means, and a request to upscale resolved."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

from danqing.spec.errors import InvalidRequestError
from danqing.spec.model import ModelRef
from danqing.spec.registry.upscalers import UPSCALERS, find_upscaler
from danqing.spec.upscale import (
    BUILTIN_UPSCALER,
    MAX_UPSCALED_PX,
    MAX_UPSCALED_SIDE_PX,
    UpscalePlan,
    UpscaleRequest,
    UpscalerFile,
)


class UpscalerFinder(Protocol):
    """What planning needs of the catalogue's upscaler files."""

    def upscalers(self) -> Sequence[UpscalerFile]:
        """Every file."""
        ...

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        """The file with this name, or None."""
        ...


def chosen_upscaler(
    name: str, catalog: UpscalerFinder, field: str, *, latent: bool = True
) -> tuple[str, ModelRef | None]:
    """What a Plan says of an upscaler: a registry's key, or a file's name and the file.

    Args:
        name: As typed.
        catalog: Where files are found.
        field: Of the Request, for the message.
        latent: Whether the message lists those that work on latents.

    Raises:
        InvalidRequestError: Neither has the name; the message lists both.
    """
    try:
        return find_upscaler(name).key, None
    except InvalidRequestError as error:
        file = catalog.find_upscaler(name)
        if file is not None:
            return file.name, file.ref
        names = [info.name for info in UPSCALERS if latent or not info.latent] + [
            file.name for file in catalog.upscalers()
        ]
        near = difflib.get_close_matches(name, names, n=1)
        raise InvalidRequestError(
            "there is no such upscaler",
            field=field,
            value=name,
            allowed=", ".join(names),
            next_step=f"did you mean {near[0]}?"
            if near
            else "choose one from the list, or put its file into models/ESRGAN",
        ) from error


def plan_upscale(request: UpscaleRequest, catalog: UpscalerFinder, size: tuple[int, int]) -> UpscalePlan:
    """Size and upscaler of a request whose picture is `size` pixels wide and high.

    Raises:
        InvalidRequestError: No such upscaler, one for latents only, or a result that is too large.
    """
    notes: tuple[str, ...] = ()
    name = request.upscaler
    if name is None:
        name = BUILTIN_UPSCALER
        if catalog.find_upscaler(name) is None:
            name, notes = "Lanczos", (f"the built-in upscaler {BUILTIN_UPSCALER} is not installed: Lanczos is used",)
    key, file = chosen_upscaler(name, catalog, "upscaler", latent=False)
    if file is None and find_upscaler(key).latent:
        raise InvalidRequestError(
            "this upscaler works inside a hires pass only",
            field="upscaler",
            value=name,
            allowed=", ".join([info.name for info in UPSCALERS if not info.latent]) + ", or an upscaler file",
        )
    width_px, height_px = target_size(request, size)
    return UpscalePlan(
        image=request.image.removeprefix("sha256:"),
        width_px=width_px,
        height_px=height_px,
        scale=round(width_px / size[0], 4),
        upscaler=key,
        file=file,
        output=request.output,
        notes=notes,
    )


class Enlarging(Protocol):
    """What says how large a picture becomes."""

    @property
    def scale(self) -> float:
        """How many times larger."""
        ...

    @property
    def width_px(self) -> int | None:
        """Wins over `scale`."""
        ...

    @property
    def height_px(self) -> int | None:
        """As `width_px`."""
        ...


def target_size(request: Enlarging, size: tuple[int, int], where: str = "") -> tuple[int, int]:
    """By scale; by one side, the other following; or both sides.

    Args:
        request: What is asked for.
        size: Width and height of the picture before.
        where: The field it stands in, for messages.

    Raises:
        InvalidRequestError: The result would be too large.
    """
    width, height = request.width_px, request.height_px
    if width is None and height is None:
        target = (round(size[0] * request.scale), round(size[1] * request.scale))
    else:
        target = (
            width if width is not None else max(1, round(size[0] * (height or 1) / size[1])),
            height if height is not None else max(1, round(size[1] * (width or 1) / size[0])),
        )
    if max(target) > MAX_UPSCALED_SIDE_PX or target[0] * target[1] > MAX_UPSCALED_PX:
        raise InvalidRequestError(
            "the picture would be too large",
            field=".".join(filter(None, (where, "scale" if width is None and height is None else "width_px"))),
            value=f"{target[0]}×{target[1]} px",
            allowed=f"sides up to {MAX_UPSCALED_SIDE_PX} px and {MAX_UPSCALED_PX // 10**6} megapixels",
            next_step="choose a smaller scale",
        )
    return target
