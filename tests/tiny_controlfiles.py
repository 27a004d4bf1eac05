"""Small control networks in one file with the published tensor names, and their twins as diffusers folders.

The twin is built first with random weights; its tensors are then renamed by the rules of the published files:
lllyasviel's ControlNets (`control_model.input_blocks.…`), Stability's Control-LoRAs (`….up`, `….down`), TencentARC's
T2I-Adapters (one flat list of blocks).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from tiny_checkpoints import TEXT_WIDTH, Tensors, Tiny, make, unet_names

HINT_WIDTHS = (8, 8, 16, 16)
XL_WIDTHS = (32, 64, 64)


def control_tiny(kind: str) -> Tiny:
    """As `tiny_checkpoints.make`; SDXL with three levels, so that the last map of its T2I-Adapters has its place."""
    tiny = make(kind)
    if kind != "sdxl":
        return tiny
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tiny.unet = UNet2DConditionModel(
            block_out_channels=XL_WIDTHS,
            layers_per_block=1,
            cross_attention_dim=2 * TEXT_WIDTH,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=[1, 1, 1],
            transformer_layers_per_block=[1, 1, 2],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 256,
            sample_size=8,
        )
    return tiny


def awake(net: Any, seed: int) -> Any:
    """The same network with random numbers where training begins with zeros."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        zeros = [net.controlnet_cond_embedding.conv_out, *net.controlnet_down_blocks, net.controlnet_mid_block]
        if isinstance(net, ControlNetUnionModel):
            zeros.append(net.spatial_ch_projs)
        for module in zeros:
            for weight in module.parameters():
                weight.normal_(std=0.3)
    return net


def control_net(unet: UNet2DConditionModel, *, seed: int = 1, zero: bool = False, pool: bool = False) -> Any:
    """A ControlNet of this UNet."""
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_WIDTHS)
    net.register_to_config(global_pool_conditions=pool)
    return net if zero else awake(net, seed)


