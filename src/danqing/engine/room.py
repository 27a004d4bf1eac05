"""What fits into memory besides weights: rows of a batch, pictures in one piece or in tiles. Decided before it runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from danqing.engine.calls import Decode, Denoise, Describe, EncodeImage, ModelCall
from danqing.enhance.upscale import Upscaler
from danqing.models.activations import (
    FAMILY_WIDTHS,
    FIXED_BYTES,
    PICTURE_BYTES_PX,
    TILES_LATENT_PX,
    Widths,
    Work,
    tile_for,
    work_bytes,
)
from danqing.models.families.sd import StableDiffusion
from danqing.models.loader import Loader
from danqing.models.mapped import give_back
from danqing.models.packing import packed_bytes

Side = Literal["decode", "encode"]
_SPARE = 0.8
"""How much of what a machine calls free is counted on where nobody set a limit: other programs go on."""
_PER_TILE = 4
"""Planes of numbers alive at once where an upscaler is widest, at the size of its answer."""

BESIDE_BYTES = 2 * FIXED_BYTES["cpu"]
"""What a graph takes besides its weights, working and while it is made."""


class Room:
    """Decides for an executor.

    Args:
        loader: Where models come from, with the memory that there is.

    Attributes:
        give_up_spare: Gives up what an executor could do without, such as graphs; False if there is nothing.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        # What was decided stays, so that the same picture is painted the same way again.
        self._tiles: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Side, int, int, int], int]] = (
            weakref.WeakKeyDictionary()
        )
        self._fitted: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self.give_up_spare: Callable[[], bool] = lambda: False
        self._twice: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()

    @property
    def _fixed(self) -> int:
        return FIXED_BYTES.get(self._loader.device.type, FIXED_BYTES["cpu"])

    def prepared(self, calls: Sequence[Describe], load: Callable[[], StableDiffusion]) -> StableDiffusion:
        """The model that is asked for, in a way that leaves room for the pictures.

        Args:
            calls: Of one model.
            load: Loads it, or has it.

        Raises:
            OutOfMemoryError: A person's limit is too low; it says by how much.
        """
        works = [Work(one.size.width_px, one.size.height_px, one.rows) for one in calls if one.size is not None]
        for work in works:
            self._loader.expect(calls[0].model.model, work)
        model = load()
        if self._holds(model, works):
            return model
        self._loader.give_up(model)
        del model
        # The loader now knows the size: another place for the weights, or a refusal.
        model = load()
        self._holds(model, works)
        return model

    def _holds(self, model: StableDiffusion, works: Sequence[Work]) -> bool:
        """Whether there is room for these pictures beside a loaded model; others go first."""
        memory = self._loader.memory
        need = max((work_bytes(one, widths_of(model), self._loader.device.type) for one in works), default=0)
        # Libraries keep memory for sizes that they met: what fitted once fits again.
        if memory.allowed is None or need <= self._fitted.get(model.unet, 0):
            return True
        if need > memory.free() and not self._made_room(model, need, self.give_up_spare):
            return False
        self._fitted[model.unet] = need
        return True

    def _made_room(self, model: StableDiffusion, need: int, *further: Callable[[], bool]) -> bool:
        """Give up what is kept without need, then what else may go, then other models.

        Returns:
            Whether so many bytes are free now.
        """
        steps = (give_back, *further, lambda: self._loader.drop_others(model))
        return any(step() and need <= self._usable() for step in steps)

    def most_rows(self, call: ModelCall, rows: int) -> int:
        """How many rows a batch of such Calls may have within a person's limit, at most so many.

        Args:
            call: One of them.
            rows: The executor's own bound.
        """
        memory = self._loader.memory
        if memory.allowed is None or not isinstance(call, (Denoise, Decode, EncodeImage)):
            return rows
        model = self._loader.loaded(call.model.model, call.model.vae, call.model.precision)
        if model is None:
            return rows
        widths = widths_of(model)
        if isinstance(call, Denoise):
            each = widths.denoise(1, *call.x.shape[-2:])
        elif isinstance(call, Decode):
            each = widths.decode(1, *call.latent.shape[-2:])
        else:
            each = widths.encode(1, *(side // widths.scale for side in call.image.shape[-2:]))
        return max(1, min(rows, (memory.free() - self._fixed) // max(each, 1)))

    def tile(self, model: StableDiffusion, side: Side, batch: Tensor) -> int:
        """Side of the tiles that an autoencoder shall work in [latent pixels]; 0 for pictures in one piece.

        Args:
            model: Whose autoencoder.
            side: Which half of it.
            batch: Latents to decode, or pictures to encode [b, c, h, w].
        """
        unit = 1 if side == "decode" else model.info.latent_scale
        rows, height, width = len(batch), batch.shape[-2] // unit, batch.shape[-1] // unit
        smallest = TILES_LATENT_PX[-1]
        if max(height, width) <= smallest:
            return 0
        known = self._tiles.setdefault(model.vae, {})
        key = (side, rows, height, width)
        if key not in known:
            known[key] = self._tile(model, side, rows, (height, width))
        return known[key]

    def _tile(self, model: StableDiffusion, side: Side, rows: int, size: tuple[int, int]) -> int:
        widths = widths_of(model)
        need = widths.decode if side == "decode" else widths.encode
        beside = self._fixed + rows * size[0] * size[1] * widths.scale**2 * PICTURE_BYTES_PX
        whole = need(rows, *size) + beside
        if whole > self._usable():
            self._made_room(model, whole)
        tiles = {one: need(rows, one, one) + beside for one in TILES_LATENT_PX if one < max(size)}
        return tile_for(whole, tiles, self._usable())

    def allows(self, more_bytes: int) -> bool:
        """Whether there is room for what could be done without: within a person's limit, or in the machine."""
        return more_bytes <= self._usable()

    def holds_twice(self, module: nn.Module, before: Sequence[nn.Module] = ()) -> bool:
        """Whether there is room for a graph of a network, which holds its weights once more.

        Without a person's limit what was decided stays for as long as the network is loaded.

        Args:
            module: The network.
            before: Others whose graphs are to have the room first.
        """
        found = self.allows(sum(map(graph_bytes, [module, *before])) - BESIDE_BYTES * len(before))
        return found if self._loader.memory.allowed is not None else self._twice.setdefault(module, found)

    def fitted(self, upscaler: Upscaler, side_px: int) -> Upscaler:
        """An upscaler, with its tiles cut smaller as far as there is no room for them.

        Args:
            upscaler: The network.
            side_px: Of the tile that is asked for.
        """
        side = min(side_px, upscaler.tiling.tile_px) if upscaler.tiling else side_px
        while upscaler.work_bytes(side) * _PER_TILE + self._fixed > self._usable() and upscaler.tile_smaller(side_px):
            side = upscaler.tiling.tile_px if upscaler.tiling else side
        return upscaler

    def _usable(self) -> int:
        memory = self._loader.memory
        return memory.free() if memory.allowed is not None else int(memory.free() * _SPARE)


def graph_bytes(module: nn.Module) -> int:
    """Memory that a graph of a module takes besides the module: its weights in another order, and while it is made."""
    weights = sum(one.numel() * one.element_size() for one in module.parameters()) + packed_bytes(module)
    return weights + BESIDE_BYTES


def widths_of(model: StableDiffusion) -> Widths:
    """What a loaded model's activations depend on."""
    config: Any = model.unet.config
    family = FAMILY_WIDTHS.get(model.info.family, FAMILY_WIDTHS["sd1"])
    if "block_out_channels" in config:
        denoiser, words = int(config["block_out_channels"][0]), 0
    else:
        denoiser, words = int(config["num_attention_heads"]) * int(config["attention_head_dim"]), family.words
    return replace(
        family,
        denoiser=denoiser,
        words=words,
        vae=int(model.vae.config["block_out_channels"][0]),
        denoiser_bytes=model.precision.denoiser.itemsize,
        vae_bytes=model.precision.vae.itemsize,
        scale=model.info.latent_scale,
    )
