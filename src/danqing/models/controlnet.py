"""A loaded ControlNet (Zhang et al., *Adding Conditional Control to Text-to-Image Models*, arXiv 2302.05543).

Union ControlNets (xinsir's ControlNet++ for SDXL) are of this kind with one more input: what the map shows. A
Control-LoRA becomes an ordinary ControlNet when it is loaded, from the UNet beside which it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, UNet2DConditionModel
from diffusers.models.controlnets.controlnet_union import ResidualAttentionBlock
from torch import Tensor

from danqing.models.control_build import build_control
from danqing.models.control_files import describe_control
from danqing.models.families.parts import owned
from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.models.prepare import prepare_denoiser
from danqing.spec.model import ControlNetInfo

Residuals = tuple[Tensor, ...]
"""What is added to a UNet's skip connections, first to last, and to its middle [b, c, h, w]."""


@dataclass(frozen=True, eq=False)
class NetInput:
    """What a UNet reads in one batch of b rows; a ControlNet reads the same.

    Attributes:
        sample: The UNet's scaled input [b, c, h, w].
        timesteps: [b].
        context: Text states [b, tokens, width].
        added: Pooled texts and sizes, as diffusers names them, each [b, …]; for SDXL.
    """

    sample: Tensor
    timesteps: Tensor
    context: Tensor
    added: Mapping[str, Tensor] | None = None

    def rows(self, chosen: Tensor) -> NetInput:
        """Some of the rows.

        Args:
            chosen: Their indices [n], on the device of the sample.
        """
        added = None if self.added is None else {key: one[chosen] for key, one in self.added.items()}
        return NetInput(self.sample[chosen], self.timesteps[chosen], self.context[chosen], added)


@dataclass
class LoadedControlNet:
    """A ControlNet on its device.

    Attributes:
        info: What the catalogue knows of it.
        precision: Its number formats.
        net: The network.
    """

    info: ControlNetInfo
    precision: Precision
    net: ControlNetModel | ControlNetUnionModel

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.net.parameters()) + packed_bytes(self.net)

    @torch.inference_mode()
    def residuals(self, given: NetInput, hint: Tensor, union_id: int | None = None) -> Residuals:
        """The residuals of one batch, not weighted.

        Args:
            given: What the UNet reads; of its channels only the latent's, where the network takes no more.
            hint: The control map in [0, 1] (−1 where a hole is), [b, 3, H, W].
            union_id: What the map shows; a union ControlNet must know.
        """
        own = given.sample[:, : self.info.in_channels]
        hint = hint.to(own)
        if self.precision.channels_last:
            hint = hint.contiguous(memory_format=torch.channels_last)
        options: dict[str, Any] = {"return_dict": False}
        if self.net.config["addition_embed_type"] == "text_time":
            options["added_cond_kwargs"] = given.added
        maps: Tensor | list[Tensor] = hint
        if isinstance(self.net, ControlNetUnionModel):
            # It was shown holes in black.
            maps = [hint.clamp_min(0.0)]
            options |= self._type(hint, union_id)
        down, mid = self.net(own, given.timesteps, given.context, maps, **options)
        return (*down, mid)

    def _type(self, hint: Tensor, union_id: int | None) -> dict[str, Any]:
        count = int(self.net.config["num_control_type"])
        if union_id is None or not 0 <= union_id < count:
            raise RuntimeError(f"a union ControlNet of {count} types was called with type {union_id}")
        marks = torch.zeros((len(hint), count), device=hint.device, dtype=hint.dtype)
        marks[:, union_id] = 1.0
        return {"control_type": marks, "control_type_idx": [union_id]}


def load_controlnet(
    info: ControlNetInfo,
    precision: Precision,
    device: torch.device,
    base: UNet2DConditionModel | None = None,
    *,
    fast_cpu: bool = True,
) -> LoadedControlNet:
    """Load a ControlNet, union ControlNet or Control-LoRA.

    Args:
        info: From the catalogue; `path` is a file or a diffusers folder.
        precision: Number formats; the file's own does not matter.
        device: Where it shall compute.
        base: The UNet that a Control-LoRA changes.
        fast_cpu: As for `prepare_denoiser`.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
    """
    path = Path(info.path)
    net: Any
    if path.is_file():
        net = build_control(describe_control(path), precision.denoiser, base)
    else:
        kind = ControlNetUnionModel if info.kind == "union" else ControlNetModel
        net = owned(kind.from_pretrained(path, torch_dtype=precision.denoiser, local_files_only=True))
    if isinstance(net, ControlNetUnionModel):
        for block in net.transformer_layes:
            # diffusers attends along the wrong side here: over the rows of a batch, where each row has its own maps.
            cast("ResidualAttentionBlock", block).attn.batch_first = True
    return LoadedControlNet(info, precision, prepare_denoiser(net, precision, device, fast_cpu=fast_cpu))
