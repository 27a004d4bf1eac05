"""Image prompts in a UNet: what diffusers makes of the same file, nothing where no row has one, gone when ejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor

from danqing.adapters.ip_adapter import (
    ImageCrossAttention,
    IpAdapter,
    RowImages,
    cross_attentions,
    fresh,
    image_rows,
)
from danqing.models.ip_adapter import IpAdapterWeights, read_ip_adapter
from danqing.spec.errors import BadFileError, UnsupportedError
from tiny_images import EMBEDDING, lively
from tiny_models import _unet

SIDE, WORDS = 8, 77


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return _unet(4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(unet: UNet2DConditionModel) -> IpAdapterWeights:
    return lively(unet, seed=31)


def inputs(rows: int = 3) -> dict[str, Any]:
    return {
        "sample": noise(1, rows, 4, SIDE, SIDE),
        "timestep": torch.tensor([900.0, 500.0, 20.0][:rows]),
        "encoder_hidden_states": noise(2, rows, WORDS, 32),
    }


@torch.inference_mode()
def answer(unet: UNet2DConditionModel, weights: IpAdapterWeights, rows: list[RowImages | None]) -> Tensor:
    with IpAdapter(weights).acting(unet, image_rows(weights.image_proj, rows)):
        return unet(**inputs(len(rows))).sample


def one(seed: int = 5, weight: float = 1.0, count: int = 1, shares: tuple[float, ...] = ()) -> RowImages:
    return RowImages(noise(seed, count, EMBEDDING), weight, shares)


def count_layers(unet: UNet2DConditionModel) -> int:
    return sum(isinstance(processor, ImageCrossAttention) for processor in unet.attn_processors.values())


def test_injected_and_ejected_leaves_everything_as_it_was(unet: UNet2DConditionModel, weights: IpAdapterWeights):
    layers = len(cross_attentions(unet))
    before = {name: id(processor) for name, processor in unet.attn_processors.items()}
    keys = list(unet.state_dict())
    assert count_layers(unet) == 0
    adapter = IpAdapter(weights).inject(unet)
    assert count_layers(unet) == layers == 4
    assert list(unet.state_dict()) == keys
    with pytest.raises(RuntimeError, match="eject"):
        adapter.inject(unet)
    adapter.eject()
    assert count_layers(unet) == 0
    assert {name: id(processor) for name, processor in unet.attn_processors.items()} == before


def test_the_same_file_in_diffusers_gives_the_same_answer(
    unet: UNet2DConditionModel, weights: IpAdapterWeights, tmp_path: Path
):
    weights.save(tmp_path / "adapter.safetensors")
    ours = read_ip_adapter(tmp_path / "adapter.safetensors")
    split: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(tmp_path / "adapter.safetensors").items():
        kind, _, key = name.partition(".")
        split[kind][key] = tensor.float()
    theirs = UNet2DConditionModel.from_config(unet.config)
    theirs.load_state_dict(unet.state_dict())
    theirs.eval()._load_ip_adapter_weights(split, low_cpu_mem_usage=False)
    embeddings = noise(7, 3, 2, EMBEDDING)
    for count in (1, 2):
        rows = [RowImages(embeddings[row, :count], 1.0) for row in range(3)]
        with torch.inference_mode():
            wanted = theirs(**inputs(), added_cond_kwargs={"image_embeds": [embeddings[:, :count]]}).sample
        got = answer(unet, ours, list(rows))
        assert torch.allclose(got, wanted, atol=1e-5), count
        assert not torch.allclose(got, unet(**inputs()).sample, atol=1e-2)


@pytest.mark.parametrize("stock", [None, AttnProcessor])
def test_rows_without_an_image_prompt_come_out_bit_for_bit(
    unet: UNet2DConditionModel, weights: IpAdapterWeights, stock: Any
):
    kept = dict(unet.attn_processors)
    if stock is not None:
        unet.set_attn_processor(stock())
    with torch.inference_mode():
        plain = unet(**inputs()).sample
    mixed = answer(unet, weights, [None, one(), one(6, weight=0.0)])
    assert torch.equal(mixed[0], plain[0])
    assert torch.equal(mixed[2], plain[2])
    assert not torch.allclose(mixed[1], plain[1], atol=1e-2)
    assert torch.equal(answer(unet, weights, [None, None, None]), plain)
    whole = answer(unet, weights, [one(), one(), one()])
    assert torch.allclose(mixed[1], whole[1], atol=1e-5)
    unet.set_attn_processor(kept)


def test_each_row_has_its_own_weight_and_pictures(unet: UNet2DConditionModel, weights: IpAdapterWeights):
    rows = [one(5, 0.3), one(6, 1.0, count=3, shares=(1.0, 0.5, 0.2)), one(7, 1.7, count=2)]
    together = answer(unet, weights, list(rows))
    for index, row in enumerate(rows):
        alone = answer(unet, weights, [row if at == index else None for at in range(3)])
        assert torch.allclose(together[index], alone[index], atol=1e-5), index


def test_shares_go_from_one_picture_to_the_other(unet: UNet2DConditionModel, weights: IpAdapterWeights):
    pair = noise(8, 2, EMBEDDING)
    first, second = (answer(unet, weights, [RowImages(pair[i : i + 1], 1.0)]) for i in (0, 1))
    mostly = answer(unet, weights, [RowImages(pair, 1.0, (1.0, 1e-6))])
    assert torch.allclose(mostly, first, atol=1e-4)
    even = answer(unet, weights, [RowImages(pair, 1.0)])
    assert torch.equal(even, answer(unet, weights, [RowImages(pair, 1.0, (1.0, 1.0))]))
    gap = float((first - second).norm())
    assert float((even - first).norm()) < gap
    assert float((even - second).norm()) < gap
    swapped = answer(unet, weights, [RowImages(pair.flip(0), 1.0, (0.3, 1.0))])
    assert torch.allclose(swapped, answer(unet, weights, [RowImages(pair, 1.0, (1.0, 0.3))]), atol=1e-5)


def test_the_empty_prompt_counts_once_however_often_it_stands_there(
    unet: UNet2DConditionModel, weights: IpAdapterWeights
):
    """Equal tokens share one attention: the negative row needs only one empty picture beside several real ones."""
    once = answer(unet, weights, [RowImages(torch.zeros(1, EMBEDDING), 1.0)])
    thrice = answer(unet, weights, [RowImages(torch.zeros(3, EMBEDDING), 1.0)])
    assert torch.allclose(once, thrice, atol=1e-5)


def test_a_new_adapter_starts_as_the_attention_to_text(unet: UNet2DConditionModel):
    new = fresh(unet, EMBEDDING)
    assert list(new.state_dict())[:4] == [
        "image_proj.proj.weight",
        "image_proj.proj.bias",
        "image_proj.norm.weight",
        "image_proj.norm.bias",
    ]
    assert sorted(new.ip_adapter) == ["1", "3", "5", "7"]
    for attn, layer in zip(cross_attentions(unet), new.ip_adapter.values(), strict=True):
        assert torch.equal(layer.to_k_ip.weight, attn.to_k.weight)
        assert torch.equal(layer.to_v_ip.weight, attn.to_v.weight)


def test_an_adapter_for_another_unet_is_refused_with_both_shapes(unet: UNet2DConditionModel):
    with pytest.raises(UnsupportedError, match="48×48") as caught:
        IpAdapter(IpAdapterWeights(EMBEDDING, 48, (48, 48))).inject(unet)
    assert "32×32" in str(caught.value)
    assert count_layers(unet) == 0


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not a header")
    with pytest.raises(BadFileError, match="damaged"):
        read_ip_adapter(path)
