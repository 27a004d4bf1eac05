"""LoRA of every layout: one change whatever its names, hooked as merged, ejected without a trace, refused in words."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

import tiny_models
import tiny_networks as tiny
from danqing.adapters.binding import bind, block_factors, names_of
from danqing.adapters.change import BoundChange
from danqing.adapters.hooks import Acting, hooked, row_subset
from danqing.adapters.layers import Layer
from danqing.adapters.lora import LowRank, WithMagnitude
from danqing.adapters.merging import Merged
from danqing.adapters.module_names import unet_names
from danqing.adapters.network_file import read_network
from danqing.models.network_keys import TEXT, UNET
from danqing.models.packing import PackedConv2d, pack
from danqing.spec.errors import BadFileError, UnsupportedError
from testdata import TESTDATA

LORAS = TESTDATA / "lora"
TOLERANCE = 2e-5
"""Of hooked against merged, in float32, relative to the largest number."""


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return tiny_models._unet(4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def text() -> CLIPTextModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return tiny_models._text(300).eval().requires_grad_(False)


def inputs(rows: int = 2) -> dict[str, Any]:
    return {
        "sample": tiny.noise(1, rows, 4, 8, 8, size=1.0),
        "timestep": torch.tensor([500.0, 20.0, 300.0][:rows]),
        "encoder_hidden_states": tiny.noise(2, rows, 77, 32, size=1.0),
    }


@torch.inference_mode()
def answer(unet: nn.Module, *acting: Acting, rows: int = 2) -> Tensor:
    with hooked(unet, acting):
        return unet(**inputs(rows)).sample


def everywhere(bound: dict[str, BoundChange], weight: float = 1.0, rows: int = 2, **more: Any) -> Acting:
    return Acting(bound, torch.full((rows,), weight), **more)


def close(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    return float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


def with_deltas(unet: nn.Module, deltas: dict[str, Tensor], weight: float = 1.0) -> nn.Module:
    """A copy whose weights are changed by hand."""
    changed = copy.deepcopy(unet)
    for path, delta in deltas.items():
        changed.get_submodule(path).weight.add_(delta * weight)
    return changed


def by_hand(chosen: list[tuple[str, nn.Module]], scale: float, seed: int = 0) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for index, (path, module) in enumerate(chosen):
        down, up = tiny.low_rank(module, seed * 1000 + 2 * index)
        found[path] = scale * (up.flatten(1) @ down.flatten(1)).reshape(module.weight.shape)
    return found


def test_kohya_and_peft_are_the_same_change(unet: UNet2DConditionModel, tmp_path: Path):
    chosen = tiny.layers(unet, convs=True)
    kohya = tiny.save(tmp_path / "kohya.safetensors", tiny.lora_tensors(unet, "lora_unet", chosen))
    peft = tiny.peft_tensors(unet, "unet", chosen)
    plain = tiny.save(tmp_path / "plain.safetensors", peft)
    told = tiny.save(tmp_path / "told.safetensors", peft, tiny.peft_metadata(2, 1.0))
    stable = tiny.save(tmp_path / "stable.safetensors", peft, tiny.peft_metadata(2, 1.0, rslora=True))
    raw = tiny.save(tmp_path / "raw.safetensors", {f"base_model.model.{k[5:]}": v for k, v in peft.items()})
    for path, scale in ((kohya, 0.5), (plain, 1.0), (told, 0.5), (stable, 2**-0.5), (raw, 1.0)):
        bound = bind(read_network(path), UNET, unet)
        assert len(bound) == len(chosen)
        wanted = answer(with_deltas(unet, by_hand(chosen, scale), 0.7))
        assert close(answer(unet, everywhere(bound, 0.7)), wanted), path.stem


@pytest.mark.filterwarnings("ignore")
def test_as_in_diffusers(unet: UNet2DConditionModel, tmp_path: Path):
    """kohya's file through diffusers' own loader and PEFT's layers."""
    from diffusers import StableDiffusionPipeline

    path = tiny.save(tmp_path / "kohya.safetensors", tiny.lora_tensors(unet, "lora_unet"))
    state, alphas = StableDiffusionPipeline.lora_state_dict(path, unet_config=unet.config)
    theirs = copy.deepcopy(unet)
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, theirs)
    with torch.inference_mode():
        wanted = theirs(**inputs()).sample
    assert close(answer(unet, everywhere(bind(read_network(path), UNET, unet))), wanted)
    assert not close(answer(unet), wanted, 0.01)


