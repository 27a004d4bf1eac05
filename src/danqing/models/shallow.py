"""A UNet without its deep blocks: what enters one of its last blocks is kept at some steps and used again at others.

Source: Ma, Fang and Wang, *DeepCache: Accelerating Diffusion Models for Free*, arXiv 2312.00858. A branch is counted by
skip connections from the outermost (0) inwards: with branch b the first b + 1 of them are computed, and the b + 1 last
residual blocks that read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, CrossAttnUpBlock2D, DownBlock2D, UpBlock2D
from torch import Tensor, nn

_DOWN = "down_block_additional_residuals"
_INSIDE = "down_intrablock_additional_residuals"


def can_be_cut(unet: Any) -> bool:
    """Whether a denoiser is a UNet whose blocks are known here one by one."""
    if type(unet) is not UNet2DConditionModel:
        return False
    plain = unet.class_embedding is None and not unet.config["center_input_sample"]
    known = all(type(block) in (DownBlock2D, CrossAttnDownBlock2D) for block in unet.down_blocks)
    known = known and all(type(block) in (UpBlock2D, CrossAttnUpBlock2D) for block in unet.up_blocks)
    reweighted = any(getattr(block, name, None) for block in unet.up_blocks for name in ("s1", "s2", "b1", "b2"))
    return plain and known and not reweighted


def deepest(unet: Any) -> int:
    """The highest branch of a UNet: one below the number of its skip connections."""
    return len(skip_channels(unet)) - 1


def skip_channels(unet: Any) -> list[int]:
    """Channels of each skip connection, outermost first."""
    found = [int(unet.config["block_out_channels"][0])]
    for block in unet.down_blocks:
        found += [int(part.out_channels) for part in block.resnets]
        found += [int(part.out_channels) for part in block.downsamplers or ()]
    return found


def _readers(unet: Any) -> list[tuple[Any, int]]:
    """(up block, number of its residual block) that reads each skip connection, outermost first."""
    return [(block, index) for block in unet.up_blocks for index in range(len(block.resnets))][::-1]


@contextmanager
def keeping(unet: Any, branches: Sequence[int], found: dict[int, Tensor]) -> Iterator[None]:
    """Inside, a UNet leaves what enters some of its branches in `found`, [b, f, h, w] each.

    Args:
        unet: A UNet that `can_be_cut`, if there are branches.
        branches: Which.
        found: By branch.
    """
    with ExitStack() as stack:
        for branch in branches:
            block, index = _readers(unet)[branch]
            beside = skip_channels(unet)[branch]
            stack.callback(_watch(block.resnets[index], beside, branch, found).remove)
        yield


def _watch(part: nn.Module, beside: int, branch: int, found: dict[int, Tensor]) -> Any:
    """Before a residual block is called, keep what it reads besides its skip connection's channels."""

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        found[branch] = given[0][:, : given[0].shape[1] - beside]

    return part.register_forward_pre_hook(keep)


def outer_blocks(  # noqa: PLR0913
    unet: Any,
    scaled: Tensor,
    timesteps: Tensor,
    context: Tensor,
    options: Mapping[str, Any],
    *,
    feature: Tensor,
    branch: int,
) -> Tensor:
    """The answer [b, c, h, w] of a UNet whose deep blocks are not computed, by its own modules.

    Args:
        unet: A UNet that `can_be_cut`.
        scaled: Scaled input [b, c, h, w].
        timesteps: [b].
        context: Words [b, t, d].
        options: What else diffusers' UNet is told; residuals for deep blocks are not used.
        feature: What entered the branch at an earlier step.
        branch: Which.
    """
    added = options.get("added_cond_kwargs")
    emb = unet.time_embedding(unet.get_time_embed(sample=scaled, timestep=timesteps), None)
    aug = unet.get_aug_embed(emb=emb, encoder_hidden_states=context, added_cond_kwargs=added)
    emb = emb if aug is None else emb + aug
    emb = emb if unet.time_embed_act is None else unet.time_embed_act(emb)
    context = unet.process_encoder_hidden_states(encoder_hidden_states=context, added_cond_kwargs=added)
    skips = _skips(unet, scaled, emb, context, (branch + 1, list(options.get(_INSIDE) or ())))
    # A ControlNet's residual for the deepest skip that is computed here counts too, as in the whole UNet.
    skips = [skip + more for skip, more in zip(skips, options[_DOWN], strict=False)] if _DOWN in options else skips
    odd = any(side % 2**unet.num_upsamplers for side in scaled.shape[-2:])
    x = feature.to(scaled)
    for block, index in _readers(unet)[branch::-1]:
        x = block.resnets[index](torch.cat([x, skips.pop()], dim=1), emb)
        if isinstance(block, CrossAttnUpBlock2D):
            x = block.attentions[index](x, encoder_hidden_states=context, return_dict=False)[0]
        if index == len(block.resnets) - 1:
            for part in block.upsamplers or ():
                x = part(x, skips[-1].shape[2:] if odd else None)
    if unet.conv_norm_out is not None:
        x = unet.conv_act(unet.conv_norm_out(x))
    answer: Tensor = unet.conv_out(x)
    return answer


def _skips(unet: Any, scaled: Tensor, emb: Tensor, context: Tensor, wanted: tuple[int, list[Tensor]]) -> list[Tensor]:
    """The first skip connections; `wanted` is how many, and what T2I-Adapters add to each block."""
    count, inside = wanted
    x = unet.conv_in(scaled)
    skips = [x]
    for block in unet.down_blocks:
        attends = isinstance(block, CrossAttnDownBlock2D)
        more = inside.pop(0) if inside else None
        for index, part in enumerate(block.resnets):
            if len(skips) == count:
                return skips
            x = part(x, emb)
            if attends:
                x = block.attentions[index](x, encoder_hidden_states=context, return_dict=False)[0]
                if more is not None and index == len(block.resnets) - 1:
                    x = x + more
            skips.append(x)
        for part in block.downsamplers or ():
            if len(skips) == count:
                return skips
            x = part(x)
            skips.append(x)
        if more is not None and not attends:
            # diffusers adds it in place, so that the block's last skip connection has it too.
            x = skips[-1] = x + more
    return skips
