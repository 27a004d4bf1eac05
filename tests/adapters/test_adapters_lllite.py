"""ControlNet-LLLite in kohya's layout: read, planned, and computed inside a small SDXL's attentions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from danqing.adapters.lllite import LLLiteRows, acting, block_scales
from danqing.adapters.module_names import unet_names
from danqing.engine.calls import Denoise
from danqing.models import precision
from danqing.models.catalog import Catalog
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.models.lllite import LoadedLLLite, load_lllite
from danqing.planning.controls import check_fits
from danqing.spec.errors import BadFileError, UnsupportedError
from easel import Easel, box_mask, photo
from tiny_checkpoints import TEXT_WIDTH, make
from tiny_controlfiles import control_tiny, save

Tensors = dict[str, Tensor]
CPU = torch.device("cpu")
RANK, DEPTH_WIDTH, WIDTH = 6, 8, 64
# Block of the small SDXL as LDM counts it → (its transformer blocks, kernels of the convolutions, diffusers' path).
BLOCKS = {
    "input_blocks_3_1": (1, (4, 4), "down_blocks.1.attentions.0"),
    "input_blocks_5_1": (2, (4, 4, 2), "down_blocks.2.attentions.0"),
    "middle_block_1": (2, (4, 4, 2), "mid_block.attentions.0"),
}
LAYERS = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q")
TOLERANCE = 1e-5


def lllite(seed: int = 1, up: float = 0.5, change: Callable[[Tensors], Tensors] | None = None) -> Tensors:
    """A file's tensors with random numbers, named as sd-scripts names them."""
    generator = torch.Generator().manual_seed(seed)
    found: Tensors = {}

    def add(name: str, *shape: int, scale: float = 0.3) -> None:
        found[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale
        found[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * scale

    for block, (count, kernels, _) in BLOCKS.items():
        for at, layer in itertools.product(range(count), LAYERS):
            stem = f"lllite_unet_{block}_transformer_blocks_{at}_{layer}"
            width = 3
            for index, kernel in enumerate(kernels):
                out = DEPTH_WIDTH if index == len(kernels) - 1 else DEPTH_WIDTH // 2
                add(f"{stem}.conditioning1.{2 * index}", out, width, kernel, kernel)
                width = out
            add(f"{stem}.down.0", RANK, WIDTH)
            add(f"{stem}.mid.0", RANK, RANK + DEPTH_WIDTH)
            add(f"{stem}.up.0", WIDTH, RANK, scale=up)
    return change(found) if change else found


def build(root: Path) -> Easel:
    """A small SDXL and SD 1, and LLLites: two, and one whose last layers are zero."""
    control_tiny("sdxl").save_folder(root / "Stable-diffusion" / "xl")
    make("sd1").save_folder(root / "Stable-diffusion" / "one")
    save(lllite(1), root / "ControlNet" / "xl_lllite_canny.safetensors")
    save(lllite(2), root / "ControlNet" / "second.safetensors")
    save(lllite(3, up=0.0), root / "ControlNet" / "zero.safetensors")
    return Easel(root)


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return build(tmp_path_factory.mktemp("lllite"))


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def fields(easel: Easel, seed: int = 1, **changes: Any) -> dict[str, Any]:
    unit = {"model": "xl_lllite_canny", "image": easel.picture(photo(64, 64, seed=seed)), "annotator": "canny"}
    request = {"model": "xl", "seed": seed, "width_px": 64, "height_px": 64}
    return {**request, "sampling": {"sampler": "euler", "steps": 3}, "controls": [{**unit, **changes}]}


def painted(easel: Easel, **request: Any) -> Tensor:
    return easel.latents(list(easel.plans(**request)))[0]


def net_of(easel: Easel, name: str = "xl_lllite_canny") -> LoadedLLLite:
    return load_lllite(easel.catalog.find_controlnet(name), precision.choose(CPU, "float32"), CPU)


def unet_of(easel: Easel) -> Any:
    model = easel.model("xl")
    assert isinstance(model, StableDiffusionXL)
    return model.unet


def asked(rows: int, side: int = 8) -> dict[str, Any]:
    """What a UNet is called with."""
    generator = torch.Generator().manual_seed(4)
    return {
        "sample": torch.randn((rows, 4, side, side), generator=generator),
        "timestep": torch.full((rows,), 500),
        "encoder_hidden_states": torch.randn((rows, 77, 2 * TEXT_WIDTH), generator=generator),
        "added_cond_kwargs": {
            "text_embeds": torch.randn((rows, TEXT_WIDTH), generator=generator),
            "time_ids": torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]] * rows),
        },
    }