def test_old_diffusers_names(unet: UNet2DConditionModel, tmp_path: Path):
    chosen = tiny.layers(unet, "attn1.to_q", "attn1.to_out.0")
    tensors: dict[str, Tensor] = {}
    for index, (path, module) in enumerate(chosen):
        down, up = tiny.low_rank(module, 2 * index)
        block, _, name = path.partition(".attn1.")
        stem = f"unet.{block}.attn1.processor.{name.removesuffix('.0')}_lora"
        tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    bound = bind(read_network(tiny.save(tmp_path / "old.safetensors", tensors)), UNET, unet)
    assert close(answer(unet, everywhere(bound)), answer(with_deltas(unet, by_hand(chosen, 1.0))))


SD1_PAIRS = {
    "input_blocks_0_0": "conv_in",
    "input_blocks_1_1_transformer_blocks_0_attn1_to_q": "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
    "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
    "input_blocks_11_0_out_layers_3": "down_blocks.3.resnets.1.conv2",
    "middle_block_0_in_layers_2": "mid_block.resnets.0.conv1",
    "middle_block_1_proj_out": "mid_block.attentions.0.proj_out",
    "middle_block_2_emb_layers_1": "mid_block.resnets.1.time_emb_proj",
    "output_blocks_2_1_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_3_1_proj_in": "up_blocks.1.attentions.0.proj_in",
    "output_blocks_5_2_conv": "up_blocks.1.upsamplers.0.conv",
    "output_blocks_11_1_transformer_blocks_0_norm2": "up_blocks.3.attentions.2.transformer_blocks.0.norm2",
    "time_embed_2": "time_embedding.linear_2",
    "out_2": "conv_out",
}
SDXL_PAIRS = {
    "input_blocks_4_1_transformer_blocks_1_attn2_to_k": "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
    "input_blocks_8_1_transformer_blocks_9_ff_net_2": "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.2",
    "input_blocks_6_0_op": "down_blocks.1.downsamplers.0.conv",
    "middle_block_1_transformer_blocks_9_attn1_to_v": "mid_block.attentions.0.transformer_blocks.9.attn1.to_v",
    "output_blocks_0_1_transformer_blocks_0_attn1_to_q": "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_8_0_in_layers_0": "up_blocks.2.resnets.2.norm1",
    "label_emb_0_2": "add_embedding.linear_2",
}


def sd15() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768)


def sdxl() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
            use_linear_projection=True,
        )


def test_ldm_names_of_published_layouts():
    for net, pairs, blocks, attended in ((sd15(), SD1_PAIRS, 25, 16), (sdxl(), SDXL_PAIRS, 19, 11)):
        names = names_of(net)
        for ldm, path in pairs.items():
            assert names.paths[ldm] == path
            assert names.paths[path.replace(".", "_")] == path
        leaves = [
            p for p, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm))
        ]
        counts = {path: sum(target == path for target in names.paths.values()) for path in leaves}
        assert all(count == 2 for count in counts.values()), [path for path, count in counts.items() if count != 2][:5]
        assert len(names.block_names(attended=False)) == blocks
        assert len(names.block_names(attended=True)) == attended
    assert names_of(sd15()).block_names(attended=True)[:7] == ["IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00"]


def test_ldm_names_bind_like_diffusers_names(unet: UNet2DConditionModel, tmp_path: Path):
    chosen = tiny.layers(unet, *tiny.ATTENTION)
    tensors = tiny.lora_tensors(unet, "lora_unet", chosen)
    names = unet_names(path for path, _ in unet.named_modules() if path)
    back = {path: flat for flat, path in names.paths.items() if flat.startswith(("input", "middle", "output"))}
    renamed = {
        key.replace(path.replace(".", "_") + ".", back[path] + "."): tensor
        for key, tensor in tensors.items()
        for path, _ in chosen
        if path.replace(".", "_") + "." in key
    }
    assert len(renamed) == len(tensors)
    assert any("input_blocks_1_1_" in key for key in renamed)
    one = bind(read_network(tiny.save(tmp_path / "d.safetensors", tensors)), UNET, unet)
    two = bind(read_network(tiny.save(tmp_path / "l.safetensors", renamed)), UNET, unet)
    assert set(one) == set(two)
    assert torch.equal(answer(unet, everywhere(one)), answer(unet, everywhere(two)))


