"""Where a model's weights stay while it paints, chosen from what memory is free. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from danqing.models.activations import FAMILY_WIDTHS, Work, work_bytes

ResidencyKind = Literal["resident", "encoders_offload", "group_offload", "sequential_offload", "layerwise"]
GIB = 1 << 30
WORK_BYTES = {"cuda": 2 * GIB, "mps": 2 * GIB, "cpu": GIB}
"""What painting needs besides weights: activations of a 1024 × 1024 picture, and the autoencoder in tiles."""
EXACT: tuple[ResidencyKind, ...] = ("resident", "encoders_offload", "group_offload", "sequential_offload")
"""The kinds that change no number of a picture, the fastest first."""
OFFLOADED: tuple[ResidencyKind, ...] = EXACT[1:]
_BLOCKS_HELD = 2
_SHARE_CAST = 0.55
"""What float8 leaves of weights in a half-precision format: norms and embeddings stay as they are."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of a model's weights in the number formats it is loaded in.

    Attributes:
        denoiser: Of the UNet or transformer.
        text: Of all text encoders.
        vae: Of the autoencoder.
        block: Of the largest block of the denoiser; a twentieth of it where that is not known.
        layer: Of its largest layer; a hundredth where that is not known.
        rest: Of what belongs to no block, and stays where others come one after the other.
    """

    denoiser: int
    text: int
    vae: int
    block: int = 0
    layer: int = 0
    rest: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.denoiser + self.text + self.vae


@dataclass(frozen=True)
class Residency:
    """A choice.

    Attributes:
        kind: `resident`: all on the device. `encoders_offload`: text encoders and autoencoder wait in main memory.
            `group_offload`: of the denoiser only two blocks are on the device. `sequential_offload`: only one layer.
            `layerwise`: the denoiser is kept in float8 and cast layer by layer.
        reason: Why, for a person.
        fits: Whether there is room even so.
    """

    kind: ResidencyKind
    reason: str
    fits: bool = True


def needed_bytes(kind: ResidencyKind, sizes: Sizes, device: str, work: int | None = None) -> int:
    """Memory of the device that a kind needs at its peak, loading included.

    Args:
        kind: One of them.
        sizes: Of the model.
        device: cuda, mps or cpu.
        work: What painting needs besides weights, as `activations.work_bytes` tells; `WORK_BYTES` where that is not
            known.
    """
    block = sizes.block or sizes.denoiser // 20
    layer = sizes.layer or sizes.denoiser // 100
    held = {
        "resident": sizes.total,
        "encoders_offload": sizes.denoiser,
        "group_offload": min(sizes.rest + _BLOCKS_HELD * max(block, layer), sizes.denoiser),
        "sequential_offload": min(layer, sizes.denoiser),
        "layerwise": int(sizes.denoiser * _SHARE_CAST) + sizes.text + sizes.vae,
    }
    return held[kind] + (WORK_BYTES.get(device, WORK_BYTES["cpu"]) if work is None else work)


def plan_residency(
    sizes: Sizes, free_bytes: int, device: str, host_bytes: int | None = None, work: int | None = None
) -> Residency:
    """The fastest kind for which there is room.

    Offloading gives the very same picture, so it comes before float8, which does not.

    Args:
        sizes: Of the model.
        free_bytes: Free memory of the device.
        device: cuda, mps or cpu.
        host_bytes: Free main memory, in which offloaded weights wait; None if that is not known.
        work: As for `needed_bytes`.
    """
    if needed_bytes("resident", sizes, device, work) <= free_bytes:
        return Residency("resident", f"{_gib(sizes.total)} of weights fit into {_gib(free_bytes)}")
    can_wait = device == "cuda" and (host_bytes is None or sizes.total <= host_bytes)
    for kind in OFFLOADED if can_wait else ():
        if needed_bytes(kind, sizes, device, work) <= free_bytes:
            return Residency(kind, _offload_reason(kind, sizes, free_bytes))
    if needed_bytes("layerwise", sizes, device, work) <= free_bytes:
        why = f"{_gib(sizes.total)} of weights do not fit into {_gib(free_bytes)}: the denoiser is kept in float8"
        return Residency("layerwise", f"{why}, which changes pictures a little")
    # Main memory can be swapped: a slow picture is better than a changed one that does not fit either.
    last: ResidencyKind = "sequential_offload" if can_wait else "layerwise" if device == "cuda" else "resident"
    lacking = needed_bytes(last, sizes, device, work) - free_bytes
    return Residency(
        last,
        f"{_gib(lacking)} are lacking even so: close other programs, or use a packed file (GGUF, Q4_K_S)",
        fits=False,
    )


def _offload_reason(kind: ResidencyKind, sizes: Sizes, free_bytes: int) -> str:
    said = {
        "encoders_offload": "text encoders and autoencoder wait in main memory, the denoiser stays",
        "group_offload": "the denoiser's blocks come from main memory one after the other",
        "sequential_offload": "the denoiser's layers come from main memory one after the other, which is slow",
    }
    return f"{_gib(sizes.total)} of weights do not fit into {_gib(free_bytes)}: {said[kind]}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


@dataclass(frozen=True)
class Published:
    """A model that many people have.

    Attributes:
        name: What it is called.
        family: Key in `spec.registry.families`.
        native_px: Side of its pictures.
        counts: Numbers of its parts in millions, as the fields of `Sizes`: denoiser, text, vae, block, layer, rest.
    """

    name: str
    family: str
    native_px: int
    counts: tuple[int, int, int, int, int, int]

    def sizes(self, device: str, bytes_per_number: int) -> Sizes:
        """Its weights as a device loads them.

        Args:
            device: cuda, mps or cpu.
            bytes_per_number: Of the denoiser's number format.
        """
        denoiser, text, vae, block, layer, rest = (count * 1_000_000 for count in self.counts)
        # Small text encoders are read in float32 on a CPU; T5 follows the denoiser.
        has_t5 = self.family in {"sd3", "flux"}
        text_bytes = 4 if device == "cpu" and not has_t5 else bytes_per_number
        blocks = (one * bytes_per_number for one in (block, layer, rest))
        return Sizes(denoiser * bytes_per_number, text * text_bytes, vae * 4, *blocks)


PUBLISHED = (
    Published("Stable Diffusion 1.5", "sd1", 512, (860, 123, 84, 258, 29, 99)),
    Published("Stable Diffusion XL", "sdxl", 1024, (2567, 817, 84, 1207, 29, 420)),
    Published("Stable Diffusion 3.5 large", "sd3", 1024, (8057, 5580, 84, 213, 35, 40)),
    Published("FLUX.1", "flux", 1024, (11901, 4885, 84, 340, 57, 64)),
)


def explain(device: str, free_bytes: int, bytes_per_number: int, host_bytes: int | None = None) -> tuple[str, ...]:
    """What would be chosen for the published models now, in sentences for `danqing doctor`.

    Args:
        device: cuda, mps or cpu.
        free_bytes: Free memory of the device.
        bytes_per_number: Of the denoiser's number format.
        host_bytes: Free main memory.
    """
    lines: list[str] = []
    for one in PUBLISHED:
        work = work_bytes(Work(one.native_px, one.native_px), FAMILY_WIDTHS[one.family], device)
        found = plan_residency(one.sizes(device, bytes_per_number), free_bytes, device, host_bytes, work)
        lines.append(f"{one.name}: {found.kind.replace('_', ' ')}: {found.reason}")
    return tuple(lines)
