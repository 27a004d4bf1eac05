"""What the rows of a batch of Denoise Calls are given besides latents: a row is a pair (Call, row of the Call)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import astuple

import torch
from torch import Tensor

from danqing.adapters.control import Control, ControlRows, control_of
from danqing.adapters.ip_adapter import RowImages
from danqing.adapters.lllite import LLLiteRows
from danqing.adapters.prompt_to_prompt import Coupled
from danqing.adapters.regions import RowRegions
from danqing.adapters.t2i import AdapterRows
from danqing.engine.calls import (
    ControlInput,
    Decode,
    Denoise,
    EncodeImage,
    EncodeText,
    Exclusive,
    ImageInput,
    ModelCall,
    RegionInput,
    Upscale,
)
from danqing.models.families.sd import Added
from danqing.models.lllite import LoadedLLLite
from danqing.models.loader import Control as ControlNet
from danqing.models.t2i_adapter import LoadedT2IAdapter
from danqing.spec.model import ModelRef
from danqing.spec.network import NetworkUse


def nets_of(call: ModelCall) -> list[ModelRef]:
    """The ControlNets of a Call, in the order of its `sorted_controls`."""
    return [control.net for control in call.sorted_controls] if isinstance(call, Denoise) else []


def networks_of(call: ModelCall) -> tuple[NetworkUse, ...]:
    """What a Call loads besides its model."""
    return call.networks if isinstance(call, (Denoise, EncodeText, Exclusive)) else ()


def image_adapters_of(calls: Sequence[ModelCall]) -> list[ModelRef]:
    """The image adapters of some Calls, each once."""
    found = [call.images.adapter for call in calls if isinstance(call, Denoise) and call.images is not None]
    return list(dict.fromkeys(found))


def weight_px(call: ModelCall) -> float | None:
    """How many latent pixels in a denoiser a row of a Call weighs as; None for what is no batch of pictures."""
    if isinstance(call, Denoise):
        return call.x.shape[-2] * call.x.shape[-1]
    if isinstance(call, Decode):
        # A VAE's widest activations are per picture pixel; a quarter keeps it in step with the denoiser.
        return 4 * call.latent.shape[-2] * call.latent.shape[-1]
    if isinstance(call, EncodeImage):
        return call.image.shape[-2] * call.image.shape[-1] / 16
    if isinstance(call, Upscale):
        return call.tile.shape[-2] * call.tile.shape[-1] / 4
    return None


def kind_of(call: Denoise, row: int) -> Hashable:
    """What a row's time depends on besides its shape, in whichever way it is computed: rows alike share a batch."""
    perturbed = row >= len(call.contexts) - call.perturbed
    reused = call.features.branch if call.features is not None and call.features.reuse else None
    return (call.contexts[row].shape[0], perturbed, reused, call.merging)


def reads_more(call: Denoise, row: int) -> bool:
    """Whether a row's attention reads more than its words: image prompts, another row, regions."""
    return call.images is not None or call.words is not None or bool(call.regions and call.regions.rows[row])


def regions_of_row(regions: RegionInput | None, row: int) -> RowRegions | None:
    """The regions of one row of a Call."""
    return None if regions is None or not regions.rows[row] else RowRegions(regions.shares, regions.rows[row])


def couples_of(calls: Sequence[Denoise], rows: Sequence[tuple[int, int]]) -> list[Coupled]:
    """The pairs of a batch of (Call, row of the Call) whose attention is coupled."""
    at = {row: place for place, row in enumerate(rows)}
    found: list[Coupled] = []
    for index, call in enumerate(calls):
        if call.words is not None and (index, call.words.edited) in at:
            source, edited = at[index, call.words.source], at[index, call.words.edited]
            found.append(Coupled(source, edited, call.words.control))
    return found


def images_of_row(images: ImageInput | None, row: int) -> RowImages | None:
    """What one row of a Call reads: the pictures, the empty picture (all zeros, as IP-Adapter has it), or nothing."""
    if images is None:
        return None
    if images.rows[row]:
        return RowImages(images.embeddings, images.weight, images.shares)
    return RowImages(torch.zeros_like(images.embeddings[:1]), images.weight)


def control_of_rows(
    nets: Sequence[ControlNet], calls: Sequence[Denoise], rows: Sequence[tuple[int, int]]
) -> Control | None:
    """What ControlNets and T2I-Adapters do in a batch of (Call, row of it); all Calls have the same control set."""
    parts: list[ControlRows] = []
    adapters: list[AdapterRows] = []
    for place, net in enumerate(nets):
        units = [calls[index].sorted_controls[place] for index, _ in rows]
        if isinstance(net, LoadedT2IAdapter):
            adapters.append(AdapterRows([net.features(unit.hint) for unit in units], *_acting(units, rows)))
        elif not isinstance(net, LoadedLLLite):
            hints = torch.cat([unit.hint for unit in units])
            parts.append(ControlRows(net, hints, *_acting(units, rows), units[0].union_id))
    return control_of(parts, adapters)


def lllites_of(
    nets: Sequence[ControlNet], calls: Sequence[Denoise], rows: Sequence[tuple[int, int]]
) -> list[LLLiteRows]:
    """The same of ControlNet-LLLites, which act inside the UNet."""
    found: list[LLLiteRows] = []
    for place, net in enumerate(nets):
        if isinstance(net, LoadedLLLite):
            units = [calls[index].sorted_controls[place] for index, _ in rows]
            found.append(LLLiteRows(net, [net.embeddings(unit.hint) for unit in units], *_acting(units, rows)))
    return found


def _acting(units: Sequence[ControlInput], rows: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Strength, fading and masks of a unit's rows."""
    weights = torch.tensor([unit.weight * unit.rows[row] for unit, (_, row) in zip(units, rows, strict=True)])
    fading = torch.tensor([unit.fading for unit in units])
    masked = any(unit.mask is not None for unit in units)
    return weights, fading, torch.cat([_mask_of(unit) for unit in units]) if masked else None


def added_of(calls: Sequence[Denoise], rows: Sequence[tuple[int, int]]) -> Added | None:
    """Pooled texts and sizes of a batch of (Call, row of the Call), for models that read them."""
    if not calls[0].pooled:
        return None
    numbers = torch.tensor([astuple(calls[index].sizes[row]) for index, row in rows], dtype=torch.float32)
    told = torch.tensor([calls[index].distilled for index, _ in rows])
    return Added(torch.stack([calls[index].pooled[row] for index, row in rows]), numbers, told)


def _mask_of(unit: ControlInput) -> Tensor:
    return torch.ones_like(unit.hint[:, :1]) if unit.mask is None else unit.mask
