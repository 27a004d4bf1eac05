"""The shelf of LoRA, hypernetworks and embeddings: found by name, trainer's name and hash, told from headers alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_models
import tiny_networks as tiny
from danqing.cli.main import run
from danqing.models.catalog import Catalog
from danqing.models.diffusers_folders import BUILTIN_DIR
from danqing.models.network_keys import EmbeddingKey, NetworkKey, read_key
from danqing.spec.errors import BadFileError, NotFoundError, UnsupportedError
from testdata import TESTDATA

REAL = TESTDATA


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    models = home / "models"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet: Any = tiny_models._unet(4)
        text: Any = tiny_models._text(300)
    frequency = json.dumps({"10_cat": {"ink wash": 30, "cat": 50}, "5_dog": {"cat": 5, "dog": 2}})
    tensors = tiny.lora_tensors(unet, "lora_unet") | tiny.lora_tensors(text, "lora_te", tiny.layers(text, *tiny.TEXT))
    tiny.save(
        models / "Lora" / "ink.safetensors", tensors, {"ss_output_name": "InkWash_v2", "ss_tag_frequency": frequency}
    )
    tiny.save(models / "Lora" / "sub" / "oil.safetensors", tiny.peft_tensors(unet, "unet", seed=3))
    tiny.save(models / "LyCORIS" / "turn.safetensors", tiny.lycoris_tensors("oft", "lora_unet_conv_in", unet.conv_in))
    tiny.save(models / "Lora" / "not-one.safetensors", {"clip_l": torch.zeros(2, 768)})
    (models / "Lora" / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    tiny.save_hypernetwork(models / "hypernetworks" / "paper.pt", [32, 64])
    tiny.save_embedding(models / "embeddings" / "birb.pt", 3, 32)
    tiny.save_embedding(home / "embeddings" / "beside.pt", 1, 32)
    return models


@pytest.fixture
def catalog(root: Path) -> Catalog:
    return Catalog(root)


def test_what_headers_tell(catalog: Catalog):
    info = catalog.find_network("ink", "lora")
    assert (info.kind, info.alias, info.rank, info.parts) == ("lora", "InkWash_v2", 2, ("unet", "te"))
    assert (info.context_width, info.text_widths) == (32, {"te": 32})
    assert info.trigger_words[:2] == ("cat", "ink wash")
    assert catalog.find_network("turn", "lora").algorithms == ("oft",)
    assert catalog.find_network("paper", "hypernet").widths == (32, 64)
    own = [info for info in catalog.embeddings() if BUILTIN_DIR not in Path(info.path).parents]
    words = {info.name: info.embeddings[0] for info in own}
    assert {name: (word.vectors, word.widths) for name, word in words.items()} == {
        "birb": (3, {"": 32}),
        "beside": (1, {"": 32}),
    }


def test_names_aliases_and_hashes(catalog: Catalog, root: Path):
    path = root / "Lora" / "ink.safetensors"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    data = path.read_bytes()
    weights = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    ink = catalog.find_network("ink", "lora")
    assert catalog.network_hash(ink) == weights[:12]
    for name in (
        "INK",
        "ink.safetensors",
        "inkwash_v2",
        sha256[:10],
        weights[:12],
        weights[:10],
        f"ink [{sha256[:10]}]",
    ):
        assert catalog.find_network(name, "lora").sha256 == sha256, name
    assert catalog.find_network("sub/oil", "lora") == catalog.find_network("oil", "lora")


def test_what_is_not_there_or_no_network(catalog: Catalog):
    with pytest.raises(NotFoundError, match="no such LoRA") as caught:
        catalog.find_network("inc", "lora")
    assert "did you mean ink?" in str(caught.value)
    with pytest.raises(UnsupportedError, match="something else: embedding") as wrong:
        catalog.find_network("not-one", "lora")
    assert wrong.value.field == "prompt"
    with pytest.raises(BadFileError):
        catalog.find_network("cut", "lora")
    with pytest.raises(NotFoundError, match="no such hypernetwork"):
        catalog.find_network("ink", "hypernet")
    with pytest.raises(NotFoundError):
        Catalog(None).find_network("ink", "lora")
    assert all(BUILTIN_DIR in Path(info.path).parents for info in Catalog(None).embeddings())


def test_a_plan_finds_its_file_under_another_name(catalog: Catalog, root: Path):
    info = catalog.find_network("ink", "lora")
    path = root / "Lora" / "ink.safetensors"
    moved = path.rename(root / "Lora" / "renamed.safetensors")
    try:
        from danqing.spec.model import ModelRef

        ref = ModelRef(name=info.name, sha256=info.sha256, family=info.kind)
        assert Catalog(root).networks.of(ref).name == "renamed"
        with pytest.raises(NotFoundError, match="is not installed"):
            catalog.networks.of(ref.model_copy(update={"sha256": "0" * 64}))
    finally:
        moved.rename(path)


KEYS = {
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": NetworkKey(
        "unet", "down_blocks_0_attentions_0_proj_in", "up"
    ),
    "lora_te2_text_model_encoder_layers_3_mlp_fc1.alpha": NetworkKey(
        "te2", "text_model_encoder_layers_3_mlp_fc1", "alpha"
    ),
    "lora_unet_input_blocks_4_1_proj_out.hada_w1_a": NetworkKey("unet", "input_blocks_4_1_proj_out", "hada_w1_a"),
    "lycoris_mid_block_resnets_0_norm1.w_norm": NetworkKey("unet", "mid_block_resnets_0_norm1", "w_norm"),
    "unet.up_blocks.1.attentions.0.to_out.0.lora_B.default.weight": NetworkKey(
        "unet", "up_blocks_1_attentions_0_to_out_0", "up"
    ),
    "text_encoder_2.text_model.encoder.layers.0.mlp.fc2.lora_linear_layer.down.weight": NetworkKey(
        "te2", "text_model_encoder_layers_0_mlp_fc2", "down"
    ),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight": NetworkKey(
        "unet", "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0", "up"
    ),
    "text_encoder:7:down": NetworkKey("te", "7", "down"),
    "bundle_emb.ink.clip_g": EmbeddingKey("ink", "clip_g"),
    "<s1>": EmbeddingKey("<s1>", ""),
    "model.diffusion_model.out.2.weight": None,
    "alpha": None,
}


@pytest.mark.parametrize("key", KEYS)
def test_keys(key: str):
    assert read_key(key, (768,)) == KEYS[key]


@pytest.mark.skipif(not REAL.exists(), reason=f"NOT TESTED HERE: {REAL} is not there")
def test_real_files(tmp_path: Path):
    for folder, name in (
        ("Lora", "lora/cloneofsimo_lora_disney.safetensors"),
        ("embeddings", "embeddings/fastai_learned_embeds.bin"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / Path(name).name).symlink_to(REAL / name)
    catalog = Catalog(tmp_path)
    disney = catalog.find_network("cloneofsimo_lora_disney", "lora")
    assert (disney.family, disney.rank, disney.text_widths) == ("sd1", 1, {"te": 768})
    assert [word.name for word in disney.embeddings] == ["<s1>", "<s2>"]
    (birb,) = [info for info in catalog.embeddings() if info.name == "fastai_learned_embeds"]
    assert birb.embeddings[0].model_dump() == {"name": "<birb-style>", "vectors": 1, "widths": {"": 768}}


def test_the_command_line_lists_networks_with_what_calls_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["models", "--models", str(root), "--data", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "write <lora:ink:1>; trigger words cat, ink wash" in listed
    assert "write <hypernet:paper:1>" in listed
    assert "write birb" in listed
