"""The transformers of Stable Diffusion 3 (arXiv 2403.03206) and FLUX.1 as graphs.

Waves of the time and places of the tokens are computed outside, in float32: times up to 1000 would not survive a graph
in bfloat16, and a table of places for all sizes is up to 0.9 GB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.models.embeddings import (
    CombinedTimestepGuidanceTextProjEmbeddings,
    CombinedTimestepTextProjEmbeddings,
    PatchEmbed,
    PixArtAlphaTextProjection,
    TimestepEmbedding,
)
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from openvino import opset15 as op
from torch import Tensor, nn

from danqing.models.families.flux import Flux, packed, places, unpacked
from danqing.models.families.sd3 import StableDiffusion3
from danqing.models.graphs.compiled import ShapedGraphs
from danqing.models.graphs.emit import Changes, Emitter, Node, NotExpressible, Written, absent, only
from danqing.models.graphs.transformer_blocks import (
    Turn,
    continuous,
    flux_block,
    flux_single_block,
    joint_block,
    parted,
)
from danqing.models.patches import PATCH, from_tokens, in_patches

SAMPLE, CONTEXT, TIME, GUIDANCE, POOLED = "sample", "context", "time", "guidance", "pooled"
PLACES, COS, SIN, FEATURE = "places", "cos", "sin", "feature"
TRANSFORMERS = (StableDiffusion3, Flux)
"""Models whose denoiser is written here."""
_FLUX_TIMES = 1000.0
"""FLUX is told times and guidance as fractions."""


def transformer_graph(
    net: Any,
    dtype: torch.dtype,
    changes: Changes | None = None,
    *,
    kept: Sequence[int] = (),
    alone: bool = True,
) -> Written:
    """A transformer as a graph of any batch, size and number of words; `transformer_feeds` gives its inputs.

    Outputs: what the last layer says of each token [b, n, p · p · c], and what the deep blocks of each kept branch add
    to the tokens [b, n, c]. All float32. One graph takes all shapes: its time goes into matrix products over all
    tokens, which gain nothing from a shape known beforehand, and these weights are what memory is short of.

    Args:
        net: diffusers' transformer, on the CPU.
        dtype: What it is computed in: float32 or bfloat16.
        changes: What networks add to its layers.
        kept: Branches (see `danqing.models.shallow_transformer`).
        alone: Whether nothing else acts inside it.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    if not alone:
        raise NotExpressible("a transformer that image prompts act on")
    begun = _begun(Emitter(dtype, changes), net)
    emit, x, words = begun.emit, begun.x, begun.words
    after: dict[int, Node] = {}
    for place, block in enumerate(net.transformer_blocks):
        x, words = _block(begun, block, x, words)
        after[place] = x
    if begun.turn is not None:
        both = op.concat([words, x], 1)
        for block in net.single_transformer_blocks:
            both = flux_single_block(emit, block, both, begun.emb, begun.turn)
        _, x = parted(emit, both, words)
    added = [op.subtract(x, after[branch]) for branch in kept]
    return replace(emit.graph([_said(begun, net, x), *added], "transformer"), any_shape=True)