def test_text_encoders_with_and_without_their_first_name(text: CLIPTextModel, tmp_path: Path):
    chosen = tiny.layers(text, *tiny.TEXT)
    kohya = tiny.save(tmp_path / "k.safetensors", tiny.lora_tensors(text, "lora_te", chosen))
    first = tiny.save(tmp_path / "1.safetensors", tiny.lora_tensors(text, "lora_te1", chosen))
    peft = {
        f"text_encoder.text_model.{key.removeprefix('text_encoder.')}": tensor
        for key, tensor in tiny.peft_tensors(text, "text_encoder", chosen).items()
    }
    peft = tiny.save(tmp_path / "p.safetensors", peft, tiny.peft_metadata(2, 1.0, part="text_encoder"))
    deltas = by_hand(chosen, 0.5)
    for path in (kohya, first, peft):
        bound = bind(read_network(path), TEXT, text)
        assert set(bound) == {name for name, _ in chosen}
        for name, change in bound.items():
            delta, bias = change.delta()
            assert bias is None
            assert torch.allclose(delta, deltas[name], atol=1e-6)


def test_convolutions_tucker_and_one_by_one(unet: UNet2DConditionModel, tmp_path: Path):
    conv = dict(unet.named_modules())["down_blocks.0.resnets.0.conv1"]
    proj = dict(unet.named_modules())["down_blocks.0.attentions.0.proj_in"]
    down, mid, up = tiny.noise(1, 3, 32, 1, 1), tiny.noise(2, 3, 3, 3, 3), tiny.noise(3, 32, 3, 1, 1)
    flat_down, flat_up = tiny.noise(4, 2, 32), tiny.noise(5, 32, 2)
    assert conv.weight.shape == (32, 32, 3, 3)
    name, other = "lora_unet_input_blocks_1_0_in_layers_2", "lora_unet_down_blocks_0_attentions_0_proj_in"
    tensors = {
        f"{name}.lora_down.weight": down, f"{name}.lora_mid.weight": mid, f"{name}.lora_up.weight": up,
        f"{name}.alpha": torch.tensor(6.0),
        f"{other}.lora_down.weight": flat_down, f"{other}.lora_up.weight": flat_up,
    }  # fmt: skip
    bound = bind(read_network(tiny.save(tmp_path / "locon.safetensors", tensors)), UNET, unet)
    wanted = torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0]) * 2.0
    deltas = {
        "down_blocks.0.resnets.0.conv1": wanted,
        "down_blocks.0.attentions.0.proj_in": (flat_up @ flat_down).reshape(proj.weight.shape),
    }
    assert close(answer(unet, everywhere(bound)), answer(with_deltas(unet, deltas)))


@pytest.mark.parametrize("rows", [True, False])
def test_magnitudes(unet: UNet2DConditionModel, tmp_path: Path, rows: bool):
    chosen = tiny.layers(unet, "attn2.to_k")
    tensors = tiny.peft_tensors(unet, "unet", chosen) if rows else tiny.lora_tensors(unet, "lora_unet", chosen)
    deltas: dict[str, Tensor] = {}
    for index, (path, module) in enumerate(chosen):
        out, inside = module.weight.shape
        magnitude = tiny.noise(50 + index, out if rows else inside, size=1.0).abs() + 0.1
        down, up = tiny.low_rank(module, 2 * index)
        merged = module.weight + (1.0 if rows else 0.5) * up @ down
        if rows:
            tensors[f"unet.{path}.lora_magnitude_vector"] = magnitude
            wanted = merged / merged.norm(dim=1, keepdim=True) * magnitude[:, None]
        else:
            tensors[f"{tiny.kohya('lora_unet', path)}.dora_scale"] = magnitude[None]
            wanted = merged / merged.norm(dim=0, keepdim=True) * magnitude[None]
        deltas[path] = wanted - module.weight
    bound = bind(read_network(tiny.save(tmp_path / "dora.safetensors", tensors)), UNET, unet)
    assert all(isinstance(change.change, WithMagnitude) for change in bound.values())
    for weight in (1.0, 0.4):
        assert close(answer(unet, everywhere(bound, weight)), answer(with_deltas(unet, deltas, weight)))


