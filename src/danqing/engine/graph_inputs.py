"""What graphs of UNets are fed besides noise, times and words: see `danqing.models.graphs.inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from danqing.adapters.ip_adapter import cross_attentions, image_rows
from danqing.engine.calls import Denoise
from danqing.engine.rows import images_of_row
from danqing.models.graphs.emit import NotExpressible
from danqing.models.graphs.inputs import (
    IMAGE_SHARES,
    IMAGE_STRENGTH,
    IMAGE_TOKENS,
    PERTURBED,
    ImageLayers,
    inside_name,
)
from danqing.models.graphs.unet import residual_name
from danqing.models.ip_adapter import ImageLayer, ImageProjection, IpAdapterWeights
from danqing.models.loader import Control
from danqing.models.t2i_adapter import LoadedT2IAdapter
from danqing.spec.model import ModelRef

_DOWN, _MID = "down_block_additional_residuals", "mid_block_additional_residual"
_INSIDE = "down_intrablock_additional_residuals"
_UNSEEN = -1e9
"""Added to the logits of what fills up: exponentials of graphs are made for finite numbers."""


@dataclass(frozen=True)
class Shown:
    """What rows with image prompts must have in common to be computed together.

    Attributes:
        adapter: The image adapter.
        precision: Of the model it works in.
        pictures: How many; what reads fewer is filled up, so that no company changes how many tokens a row has.
    """

    adapter: ModelRef
    precision: str
    pictures: int


def shown_of(call: Denoise) -> Shown | None:
    """The image prompts of a Call, all of whose rows read them or the empty picture; None where nothing acts."""
    images = call.images
    if images is None or images.weight == 0:
        return None
    return Shown(images.adapter, call.model.precision, len(images.embeddings))


def steered_inside(call: Denoise, row: int, nets: Sequence[Control]) -> bool:
    """Whether a T2I-Adapter acts on a row."""
    units = zip(nets, call.sorted_controls, strict=True)
    return any(isinstance(net, LoadedT2IAdapter) and unit.weight * unit.rows[row] != 0 for net, unit in units)


def layers_for(unet: Any, weights: IpAdapterWeights) -> ImageLayers:
    """A UNet's cross-attentions with an image adapter's layers.

    Raises:
        NotExpressible: There are more or fewer of them.
    """
    attentions = cross_attentions(unet)
    layers = [layer for layer in weights.ip_adapter.values() if isinstance(layer, ImageLayer)]
    if not layers or len(layers) != len(attentions):
        raise NotExpressible(f"an image adapter of {len(layers)} layers for {len(attentions)} attentions")
    return dict(zip(attentions, layers, strict=True))


def image_feeds(
    projection: ImageProjection, calls: Sequence[Denoise], rows: Sequence[tuple[int, int]], pictures: int
) -> dict[str, Tensor]:
    """The image prompts of rows (Call, row of the Call), which all have some.

    Args:
        projection: The adapter's.
        calls: The Calls.
        rows: Each is projected alone, so that no company changes its numbers.
        pictures: How many each row has, filled up with such as get no attention.
    """
    found = [image_rows(projection, [images_of_row(calls[index].images, row)]) for index, row in rows]
    each = projection.proj.out_features // projection.norm.normalized_shape[0]
    tokens: list[Tensor] = []
    shares: list[Tensor] = []
    strengths: list[Tensor] = []
    for one in found:
        if one is None:
            raise ValueError("a row without image prompts among such as have some")
        missing = pictures * each - one.tokens.shape[1]
        bias = one.tokens.new_zeros(one.tokens.shape[:2]) if one.bias is None else one.bias
        tokens.append(pad(one.tokens, (0, 0, 0, missing)))
        shares.append(pad(bias, (0, missing), value=_UNSEEN))
        strengths.append(one.weights)
    feeds = {IMAGE_TOKENS: torch.cat(tokens), IMAGE_STRENGTH: torch.cat(strengths).view(-1, 1, 1, 1)}
    # One picture has all the attention, whatever its share.
    return feeds if pictures == 1 else {**feeds, IMAGE_SHARES: torch.cat(shares)[:, None, None]}


def residual_feeds(options: Mapping[str, Any], count: int | None = None) -> dict[str, Tensor]:
    """The residuals of ControlNets as diffusers' UNet is given them; the first `count` of them where it says so."""
    given: Sequence[Tensor] = (*options.get(_DOWN, ()), *([options[_MID]] if _MID in options else ()))
    return {residual_name(index): one for index, one in enumerate(given[:count])}


def inside_feeds(unet: Any, options: Mapping[str, Any], names: Sequence[str], perturbed: int) -> dict[str, Tensor]:
    """The features of T2I-Adapters, and which rows are perturbed, as far as a graph reads them.

    Args:
        unet: The UNet.
        options: What diffusers' UNet is given.
        names: The graph's inputs.
        perturbed: Rows that are: all or none.
    """
    given: Sequence[Tensor] = options.get(_INSIDE, ())
    levels = len(unet.down_blocks)
    if len(given) > levels and given[levels].shape != given[levels - 1].shape:
        # The middle is as large as the last level; diffusers passes over what does not fit it.
        given = given[:levels]
    named = {inside_name(level): one for level, one in enumerate(given)}
    if perturbed:
        named[PERTURBED] = torch.ones(perturbed, 1, 1, 1)
    return {name: one for name, one in named.items() if name in names}
