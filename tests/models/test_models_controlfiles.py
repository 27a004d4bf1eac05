"""Control networks in one file: told from shapes, loaded bit for bit like their folders, named, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.models.catalog import Catalog
from danqing.models.control_build import build_control
from danqing.models.control_files import describe_control
from danqing.models.precision import choose
from danqing.spec.errors import BadFileError, DanqingError, UnsupportedError
from danqing.spec.model import ModelRef
from danqing.spec.registry.annotators import ANNOTATORS
from danqing.spec.registry.controls import CONTROL_TYPES, control_type_of, union_types
from danqing.web.controls import best
from easel import Easel
from tiny_controlfiles import (
    control_net,
    control_tiny,
    ldm_names,
    lora_names,
    save,
    t2i_adapter,
    tencent_names,
    union_net,
)

CPU = torch.device("cpu")
KINDS = ("sd1", "sd2", "sdxl")
FAMILY = {
    "control_v11p_sd15_canny": "canny",
    "control_v11p_sd15_lineart": "lineart_xdog",
    "control_v11p_sd15s2_lineart_anime": "lineart_anime",
    "control_v11p_sd15_softedge": "softedge_dog",
    "control_v11p_sd15_scribble": "scribble_xdog",
    "control_v11p_sd15_mlsd": "mlsd_lsd",
    "control_v11f1p_sd15_depth": "depth_relief",
    "control_v11p_sd15_normalbae": "normal_bae",
    "control_v11p_sd15_seg": "seg_superpixels",
    "control_v11f1e_sd15_tile": "tile_resample",
    "control_v11p_sd15_openpose": "openpose",
    "control_v11e_sd15_shuffle": "shuffle",
}
OTHERS = {
    "control_v11p_sd15_inpaint": "inpaint",
    "control_v11e_sd15_ip2p": "ip2p",
    "control_v1p_sd15_qrcode_monster_v2": "qr",
    "control_v1p_sd15_brightness": "brightness",
}


def same(one: Any, other: Any) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["ldm.safetensors", "ldm-bare.safetensors", "ldm.pth", "diffusers.safetensors"])
def test_a_file_is_its_folder_bit_for_bit(tmp_path: Path, kind: str, layout: str):
    net = control_net(control_tiny(kind).unet)
    names = net.state_dict() if layout.startswith("diff") else ldm_names(net, "" if "bare" in layout else "control_model.")
    found = describe_control(save(names, tmp_path / layout))
    assert (found.kind, found.family) == ("controlnet", kind)
    built = build_control(found, torch.float32)
    same(built, net)
    for key, value in built.config.items():
        if not key.startswith("_") and key not in ("mid_block_type", "attention_head_dim", "projection_class_embeddings_input_dim"):
            theirs = net.config[key]
            if key == "transformer_layers_per_block" and isinstance(theirs, int):
                theirs = [theirs] * len(net.config["block_out_channels"])
                value = value if isinstance(value, list) else [value] * len(theirs)
            assert _plain(value) == _plain(theirs), key
    assert [block.num_attention_heads for block in _attending(built)] == [b.num_attention_heads for b in _attending(net)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _attending(net: Any) -> list[Any]:
    return [block for block in net.down_blocks if hasattr(block, "attentions")]