def test_dora_is_as_in_peft():
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(12, 8))
    plain = copy.deepcopy(net)
    config = LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=["0"], init_lora_weights=False)
    theirs = inject_adapter_in_model(config, net).eval()
    layer: Any = theirs[0]
    with torch.no_grad():
        layer.lora_magnitude_vector["default"].weight.mul_(1.3)
    change = WithMagnitude(
        LowRank(layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach(), 1.5),
        layer.lora_magnitude_vector["default"].weight.detach(),
    )
    x = tiny.noise(1, 5, 12)
    bound = {"0": BoundChange(change, Layer(plain[0]))}
    with torch.no_grad(), hooked(plain, [Acting(bound, torch.ones(5))]):
        assert torch.allclose(plain(x), theirs(x), atol=1e-5)


def test_each_row_has_its_own_set(unet: UNet2DConditionModel, tmp_path: Path):
    one = bind(
        read_network(tiny.save(tmp_path / "1.safetensors", tiny.lora_tensors(unet, "lora_unet", seed=1))), UNET, unet
    )
    two = bind(
        read_network(tiny.save(tmp_path / "2.safetensors", tiny.lora_tensors(unet, "lora_unet", seed=2))), UNET, unet
    )
    mixed = answer(
        unet, Acting(one, torch.tensor([0.0, 0.5, -1.0])), Acting(two, torch.tensor([0.0, 0.0, 0.7])), rows=3
    )
    assert torch.equal(mixed[0], answer(unet, rows=3)[0])
    alone = answer(unet, everywhere(one, 0.5, 3), rows=3)
    assert close(mixed[1], alone[1])
    both = answer(unet, everywhere(one, -1.0, 3), everywhere(two, 0.7, 3), rows=3)
    assert close(mixed[2], both[2])


def test_a_subset_of_rows_keeps_their_strengths():
    net = nn.Sequential(nn.Linear(4, 4))
    change = {"0": BoundChange(LowRank(tiny.noise(1, 2, 4), tiny.noise(2, 4, 2)), Layer(net[0]))}
    x = tiny.noise(3, 3, 4)
    with torch.no_grad(), hooked(net, [Acting(change, torch.tensor([0.2, 0.0, 1.0]))]):
        whole = net(x)
        with row_subset(torch.tensor([2, 1])):
            assert torch.allclose(net(x[[2, 1]]), whole[[2, 1]], atol=1e-6)
        with pytest.raises(RuntimeError, match="2 rows"):
            net(x[:2])


def test_merged_is_hooked_and_leaves_no_trace(unet: UNet2DConditionModel, tmp_path: Path):
    chosen = tiny.layers(unet, convs=True)
    tensors = tiny.lora_tensors(unet, "lora_unet", chosen)
    norm = dict(unet.named_modules())["mid_block.resnets.0.norm1"]
    tensors |= tiny.lycoris_tensors("norm", "lora_unet_mid_block_resnets_0_norm1", norm, 7)
    bound = bind(read_network(tiny.save(tmp_path / "a.safetensors", tensors)), UNET, unet)
    other = bind(
        read_network(tiny.save(tmp_path / "b.safetensors", tiny.lora_tensors(unet, "lora_unet", seed=4))), UNET, unet
    )
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    pointers = {name: parameter.data_ptr() for name, parameter in unet.named_parameters()}
    wanted = answer(unet, everywhere(bound, 0.6), everywhere(other, -0.3))
    plain = answer(unet)
    merged = Merged([(bound, 0.6, {}), (other, -0.3, {})]).inject()
    assert close(answer(unet), wanted)
    with pytest.raises(RuntimeError, match="eject"):
        merged.inject()
    merged.eject()
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())
    assert pointers == {name: parameter.data_ptr() for name, parameter in unet.named_parameters()}
    assert torch.equal(answer(unet), plain)
    assert not any(module._forward_hooks for module in unet.modules())


