"""Control networks of every kind beside a UNet: what diffusers makes of them, weighted by row, and nothing outside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.adapters.t2i import AdapterRows, added_features, soft_scales
from danqing.engine.calls import ControlInput, Denoise, SizeNumbers
from danqing.models.controlnet import LoadedControlNet, NetInput
from danqing.models.t2i_adapter import LoadedT2IAdapter
from danqing.planning.controls import CONTROL_LORA
from danqing.spec.model import ModelRef
from easel import Easel
from tiny_checkpoints import TEXT_WIDTH
from tiny_controlfiles import build_control_files

WORDS, SIDE = 77, 8
MODELS = {"line": "one", "lora": "one", "t2i": "one", "t2i_canny": "deep"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return Easel(build_control_files(tmp_path_factory.mktemp("control-files")))


def ref(easel: Easel, name: str) -> ModelRef:
    info = easel.catalog.find_controlnet(name)
    return ModelRef(
        name=info.name, sha256=info.sha256, family=CONTROL_LORA if info.kind == "control_lora" else "controlnet"
    )


def hint(seed: int, side: int = SIDE * 8) -> Tensor:
    return torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(seed))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(easel: Easel, name: str, **changes: Any) -> ControlInput:
    union = {"union_id": 3} if "union" in name else {}
    return ControlInput(
        **{"net": ref(easel, name), "hint": hint(1), "weight": 1.0, "rows": (1.0, 1.0), **union, **changes}
    )


def call(easel: Easel, model: str, *controls: ControlInput, side: int = SIDE) -> Denoise:
    large = model == "xl"
    width = TEXT_WIDTH * (2 if large else 1)
    return Denoise(
        easel.key(model),
        noise(3, 1, 4, side, side),
        2.0,
        (noise(4, WORDS, width), noise(5, WORDS, width)),
        controls=controls,
        pooled=(noise(6, TEXT_WIDTH), noise(7, TEXT_WIDTH)) if large else (),
        sizes=(SizeNumbers(64, 64, 0, 0, 64, 64),) * 2 if large else (),
    )


def answer(easel: Easel, model: str, *controls: ControlInput, side: int = SIDE) -> Tensor:
    (rows,) = easel.executor.run([call(easel, model, *controls, side=side)])
    return rows


def model_of(name: str) -> str:
    return MODELS.get(name, "xl")


NAMES = ("line", "lora", "t2i", "t2i_canny", "xl-line", "xl-folder", "xl-union", "xl-lora", "xl-t2i")


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_acts_and_weight_zero_is_absent(studio: Easel, name: str):
    model = model_of(name)
    plain, whole = answer(studio, model), answer(studio, model, unit(studio, name))
    assert not torch.allclose(whole, plain, atol=1e-3)
    assert torch.equal(answer(studio, model, unit(studio, name, weight=0.0)), plain)
    first = answer(studio, model, unit(studio, name, rows=(1.0, 0.0)))
    assert torch.equal(first[1], plain[1])
    assert torch.allclose(first[0], whole[0], atol=1e-5)
    black = torch.zeros(1, 1, SIDE * 8, SIDE * 8)
    assert torch.equal(answer(studio, model, unit(studio, name, mask=black)), plain)
    assert torch.allclose(answer(studio, model, unit(studio, name, mask=black + 1)), whole, atol=1e-5)
    assert not torch.allclose(answer(studio, model, unit(studio, name, fading=True)), whole, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_two_units_add_up(studio: Easel, name: str):
    model = model_of(name)
    whole = answer(studio, model, unit(studio, name, weight=1.1))
    parts = answer(studio, model, unit(studio, name, weight=0.8), unit(studio, name, weight=0.3))
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-4)


def test_a_file_answers_as_its_folder_bit_for_bit(studio: Easel):
    one, other = (answer(studio, "xl", unit(studio, name)) for name in ("xl-line", "xl-folder"))
    assert torch.equal(one, other)


def test_zero_convolutions_from_a_file_leave_the_unet_bit_for_bit(studio: Easel):
    assert torch.equal(answer(studio, "one", unit(studio, "zero")), answer(studio, "one"))


@pytest.mark.parametrize("name", ["t2i", "t2i_canny", "xl-t2i"])
def test_adapters_are_those_of_diffusers(studio: Easel, name: str):
    model = model_of(name)
    loaded = studio.loader.controlnet(ref(studio, name), "float32")
    assert isinstance(loaded, LoadedT2IAdapter)
    unet = studio.model(model).unet
    shown = hint(1)
    if name == "t2i_canny":
        shown = shown.mean(1, keepdim=True)
    given: dict[str, Any] = {"encoder_hidden_states": noise(2, 2, WORDS, TEXT_WIDTH * (2 if model == "xl" else 1))}
    if model == "xl":
        given["added_cond_kwargs"] = {"text_embeds": noise(6, 2, TEXT_WIDTH), "time_ids": torch.ones(2, 6)}
    sample, times = noise(1, 2, 4, SIDE, SIDE), torch.tensor([500.0, 20.0])
    with torch.inference_mode():
        maps = [torch.cat([one] * 2) * 0.7 for one in loaded.net(shown)]
        theirs = unet(sample, times, down_intrablock_additional_residuals=list(maps), **given).sample
        rows = AdapterRows([loaded.features(hint(1))] * 2, torch.full((2,), 0.7), torch.tensor([False, False]))
        ours = unet(sample, times, down_intrablock_additional_residuals=added_features([rows]), **given).sample
        plain = unet(sample, times, **given).sample
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, plain, atol=1e-2)
    levels = len(unet.config["block_out_channels"]) + (name == "xl-t2i")
    assert len(maps) == levels


def test_a_map_is_read_once(studio: Easel):
    loaded = studio.loader.controlnet(ref(studio, "t2i"), "float32")
    assert isinstance(loaded, LoadedT2IAdapter)
    calls: list[int] = []
    handle = loaded.net.register_forward_hook(lambda *_: calls.append(1))
    one, other = unit(studio, "t2i", hint=hint(8)), unit(studio, "t2i", hint=hint(9))
    for _ in range(3):
        studio.executor.run([call(studio, "one", one), call(studio, "one", other)])
    assert len(calls) == 2
    answer(studio, "one", unit(studio, "t2i", hint=hint(8)))
    assert len(calls) == 3, "another tensor is another map"
    handle.remove()


def test_sides_that_do_not_divide(studio: Easel):
    """SDXL's adapters gather sixteen pixels; nine latents a side round up as in the UNet."""
    for name in ("t2i", "xl-t2i", "line"):
        shown = unit(studio, name, hint=hint(2, 72))
        assert answer(studio, model_of(name), shown, side=9).shape == (2, 4, 9, 9)