def union_net(unet: UNet2DConditionModel, *, types: int = 6, seed: int = 1) -> Any:
    """A union ControlNet of this UNet."""
    plain = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_WIDTHS)
    known = {key: value for key, value in plain.config.items() if not key.startswith("_") and key != "mid_block_type"}
    width = unet.config["block_out_channels"][0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ControlNetUnionModel(**known, num_control_type=types, num_trans_channel=width, num_proj_channel=width)
    missing = net.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    return awake(net, seed)


def t2i_adapter(kind: str = "full", *, channels: int = 3, seed: int = 1) -> T2IAdapter:
    """A T2I-Adapter: `full` for the small SD 1, `light` for one of three levels, `xl` for the small SDXL."""
    settings: dict[str, Any] = {
        "full": {"channels": [32, 64]},
        "light": {"channels": [32, 64], "num_res_blocks": 4, "adapter_type": "light_adapter"},
        "xl": {"channels": [*XL_WIDTHS, 64], "adapter_type": "full_adapter_xl", "downscale_factor": 16},
    }[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T2IAdapter(in_channels=channels, **settings)


def build_control_files(root: Path) -> Path:
    """A models folder with small Stable Diffusions and control files of every kind for them.

    For `one`: `line` and `zero` (ControlNets), `lora`, `t2i`; for `deep`, an SD 1 of three levels: `t2i_canny` (light,
    one channel); for `xl`: `xl-line` and the folder `xl-folder` of the same, `xl-union`, `xl-lora`, `xl-t2i`.
    """
    home, controls = root / "Stable-diffusion", root / "ControlNet"
    one, large = control_tiny("sd1"), control_tiny("sdxl")
    one.save_folder(home / "one")
    make("sd1", seed=9).save_folder(home / "two")
    large.save_folder(home / "xl")
    deep = make("sd1", seed=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        deep.unet = UNet2DConditionModel(
            block_out_channels=XL_WIDTHS,
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=8,
            sample_size=8,
        )
    deep.save_folder(home / "deep")
    save(ldm_names(control_net(one.unet)), controls / "line.pth")
    save(ldm_names(control_net(one.unet, zero=True)), controls / "zero.safetensors")
    save(lora_names(control_net(one.unet), one.unet)[0], controls / "lora.safetensors")
    save(tencent_names(t2i_adapter("full")), controls / "t2i.pth")
    save(tencent_names(t2i_adapter("light", channels=1)), controls / "t2i_canny.safetensors")
    net = control_net(large.unet, seed=5)
    save(net.state_dict(), controls / "xl-line.safetensors")
    net.save_pretrained(controls / "xl-folder")
    save(union_net(large.unet).state_dict(), controls / "xl-union.safetensors")
    save(lora_names(control_net(large.unet), large.unet)[0], controls / "xl-lora.safetensors")
    save(t2i_adapter("xl").state_dict(), controls / "xl-t2i.safetensors")
    return root


# --- the published names ----------------------------------------------------------------------------------------------


def ldm_names(net: nn.Module, prefix: str = "control_model.") -> Tensors:
    """A ControlNet's tensors as `control_model.input_blocks.…`, `zero_convs.…`, `input_hint_block.…`."""
    state = net.state_dict()
    half = nn.Module()
    own = ("controlnet_",)
    half.state_dict = lambda: {k: v for k, v in state.items() if not k.startswith(own)}  # type: ignore[method-assign]
    found = unet_names(half)
    for name, one in state.items():
        if name.startswith("controlnet_down_blocks."):
            _, at, part = name.split(".")
            found[f"zero_convs.{at}.0.{part}"] = one
        elif name.startswith("controlnet_mid_block."):
            found[f"middle_block_out.0.{name.rpartition('.')[2]}"] = one
        elif name.startswith("controlnet_cond_embedding."):
            part, kind = name.split(".", 1)[1].rsplit(".", 1)
            at = {"conv_in": 0, "conv_out": 14}.get(part) if "." not in part else 2 * (int(part.split(".")[1]) + 1)
            found[f"input_hint_block.{at}.{kind}"] = one
    return {prefix + name: one for name, one in found.items()}


def lora_names(net: nn.Module, base: UNet2DConditionModel, *, rank: int = 4, seed: int = 3) -> tuple[Tensors, Tensors]:
    """A Control-LoRA as Stability publishes it, and the weights (diffusers' names) of the ControlNet it stands for."""
    state = net.state_dict()
    names = dict(zip(ldm_names(net, "").keys(), _same_order(net), strict=True))
    found: Tensors = {"lora_controlnet": torch.zeros(())}
    meant: Tensors = {}
    generator = torch.Generator().manual_seed(seed)
    for published, name in names.items():
        weight, unet = state[name], base.state_dict().get(name)
        if unet is None or weight.ndim < 2:
            found[published] = meant[name] = weight
            continue
        up = torch.randn((weight.shape[0], rank), generator=generator) * 0.1
        down = torch.randn((rank, weight[0].numel()), generator=generator) * 0.1
        stem = published.removesuffix(".weight")
        convolution = weight.ndim == 4
        found[f"{stem}.up"] = up[:, :, None, None] if convolution else up
        found[f"{stem}.down"] = down.reshape(rank, *weight.shape[1:])
        meant[name] = unet + (up @ down).reshape(weight.shape)
    return found, meant


def _same_order(net: nn.Module) -> list[str]:
    """diffusers' names in the order of `ldm_names`."""
    own = [name for name in net.state_dict() if name.startswith("controlnet_")]
    return [name for name in net.state_dict() if name not in own] + own


def tencent_names(adapter: T2IAdapter) -> Tensors:
    """A T2I-Adapter's tensors as TencentARC publishes them."""
    light = adapter.config["adapter_type"] == "light_adapter"
    found: Tensors = {}
    for name, one in adapter.state_dict().items():
        new = name.removeprefix("adapter.")
        if light:
            new = new.replace(".resnets.", ".body.")
        else:
            new = re.sub(r"body\.(\d+)\.resnets\.(\d+)", lambda m: f"body.{2 * int(m[1]) + int(m[2])}", new)
            new = re.sub(r"body\.(\d+)\.in_conv", lambda m: f"body.{2 * int(m[1])}.in_conv", new)
        found[new] = one
    return found


def save(tensors: Tensors, path: Path) -> Path:
    """A `.safetensors` or a pickle of tensors, by the name."""
    kept: dict[str, Tensor] = {name: one.detach().clone().contiguous() for name, one in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(kept, path)
    else:
        torch.save(kept, path)
    return path
