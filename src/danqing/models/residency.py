"""Where a model's weights stay while it paints, chosen from what memory is free. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """

    denoiser: int
    text: int
    vae: int
    block: int = 0
    layer: int = 0

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


def needed_bytes(kind: ResidencyKind, sizes: Sizes, device: str) -> int:
    """Memory of the device that a kind needs.

    Args:
        kind: One of them.
        sizes: Of the model.
        device: cuda, mps or cpu.
    """
    block = sizes.block or sizes.denoiser // 20
    layer = sizes.layer or sizes.denoiser // 100
    held = {
        "resident": sizes.total,
        "encoders_offload": sizes.denoiser,
        "group_offload": min(_BLOCKS_HELD * max(block, layer), sizes.denoiser),
        "sequential_offload": min(layer, sizes.denoiser),
        "layerwise": int(sizes.denoiser * _SHARE_CAST) + sizes.text + sizes.vae,
    }
    return held[kind] + WORK_BYTES.get(device, WORK_BYTES["cpu"])


def plan_residency(sizes: Sizes, free_bytes: int, device: str, host_bytes: int | None = None) -> Residency:
    """The fastest kind for which there is room.

    Offloading gives the very same picture, so it comes before float8, which does not.

    Args:
        sizes: Of the model.
        free_bytes: Free memory of the device.
        device: cuda, mps or cpu.
        host_bytes: Free main memory, in which offloaded weights wait; None if that is not known.
    """
    if needed_bytes("resident", sizes, device) <= free_bytes:
        return Residency("resident", f"{_gib(sizes.total)} of weights fit into {_gib(free_bytes)}")
    can_wait = device == "cuda" and (host_bytes is None or sizes.total <= host_bytes)
    for kind in OFFLOADED if can_wait else ():
        if needed_bytes(kind, sizes, device) <= free_bytes:
            return Residency(kind, _offload_reason(kind, sizes, free_bytes))
    if needed_bytes("layerwise", sizes, device) <= free_bytes:
        why = f"{_gib(sizes.total)} of weights do not fit into {_gib(free_bytes)}: the denoiser is kept in float8"
        return Residency("layerwise", f"{why}, which changes pictures a little")
    # Main memory can be swapped: a slow picture is better than a changed one that does not fit either.
    last: ResidencyKind = "sequential_offload" if can_wait else "layerwise" if device == "cuda" else "resident"
    lacking = needed_bytes(last, sizes, device) - free_bytes
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


# (what, numbers of denoiser, text encoders and autoencoder in billions)
_PUBLISHED = (
    ("Stable Diffusion 1.5", 0.86, 0.12, 0.08),
    ("Stable Diffusion XL", 2.57, 0.82, 0.08),
    ("Stable Diffusion 3.5 large", 8.06, 5.58, 0.08),
    ("FLUX.1", 11.9, 4.88, 0.08),
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
    for name, *numbers in _PUBLISHED:
        denoiser, text, vae = (int(count * 1e9) for count in numbers)
        # Small text encoders are read in float32 on a CPU; T5 follows the denoiser.
        sizes = Sizes(denoiser * bytes_per_number, text * bytes_per_number, vae * 4)
        found = plan_residency(sizes, free_bytes, device, host_bytes)
        lines.append(f"{name}: {found.kind.replace('_', ' ')}: {found.reason}")
    return tuple(lines)