def test_a_net_and_an_adapter_together(studio: Easel):
    plain, net = answer(studio, "one"), answer(studio, "one", unit(studio, "line"))
    both = answer(studio, "one", unit(studio, "line"), unit(studio, "t2i"))
    assert not torch.allclose(both, net, atol=1e-3)
    assert not torch.allclose(both, plain, atol=1e-3)
    assert torch.equal(both, answer(studio, "one", unit(studio, "t2i"), unit(studio, "line")))


def test_a_union_net_is_told_what_the_map_shows(studio: Easel):
    answers = [answer(studio, "xl", unit(studio, "xl-union", union_id=one)) for one in (0, 1, 3)]
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    assert not torch.allclose(answers[1], answers[2], atol=1e-3)
    keys = {call(studio, "xl", unit(studio, "xl-union", union_id=one)).control_set for one in (0, 1)}
    assert len(keys) == 2, "different types never share a batch"
    with pytest.raises(RuntimeError, match="type None"):
        answer(studio, "xl", unit(studio, "xl-union", union_id=None))


def test_rows_of_a_union_net_do_not_see_each_other(studio: Easel):
    """As diffusers has it, its inner attention runs over the rows of a batch: a neighbour would change the picture."""
    loaded = studio.loader.controlnet(ref(studio, "xl-union"), "float32")
    assert isinstance(loaded, LoadedControlNet)
    given = NetInput(
        noise(1, 2, 4, SIDE, SIDE),
        torch.tensor([500.0, 20.0]),
        noise(2, 2, WORDS, 2 * TEXT_WIDTH),
        {"text_embeds": noise(6, 2, TEXT_WIDTH), "time_ids": torch.ones(2, 6)},
    )
    hints = torch.cat([hint(1), hint(2)])
    first = torch.tensor([0])
    # In float64 what is left is no rounding.
    exact = copy.deepcopy(loaded)
    exact.net.double()
    given = NetInput(given.sample.double(), given.timesteps, given.context.double(), given.added)
    both, alone = exact.residuals(given, hints, 3), exact.residuals(given.rows(first), hints[:1], 3)
    for whole, own in zip(both, alone, strict=True):
        assert torch.allclose(whole[:1], own, rtol=0, atol=1e-10)


