"""A transformer without its deep blocks: what they add to the picture is kept at some steps and used again at others.

With branch b the first b + 1 blocks are computed, and what all others added to the tokens at an earlier step is added
again: the residual that first-block caches keep (ParaAttention; diffusers' `FirstBlockCacheConfig`). They decide by a
threshold on the first block's change; here it is by intervals, as in Selvaraju et al., *FORA: Fast-Forward Caching in
Diffusion Transformer Acceleration*, arXiv 2407.01425: what a Call computes is known before it runs, so that rows that
do the same share a batch, and rounding in a batch decides nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock, FluxTransformerBlock
from torch import Tensor

from danqing.models.families.flux import packed, places, unpacked
from danqing.models.patches import PATCH, from_tokens, in_patches

MOST_BLOCKS = 3
"""That are computed at the other steps: of 24 (SD 3.5 medium) to 57 (FLUX)."""
_FLUX_TIMES = 1000
"""FLUX is told times and guidance as fractions."""


def can_be_cut(net: Any) -> bool:
    """Whether a denoiser is a transformer whose blocks are known here one by one.

    Not where its weights come to the device block by block: what lies beside the blocks comes with the whole's call.
    """
    if type(net) is SD3Transformer2DModel:
        known = all(type(block) is JointTransformerBlock for block in net.transformer_blocks)
    elif type(net) is FluxTransformer2DModel:
        known = all(type(block) is FluxTransformerBlock for block in net.transformer_blocks)
        known = known and all(type(block) is FluxSingleTransformerBlock for block in net.single_transformer_blocks)
    else:
        return False
    return known and deepest(net) >= 0 and getattr(net, "_diffusers_hook", None) is None


def deepest(net: Any) -> int:
    """The highest branch: at least one block is left out, and no more than three are computed."""
    blocks = len(net.transformer_blocks) - (0 if getattr(net, "single_transformer_blocks", ()) else 1)
    return min(blocks, MOST_BLOCKS) - 1


@contextmanager
def keeping(net: Any, branches: Sequence[int], found: dict[int, Tensor]) -> Generator[None]:
    """Inside, a transformer leaves what its deep blocks add in `found`, [b, n, c] for each branch.

    Args:
        net: A transformer that `can_be_cut`, if there are branches.
        branches: Which.
        found: By branch.
    """
    before: dict[int, Tensor] = {}

    def last(_: Any, given: tuple[Tensor, ...]) -> None:
        found.update({branch: given[0] - x for branch, x in before.items()})

    with ExitStack() as stack:
        for branch in branches:

            def after(_: Any, __: Any, answer: tuple[Tensor, Tensor], at: int = branch) -> None:
                before[at] = answer[1]

            stack.callback(net.transformer_blocks[branch].register_forward_hook(after).remove)
        if branches:
            stack.callback(net.norm_out.register_forward_pre_hook(last).remove)
        yield


def outer_blocks(  # noqa: PLR0913
    net: Any,
    scaled: Tensor,
    timesteps: Tensor,
    context: Tensor,
    options: Mapping[str, Any],
    *,
    feature: Tensor,
    branch: int,
) -> Tensor:
    """The answer [b, c, h, w] of a transformer whose deep blocks are not computed, by its own modules.

    Args:
        net: A transformer that `can_be_cut`.
        scaled: Scaled input [b, c, h, w].
        timesteps: [b], as the transformer is told them.
        context: Words [b, t, d].
        options: What else diffusers' transformer is told.
        feature: What its deep blocks added at an earlier step [b, n, c].
        branch: How many blocks are computed, less one.
    """
    pooled = options["pooled_projections"]

    def answer(whole: Tensor) -> Tensor:
        rows, columns = whole.shape[-2] // PATCH, whole.shape[-1] // PATCH
        words, turn = net.context_embedder(context), {}
        if isinstance(net, SD3Transformer2DModel):
            x = net.pos_embed(whole).contiguous()
            emb = net.time_text_embed(timesteps, pooled)
        else:
            x = net.x_embedder(packed(whole))
            told = [timesteps, *([options["guidance"]] if options.get("guidance") is not None else [])]
            emb = net.time_text_embed(*(one.to(x.dtype) * _FLUX_TIMES for one in told), pooled)
            ids = torch.cat([torch.zeros(words.shape[1], 3), places(rows, columns)])
            turn = {"image_rotary_emb": net.pos_embed(ids.to(x))}
        for block in net.transformer_blocks[: branch + 1]:
            words, x = block(hidden_states=x, encoder_hidden_states=words, temb=emb, **turn)
        tokens: Tensor = net.proj_out(net.norm_out(x + feature.to(x), emb))
        return (from_tokens if isinstance(net, SD3Transformer2DModel) else unpacked)(tokens, rows, columns)

    return in_patches(scaled, answer)
