"""Rows that read each other's self-attention, and the LoRA that learns a picture."""

from __future__ import annotations

import pytest
import torch

from danqing.adapters.identity import PROJECTIONS, IdentityLora
from danqing.adapters.shared_attention import first_of_last, self_attentions, sharing
from easel import Easel


def answer(easel: Easel, x: torch.Tensor) -> torch.Tensor:
    model = easel.model()
    context = torch.zeros(len(x), 77, 32)
    with torch.no_grad():
        return model.unet(x, torch.full((len(x),), 400), encoder_hidden_states=context, return_dict=False)[0]


def noise(rows: int) -> torch.Tensor:
    return torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def test_a_start_layer_past_the_end_shares_nothing(easel: Easel):
    unet, x = easel.model().unet, noise(2)
    with sharing(unet, [0, 0], start_layer=len(self_attentions(unet))):
        shared = answer(easel, x)
    assert torch.equal(shared, answer(easel, x))


def test_rows_that_read_themselves_are_left_alone(easel: Easel):
    unet, x = easel.model().unet, noise(3)
    with sharing(unet, [0, 1, 2]):
        assert all(type(attn.processor).__name__ != "SharedSelfAttention" for attn in self_attentions(unet))
        shared = answer(easel, x)
    assert torch.equal(shared, answer(easel, x))


def test_the_row_that_is_read_stays_and_the_other_changes(easel: Easel):
    x = noise(2)
    plain = answer(easel, x)
    with sharing(easel.model().unet, [0, 0], start_layer=0):
        shared = answer(easel, x)
    assert torch.allclose(shared[0], plain[0], atol=1e-5)
    assert not torch.allclose(shared[1], plain[1], atol=1e-3)


def test_equal_rows_that_share_are_as_alone(easel: Easel):
    x = noise(1).expand(2, -1, -1, -1).contiguous()
    with sharing(easel.model().unet, [0, 0], start_layer=0):
        shared = answer(easel, x)
    assert torch.allclose(shared, answer(easel, x), atol=1e-5)


def test_processors_come_back_also_after_an_error(easel: Easel):
    unet = easel.model().unet
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="2 rows were to share"), sharing(unet, [0, 0], start_layer=0):
        answer(easel, noise(3))
    assert dict(unet.attn_processors) == before


def test_the_last_two_up_blocks_are_resolved_by_depth(easel: Easel):
    unet = easel.model().unet
    layers = self_attentions(unet)
    down = sum(1 for name, _ in unet.down_blocks.named_modules() if name.endswith("attn1"))
    # One attention block below, one in the middle, both up blocks among the last two.
    assert first_of_last(unet) == down + 1
    assert len(layers) > first_of_last(unet)


def test_an_untrained_identity_changes_nothing_and_leaves_nothing_behind(easel: Easel):
    unet, x = easel.model().unet, noise(2)
    plain = answer(easel, x)
    lora = IdentityLora(unet, 4, seed=1)
    attentions = sum(1 for name, _ in unet.named_modules() if name.endswith(("attn1", "attn2")))
    assert len(lora.pairs) == len(PROJECTIONS) * attentions
    with lora.acting(unet):
        assert torch.equal(answer(easel, x), plain)
        for _, up in lora.pairs.values():
            up.fill_(0.5)
        assert not torch.allclose(answer(easel, x), plain, atol=1e-3)
    assert torch.equal(answer(easel, x), plain)
    assert lora.size_bytes > 0
