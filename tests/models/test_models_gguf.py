"""GGUF transformers: written by the gguf package in city96's layout, read packed, unpacked layer by layer."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from danqing.models.catalog import Catalog
from danqing.models.headers import read_header
from danqing.models.loader import Loader
from danqing.models.singlefile import gguf as reading
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.model import ModelRef
from easel import Easel
from tiny_transformers import TinyTransformer, make_flux, make_sd3

gguf = pytest.importorskip("gguf")
WORDS = {"prompt": "a (red:1.3) cat", "negative_prompt": "blue"}
KINDS = {"F16": gguf.GGMLQuantizationType.F16, "BF16": gguf.GGMLQuantizationType.BF16} | {
    name: getattr(gguf.GGMLQuantizationType, name) for name in ("Q8_0", "Q4_0", "Q5_1")
}
BLOCK = 32


def save_gguf(tiny: TinyTransformer, path: Path, kind: str) -> Path:
    """Matrices packed where their rows are whole blocks, vectors in float32, as city96's converter does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, tiny.family)
    for name, tensor in tiny.published().items():
        data = tensor.detach().numpy().astype(np.float32)
        if data.ndim < 2 or data.shape[-1] % BLOCK or name == "pos_embed":
            writer.add_tensor(name, data)
        else:
            packed = gguf.quants.quantize(data, KINDS[kind])
            writer.add_tensor(name, packed, raw_dtype=KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".danqing.json").write_text(json.dumps(tiny.about))
    return path


def loaded(models_dir: Path, name: str, precision: str = "float32") -> Any:
    catalog = Catalog(models_dir)
    info = catalog.find(name)
    ref = ModelRef(name=info.name, sha256=info.sha256, family=info.family)
    return Loader(catalog, torch.device("cpu")).get(ref, None, precision)


def unpacked(tensor: Any) -> Tensor:
    if not hasattr(tensor, "quant_type"):
        return tensor
    return torch.from_numpy(gguf.quants.dequantize(tensor.as_tensor().numpy(), tensor.quant_type))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_packed_weights_are_the_files_own(tmp_path: Path, kind: str):
    tiny = make_flux("dev")
    tiny.save_companions(tmp_path)
    path = save_gguf(tiny, tmp_path / "unet" / f"flux1-dev-{kind}.gguf", kind)
    assert {info.dtype for info in read_header(path).tensors.values()} >= {"float32"}
    model = loaded(tmp_path, path.name)
    assert (model.info.family, model.info.variant) == ("flux", "dev")
    state = model.unet.state_dict()
    for name, wanted in tiny.transformer.state_dict().items():
        error = float((unpacked(state[name]).float() - wanted).abs().max())
        worst = float(wanted.abs().max()) * {"Q4_0": 0.15, "Q5_1": 0.05}.get(kind, 0.01)
        assert error <= worst, name
    assert reading.is_packed(model.unet) == (kind != "F16")
    plain = sum(one.numel() * 4 for one in tiny.transformer.parameters())
    if kind == "Q4_0":
        assert sum(one.numel() * one.element_size() for one in model.unet.parameters()) < plain / 4


@pytest.mark.parametrize(("family", "precision"), [("flux", "float32"), ("flux", "bfloat16"), ("sd3", "float32")])
def test_a_packed_file_paints_nearly_its_twins_picture(tmp_path: Path, family: str, precision: str):
    tiny = make_flux("schnell") if family == "flux" else make_sd3()
    tiny.save_companions(tmp_path)
    tiny.save_folder(tmp_path / "Stable-diffusion" / "twin")
    save_gguf(tiny, tmp_path / "unet" / "packed-Q8_0.gguf", "Q8_0")
    easel = Easel(tmp_path)
    packed, plain = (easel.pixels(model=name, precision=precision, **WORDS) for name in ("packed-Q8_0.gguf", "twin"))
    other = easel.pixels(model="packed-Q8_0.gguf", precision=precision, prompt="a house")
    assert np.abs(packed - plain).mean() < np.abs(packed - other).mean() / 2


def test_a_packed_kontext_paints_nearly_its_twins_picture(tmp_path: Path):
    tiny = make_flux("dev")
    tiny.about = {"defaults": {"size_px": 32, "steps": 2}, "call": {"_auto_resize": False, "max_sequence_length": 16}}
    tiny.save_companions(tmp_path)
    tiny.save_file(tmp_path / "unet" / "twin-kontext.safetensors")
    save_gguf(tiny, tmp_path / "unet" / "packed-kontext.gguf", "Q8_0")
    easel = Easel(tmp_path)
    packed, plain = (easel.pixels(model=name, prompt="a cat") for name in ("packed-kontext.gguf", "twin-kontext"))
    other = easel.pixels(model="packed-kontext.gguf", prompt="a house")
    assert np.abs(packed - plain).mean() < np.abs(packed - other).mean() / 2


def test_half_precision_in_a_gguf_is_its_twin_bit_for_bit(tmp_path: Path):
    tiny = make_sd3(dual=True)
    tiny.save_companions(tmp_path)
    save_gguf(tiny, tmp_path / "unet" / "sd3-F16.gguf", "F16")
    state = loaded(tmp_path, "sd3-F16").unet.state_dict()
    for name, wanted in tiny.transformer.state_dict().items():
        exact = torch.equal(state[name], wanted) or torch.equal(state[name], wanted.half().float())
        assert exact, name


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tiny = make_flux("schnell")
    tiny.save_companions(tmp_path)
    save_gguf(tiny, tmp_path / "unet" / "flux.gguf", "Q8_0")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "gguf":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedError, match="gguf") as caught:
        loaded(tmp_path, "flux.gguf")
    assert "danqing[gguf]" in (caught.value.next_step or "")


def test_a_damaged_file_is_refused(tmp_path: Path):
    tiny = make_flux("schnell")
    path = save_gguf(tiny, tmp_path / "unet" / "flux.gguf", "Q8_0")
    path.write_bytes(path.read_bytes()[:200])
    assert "flux.gguf" in str(Catalog(tmp_path).problems())
    tiny.save_companions(tmp_path)
    lost = dict(tiny.published())
    lost.pop("txt_in.bias")
    tiny.published = lambda: lost  # type: ignore[method-assign]
    save_gguf(tiny, path, "Q8_0")
    with pytest.raises(BadFileError, match=r"context_embedder\.bias"):
        loaded(tmp_path, "flux.gguf")
