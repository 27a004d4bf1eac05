"""Ways a hires pass enlarges a picture, under A1111's names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from danqing.spec.errors import InvalidRequestError


@dataclass(frozen=True)
class UpscalerInfo:
    """One way to enlarge.

    Attributes:
        key: Name in Plans.
        name: A1111's label.
        latent: Whether it works on latents (else on pixels).
        interpolation: Mode of the interpolation.
        antialias: Whether the latent interpolation is antialiased.
        aliases: Other names people type.
    """

    key: str
    name: str
    latent: bool
    interpolation: str
    antialias: bool = False
    aliases: tuple[str, ...] = ()


UPSCALERS: tuple[UpscalerInfo, ...] = (
    UpscalerInfo("latent", "Latent", True, "bilinear"),
    UpscalerInfo("latent_antialiased", "Latent (antialiased)", True, "bilinear", True),
    UpscalerInfo("latent_bicubic", "Latent (bicubic)", True, "bicubic"),
    UpscalerInfo("latent_bicubic_antialiased", "Latent (bicubic antialiased)", True, "bicubic", True),
    UpscalerInfo("latent_nearest", "Latent (nearest)", True, "nearest"),
    UpscalerInfo("latent_nearest_exact", "Latent (nearest-exact)", True, "nearest-exact"),
    UpscalerInfo("lanczos", "Lanczos", False, "lanczos", aliases=("None",)),
    UpscalerInfo("bicubic", "Bicubic", False, "bicubic"),
    UpscalerInfo("nearest", "Nearest", False, "nearest"),
)


def find_upscaler(name: str) -> UpscalerInfo:
    """The upscaler with this key, label or alias, whatever the case.

    Raises:
        InvalidRequestError: No such upscaler; the message lists the nearest names.
    """
    wanted = name.strip().lower()
    for info in UPSCALERS:
        if wanted in {info.key, info.name.lower(), *(alias.lower() for alias in info.aliases)}:
            return info
    names = [info.name for info in UPSCALERS]
    near = difflib.get_close_matches(name, names, n=3)
    raise InvalidRequestError(
        "there is no such upscaler",
        field="hires.upscaler",
        value=name,
        allowed=", ".join(names),
        next_step=f"did you mean {near[0]}?" if near else "choose one from the list",
    )