def outer_transformer_graph(net: Any, dtype: torch.dtype, branch: int, changes: Changes | None = None) -> Written:
    """The first blocks of a transformer as a graph, with what the deep ones added at an earlier step.

    Inputs: as of `transformer_graph`, and `feature` [b, n, c]. Output: its first one.

    Args:
        net: diffusers' transformer, on the CPU.
        dtype: What it is computed in.
        branch: See `danqing.models.shallow_transformer`.
        changes: What networks add to its layers.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    begun = _begun(Emitter(dtype, changes), net)
    x, words = begun.x, begun.words
    for block in net.transformer_blocks[: branch + 1]:
        x, words = _block(begun, block, x, words)
    x = op.add(x, begun.emit.input(FEATURE, (-1, -1, net.inner_dim)))
    return replace(begun.emit.graph([_said(begun, net, x)], "outer"), any_shape=True)


def transformer_feeds(
    net: Any, whole: Tensor, timesteps: Tensor, context: Tensor, options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What a transformer's graph is fed.

    Args:
        net: The transformer.
        whole: Latents of even sides [b, c, h, w].
        timesteps: [b], as the transformer is told them.
        context: Words [b, t, d].
        options: What else diffusers' transformer is told.
    """
    feeds = {CONTEXT: context, POOLED: options["pooled_projections"]}
    waves = net.time_text_embed.time_proj
    if isinstance(net, SD3Transformer2DModel):
        here = net.pos_embed.cropped_pos_embed(*whole.shape[-2:])
        return {**feeds, SAMPLE: whole, TIME: waves(timesteps), PLACES: here}
    feeds |= {SAMPLE: packed(whole), TIME: waves(timesteps.float() * _FLUX_TIMES)}
    if options.get("guidance") is not None:
        feeds[GUIDANCE] = waves(options["guidance"].float() * _FLUX_TIMES)
    grid = places(whole.shape[-2] // PATCH, whole.shape[-1] // PATCH)
    # Words have no place.
    cos, sin = net.pos_embed(torch.cat([torch.zeros(context.shape[1], 3), grid]))
    return {**feeds, COS: cos[None, None], SIN: sin[None, None]}


@dataclass(frozen=True)
class GraphTransformer:
    """A transformer's graph as `StableDiffusion` calls its denoiser.

    Attributes:
        net: The transformer.
        graph: Written from it: of all blocks, or of the outer ones.
        kept: The branches whose features the graph leaves.
        wanted: Those that are asked for.
        found: Where they go.
        feature: For a graph of the outer blocks.
    """

    reads_float32: ClassVar[bool] = True
    net: Any
    graph: ShapedGraphs
    kept: tuple[int, ...] = ()
    wanted: tuple[int, ...] = ()
    found: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    feature: Tensor | None = None

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""

        def answer(whole: Tensor) -> Tensor:
            feeds = transformer_feeds(self.net, whole, timesteps, context, options)
            if self.feature is not None:
                feeds[FEATURE] = self.feature
            tokens, *added = self.graph(feeds, (0, *(1 + self.kept.index(branch) for branch in self.wanted)))
            self.found.update(zip(self.wanted, added, strict=True))
            rows, columns = (side // PATCH for side in whole.shape[-2:])
            latents = from_tokens if isinstance(self.net, SD3Transformer2DModel) else unpacked
            return latents(tokens, rows, columns)

        return in_patches(scaled, answer)


@dataclass(frozen=True)
class _Begun:
    """What blocks read: tokens of the picture and words, the embedding of times, and FLUX's turn."""

    emit: Emitter
    x: Node
    words: Node
    emb: Node
    turn: Turn | None


def _begun(emit: Emitter, net: Any) -> _Begun:
    only(net, SD3Transformer2DModel, FluxTransformer2DModel)
    turn = None
    if isinstance(net, SD3Transformer2DModel):
        x = _patches(emit, net)
    else:
        only(net.pos_embed, FluxPosEmbed)
        if net.config["patch_size"] != 1:
            raise NotExpressible(f"a FLUX whose tokens are patches of {net.config['patch_size']} more")
        x = emit.linear(net.x_embedder, emit.input(SAMPLE, (-1, -1, net.x_embedder.in_features)))
        head = sum(net.config["axes_dims_rope"])
        turn = Turn(emit.input(COS, (1, 1, -1, head)), emit.input(SIN, (1, 1, -1, head)), head // 2)
    words = emit.linear(net.context_embedder, emit.input(CONTEXT, (-1, -1, net.context_embedder.in_features)))
    return _Begun(emit, x, words, _times(emit, net.time_text_embed), turn)


def _patches(emit: Emitter, net: Any) -> Node:
    """Tokens of a picture with their places [b, n, c]."""
    embed = net.pos_embed
    only(embed, PatchEmbed)
    absent(embed, "layer_norm", "norm")
    if embed.pos_embed is None or not embed.pos_embed_max_size or not embed.flatten or embed.patch_size != PATCH:
        raise NotExpressible("a transformer whose tokens have other places")
    sample = emit.input(SAMPLE, (-1, net.config["in_channels"], -1, -1))
    here = emit.input(PLACES, (-1, -1, net.inner_dim))
    return op.add(emit.tokens(emit.conv(embed.proj, sample)), here)


def _block(begun: _Begun, block: Any, x: Node, words: Node) -> tuple[Node, Node]:
    if words is None:
        raise NotExpressible("blocks after the one that is the last to read words")
    if begun.turn is None:
        return joint_block(begun.emit, block, x, words, begun.emb)
    return flux_block(begun.emit, block, (x, words), begun.emb, begun.turn)


def _said(begun: _Begun, net: Any, x: Node) -> Node:
    """What the last layer says of each token."""
    return begun.emit.linear(net.proj_out, continuous(begun.emit, net.norm_out, x, begun.emb))


def _times(emit: Emitter, module: Any) -> Node:
    """The embedding of times, guidance and pooled text [b, c], after the SiLU with which all its readers begin."""
    only(module, CombinedTimestepTextProjEmbeddings, CombinedTimestepGuidanceTextProjEmbeddings)
    emb = _embedded(emit, module.timestep_embedder, TIME)
    if isinstance(module, CombinedTimestepGuidanceTextProjEmbeddings):
        emb = op.add(emb, _embedded(emit, module.guidance_embedder, GUIDANCE))
    text = module.text_embedder
    only(text, PixArtAlphaTextProjection)
    only(text.act_1, nn.SiLU)
    pooled = emit.linear(text.linear_1, emit.input(POOLED, (-1, text.linear_1.in_features)))
    return emit.silu(op.add(emb, emit.linear(text.linear_2, emit.silu(pooled))))


def _embedded(emit: Emitter, module: Any, name: str) -> Node:
    only(module, TimestepEmbedding)
    only(module.act, nn.SiLU)
    absent(module, "post_act", "cond_proj")
    waves = emit.input(name, (-1, module.linear_1.in_features))
    return emit.linear(module.linear_2, emit.silu(emit.linear(module.linear_1, waves)))
