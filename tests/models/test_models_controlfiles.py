"""Control networks in one file: told from shapes, loaded bit for bit like their folders, named, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from danqing.models.catalog import BUILTIN_DIR, Catalog
from danqing.models.control_build import build_control
from danqing.models.control_files import describe_control
from danqing.models.controls import ControlShelf
from danqing.models.hashes import HashCache
from danqing.models.precision import choose
from danqing.models.prepare import prepare_denoiser
from danqing.spec.control import INPAINT_ANNOTATOR
from danqing.spec.errors import BadFileError, DanqingError, UnsupportedError
from danqing.spec.registry.annotators import ANNOTATORS
from danqing.spec.registry.controls import CONTROL_TYPES, control_type_of, union_types
from danqing.web.controls import best
from tiny_checkpoints import TEXT_WIDTH
from tiny_controlfiles import (
    HINT_WIDTHS,
    XL_WIDTHS,
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
    names = (
        net.state_dict() if layout.startswith("diff") else ldm_names(net, "" if "bare" in layout else "control_model.")
    )
    found = describe_control(save(names, tmp_path / layout))
    assert (found.kind, found.family) == ("controlnet", kind)
    built = build_control(found, torch.float32)
    same(built, net)
    answers = [one(**question(kind)) for one in (built, net)]
    for ours, theirs in zip((*answers[0][0], answers[0][1]), (*answers[1][0], answers[1][1]), strict=True):
        assert torch.equal(ours, theirs)


def question(kind: str, rows: int = 2) -> dict[str, Any]:
    """What a ControlNet of the small models is asked."""
    generator = torch.Generator().manual_seed(4)
    width = {"sdxl": 2}.get(kind, 1) * TEXT_WIDTH
    added = {"text_embeds": torch.randn((rows, TEXT_WIDTH), generator=generator), "time_ids": torch.ones(rows, 6)}
    return {
        "sample": torch.randn((rows, 4, 8, 8), generator=generator),
        "timestep": torch.tensor([500.0, 20.0][:rows]),
        "encoder_hidden_states": torch.randn((rows, 77, width), generator=generator),
        "controlnet_cond": torch.rand((rows, 3, 64, 64), generator=generator),
        "added_cond_kwargs": added if kind == "sdxl" else None,
        "return_dict": False,
    }


def test_float16_files_and_training_records(tmp_path: Path):
    net = control_net(control_tiny("sd1").unet)
    half = {name: one.half() for name, one in ldm_names(net).items()}
    built = build_control(describe_control(save(half, tmp_path / "half.safetensors")), torch.float32)
    for name, one in net.state_dict().items():
        assert torch.equal(built.state_dict()[name], one.half().float())
    torch.save({"state_dict": ldm_names(net), "epoch": 3}, tmp_path / "record.ckpt")
    same(build_control(describe_control(tmp_path / "record.ckpt"), torch.float32), net)


def test_small_ones_without_attention(tmp_path: Path):
    """diffusers' small ControlNets for SDXL read neither words nor sizes."""
    net = ControlNetModel(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=HINT_WIDTHS,
    )
    found = describe_control(save(net.state_dict(), tmp_path / "control-small-canny.safetensors"))
    assert found.family == "sdxl"
    same(build_control(found, torch.float32), net)
    (info,) = shelf_of(tmp_path)
    assert info.context_width is None
    assert info.control_type == "canny"


def shelf_of(folder: Path) -> list[Any]:
    """The ControlNets of a folder, as of a models folder."""
    shelf = ControlShelf([folder], HashCache(None), BUILTIN_DIR)
    found = [one for _, one in shelf.scan()]
    assert not [str(one) for one in found if isinstance(one, DanqingError)]
    return found