def test_sizes_and_pooled_words_reach_an_sdxl_net(studio: Easel):
    loaded = studio.loader.controlnet(ref(studio, "xl-line"), "float32")
    seen: list[dict[str, Any]] = []
    handle = loaded.net.register_forward_pre_hook(lambda _m, _a, kw: seen.append(kw), with_kwargs=True)
    answer(studio, "xl", unit(studio, "xl-line", rows=(0.0, 1.0)))
    handle.remove()
    (given,) = seen
    assert torch.equal(given["added_cond_kwargs"]["text_embeds"], noise(7, TEXT_WIDTH)[None])
    assert given["added_cond_kwargs"]["time_ids"].tolist() == [[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]


def test_a_control_lora_is_built_for_each_model(studio: Easel):
    lora = ref(studio, "lora")
    nets = [studio.loader.controlnet(lora, "float32", studio.model(name)) for name in ("one", "two", "one")]
    assert nets[0] is nets[2]
    pairs = [one.net.state_dict()["down_blocks.0.resnets.0.conv1.weight"] for one in nets[:2]]
    assert not torch.equal(*pairs)
    changes = [
        pair - studio.model(name).unet.state_dict()["down_blocks.0.resnets.0.conv1.weight"]
        for pair, name in zip(pairs, ("one", "two"), strict=True)
    ]
    assert torch.allclose(*changes, atol=1e-6)
    assert not torch.allclose(answer(studio, "two", unit(studio, "lora")), answer(studio, "two"), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_works_and_is_near(studio: Easel, name: str):
    model = model_of(name)
    exact = call(studio, model, unit(studio, name, weight=0.3))
    low = Denoise(**{**vars(exact), "model": type(exact.model)(exact.model.model, None, "bfloat16")})
    (a,), (b,) = (studio.executor.run([one]) for one in (exact, low))
    assert float((a - b).abs().max()) < 0.1 * float(a.abs().max())


def test_soft_scales_are_a1111s():
    assert soft_scales(4) == [0.25, 0.62, 0.825, 1.0]
    assert soft_scales(3) == pytest.approx([0.25, 0.7225, 1.0])
    assert soft_scales(1) == [1.0]
    rows = AdapterRows([(torch.ones(1, 1, 2, 2),) * 4] * 2, torch.tensor([1.0, 2.0]), torch.tensor([True, False]))
    assert [one[:, 0, 0, 0].tolist() for one in added_features([rows])] == [
        pytest.approx([scale, 2.0]) for scale in (0.25, 0.62, 0.825, 1.0)
    ]


def test_nothing_acts_where_every_row_is_idle():
    rows = AdapterRows([(torch.ones(1, 1, 2, 2),)], torch.zeros(1), torch.tensor([False]))
    assert added_features([rows]) == []


def test_a_file_that_went_away_is_named(studio: Easel, tmp_path: Path):
    from danqing.spec.errors import NotFoundError

    gone = ModelRef(name="gone", sha256="f" * 64, family="controlnet")
    with pytest.raises(NotFoundError, match="gone"):
        studio.loader.controlnet(gone)
