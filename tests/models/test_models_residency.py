"""Where weights stay: chosen purely, without surprises, and the same picture wherever they wait."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.models import loader as loading
from danqing.models import precision as precisions
from danqing.models.catalog import Catalog
from danqing.models.offloading import settle, sizes_of
from danqing.models.precision import choose
from danqing.models.prepare import prepare_denoiser
from danqing.models.residency import (
    EXACT,
    GIB,
    OFFLOADED,
    Residency,
    ResidencyKind,
    Sizes,
    explain,
    needed_bytes,
    plan_residency,
)
from danqing.spec.errors import UnsupportedError
from easel import Easel
from tiny_checkpoints import make
from tiny_transformers import make_flux, make_sd3

CPU = torch.device("cpu")
BYTES = st.integers(min_value=1, max_value=64 * GIB)
SIZES = st.builds(Sizes, denoiser=BYTES, text=BYTES, vae=BYTES, block=BYTES, layer=BYTES)
FLUX = Sizes(int(23.8e9), int(9.8e9), int(0.17e9))
WORDS = {"prompt": "a (red:1.3) cat", "negative_prompt": "blue"}


# --- the choice -------------------------------------------------------------------------------------------------------
@given(sizes=SIZES, free=BYTES, device=st.sampled_from(["cuda", "cpu", "mps"]), host=st.one_of(st.none(), BYTES))
@settings(max_examples=300, deadline=None)
def test_what_is_said_to_fit_fits(sizes: Sizes, free: int, device: str, host: int | None):
    found = plan_residency(sizes, free, device, host)
    assert found.fits == (needed_bytes(found.kind, sizes, device) <= free)
    assert found.reason
    if found.kind in OFFLOADED:
        assert device == "cuda"
        assert host is None or sizes.total <= host


@given(sizes=SIZES, free=BYTES, more=BYTES)
@settings(max_examples=200, deadline=None)
def test_more_memory_never_makes_it_slower(sizes: Sizes, free: int, more: int):
    before, after = (plan_residency(sizes, one, "cuda") for one in (free, free + more))
    order: list[ResidencyKind] = [*EXACT, "layerwise"]
    if before.fits:
        assert after.fits
        assert order.index(after.kind) <= order.index(before.kind)


@given(sizes=SIZES, free=BYTES, host=BYTES)
@settings(max_examples=200, deadline=None)
def test_nothing_changes_the_picture_while_something_exact_fits(sizes: Sizes, free: int, host: int):
    found = plan_residency(sizes, free, "cuda", host)
    if found.kind == "layerwise":
        exact = EXACT if sizes.total <= host else EXACT[:1]
        assert all(needed_bytes(kind, sizes, "cuda") > free for kind in exact)


@pytest.mark.parametrize(
    ("gib", "kind"),
    [(80, "resident"), (26, "encoders_offload"), (8, "group_offload"), (3, "sequential_offload")],
)
def test_flux_on_published_cards(gib: int, kind: str):
    assert plan_residency(FLUX, gib * GIB, "cuda", 64 * GIB).kind == kind


def test_without_main_memory_float8_is_all_there_is():
    assert plan_residency(FLUX, 26 * GIB, "cuda", 16 * GIB).kind == "layerwise"
    assert plan_residency(FLUX, 26 * GIB, "cpu").kind == "layerwise"
    nothing = plan_residency(FLUX, GIB, "cpu")
    assert (nothing.kind, nothing.fits) == ("resident", False)
    assert "GGUF" in nothing.reason


def test_it_is_explained():
    lines = explain("cuda", 8 * GIB, 2, 64 * GIB)
    assert lines[0].startswith("Stable Diffusion 1.5: resident")
    assert lines[-1].startswith("FLUX.1: group offload")
    assert "23.8" not in lines[0]


# --- what is measured -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root = tmp_path_factory.mktemp("residency")
    home = root / "Stable-diffusion"
    flux = make_flux("dev")
    flux.save_folder(home / "flux")
    flux.save_file(root / "unet" / "flux-file.safetensors")
    flux.save_companions(root)
    make_sd3().save_folder(home / "sd3")
    make("sdxl").save_file(home / "sdxl.safetensors")
    make("sd1").save_folder(home / "sd1")
    return Easel(root)


@pytest.mark.parametrize("name", ["flux", "flux-file", "sd3", "sdxl", "sd1"])
def test_sizes_are_told_from_headers(studio: Easel, name: str):
    model: Any = studio.model(name)
    told = sizes_of(model.info, choose(CPU, "float32"))
    denoiser, vae = (sum(one.numel() * 4 for one in part.state_dict().values()) for part in (model.unet, model.vae))
    assert told.denoiser == pytest.approx(denoiser, rel=0.05)
    assert told.vae == pytest.approx(vae, rel=0.05)
    assert told.total == pytest.approx(model.size_bytes, rel=0.1)


def test_the_loader_notes_what_it_chose(studio: Easel):
    studio.model("sd1")
    assert studio.loader.residencies["sd1"].kind == "resident"


# --- the doing --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", OFFLOADED)
@pytest.mark.parametrize("name", ["flux", "sd3", "sdxl"])
def test_an_offloaded_model_paints_the_same(
    studio: Easel, name: str, kind: ResidencyKind, monkeypatch: pytest.MonkeyPatch
):
    """On the CPU the weights have nowhere to go; the hooks that would move them are all there."""
    wanted = studio.pixels(model=name, **WORDS)
    easel = Easel(studio.models_dir)
    monkeypatch.setattr(loading, "plan_residency", lambda *_: Residency(kind, "for this test"))
    assert np.array_equal(easel.pixels(model=name, **WORDS), wanted)
    hooked = [one for one in easel.model(name).text.model.modules() if hasattr(one, "_diffusers_hook")]
    assert hooked


def test_resident_models_are_not_settled(studio: Easel):
    with pytest.raises(ValueError, match="not offloaded"):
        settle(studio.model("sd1"), Residency("resident", ""), CPU)


@pytest.mark.parametrize("name", ["flux", "sd3", "sdxl"])
def test_float8_is_cast_layer_by_layer(studio: Easel, name: str):
    plain = studio.pixels(model=name, **WORDS)
    small = studio.pixels(model=name, precision="float8", **WORDS)
    other = studio.pixels(model=name, prompt="a house")
    assert 0 < np.abs(plain - small).mean() < max(6.0, np.abs(plain - other).mean())
    (one,) = studio.plans(model=name)
    model = studio.loader.get(one.base.model, None, "float8")
    stored = [p for p in model.unet.parameters() if p.dtype is torch.float8_e4m3fn]
    assert sum(p.numel() for p in stored) > 0.5 * sum(p.numel() for p in model.unet.parameters())
    assert model.precision.name == "float8"


def test_too_little_memory_means_float8(studio: Easel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "plan_residency", lambda *_: Residency("layerwise", "for this test"))
    easel = Easel(studio.models_dir)
    assert easel.model("flux").precision.storage == "float8"


def test_formats_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnsupportedError, match="CUDA"):
        choose(CPU, "nf4")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedError, match="torchao") as caught:
        prepare_denoiser(torch.nn.Linear(4, 4), precisions.choose(CPU, "int8"), CPU)
    assert "torchao" in (caught.value.next_step or "")


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="NOT TESTED HERE: torchao is not installed")
def test_int8_by_torchao(studio: Easel):
    plain = studio.pixels(model="flux", **WORDS)
    small = studio.pixels(model="flux", precision="int8", **WORDS)
    other = studio.pixels(model="flux", prompt="a house")
    assert 0 < np.abs(plain - small).mean() < np.abs(plain - other).mean()
    (one,) = studio.plans(model="flux")
    weight = studio.loader.get(one.base.model, None, "int8").unet.x_embedder.weight
    assert "Int8" in type(weight).__name__ or "Affine" in type(weight).__name__


def test_a_catalogue_knows_the_sizes_of_what_it_lists(studio: Easel):
    infos = [info for info in Catalog(studio.models_dir).list() if not info.builtin]
    assert all(sizes_of(info, choose(CPU, "float32")).denoiser > 0 for info in infos)
    assert Path(infos[0].path).exists()