@pytest.mark.parametrize("types", [6, 8])
def test_union_files_and_folders(tmp_path: Path, types: int):
    net = union_net(control_tiny("sdxl").unet, types=types)
    net.save_pretrained(tmp_path / "folder")
    found = describe_control(save(net.state_dict(), tmp_path / "union.safetensors"))
    assert (found.kind, found.config["num_control_type"]) == ("union", types)
    same(build_control(found, torch.float32), net)
    file, folder = sorted(shelf_of(tmp_path), key=lambda info: info.name, reverse=True)
    assert file.kind == folder.kind == "union"
    assert file.control_types == folder.control_types == tuple(one.key for one in union_types(types))
    assert ("tile" in file.control_types) == (types == 8)
    assert {"canny", "depth_midas", "openpose"} <= set(file.annotators)


@pytest.mark.parametrize(("kind", "channels"), [("full", 3), ("full", 1), ("light", 3), ("xl", 3), ("xl", 1)])
@pytest.mark.parametrize("layout", ["tencentarc.pth", "diffusers.safetensors"])
def test_t2i_adapters(tmp_path: Path, kind: str, channels: int, layout: str):
    adapter = t2i_adapter(kind, channels=channels)
    names = tencent_names(adapter) if layout.startswith("tencent") else adapter.state_dict()
    adapter.save_pretrained(tmp_path / "folder")
    found = describe_control(save(names, tmp_path / layout))
    built = build_control(found, torch.float32)
    same(built, adapter)
    hint = torch.rand(1, channels, 64, 64)
    for ours, theirs in zip(built(hint), adapter(hint), strict=True):
        assert torch.equal(ours, theirs)
    infos = shelf_of(tmp_path)
    assert {info.kind for info in infos} == {"t2i_adapter"}
    assert {info.family for info in infos} == {"sdxl" if kind == "xl" else "sd1"}
    assert {info.block_widths for info in infos} == {(32, 64) if kind == "full" else XL_WIDTHS}


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("in_channels", [4, 9])
def test_a_control_lora_is_the_unets_encoder_changed(tmp_path: Path, kind: str, in_channels: int):
    tiny = control_tiny(kind)
    net = control_net(tiny.unet)
    published, meant = lora_names(net, tiny.unet)
    found = describe_control(save(published, tmp_path / "control-lora-canny-rank4.safetensors"))
    assert (found.kind, found.family) == ("control_lora", kind)
    unet = tiny.unet
    if in_channels == 9:
        unet = UNet2DConditionModel(
            **{key: one for key, one in tiny.unet.config.items() if key[0] != "_"} | {"in_channels": 9}
        )
        more = torch.ones(len(tiny.unet.conv_in.weight), 5, 3, 3)
        unet.load_state_dict(
            {**tiny.unet.state_dict(), "conv_in.weight": torch.cat([tiny.unet.conv_in.weight, more], dim=1)}
        )
    built = build_control(found, torch.float32, unet)
    state = built.state_dict()
    assert state.keys() == meant.keys()
    for name, one in meant.items():
        assert torch.allclose(state[name], one, atol=1e-6), name
    assert built.conv_in.in_channels == 4
    (info,) = shelf_of(tmp_path)
    assert (info.kind, info.control_type, info.block_widths) == (
        "control_lora",
        "canny",
        tuple(net.config.block_out_channels),
    )


def test_a_control_lora_of_packed_convolutions(tmp_path: Path):
    """On a CPU in bfloat16 the base's weights lie in oneDNN's own layout once it has painted."""
    tiny = control_tiny("sd1")
    published, meant = lora_names(control_net(tiny.unet), tiny.unet)
    found = describe_control(save(published, tmp_path / "control-lora.safetensors"))
    unet = prepare_denoiser(tiny.unet.to(torch.bfloat16), choose(CPU, "bfloat16"), CPU)
    with torch.inference_mode():
        unet(torch.ones(1, 4, 8, 8).bfloat16(), 5, torch.ones(1, 77, TEXT_WIDTH).bfloat16())
    state = build_control(found, torch.float32, unet).state_dict()
    for name, one in meant.items():
        assert torch.allclose(state[name], one, atol=0.02), name


