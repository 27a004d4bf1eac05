"""LyCORIS's ways to change a layer against formulas written out here, and against PEFT's own modules."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_models
import tiny_networks as tiny
from danqing.adapters.binding import bind
from danqing.adapters.change import BoundChange, Change
from danqing.adapters.hooks import Acting, hooked
from danqing.adapters.layers import Layer
from danqing.adapters.lycoris import Difference, Hadamard, Kronecker, Scaling, Turn
from danqing.adapters.merging import Merged
from danqing.adapters.network_file import read_network
from danqing.models.network_keys import UNET
from danqing.spec.errors import UnsupportedError


@pytest.fixture(scope="module")
def unet() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return tiny_models._unet(4).eval().requires_grad_(False)


def linear() -> nn.Linear:
    layer = nn.Linear(16, 24)
    layer.weight.data, layer.bias.data = tiny.noise(90, 24, 16), tiny.noise(91, 24)
    return layer.requires_grad_(False)


def conv() -> nn.Conv2d:
    layer = nn.Conv2d(8, 12, 3, stride=2, padding=1)
    layer.weight.data, layer.bias.data = tiny.noise(92, 12, 8, 3, 3), tiny.noise(93, 12)
    return layer.requires_grad_(False)


def acts_as(
    change: Change, layer: nn.Module, delta: Tensor | None, bias: Tensor | None = None, weight: float = 0.7
) -> None:
    """The change does what adding these to weight and bias does; hooked and merged."""
    assert change.misfit(layer.weight) is None
    x = tiny.noise(3, 3, 16) if isinstance(layer, nn.Linear) else tiny.noise(3, 3, 8, 6, 6)
    changed = copy.deepcopy(layer)
    if delta is not None:
        changed.weight.add_(delta * weight)
    if bias is not None:
        changed.bias.add_(bias * weight)
    net = nn.Sequential(copy.deepcopy(layer))
    bound = {"0": BoundChange(change, Layer(net[0]))}
    with hooked(net, [Acting(bound, torch.full((3,), weight))]):
        assert torch.allclose(net(x), changed(x), atol=1e-5)
    before = net[0].weight.clone()
    merged = Merged([(bound, weight, {})]).inject()
    assert torch.allclose(net(x), changed(x), atol=1e-5)
    merged.eject()
    assert torch.equal(net[0].weight, before)


def test_loha():
    a1, b1, a2, b2 = (tiny.noise(i, *shape) for i, shape in enumerate([(24, 3), (3, 16), (24, 3), (3, 16)]))
    acts_as(Hadamard((a1, b1), (a2, b2), 0.5), linear(), 0.5 * (a1 @ b1) * (a2 @ b2))
    a1, b1, a2, b2 = (tiny.noise(i, *shape) for i, shape in enumerate([(12, 3), (3, 72), (12, 3), (3, 72)]))
    acts_as(Hadamard((a1, b1), (a2, b2)), conv(), ((a1 @ b1) * (a2 @ b2)).view(12, 8, 3, 3))


def test_loha_tucker():
    a1, b1, a2, b2 = (tiny.noise(i, *shape) for i, shape in enumerate([(3, 12), (3, 8), (3, 12), (3, 8)]))
    t1, t2 = tiny.noise(8, 3, 3, 3, 3), tiny.noise(9, 3, 3, 3, 3)
    wanted = torch.zeros(12, 8, 3, 3)
    for y in range(3):
        for x in range(3):
            wanted[:, :, y, x] = (a1.T @ t1[:, :, y, x] @ b1) * (a2.T @ t2[:, :, y, x] @ b2)
    acts_as(Hadamard((a1, b1), (a2, b2), 1.0, (t1, t2)), conv(), wanted)


def kron(a: Tensor, b: Tensor) -> Tensor:
    """Block by block, in any number of further axes of b."""
    return torch.cat([torch.cat([value * b for value in row], dim=1) for row in a])


def test_lokr():
    w1, w2 = tiny.noise(1, 4, 4), tiny.noise(2, 6, 4)
    acts_as(Kronecker((w1,), (w2,)), linear(), kron(w1, w2))
    a1, b1, a2, b2 = tiny.noise(3, 4, 2), tiny.noise(4, 2, 4), tiny.noise(5, 6, 2), tiny.noise(6, 2, 4)
    acts_as(Kronecker((a1, b1), (a2, b2), 0.5), linear(), 0.5 * kron(a1 @ b1, a2 @ b2))
    w1, w2 = tiny.noise(7, 3, 2), tiny.noise(8, 4, 4, 3, 3)
    acts_as(Kronecker((w1,), (w2,)), conv(), kron(w1, w2))
    a2, b2, t2 = tiny.noise(9, 2, 4), tiny.noise(10, 2, 4), tiny.noise(11, 2, 2, 3, 3)
    inner = torch.stack([torch.stack([a2.T @ t2[:, :, y, x] @ b2 for x in range(3)], -1) for y in range(3)], -2)
    acts_as(Kronecker((w1,), (a2, b2), 2.0, t2), conv(), 2.0 * kron(w1, inner))
    flat = tiny.noise(12, 2, 36)
    acts_as(
        Kronecker((w1,), (tiny.noise(13, 4, 2), flat)), conv(), kron(w1, (tiny.noise(13, 4, 2) @ flat).view(4, 4, 3, 3))
    )


def test_ia3():
    layer, factors = linear(), tiny.noise(1, 16)
    acts_as(Scaling(factors[None], True), layer, layer.weight * factors)
    factors = tiny.noise(2, 12)
    acts_as(Scaling(factors[:, None], False), conv(), conv().weight * factors.view(12, 1, 1, 1))


def test_full_differences():
    acts_as(Difference(tiny.noise(1, 24, 16), tiny.noise(2, 24)), linear(), tiny.noise(1, 24, 16), tiny.noise(2, 24))
    acts_as(Difference(tiny.noise(1, 12, 8, 3, 3)), conv(), tiny.noise(1, 12, 8, 3, 3))
    acts_as(Difference(None, tiny.noise(2, 12)), conv(), None, tiny.noise(2, 12))


@pytest.mark.parametrize("norm", [nn.GroupNorm(4, 16), nn.LayerNorm(16)])
def test_norms(norm: Any):
    weight, bias = tiny.noise(1, 16), tiny.noise(2, 16)
    norm = copy.deepcopy(norm).requires_grad_(False)
    changed = copy.deepcopy(norm)
    changed.weight.add_(0.5 * weight)
    changed.bias.add_(0.5 * bias)
    net = nn.Sequential(norm)
    x = tiny.noise(3, 2, 16, size=3.0)
    for difference, other in (
        (Difference(weight, bias), changed),
        (Difference(weight), None),
        (Difference(None, bias), None),
    ):
        with hooked(net, [Acting({"0": BoundChange(difference, Layer(norm))}, torch.full((2,), 0.5))]):
            answer = net(x)
        if other is not None:
            assert torch.allclose(answer, other(x), atol=1e-5)
        assert not torch.allclose(answer, norm(x), atol=1e-3)


def cayley(blocks: Tensor) -> Tensor:
    """R for each block, by solving and not by inverting."""
    skew = blocks - blocks.transpose(-1, -2)
    eye = torch.eye(blocks.shape[-1])
    return torch.linalg.solve(eye - skew, eye + skew, left=False)


def test_oft_turns_blocks_of_outputs():
    layer, blocks = linear(), tiny.noise(1, 4, 6, 6)
    turn = torch.block_diag(*cayley(blocks))
    assert torch.allclose(turn @ turn.T, torch.eye(24), atol=1e-5)
    acts_as(Turn(blocks), layer, turn.T @ layer.weight - layer.weight)
    rescale = tiny.noise(2, 24).abs()
    wanted = rescale[:, None] * (turn.T @ layer.weight) - layer.weight
    acts_as(Turn(blocks, rescale=rescale[:, None]), layer, wanted)
    ready = cayley(blocks)
    acts_as(Turn(ready, ready=True), layer, turn.T @ layer.weight - layer.weight)
    other, blocks = conv(), tiny.noise(3, 3, 4, 4)
    turn = torch.block_diag(*cayley(blocks))
    acts_as(Turn(blocks), other, (turn.T @ other.weight.flatten(1)).view_as(other.weight) - other.weight)


def test_oft_keeps_within_its_limit():
    layer, blocks = linear(), tiny.noise(1, 4, 6, 6, size=1.0)
    limit = 0.01
    skew = blocks - blocks.transpose(1, 2)
    small = blocks * (limit * 24 / skew.norm())
    wanted = torch.block_diag(*cayley(small)).T @ layer.weight - layer.weight
    acts_as(Turn(blocks, limit), layer, wanted)


def test_boft_turns_in_butterfly_order():
    layer, levels = linear(), tiny.noise(1, 2, 6, 4, 4)
    weight = layer.weight.clone()
    for level in range(2):
        apart = 2**level * 2
        # Outputs c·2·apart + g·apart + k stand at c·2·apart + k·2 + g while the level turns them.
        order = [
            c * 2 * apart + g * apart + k for c in range(24 // (2 * apart)) for k in range(apart) for g in range(2)
        ]
        turned = torch.block_diag(*cayley(levels[level])) @ weight[order]
        weight = weight.clone()
        weight[order] = turned
    acts_as(Turn(levels), layer, weight - layer.weight)
    nothing, _ = Turn(torch.zeros(2, 6, 4, 4)).delta(layer.weight)
    assert torch.allclose(nothing, torch.zeros(24, 16), atol=1e-6)


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_peft_means_the_same(kind: str):
    from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model

    plain = nn.Sequential(linear())
    theirs = nn.Sequential(linear())
    options: dict[str, Any] = {"r": 2, "alpha": 3, "target_modules": ["0"], "init_weights": False}
    config = LoHaConfig(**options) if kind == "loha" else LoKrConfig(**options, decompose_both=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        theirs = inject_adapter_in_model(config, theirs).eval()
    layer: Any = theirs[0]
    own = {name.split(".")[0]: tensor.detach() for name, tensor in layer.named_parameters() if "base_layer" not in name}
    if kind == "loha":
        pairs = [(own[f"hada_w{i}_a"], own[f"hada_w{i}_b"]) for i in (1, 2)]
        change: Change = Hadamard(*pairs, 1.5)
    else:
        second = (own["lokr_w2"],) if "lokr_w2" in own else (own["lokr_w2_a"], own["lokr_w2_b"])
        change = Kronecker((own["lokr_w1"],), second, 1.5)
    x = tiny.noise(1, 5, 16)
    with torch.no_grad(), hooked(plain, [Acting({"0": BoundChange(change, Layer(plain[0]))}, torch.ones(5))]):
        assert torch.allclose(plain(x), theirs(x), atol=1e-5)


PLACES = {
    "loha": "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lokr": "mid_block_attentions_0_transformer_blocks_0_ff_net_2",
    "ia3": "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
    "full": "input_blocks_1_0_in_layers_2",
    "norm": "mid_block_resnets_0_norm1",
    "oft": "mid_block_attentions_0_transformer_blocks_0_attn1_to_v",
}
KINDS = {"loha": Hadamard, "lokr": Kronecker, "ia3": Scaling, "full": Difference, "norm": Difference, "oft": Turn}


@pytest.mark.parametrize("prefix", ["lora_unet", "lycoris"])
def test_files_of_every_kind_are_read_and_act(unet: Any, tmp_path: Path, prefix: str):
    modules = {path.replace(".", "_"): module for path, module in unet.named_modules()}
    modules["input_blocks_1_0_in_layers_2"] = modules["down_blocks_0_resnets_0_conv1"]
    tensors: tiny.Tensors = {}
    for index, (algorithm, place) in enumerate(PLACES.items()):
        tensors |= tiny.lycoris_tensors(algorithm, f"{prefix}_{place}", modules[place], 10 * index)
    bound = bind(read_network(tiny.save(tmp_path / "all.safetensors", tensors)), UNET, unet)
    assert len(bound) == len(PLACES)
    found = {path.replace(".", "_"): type(change.change) for path, change in bound.items()}
    assert found.pop("down_blocks_0_resnets_0_conv1") is Difference
    assert found == {place: KINDS[algorithm] for algorithm, place in PLACES.items() if algorithm != "full"}
    call = {
        "sample": tiny.noise(1, 2, 4, 8, 8, size=1.0),
        "timestep": 300,
        "encoder_hidden_states": tiny.noise(2, 2, 77, 32, size=1.0),
    }
    with torch.inference_mode():
        plain = unet(**call).sample
        for path, change in bound.items():
            with hooked(unet, [Acting({path: change}, torch.tensor([0.0, 1.0]))]):
                answer = unet(**call).sample
            assert torch.equal(answer[0], plain[0]), path
            assert not torch.allclose(answer[1], plain[1], atol=1e-4), path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Hadamard((torch.zeros(9, 1), torch.zeros(1, 16)), (torch.zeros(9, 1), torch.zeros(1, 16))), "9×16 numbers"),
        (Kronecker((torch.zeros(2, 2),), (torch.zeros(2, 2),)), "4×4 numbers, the layer has 24×16"),
        (Scaling(torch.zeros(5), True), "scales 5 inputs, the layer has 16"),
        (Difference(torch.zeros(3, 3)), r"\[3, 3\] numbers"),
        (Difference(None, torch.zeros(3)), "bias of 3"),
        (Turn(torch.zeros(2, 5, 5)), "turns 10 outputs, the layer has 24"),
    ],
)
def test_wrong_shapes_are_told(change: Change, words: str):
    with pytest.raises(AssertionError):
        assert change.misfit(linear().weight) is None
    import re

    assert re.search(words, change.misfit(linear().weight) or "")


def test_a_norm_takes_differences_only(unet: Any, tmp_path: Path):
    name = "lora_unet_mid_block_resnets_0_norm1"
    tensors = {f"{name}.lora_down.weight": torch.zeros(1, 1), f"{name}.lora_up.weight": torch.zeros(64, 1)}
    with pytest.raises(UnsupportedError, match="normalisation"):
        bind(read_network(tiny.save(tmp_path / "n.safetensors", tensors)), UNET, unet)
