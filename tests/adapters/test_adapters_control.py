"""ControlNets beside a UNet: the sum that diffusers would make, weighted by row, and nothing where nothing acts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.adapters.control import ControlRows, ControlSum, control_of, fade_scales
from danqing.engine.calls import ControlInput, Denoise
from danqing.models.controlnet import NetInput
from danqing.spec.model import ModelRef
from easel import Easel

WORDS, SIDE = 77, 8


def ref(easel: Easel, name: str) -> ModelRef:
    info = easel.catalog.find_controlnet(name)
    return ModelRef(name=info.name, sha256=info.sha256, family="controlnet")


def hint(seed: int, rows: int = 1) -> Tensor:
    return torch.rand((rows, 3, SIDE * 8, SIDE * 8), generator=torch.Generator().manual_seed(seed))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(easel: Easel, name: str = "live", **changes: Any) -> ControlInput:
    return ControlInput(**{"net": ref(easel, name), "hint": hint(1), "weight": 1.0, "rows": (1.0, 1.0), **changes})


def answer(easel: Easel, *controls: ControlInput, model: str = "tiny", seed: int = 3, channels: int = 4) -> Tensor:
    """What two rows of one Denoise Call become."""
    contexts = (noise(seed + 1, WORDS, 32), noise(seed + 2, WORDS, 32))
    call = Denoise(easel.key(model), noise(seed, 1, channels, SIDE, SIDE), 2.0, contexts, controls=controls)
    (rows,) = easel.executor.run([call])
    return rows


def test_the_sum_is_the_one_diffusers_makes(control_easel: Easel):
    easel = control_easel
    model = easel.model("tiny")
    net = easel.loader.controlnet(ref(easel, "live"), "float32").net
    assert next(net.parameters()).dtype is torch.float32
    sample, timesteps, context = noise(1, 2, 4, SIDE, SIDE), torch.tensor([500.0, 20.0]), noise(2, 2, WORDS, 32)
    hints = hint(5, rows=2)
    with torch.inference_mode():
        down, mid = net(sample, timesteps, context, hints, conditioning_scale=0.7, return_dict=False)
        theirs = model.unet(
            sample, timesteps, context, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample
        rows = ControlRows(
            easel.loader.controlnet(ref(easel, "live"), "float32"),
            hints,
            torch.tensor([0.7, 0.7]),
            torch.tensor([False, False]),
        )
        *ours_down, ours_mid = ControlSum([rows])(NetInput(sample, timesteps, context))
        ours = model.unet(
            sample,
            timesteps,
            context,
            down_block_additional_residuals=tuple(ours_down),
            mid_block_additional_residual=ours_mid,
        ).sample
    assert len(ours_down) == 4
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, model.unet(sample, timesteps, context).sample, atol=1e-2)


def test_zero_convolutions_leave_the_unet_bit_for_bit(control_easel: Easel):
    assert torch.equal(answer(control_easel, unit(control_easel, "zero")), answer(control_easel))
    assert not torch.allclose(answer(control_easel, unit(control_easel)), answer(control_easel), atol=1e-3)


def test_one_unit_of_weight_a_plus_b_is_two_of_a_and_b(control_easel: Easel):
    easel = control_easel
    whole = answer(easel, unit(easel, weight=1.1))
    parts = answer(easel, unit(easel, weight=0.8), unit(easel, weight=0.3))
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole, answer(easel, unit(easel, weight=0.8)), atol=1e-3)


def test_the_order_of_units_does_not_matter(control_easel: Easel):
    easel = control_easel
    one, two = unit(easel), unit(easel, "other", hint=hint(9))
    assert torch.equal(answer(easel, one, two), answer(easel, two, one))
    assert easel.executor.group_key(Denoise(easel.key(), noise(1, 1, 4, 8, 8), 1.0, (), controls=(one, two))) == (
        easel.executor.group_key(Denoise(easel.key(), noise(2, 1, 4, 8, 8), 2.0, (), controls=(two, one)))
    )


def test_a_row_of_weight_zero_is_left_alone_bit_for_bit(control_easel: Easel):
    easel = control_easel
    plain, both = answer(easel), answer(easel, unit(easel))
    first = answer(easel, unit(easel, rows=(1.0, 0.0)))
    assert torch.equal(first[1], plain[1])
    assert torch.allclose(first[0], both[0], atol=1e-5)
    assert torch.equal(answer(easel, unit(easel, rows=(0.0, 0.0))), plain)


def test_my_prompt_matters_more_fades_the_early_residuals(control_easel: Easel):
    """Thirteen residuals get A1111's 0.825^(12 − i); five spread the same exponents evenly."""
    thirteen = fade_scales(13)
    assert thirteen == pytest.approx([0.825 ** (12 - i) for i in range(13)])
    assert fade_scales(5) == pytest.approx([0.825**12, 0.825**9, 0.825**6, 0.825**3, 1.0])
    easel = control_easel
    loaded = easel.loader.controlnet(ref(easel, "live"), "float32")
    sample, timesteps, context = noise(1, 2, 4, SIDE, SIDE), torch.tensor([500.0, 20.0]), noise(2, 2, WORDS, 32)
    rows = ControlRows(loaded, hint(5, rows=2), torch.tensor([1.0, 0.5]), torch.tensor([True, False]))
    faded = ControlSum([rows])(NetInput(sample, timesteps, context))
    whole = loaded.residuals(NetInput(sample, timesteps, context), hint(5, rows=2))
    for got, plain, scale in zip(faded, whole, fade_scales(5), strict=True):
        assert torch.allclose(got[0], plain[0] * scale, atol=1e-6)
        assert torch.allclose(got[1], plain[1] * 0.5, atol=1e-6)


