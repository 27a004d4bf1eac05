"""The matrix-product speed of this machine, measured in the same run as what is compared with it."""

from __future__ import annotations

import torch

from benchmarks._timing import seconds

# The products of Stable Diffusion's UNet lie in this range: tokens × width × width.
CPU_SHAPES = ((1024, 1280, 1280), (2048, 2048, 2048), (4096, 2048, 2048), (8192, 320, 2560))
CUDA_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 4096, 4096))


def peak_flops(device: torch.device, dtype: torch.dtype, *, repeats: int = 5, quick: bool = False) -> float:
    """Floating-point operations a second of the fastest of several matrix products.

    Args:
        device: Where.
        dtype: Of both factors.
        repeats: Timings of each shape; the fastest counts, since a peak is asked for.
        quick: One small shape.
    """
    shapes = ((256, 256, 256),) if quick else CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
    return max(_flops(shape, device, dtype, repeats) for shape in shapes)


@torch.inference_mode()
def _flops(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inner, generator=generator).to(device, dtype)
    weight = torch.randn(columns, inner, generator=generator).to(device, dtype)
    work = 2.0 * rows * inner * columns
    # Enough products in one timing that the clock's own cost and a GPU's launch do not show.
    count = max(1, round(4e10 / work)) if device.type == "cpu" else max(8, round(2e13 / work))

    def products() -> None:
        for _ in range(count):
            torch.nn.functional.linear(x, weight)

    products()
    return work * count / min(seconds(products, device) for _ in range(repeats))