def test_hooks_go_when_a_batch_fails(unet: UNet2DConditionModel, tmp_path: Path):
    bound = bind(read_network(tiny.save(tmp_path / "a.safetensors", tiny.lora_tensors(unet, "lora_unet"))), UNET, unet)

    def fail() -> None:
        with hooked(unet, [everywhere(bound)]):
            assert any(module._forward_hooks for module in unet.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(module._forward_hooks for module in unet.modules())


def test_packed_convolutions(unet: UNet2DConditionModel, tmp_path: Path):
    plain = copy.deepcopy(unet).to(torch.bfloat16)
    packed = copy.deepcopy(plain)
    assert pack(packed) > 0
    chosen = tiny.layers(unet, "conv1", "conv2", "to_q", convs=True)
    weights = read_network(tiny.save(tmp_path / "a.safetensors", tiny.lora_tensors(unet, "lora_unet", chosen)))
    call = {key: value.to(torch.bfloat16) for key, value in inputs().items()}
    answers = []
    for net in (plain, packed):
        bound = bind(weights, UNET, net)
        assert len(bound) == len(chosen)
        with torch.inference_mode(), hooked(net, [everywhere(bound, 0.5)]):
            answers.append(net(**call).sample.float())
        with torch.inference_mode():
            assert not torch.allclose(net(**call).sample.float(), answers[-1], atol=0.1)
    assert close(answers[0], answers[1], 0.05)
    layer = next(module for module in packed.modules() if isinstance(module, PackedConv2d))
    with pytest.raises(UnsupportedError, match="packed"):
        Merged([({"x": BoundChange(LowRank(torch.zeros(1, 1), torch.zeros(1, 1)), Layer(layer))}, 1.0, {})]).inject()


def test_block_weights(unet: UNet2DConditionModel, tmp_path: Path):
    bound = bind(read_network(tiny.save(tmp_path / "a.safetensors", tiny.lora_tensors(unet, "lora_unet"))), UNET, unet)
    names = names_of(unet)
    attended = names.block_names(attended=True)
    assert attended == ["IN01", "M00", "OUT02", "OUT03"]
    only_middle = block_factors(bound, names, (1.0, 0.0, 0.5, 0.0, 0.0))
    assert {factor for path, factor in only_middle.items() if path.startswith("mid_block")} == {0.5}
    assert {factor for path, factor in only_middle.items() if not path.startswith("mid_block")} == {0.0}
    middle = {path: change for path, change in bound.items() if path.startswith("mid_block")}
    assert close(answer(unet, everywhere(bound, factors=only_middle)), answer(unet, everywhere(middle, 0.5)))
    everything = block_factors(bound, names, (1.0,) * (1 + len(names.block_names(attended=False))))
    assert set(everything.values()) == {1.0}
    with pytest.raises(UnsupportedError, match="block weights") as caught:
        block_factors(bound, names, (1.0, 0.5))
    assert "5 numbers (BASE, IN01, M00, OUT02, OUT03)" in str(caught.value)


def test_rank_reduction_is_the_nearest():
    full = LowRank(tiny.noise(1, 6, 20), tiny.noise(2, 12, 6), 0.5)
    weight = torch.zeros(12, 20)
    whole, _ = full.delta(weight)
    reduced = full.reduced(2)
    values = torch.linalg.svdvals(whole)
    gap = float((reduced.delta(weight)[0] - whole).norm())
    assert reduced.rank == 2
    assert gap == pytest.approx(float(values[2:].square().sum().sqrt()), rel=1e-3)
    assert full.reduced(6) is full


def test_cloneofsimo_order_of_layers(unet: UNet2DConditionModel, text: CLIPTextModel, tmp_path: Path):
    tensors = tiny.cloneofsimo_tensors(unet, text)
    weights = read_network(tiny.save(tmp_path / "first.safetensors", tensors))
    assert list(weights.embeddings) == ["<s1>"]
    block = "attentions.0.transformer_blocks.0"
    for part, root, expected in (
        # diffusers registers the middle block behind the upper ones, and so did it when the files were numbered.
        (UNET, unet, {0: f"down_blocks.0.{block}.attn1.to_q", 4: f"down_blocks.0.{block}.ff.net.0.proj",
                      6: f"down_blocks.0.{block}.attn2.to_k", 9: f"up_blocks.1.{block}.attn1.to_q",
                      35: f"mid_block.{block}.attn2.to_out.0"}),
        (TEXT, text, {0: "encoder.layers.0.self_attn.k_proj", 2: "encoder.layers.0.self_attn.q_proj",
                      11: "encoder.layers.2.self_attn.out_proj"}),
    ):  # fmt: skip
        bound = bind(weights, part, root)
        assert len(bound) == (36 if part == UNET else 12)
        name = "unet" if part == UNET else "text_encoder"
        for number, path in expected.items():
            change: Any = bound[path].change
            assert torch.equal(change.up, tensors[f"{name}:{number}:up"]), path


@pytest.mark.parametrize("name", ["cloneofsimo_analog_svd_rank4", "cloneofsimo_lora_disney"])
def test_real_files_of_the_first_trainer(name: str):
    path = LORAS / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"NOT TESTED HERE: {path} is not there")
    weights = read_network(path)
    assert len(weights.layers) == 192
    assert {word: tuple(v[""].shape) for word, v in weights.embeddings.items()} == (
        {"<s1>": (1, 768), "<s2>": (1, 768)} if "disney" in name else {}
    )
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    bound = bind(weights, UNET, sd15())
    assert len(bound) == 144
    assert len(bind(weights, TEXT, text)) == 48
    change = bound["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"].change
    assert isinstance(change, LowRank)
    assert change.scale == 1.0
    with pytest.raises(UnsupportedError, match="of its 144 layers"):
        bind(weights, UNET, sdxl())


