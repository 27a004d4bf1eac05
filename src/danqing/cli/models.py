"""`danqing models`: what can paint."""

from __future__ import annotations

import typer

from danqing.cli.options import ListsByDefault, StudioOptions, takes
from danqing.cli.session import open_studio, terminal_of
from danqing.spec.model import ControlNetInfo, IpAdapterInfo

app = typer.Typer(cls=ListsByDefault, add_completion=False)


@app.callback()
def models() -> None:
    """List the models that can paint, and the ControlNets and image adapters beside them."""


@app.command("list")
@takes(StudioOptions)
def list_models(options: StudioOptions) -> None:
    """List every checkpoint, ControlNet and image adapter in the catalogue."""
    with open_studio(options) as studio:
        found = list(studio.models())
        nets = list(studio.controlnets())
        adapters = list(studio.image_adapters())
    data = {
        "models": [info.model_dump(mode="json") | {"short_hash": info.short_hash} for info in found],
        "controlnets": [net.model_dump(mode="json") | {"short_hash": net.short_hash} for net in nets],
        "image_adapters": [one.model_dump(mode="json") | {"short_hash": one.short_hash} for one in adapters],
    }
    terminal_of(options).table(
        data,
        ("name", "family", "hash", "native size", "description"),
        [(info.name, info.family, info.short_hash, f"{info.defaults.size_px} px", info.description) for info in found]
        + [(net.name, "ControlNet", net.short_hash, "", net.description or _levels(net)) for net in nets]
        + [(one.name, "IP-Adapter", one.short_hash, "", one.description or _base(one)) for one in adapters],
    )


def _levels(net: ControlNetInfo) -> str:
    if net.base is not None:
        return f"for {net.base}"
    return f"for UNets of {', '.join(map(str, net.block_widths))} channels"


def _base(adapter: IpAdapterInfo) -> str:
    return f"for {adapter.base}" if adapter.base else f"for text states {adapter.context_width} wide"