def hint_of(seed: int, side: int = 64) -> Tensor:
    return torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(seed))


def rows_of(net: LoadedLLLite, hints: list[Tensor], weights: list[float], **more: Any) -> LLLiteRows:
    fading = more.pop("fading", torch.zeros(len(hints), dtype=torch.bool))
    return LLLiteRows(net, [net.embeddings(hint) for hint in hints], torch.tensor(weights), fading, **more)


@torch.inference_mode()
def answer(unet: Any, rows: int, *parts: LLLiteRows, side: int = 8) -> Tensor:
    with acting(unet, parts):
        return unet(**asked(rows, side)).sample


@torch.inference_mode()
def reference(unet: Any, tensors: Tensors, hint: Tensor, strength: float) -> Tensor:
    """sd-scripts' rule written out: the layer reads x + strength · up(relu(mid(cat(c, relu(down(x)))))."""

    def linear(x: Tensor, stem: str, part: str) -> Tensor:
        return x @ tensors[f"{stem}.{part}.0.weight"].T + tensors[f"{stem}.{part}.0.bias"]

    def changed(module: Any, stem: str, kernels: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        c = hint * 2 - 1
        for index, kernel in enumerate(kernels):
            name = f"{stem}.conditioning1.{2 * index}"
            c = functional.conv2d(c.relu() if index else c, tensors[f"{name}.weight"], tensors[f"{name}.bias"], kernel)
        tokens = c.flatten(2).transpose(1, 2)

        def forward(x: Tensor) -> Tensor:
            low = linear(x, stem, "down").relu()
            added = linear(linear(torch.cat([tokens, low], 2), stem, "mid").relu(), stem, "up")
            return functional.linear(x + strength * added, module.weight, module.bias)

        return forward

    kept: list[tuple[Any, Any]] = []
    try:
        for block, (count, kernels, path) in BLOCKS.items():
            for at, layer in itertools.product(range(count), LAYERS):
                module = unet.get_submodule(f"{path}.transformer_blocks.{at}.{layer.replace('_', '.', 1)}")
                kept.append((module, module.forward))
                stem = f"lllite_unet_{block}_transformer_blocks_{at}_{layer}"
                module.forward = changed(module, stem, kernels)
        return unet(**asked(1)).sample
    finally:
        for module, forward in kept:
            module.forward = forward


def test_the_catalogue_knows_it(easel: Easel):
    assert easel.catalog.problems() == {}
    info = easel.catalog.find_controlnet("xl_lllite_canny")
    assert (info.kind, info.family, info.block_widths, info.in_channels) == ("lllite", "sdxl", (0, 64, 64), None)
    assert (info.control_type, info.annotators[0]) == ("canny", "canny")


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_it_is_the_published_rule(easel: Easel, strength: float):
    unet, hint = unet_of(easel), hint_of(1)
    ours = answer(unet, 1, rows_of(net_of(easel), [hint], [strength]))
    plain = answer(unet, 1)
    assert distance(ours, plain) > 0.01
    assert distance(ours, reference(unet, lllite(1), hint, strength)) < TOLERANCE
    # And it leaves nothing behind.
    assert torch.equal(answer(unet, 1), plain)


def test_rows_without_it_stay_bit_for_bit(easel: Easel):
    unet, net = unet_of(easel), net_of(easel)
    hints = [hint_of(1), hint_of(2), hint_of(3)]
    plain = answer(unet, 3)
    some = answer(unet, 3, rows_of(net, hints, [1.0, 0.0, 0.5]))
    assert torch.equal(some[1], plain[1])
    assert distance(some[0], plain[0]) > 0.01
    every = answer(unet, 3, rows_of(net, hints, [1.0, 1.0, 0.5]))
    assert distance(some[2], every[2]) < TOLERANCE
    assert torch.equal(answer(unet, 3, rows_of(net, hints, [0.0, 0.0, 0.0])), plain)


def test_masks_and_fading(easel: Easel):
    unet, net, hint = unet_of(easel), net_of(easel), hint_of(1)
    plain, whole = answer(unet, 1), answer(unet, 1, rows_of(net, [hint], [1.0]))
    ones = torch.ones((1, 1, 64, 64))
    assert torch.equal(answer(unet, 1, rows_of(net, [hint], [1.0], masks=ones)), whole)
    assert torch.equal(answer(unet, 1, rows_of(net, [hint], [1.0], masks=ones * 0)), plain)
    ones[..., 32:] = 0
    half = answer(unet, 1, rows_of(net, [hint], [1.0], masks=ones))
    assert distance(half, whole) > TOLERANCE < distance(half, plain)
    faded = answer(unet, 1, rows_of(net, [hint], [1.0], fading=torch.tensor([True])))
    assert distance(faded, plain) < distance(whole, plain)


def test_blocks_fade_as_the_residuals_beside_them(easel: Easel):
    scales = block_scales(unet_names(path for path, _ in unet_of(easel).named_modules()))
    assert scales["IN00"] == pytest.approx(0.825**12)
    assert scales["M00"] == 1.0
    assert scales["IN00"] < scales["IN03"] < scales["IN05"] < 1.0
    assert scales["OUT00"] == scales["IN05"]


def test_several_add_up_in_any_order(easel: Easel):
    unet, first, second = unet_of(easel), net_of(easel), net_of(easel, "second")
    parts = [rows_of(first, [hint_of(1)], [1.0]), rows_of(second, [hint_of(2)], [0.7])]
    one, other = answer(unet, 1, *parts), answer(unet, 1, *reversed(parts))
    assert distance(one, other) < TOLERANCE
    assert distance(one, answer(unet, 1, parts[0])) > 0.01


def test_sides_that_are_no_multiple_are_filled_up(easel: Easel):
    """72 pixels are 9, 5 and 3 places of the levels."""
    unet, net = unet_of(easel), net_of(easel)
    embeddings = net.embeddings(hint := hint_of(1, 72))
    assert {tuple(one.shape[1:3]) for one in embeddings.values()} == {(5, 5), (3, 3)}
    assert distance(answer(unet, 1, rows_of(net, [hint], [1.0]), side=9), answer(unet, 1, side=9)) > 0.01
    # A map of another size fits no layer, and nothing happens.
    assert torch.equal(answer(unet, 1, rows_of(net, [hint_of(1, 128)], [1.0])), answer(unet, 1))


def test_outside_its_window_a_unit_is_absent_bit_for_bit(easel: Easel):
    plain = painted(easel, **{**fields(easel), "controls": []})
    acting_, outside, weightless, empty = (
        painted(easel, **fields(easel, **changes))
        for changes in ({}, {"start": 0.9}, {"weight": 0.0}, {"model": "zero"})
    )
    assert torch.equal(outside, plain)
    assert torch.equal(weightless, plain)
    assert torch.equal(empty, plain)
    assert not torch.allclose(acting_, plain, atol=1e-3)
    early = painted(easel, **fields(easel, end=0.4))
    assert not torch.allclose(early, plain, atol=1e-3)
    assert not torch.allclose(early, acting_, atol=1e-3)


def test_pictures_alone_and_among_companions(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """In float64: the small SDXL grows float32's last bits, also with no control at all."""
    monkeypatch.setitem(precision._DTYPES, "float32", torch.float64)
    easel = build(tmp_path_factory.mktemp("exact"))
    changes: list[dict[str, Any]] = [
        {},
        {"weight": 0.5, "mode": "prompt"},
        {"mode": "control"},
        {"mask": easel.picture(box_mask(64, 64, (0, 0, 32, 64)))},
        {"end": 0.4},
        {"model": "second"},
    ]
    requests = [fields(easel, seed, **one) for seed, one in enumerate(changes)]
    both = fields(easel, 7)
    both["controls"].append({**both["controls"][0], "model": "second"})
    requests += [both, {**fields(easel, 8), "controls": []}]
    plans = [easel.plans(**one)[0] for one in requests]
    alone = [easel.latents([one])[0] for one in plans]
    together = easel.latents(plans)
    shared = [calls for calls in easel.executor.ran if isinstance(calls[0], Denoise) and len(calls) >= 4]
    assert any(calls[0].control_set for calls in shared if isinstance(calls[0], Denoise))
    for request, ours, theirs in zip(requests, together, alone, strict=True):
        assert distance(ours, theirs) <= TOLERANCE, request


def test_in_half_precision(easel: Easel):
    request = {**fields(easel), "precision": "bfloat16"}
    with_it, without = (painted(easel, **{**request, "controls": units}) for units in (request["controls"], []))
    assert with_it.isfinite().all()
    assert distance(with_it, without) > 0.05


def test_hires_and_regions_and_pag_read_it_too(easel: Easel):
    for more in (
        {"hires": {"scale": 1.5, "steps": 2}},
        {"guidance": {"scale": 5.0, "pag_scale": 2.0}},
        {"regions": [{"box": {"left_px": 0, "top_px": 0, "right_px": 32, "bottom_px": 64}, "prompt": "a dog"}]},
    ):
        request = {**fields(easel), **more}
        with_it, without = (easel.pixels(**{**request, "controls": units}) for units in (request["controls"], []))
        assert abs(with_it - without).mean() > 0.1


def test_a_model_that_it_does_not_fit_is_refused_with_the_reason(easel: Easel, tmp_path: Path):
    with pytest.raises(UnsupportedError, match="made for sdxl, the model is sd1"):
        easel.plans(**{**fields(easel), "model": "one"})
    flux = easel.catalog.find("xl").model_copy(update={"family": "flux", "block_widths": ()})
    with pytest.raises(UnsupportedError, match="steers a UNet, which flux has not"):
        check_fits(easel.catalog.find_controlnet("second"), flux)

    def wider(tensors: Tensors) -> Tensors:
        swaps = {
            f"{part}.0.{kind}": at for part, kind, at in (("down", "weight", 1), ("up", "weight", 0), ("up", "bias", 0))
        }
        found = dict(tensors)
        for name, one in tensors.items():
            dim = swaps.get(".".join(name.split(".")[1:]))
            if dim is not None and "input_blocks_3" in name:
                found[name] = torch.cat([one, one], dim=dim)
        return found

    root = tmp_path / "models"
    control_tiny("sdxl").save_folder(root / "Stable-diffusion" / "xl")
    save(lllite(change=wider), root / "ControlNet" / "wide.safetensors")
    stray = lllite(change=lambda all_: {n.replace("blocks_5_1", "blocks_6_1"): one for n, one in all_.items()})
    save(stray, root / "ControlNet" / "stray.safetensors")
    other = Easel(root)
    with pytest.raises(UnsupportedError, match="128 channels in level 1, the model has 64"):
        other.plans(**fields(other, model="wide"))
    with pytest.raises(UnsupportedError, match="a layer that the model has not"):
        other.pixels(**fields(other, model="stray"))


def test_files_that_are_damaged_or_for_something_else(tmp_path: Path):
    first = "lllite_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"
    cases: dict[str, tuple[Tensors, type[Exception], str]] = {
        "cut": (
            lllite(change=lambda all_: {n: one for n, one in all_.items() if n != f"{first}.up.0.bias"}),
            BadFileError,
            "incomplete",
        ),
        "odd": (
            lllite(change=lambda all_: {**all_, f"{first}.mid.0.weight": torch.ones(3, 3)}),
            BadFileError,
            "fit each",
        ),
        "convolution": (
            lllite(change=lambda all_: {**all_, f"{first}.down.0.weight": torch.ones(RANK, WIDTH, 1, 1)}),
            UnsupportedError,
            "convolutions",
        ),
        "anima": (
            {"lllite_dit_blocks_0_self_attn_q_proj.down.weight": torch.ones(6, 64)},
            UnsupportedError,
            "not know",
        ),
    }
    for name, (tensors, kind, said) in cases.items():
        save(tensors, tmp_path / "ControlNet" / f"{name}.safetensors")
        with pytest.raises(kind, match=said):
            Catalog(tmp_path).find_controlnet(name)