def test_a_bundle_brings_its_words(unet: UNet2DConditionModel, tmp_path: Path):
    tensors = tiny.lora_tensors(unet, "lora_unet", tiny.layers(unet, "to_q"))
    tensors |= {
        "bundle_emb.ink.string_to_param.*": tiny.noise(1, 2, 32),
        "bundle_emb.both.clip_l": tiny.noise(2, 3, 768),
        "bundle_emb.both.clip_g": tiny.noise(3, 3, 1280),
    }
    weights = read_network(tiny.save(tmp_path / "bundle.safetensors", tensors))
    shapes = {
        name: {part: tuple(v.shape) for part, v in vectors.items()} for name, vectors in weights.embeddings.items()
    }
    assert shapes == {"ink": {"": (2, 32)}, "both": {"clip_l": (3, 768), "clip_g": (3, 1280)}}


def test_what_is_no_lora_is_refused(unet: UNet2DConditionModel, tmp_path: Path):
    half = tiny.save(tmp_path / "half.safetensors", {"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 4)})
    with pytest.raises(BadFileError, match=r"half of a layer's change is missing \(half.safetensors, conv_in\)"):
        read_network(half)
    other = tiny.save(tmp_path / "other.safetensors", {"model.diffusion_model.out.0.weight": torch.zeros(2)})
    with pytest.raises(UnsupportedError, match="no change of a layer"):
        read_network(other)
    strange = tiny.save(tmp_path / "strange.safetensors", {"lora_unet_conv_in.scale": torch.zeros(2)})
    with pytest.raises(UnsupportedError, match="not known here"):
        read_network(strange)
    (tmp_path / "cut.safetensors").write_bytes(half.read_bytes()[:-4])
    with pytest.raises(BadFileError, match="cannot be read"):
        read_network(tmp_path / "cut.safetensors")
    ranks = tiny.save(tmp_path / "ranks.safetensors", {
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(2, 64, 1, 1),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(64, 3, 1, 1),
    })  # fmt: skip
    with pytest.raises(UnsupportedError, match="ranks 3 and 2"):
        bind(read_network(ranks), UNET, unet)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_a_pickle_that_asks_for_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "evil.pt"
    torch.save({"lora_unet_conv_in.alpha": Evil()}, path)
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"x": Evil()}, protocol=2))
    for one in (path, tmp_path / "old.pt"):
        with pytest.raises(BadFileError, match="never done"):
            read_network(one)
    assert "run" not in capsys.readouterr().out


def test_a_pickled_lora(unet: UNet2DConditionModel, tmp_path: Path):
    tensors = tiny.lora_tensors(unet, "lora_unet")
    torch.save(tensors, tmp_path / "a.pt")
    torch.save({"state_dict": tensors}, tmp_path / "b.ckpt")
    tiny.save(tmp_path / "c.safetensors", tensors)
    found = [answer(unet, everywhere(bind(read_network(path), UNET, unet))) for path in sorted(tmp_path.iterdir())]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
