"""Packed convolutions and chunked attention give what the plain ones give."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from danqing.models import packing
from danqing.models.attention import ChunkedAttention, attend, speed_up
from danqing.models.precision import has_native_bf16

needs_bf16 = pytest.mark.skipif(
    not has_native_bf16(torch.device("cpu")), reason="NOT TESTED HERE: this CPU has no native bfloat16"
)


def conv(**options):
    torch.manual_seed(0)
    made = nn.Conv2d(16, 32, 3, **{"padding": 1, **options}).to(torch.bfloat16)
    return made.to(memory_format=torch.channels_last).requires_grad_(False)


@needs_bf16
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"padding": 0}, {"bias": False}, {"groups": 4}, {"dilation": 2}]
)
def test_a_packed_convolution_is_the_plain_one(options):
    plain = conv(**options)
    packed = packing.PackedConv2d(conv(**options))
    with torch.inference_mode():
        for size in (16, 8, 24):
            x = torch.randn(2, 16, size, size, generator=torch.Generator().manual_seed(size)).to(torch.bfloat16)
            torch.testing.assert_close(packed(x), plain(x), rtol=2e-2, atol=2e-2)
    assert torch.equal(packed.dense_weight(), plain.weight)
    assert packed.conv is None
    assert packed.size_bytes >= plain.weight.numel() * 2


@needs_bf16
def test_a_gradient_goes_through_a_packed_convolution():
    packed = packing.PackedConv2d(conv())
    with torch.inference_mode():
        packed(torch.zeros(1, 16, 8, 8, dtype=torch.bfloat16))
    x = torch.randn(1, 16, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    packed(x).float().sum().backward()
    y = x.detach().clone().requires_grad_(True)
    conv()(y).float().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_only_bfloat16_convolutions_on_a_cpu_are_packed():
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Linear(4, 4), nn.Sequential(conv(), conv(padding="same")))
    assert packing.pack(module) == 1
    assert packing.pack(module) == 0
    assert isinstance(module[2][0], packing.PackedConv2d)


@pytest.mark.parametrize("tokens", [7, 512, 700])
def test_chunked_attention_is_attention(tokens):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, tokens, 3 * 40, generator=generator) for _ in range(3))
    key = key + 5.0  # a common part that centring takes out
    ours = attend(query, key, value, heads=3, chunk_tokens=512)
    split = [part.view(2, tokens, 3, 40).transpose(1, 2) for part in (query, key, value)]
    expected = nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(2, tokens, 120)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_centring_keeps_bfloat16_scores_exact_enough():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1024, 40, generator=generator) for _ in range(3))
    key = key + 5.0
    exact = attend(query, key, value, heads=1, chunk_tokens=512)
    rounded = attend(*(part.to(torch.bfloat16) for part in (query, key, value)), heads=1, chunk_tokens=512)
    assert (rounded.float() - exact).abs().max() < 0.05


def test_a_whole_unet_paints_the_same_with_chunks(monkeypatch):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(40, 80),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 16)
    with torch.inference_mode():
        before = unet(x, torch.tensor([1.0, 500.0]), context).sample
        speed_up(unet)
        monkeypatch.setattr(ChunkedAttention, "min_tokens", 1)
        after = unet(x, torch.tensor([1.0, 500.0]), context).sample
    assert any(isinstance(p, ChunkedAttention) for p in unet.attn_processors.values())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
