"""How much memory painting takes besides weights, from the size of what is painted. Pure; no torch.

Fitted to peaks of whole processes that were measured on a CPU (docs/performance.md, "Memory"): the highest layer of a
network decides, so that bytes grow with rows, pixels and the channels of the outermost level.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
FIXED_BYTES = {"cpu": 192 * MIB, "cuda": 256 * MIB, "mps": 256 * MIB}
"""What libraries keep for one call whatever its size: scratch memory of convolutions and matrix products."""
TILES_LATENT_PX = (128, 96, 64, 48, 32)
"""Sides of the autoencoder's tiles, the best ones first: the larger, the closer to the picture in one piece."""
PICTURE_BYTES_PX = 36
"""Of the picture itself: three numbers in float32, three times over while they become bytes."""
_DENOISE, _DECODE, _ENCODE = 24.0, 8.2, 5.2
"""Numbers alive at once for each channel of the outermost level: at a token, and at a picture's pixel."""
_PATCH_PX = 4


@dataclass(frozen=True)
class Widths:
    """What the activations of a model depend on besides the size.

    Attributes:
        denoiser: Channels of the UNet's outermost level, or the transformer's width.
        vae: Channels of the autoencoder's outermost level.
        denoiser_bytes: Of a number in the denoiser.
        vae_bytes: Of a number in the autoencoder.
        words: Tokens of text that a transformer reads beside the picture's; 0 for a UNet.
        scale: Picture pixels per latent pixel.
    """

    denoiser: int
    vae: int = 128
    denoiser_bytes: int = 2
    vae_bytes: int = 4
    words: int = 0
    scale: int = 8

    def denoise(self, rows: int, height: int, width: int) -> int:
        """Bytes of one denoiser call.

        Args:
            rows: Of the batch.
            height: Latent pixels.
            width: Latent pixels.
        """
        tokens = height * width / _PATCH_PX + self.words if self.words else height * width
        return int(rows * tokens * self.denoiser * self.denoiser_bytes * _DENOISE)

    def decode(self, rows: int, height: int, width: int) -> int:
        """Bytes of decoding latents of this size; arguments as for `denoise`."""
        return self._codec(_DECODE, rows, height, width)

    def encode(self, rows: int, height: int, width: int) -> int:
        """Bytes of encoding a picture to latents of this size; arguments as for `denoise`."""
        return self._codec(_ENCODE, rows, height, width)

    def _codec(self, factor: float, rows: int, height: int, width: int) -> int:
        return int(rows * height * width * self.scale**2 * self.vae * self.vae_bytes * factor)


FAMILY_WIDTHS = {
    "danqing": Widths(128, 32),
    "sd1": Widths(320),
    "sd2": Widths(320),
    "sdxl": Widths(320),
    "sd3": Widths(2432, words=333),
    "flux": Widths(3072, words=512),
}
"""Of the published models, the larger where there are several."""


@dataclass(frozen=True)
class Work:
    """A picture to be painted.

    Attributes:
        width_px: Its width.
        height_px: Its height.
        rows: Of one denoiser call: 2 with guidance.
    """

    width_px: int
    height_px: int
    rows: int = 2


def work_bytes(work: Work, widths: Widths, device: str) -> int:
    """What a picture needs besides weights, with the autoencoder in its smallest tiles if that helps.

    Args:
        work: The picture.
        widths: Of the model.
        device: cuda, mps or cpu.
    """
    height, width = -(-work.height_px // widths.scale), -(-work.width_px // widths.scale)
    tile = TILES_LATENT_PX[-1]
    coded = min(widths.decode(1, height, width), widths.decode(1, tile, tile))
    picture = work.width_px * work.height_px * PICTURE_BYTES_PX
    return max(widths.denoise(work.rows, height, width), coded + picture) + FIXED_BYTES.get(device, FIXED_BYTES["cpu"])


def tile_for(whole_bytes: int, tile_bytes: dict[int, int], free_bytes: int) -> int:
    """Side of the autoencoder's tiles [latent pixels]: 0 for none, the smallest where nothing fits.

    Args:
        whole_bytes: What the picture needs in one piece.
        tile_bytes: What tiles of each side need.
        free_bytes: What there is.

    >>> tile_for(800, {128: 500, 64: 125, 32: 30}, 900), tile_for(800, {128: 500, 64: 125, 32: 30}, 130)
    (0, 64)
    """
    if whole_bytes <= free_bytes:
        return 0
    return next((side for side, need in tile_bytes.items() if need <= free_bytes), min(tile_bytes))
