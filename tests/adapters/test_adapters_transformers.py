"""kohya's LoRA of FLUX.1 and SD 3: the names and joined layers of the makers, on diffusers' transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from danqing.adapters.binding import bind
from danqing.adapters.network_file import read_network
from danqing.models.network_keys import UNET
from danqing.spec.errors import UnsupportedError
from easel import Easel
from tiny_transformers import Tensors, flux_names, make_flux, make_sd3, sd3_names

RANK, ALPHA = 2, 1.0


def lora_of(published: Tensors, path: Path) -> Tensors:
    """A file as kohya's trainer writes it, for every linear layer; and the weights with it added."""
    torch.manual_seed(5)
    tensors: Tensors = {}
    changed = dict(published)
    for name, weight in published.items():
        if not name.endswith(".weight") or weight.ndim != 2 or "norm" in name.split(".")[-2]:
            continue
        down, up = torch.randn(RANK, weight.shape[1]), torch.randn(weight.shape[0], RANK) * 0.1
        flat = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        tensors |= {
            f"{flat}.lora_down.weight": down,
            f"{flat}.lora_up.weight": up,
            f"{flat}.alpha": torch.tensor(ALPHA),
        }
        changed[name] = weight + (ALPHA / RANK) * (up @ down)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return changed


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_added_to_the_published_layers_and_hooked_into_diffusers_are_one(family: str, tmp_path: Path):
    made, renamed = (make_flux("dev"), flux_names) if family == "flux" else (make_sd3(), sd3_names)
    network = made.transformer
    changed = lora_of(renamed(network.state_dict()), tmp_path / "style.safetensors")
    bound = bind(read_network(tmp_path / "style.safetensors"), UNET, network)
    state = dict(network.state_dict())
    for path, change in bound.items():
        weight, _ = change.delta()
        assert weight is not None
        state[f"{path}.weight"] = state[f"{path}.weight"] + weight
    again = renamed(state)
    assert again.keys() == changed.keys()
    for name, expected in changed.items():
        assert torch.allclose(again[name], expected, atol=1e-5), name
    touched = sum(not torch.equal(changed[name], one) for name, one in renamed(network.state_dict()).items())
    assert touched > 20


def test_it_paints_as_diffusers_names_do(tmp_path: Path):
    flux = make_flux("dev")
    flux.save_folder(tmp_path / "Stable-diffusion" / "dev")
    home = tmp_path / "Lora"
    home.mkdir()
    lora_of(flux_names(flux.transformer.state_dict()), home / "kohya.safetensors")
    bound = bind(read_network(home / "kohya.safetensors"), UNET, flux.transformer)
    peft: Tensors = {}
    for path, one in bound.items():
        peft[f"transformer.{path}.lora_A.weight"] = one.change.down.clone()
        peft[f"transformer.{path}.lora_B.weight"] = (one.change.up * one.change.scale).contiguous()
    save_file(peft, home / "peft.safetensors")
    studio = Easel(tmp_path)
    ours, theirs, plain = (
        studio.pixels(model="dev", prompt=f"a red cat{tag}", sampling={"steps": 2})
        for tag in ("<lora:kohya:0.5>", "<lora:peft:0.5>", "")
    )
    assert abs(ours - theirs).max() <= 1
    assert abs(ours - plain).mean() > 0.5


def test_a_joined_layer_changed_otherwise_is_refused(tmp_path: Path):
    path = tmp_path / "odd.safetensors"
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    save_file({f"{name}.diff": torch.zeros(6, 2)}, path)
    with pytest.raises(UnsupportedError, match="taken apart"):
        read_network(path)