def test_the_whole_family_knows_its_annotators(tmp_path: Path):
    names = ldm_names(control_net(control_tiny("sd1").unet))
    for name in (*FAMILY, *OTHERS):
        save(names, tmp_path / "ControlNet" / f"{name}.pth")
    nets = Catalog(tmp_path).controlnets()
    mine = [info for info in nets if not info.builtin]
    assert len(mine) == len(FAMILY) + len(OTHERS)
    for name, annotator in FAMILY.items():
        assert best(mine, annotator) == f"{name}.pth", annotator
    for name, kind in OTHERS.items():
        assert next(info.control_type for info in mine if info.name.startswith(name)) == kind
    assert [info.name for info in mine if info.global_pool] == ["control_v11e_sd15_shuffle.pth"]


def test_the_table_names_annotators_that_exist():
    known = {info.key for info in ANNOTATORS} | {INPAINT_ANNOTATOR}
    for one in CONTROL_TYPES:
        assert set(one.annotators) <= known, one.key
        assert control_type_of(one.words[0]) == one


def test_a_yaml_beside_it_decides_on_pooling(tmp_path: Path):
    names = ldm_names(control_net(control_tiny("sd1").unet))
    for name, says in (("mine", "True"), ("shuffle", "False")):
        path = save(names, tmp_path / f"{name}.safetensors")
        path.with_suffix(".yaml").write_text(f"model:\n  params:\n    global_average_pooling: {says}\n")
        assert describe_control(path).config["global_pool_conditions"] is (says == "True")


def odd_files() -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    net = control_net(control_tiny("sd1").unet)
    names = ldm_names(net)
    return {
        "difference": ({**names, "difference": torch.ones(())}, "difference from Stable Diffusion 1.5"),
        "style": (
            {"style_embedding": torch.ones(1, 8, 16), "ln_post.weight": torch.ones(16), "proj": torch.ones(16, 768)},
            "style adapter",
        ),
        "flux": ({"controlnet_blocks.0.weight": torch.ones(8, 8), "x_embedder.weight": torch.ones(8, 8)}, "for flux"),
        "flux-union": (
            {"controlnet_blocks.0.weight": torch.ones(8, 8), "controlnet_mode_embedder.weight": torch.ones(7, 8)},
            "for flux",
        ),
        "sd3": (
            {"controlnet_blocks.0.weight": torch.ones(8, 8), "pos_embed.proj.weight": torch.ones(8, 16, 2, 2)},
            "for sd3",
        ),
        "lora": (
            {
                "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.ones(
                    4, 768
                ),
                "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.ones(
                    320, 4
                ),
            },
            "is lora and no control network",
        ),
        "four": ({**names, "control_model.input_hint_block.0.weight": torch.ones(8, 4, 3, 3)}, "maps of another kind"),
    }


@pytest.mark.parametrize("name", ["difference", "style", "flux", "flux-union", "sd3", "lora", "four"])
def test_others_are_refused_with_the_reason(tmp_path: Path, name: str):
    tensors, said = odd_files()[name]
    save(tensors, tmp_path / "ControlNet" / f"{name}.safetensors")
    with pytest.raises(UnsupportedError, match=said) as caught:
        Catalog(tmp_path).find_controlnet(name)
    assert caught.value.field == "controls.model"


def test_incomplete_and_damaged_files(tmp_path: Path):
    names = ldm_names(control_net(control_tiny("sd1").unet))
    some = {key: one for key, one in names.items() if "input_blocks.1.0.in_layers.2" not in key}
    with pytest.raises(BadFileError, match="incomplete"):
        describe_control(save(some, tmp_path / "some.safetensors"))
    no_mid = {key: one for key, one in names.items() if "middle_block_out" not in key}
    found = describe_control(save(no_mid, tmp_path / "no-mid.safetensors"))
    with pytest.raises(BadFileError, match="does not hold the network"):
        build_control(found, torch.float32)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "some.safetensors").read_bytes()[:2000])
    with pytest.raises(BadFileError):
        describe_control(tmp_path / "cut.safetensors")


def test_a_pickle_with_code_is_not_run(tmp_path: Path):
    torch.save({"input_hint_block.0.weight": torch.ones(1), "run": Path.cwd}, tmp_path / "bad.pth")
    with pytest.raises(DanqingError):
        describe_control(tmp_path / "bad.pth")