def test_a_mask_keeps_the_residuals_inside(control_easel: Easel):
    easel = control_easel
    loaded = easel.loader.controlnet(ref(easel, "live"), "float32")
    sample, timesteps, context = noise(1, 1, 4, SIDE, SIDE), torch.tensor([500.0]), noise(2, 1, WORDS, 32)
    left = torch.zeros(1, 1, SIDE * 8, SIDE * 8)
    left[..., : SIDE * 4] = 1.0
    rows = ControlRows(loaded, hint(5), torch.tensor([1.0]), torch.tensor([False]), left)
    for masked, whole in zip(
        ControlSum([rows])(NetInput(sample, timesteps, context)),
        loaded.residuals(NetInput(sample, timesteps, context), hint(5)),
        strict=True,
    ):
        half = masked.shape[-1] // 2
        assert torch.equal(masked[..., :half], whole[..., :half])
        assert not masked[..., half:].any()
    plain = answer(easel)
    assert torch.equal(answer(easel, unit(easel, mask=torch.zeros_like(left))), plain)
    assert torch.allclose(answer(easel, unit(easel, mask=torch.ones_like(left))), answer(easel, unit(easel)), atol=1e-6)


def test_nothing_acts_where_every_row_is_idle(control_easel: Easel):
    loaded = control_easel.loader.controlnet(ref(control_easel, "live"), "float32")
    idle = ControlRows(loaded, hint(1), torch.zeros(1), torch.tensor([False]))
    assert control_of([idle]) is None
    assert control_of([]) is None


def test_a_net_without_attention_beside_a_unet_with_pooled_text(control_easel: Easel):
    easel = control_easel
    mini = unit(easel, "mini-line")
    plain = answer(easel, model="mini", channels=8)
    assert plain.shape == (2, 8, SIDE, SIDE)
    assert not torch.allclose(answer(easel, mini, model="mini", channels=8), plain, atol=1e-3)


def test_controlnets_count_towards_memory_and_make_room(control_easel: Easel):
    from danqing.models.loader import Loader

    loader = Loader(control_easel.catalog, torch.device("cpu"))
    key = control_easel.key()
    model = loader.get(key.model, None, "float32")
    net = loader.controlnet(ref(control_easel, "live"), "float32")
    assert net.size_bytes == sum(p.numel() * 4 for p in net.net.parameters())
    assert loader.controlnet(ref(control_easel, "live"), "float32") is net
    assert not loader.drop_others(model, net)
    assert loader.drop_others(model)
    assert loader.controlnet(ref(control_easel, "live"), "float32") is not net
    assert loader.get(key.model, None, "float32") is model


def test_making_room_for_a_controlnet_ends(control_easel: Easel):
    """What a Call needs is not given up, or the engine would load and drop it for ever."""
    easel = control_easel
    call = Denoise(easel.key(), noise(3, 1, 4, 8, 8), 2.0, (noise(4, WORDS, 32),), controls=(unit(easel, rows=(1.0,)),))
    easel.executor.run([call])
    easel.executor.relieve(call)
    easel.executor.run([call])
    assert not easel.executor.relieve(call)


def test_bfloat16_works_and_is_near(control_easel: Easel):
    easel = control_easel
    key = easel.key()
    low = type(key)(key.model, None, "bfloat16")
    contexts = (noise(4, WORDS, 32), noise(5, WORDS, 32))
    x = noise(3, 1, 4, SIDE, SIDE)
    calls = [Denoise(one, x, 2.0, contexts, controls=(unit(easel, weight=0.5),)) for one in (key, low)]
    (exact,), (near,) = (easel.executor.run([call]) for call in calls)
    assert float((exact - near).abs().max()) < 0.1 * float(exact.abs().max())
