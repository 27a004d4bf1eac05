"""Hypernetworks: A1111's file as it writes it, y = x + net(x) · strength before keys and values, each row its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_models
import tiny_networks as tiny
from danqing.adapters.hypernet import (
    ActingHypernet,
    HypernetShape,
    hypernets_acting,
    read_hypernetwork,
    write_hypernetwork,
)
from danqing.spec.errors import BadFileError, UnsupportedError


@pytest.fixture(scope="module")
def unet() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return tiny_models._unet(4).eval().requires_grad_(False)


@torch.inference_mode()
def answer(unet: Any, acting: list[ActingHypernet], rows: int = 2) -> Tensor:
    with hypernets_acting(unet, acting):
        return unet(
            tiny.noise(1, rows, 4, 8, 8, size=1.0), 300, encoder_hidden_states=tiny.noise(2, rows, 77, 32, size=1.0)
        ).sample


SHAPES: list[dict[str, Any]] = [
    {},
    {"activation": "relu", "layer_norm": True},
    {"layer_structure": (1, 2, 2, 1), "activation": "swish", "dropout": (0, 0.3, 0.3, 0)},
    {"layer_structure": (1, 1.5, 1), "activation": "mish", "activate_output": True},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip(tmp_path: Path, shape: dict[str, Any]):
    path = tiny.save_hypernetwork(tmp_path / "a.pt", [32, 64], **shape)
    read = read_hypernetwork(path)
    assert read.shape.layer_structure == shape.get("layer_structure", (1, 2, 1))
    assert read.about["name"] == "a"
    assert read.about["step"] == 10
    write_hypernetwork(tmp_path / "b.pt", read)
    one, two = (torch.load(p, weights_only=True) for p in (path, tmp_path / "b.pt"))
    assert one.keys() == two.keys()
    assert {k for k in one if isinstance(k, int)} == {32, 64}
    for key, value in one.items():
        if not isinstance(key, int):
            assert two[key] == value
            continue
        for ours, theirs in zip(value, two[key], strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_names_count_every_layer_of_a1111():
    names = dict(HypernetShape((1, 2, 2, 1), "relu", True, (0, 0.3, 0.3, 0)).build(8).named_modules())
    kinds = [type(names[f"linear.{i}"]).__name__ for i in range(10)]
    assert kinds == ["Linear", "ReLU", "LayerNorm", "Dropout"] * 2 + ["Linear", "LayerNorm"]


def test_files_of_the_first_versions(tmp_path: Path):
    """Two bare linears under their old names, nothing said of the layers."""
    old: dict[Any, Any] = {"step": 3, "name": "old", "sd_checkpoint": None}
    shapes = {"linear1.weight": (64, 32), "linear1.bias": (64,), "linear2.weight": (32, 64), "linear2.bias": (32,)}
    pair = [{name: tiny.noise(seed + i, *shape) for i, (name, shape) in enumerate(shapes.items())} for seed in (1, 9)]
    old[32] = tuple(pair)
    torch.save(old, tmp_path / "old.pt")
    net, _ = read_hypernetwork(tmp_path / "old.pt").nets[32]
    x = tiny.noise(3, 1, 5, 32)
    first = x @ pair[0]["linear1.weight"].T + pair[0]["linear1.bias"]
    assert torch.allclose(net(x), first @ pair[0]["linear2.weight"].T + pair[0]["linear2.bias"], atol=1e-5)


def test_old_files_say_dropout_in_other_words(tmp_path: Path):
    path = tiny.save_hypernetwork(
        tmp_path / "a.pt", [32], layer_structure=(1, 2, 2, 1), activation="relu", dropout=(0, 0.3, 0, 0)
    )
    data = torch.load(path, weights_only=True)
    del data["dropout_structure"]
    torch.save(data | {"use_dropout": True}, path)
    assert read_hypernetwork(path).shape.dropout == (0, 0.3, 0, 0)


class ByHand:
    """Attention that reads x + net(x) · strength, written out."""

    def __init__(self, stock: Any, nets: dict[int, Any], strength: Tensor) -> None:
        self.stock, self.nets, self.strength = stock, nets, strength

    def __call__(self, attn: Any, hidden: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        key_net, value_net = self.nets[context.shape[-1]]
        strength = self.strength.view(-1, 1, 1)
        query = attn.to_q(hidden)
        key = nn.functional.linear(context + key_net(context) * strength, attn.to_k.weight)
        value = nn.functional.linear(context + value_net(context) * strength, attn.to_v.weight)
        query, key, value = (t.unflatten(2, (attn.heads, -1)).transpose(1, 2) for t in (query, key, value))
        out = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[0](out)


def test_acts_before_keys_and_values_of_every_attention(unet: Any, tmp_path: Path):
    read = read_hypernetwork(tiny.save_hypernetwork(tmp_path / "a.pt", [32, 64], activation="relu"))
    strength = torch.tensor([0.8, -0.5])
    stock = dict(unet.attn_processors)
    unet.set_attn_processor({name: ByHand(p, read.nets, strength) for name, p in stock.items()})
    wanted = answer(unet, [])
    unet.set_attn_processor(stock)
    got = answer(unet, [ActingHypernet(read, strength)])
    assert torch.allclose(got, wanted, atol=1e-4)
    assert not torch.allclose(got, answer(unet, []), atol=1e-2)
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_rows_of_strength_0_come_out_bit_for_bit(unet: Any, tmp_path: Path):
    one = read_hypernetwork(tiny.save_hypernetwork(tmp_path / "a.pt", [32, 64], seed=1, activation="relu"))
    two = read_hypernetwork(tiny.save_hypernetwork(tmp_path / "b.pt", [32], seed=2))
    plain = answer(unet, [], 3)
    mixed = answer(
        unet,
        [ActingHypernet(one, torch.tensor([0.0, 1.0, 0.4])), ActingHypernet(two, torch.tensor([0.0, 0.0, 1.0]))],
        3,
    )
    assert torch.equal(mixed[0], plain[0])
    alone = answer(unet, [ActingHypernet(one, torch.tensor([0.4] * 3)), ActingHypernet(two, torch.ones(3))], 3)
    assert torch.allclose(mixed[2], alone[2], atol=1e-4)


def test_wrong_widths_are_refused(unet: Any, tmp_path: Path):
    read = read_hypernetwork(tiny.save_hypernetwork(tmp_path / "a.pt", [768]))
    with pytest.raises(UnsupportedError, match="other widths") as caught:
        answer(unet, [ActingHypernet(read, torch.ones(2))])
    assert "768" in str(caught.value)
    assert "32, 64" in str(caught.value)


def test_what_is_no_hypernetwork_is_refused(tmp_path: Path):
    path = tiny.save_hypernetwork(tmp_path / "a.pt", [32])
    data = torch.load(path, weights_only=True)
    torch.save(data | {"activation_func": "telepathy"}, tmp_path / "b.pt")
    with pytest.raises(UnsupportedError, match="unknown activation"):
        read_hypernetwork(tmp_path / "b.pt")
    torch.save(data | {"layer_structure": [1, 3, 1]}, tmp_path / "c.pt")
    with pytest.raises(BadFileError, match="not built as"):
        read_hypernetwork(tmp_path / "c.pt")
    torch.save(data | {"layer_structure": [2, 1]}, tmp_path / "d.pt")
    with pytest.raises(BadFileError, match="begin and end"):
        read_hypernetwork(tmp_path / "d.pt")
    torch.save({"step": 1}, tmp_path / "e.pt")
    with pytest.raises(BadFileError, match="no hypernetwork"):
        read_hypernetwork(tmp_path / "e.pt")
