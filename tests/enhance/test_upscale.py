"""Upscaling by networks: tiles, sizes, transparency, files that are refused, spandrel's own loader."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from danqing.enhance import spandrel_models
from danqing.enhance.shelf import LoadedUpscalers
from danqing.enhance.spandrel_models import load_spandrel
from danqing.enhance.tiles import Tiling, enlarge_tiled
from danqing.enhance.upscale import Upscaler, read_tensors, upscale
from danqing.models.catalog import Catalog
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError, WorkerError
from danqing.spec.model import ModelRef
from danqing.training.builtin.upscaler_net import CompactUpscaler

CPU = torch.device("cpu")


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def write_net(path: Path, scale: int = 4, *, random: bool = True, key: str | None = None) -> Path:
    """A small compact network; not random: nearest neighbour."""
    torch.manual_seed(3)
    net = CompactUpscaler(4, 1, scale)
    with torch.no_grad():
        for parameter in net.body[-1].parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05 if random else torch.zeros_like(parameter))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({key: state} if key else state, path)
    return path


def drive(steps: Any, network: Any) -> np.ndarray:
    tile = next(steps)
    while True:
        try:
            tile = steps.send(network(tile))
        except StopIteration as stop:
            return stop.value


# --- tiles ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 400),
    tile=st.integers(16, 128),
    margin=st.integers(0, 6),
    ramp=st.integers(1, 6),
    scale=st.integers(1, 4),
)
def test_weights_sum_to_one_and_tiles_cover_everything(length: int, tile: int, margin: int, ramp: int, scale: int):
    tiling = Tiling(tile_px=tile + 2 * margin + ramp, margin_px=margin, ramp_px=ramp)
    side, starts = tiling.starts(length)
    assert starts[0] == 0
    assert starts[-1] + side == length
    assert all(b - a <= side - tiling.overlap_px for a, b in itertools.pairwise(starts))
    total = np.zeros(length * scale)
    for start, weight in zip(starts, tiling.weights(length, scale), strict=True):
        total[start * scale : (start + side) * scale] += weight
    assert np.abs(total - 1).max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (40, 24), (41, 97), (130, 33)])
def test_an_identity_network_gives_the_picture_back_exactly(size: tuple[int, int]):
    picture = pixels(*size)
    assert np.array_equal(drive(enlarge_tiled(picture, Tiling(40, 4, 4)), lambda tile: tile), picture)


@pytest.mark.parametrize("size", [(70, 50), (33, 121)])
def test_tiles_equal_the_whole_picture_for_a_local_network(tmp_path: Path, size: tuple[int, int]):
    network = Upscaler(write_net(tmp_path / "net.safetensors"), CPU)
    picture = pixels(*size)
    whole = drive(enlarge_tiled(picture, Tiling(512)), network)
    tiled = drive(enlarge_tiled(picture, Tiling(36, 6, 4)), network)
    assert whole.shape == (size[1] * 4, size[0] * 4, 3)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole != tiled).mean() < 0.01


def test_a_network_that_answers_another_size_is_an_error():
    with pytest.raises(WorkerError, match="does not fit"):
        drive(enlarge_tiled(pixels(20, 20), Tiling(16, 2, 2)), lambda tile: tile[..., :-1])


def test_smaller_tiles_after_memory_ran_out_change_next_to_nothing(tmp_path: Path):
    network = Upscaler(write_net(tmp_path / "net.safetensors"), CPU)
    tile = torch.from_numpy(pixels(190, 150) / np.float32(255)).permute(2, 0, 1)[None]
    whole = network(tile)
    assert network.tile_smaller(190)
    assert network.tiling == Tiling(95)
    assert (network(tile) - whole).abs().max() < 2 / 255
    assert not network.tile_smaller(190)


# --- sizes and transparency -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "size"), [(4, (97, 61)), (4, (30, 20)), (2, (301, 99)), (1, (64, 40)), (4, (600, 350))]
)
def test_any_size_is_met_exactly(tmp_path: Path, scale: int, size: tuple[int, int]):
    network = Upscaler(write_net(tmp_path / "net.safetensors", scale), CPU)
    picture = Image.fromarray(pixels(30, 20))
    assert upscale(picture, size, network, Tiling(24, 2, 2)).size == size


def test_the_network_runs_as_often_as_it_takes_and_lanczos_goes_the_rest(tmp_path: Path):
    network = Upscaler(write_net(tmp_path / "net.safetensors", 2, random=False), CPU)
    picture = Image.fromarray(pixels(12, 10))
    nearest = picture.resize((48, 40), Image.Resampling.NEAREST)
    assert np.array_equal(np.asarray(upscale(picture, (48, 40), network)), np.asarray(nearest))
    assert np.array_equal(
        np.asarray(upscale(picture, (40, 33), network)), np.asarray(nearest.resize((40, 33), Image.Resampling.LANCZOS))
    )


def test_transparency_is_kept_and_clear_pixels_do_not_bleed(tmp_path: Path):
    network = Upscaler(write_net(tmp_path / "net.safetensors", random=False), CPU)
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = (200, 40, 20, 255)
    large = upscale(Image.fromarray(rgba), (64, 64), network)
    assert large.mode == "RGBA"
    answer = np.asarray(large)
    assert np.array_equal(answer[..., 3], np.kron(rgba[..., 3], np.ones((4, 4), np.uint8)))
    assert (answer[..., :3] == (200, 40, 20)).all()


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGB", "RGBA", "1"])
def test_every_mode_of_picture(tmp_path: Path, mode: str):
    network = Upscaler(write_net(tmp_path / "net.safetensors"), CPU)
    large = upscale(Image.fromarray(pixels(10, 8)).convert(mode), (40, 32), network)
    assert (large.size, large.mode) == ((40, 32), "RGB")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"), [("a.pth", "params_ema"), ("a.pth", None), ("a.pt", "params"), ("a.safetensors", None)]
)
def test_files_in_every_form(tmp_path: Path, name: str, key: str | None):
    assert Upscaler(write_net(tmp_path / name, 2, key=key), CPU).scale == 2


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("arch", ["ESRGAN", "SPAN", "SwinIR"])
def test_other_architectures_of_spandrel(tmp_path: Path, arch: str):
    load_spandrel()
    import spandrel.architectures as archs  # after load_spandrel: without torchvision it cannot be imported before

    nets = {
        "ESRGAN": lambda: archs.ESRGAN.ESRGAN(num_filters=4, num_blocks=1, scale=2),
        "SPAN": lambda: archs.SPAN.SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
        "SwinIR": lambda: archs.SwinIR.SwinIR(
            img_size=16,
            embed_dim=8,
            depths=[1],
            num_heads=[2],
            window_size=8,
            mlp_ratio=2.0,
            upscale=2,
            upsampler="pixelshuffle",
        ),
    }
    torch.save({"params": nets[arch]().state_dict()}, tmp_path / "net.pth")
    network = Upscaler(tmp_path / "net.pth", CPU)
    assert network.scale == 2
    assert upscale(Image.fromarray(pixels(37, 21)), (74, 42), network, Tiling(32, 4, 4)).size == (74, 42)


class Evil:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "evil.pth"
    torch.save({"params": Evil()}, path)
    with pytest.raises(BadFileError, match="cannot be read safely"):
        Upscaler(path, CPU)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(BadFileError, match="cannot be read safely"):
        read_tensors(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, suffix: str):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises((BadFileError, UnsupportedError)) as caught:
        Upscaler(path, CPU)
    assert caught.value.next_step or caught.value.allowed


def test_what_is_no_upscaler_is_refused(tmp_path: Path):
    save_file({"something.weight": torch.zeros(3)}, tmp_path / "lora.safetensors")
    with pytest.raises(UnsupportedError, match=r"lora\.safetensors is not an upscaler"):
        Upscaler(tmp_path / "lora.safetensors", CPU)


def test_a_file_that_has_gone_is_told(tmp_path: Path):
    shelf = LoadedUpscalers(Catalog(tmp_path), CPU)
    with pytest.raises(MissingWeightsError, match="gone is not installed"):
        shelf.get(ModelRef(name="gone", sha256="0" * 64, family="upscaler"))


def test_two_upscalers_stay_loaded(tmp_path: Path):
    for place in range(3):
        write_net(tmp_path / "ESRGAN" / f"n{place}.safetensors", place + 1)
    catalog = Catalog(tmp_path)
    shelf = LoadedUpscalers(catalog, CPU)
    refs = [file.ref for file in catalog.upscalers() if not file.builtin]
    first = shelf.get(refs[0])
    assert shelf.get(refs[0]) is first
    assert [shelf.get(ref).scale for ref in refs] == [1, 2, 3]
    assert shelf.get(refs[0]) is not first


# --- spandrel without torchvision -------------------------------------------------------------------------------------


def test_spandrel_loads_without_torchvision_and_leaves_nothing_behind():
    code = (
        "import sys, importlib.util\n"
        "from danqing.enhance.spandrel_models import load_spandrel\n"
        "there = importlib.util.find_spec('torchvision') is not None\n"
        "assert load_spandrel() is load_spandrel()\n"
        "assert there or not [name for name in sys.modules if name.startswith('torchvision')]\n"
        "assert (importlib.util.find_spec('torchvision') is not None) == there\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_stand_ins_do_what_their_names_say():
    picture = torch.rand(2, 3, 4, 4)
    answer = spandrel_models.normalize(picture, [0.5, 0.4, 0.3], [0.5, 0.2, 0.1])
    assert torch.allclose(answer[:, 1], (picture[:, 1] - 0.4) / 0.2)
    assert spandrel_models.normalize(picture, [0.5] * 3, [0.5] * 3, inplace=True) is picture
    with pytest.raises(UnsupportedError, match="torchvision"):
        spandrel_models.rotate(picture, 3.0)


def test_without_spandrel_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.setattr(spandrel_models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="not installed") as caught:
        load_spandrel()
    assert "--no-deps spandrel" in (caught.value.next_step or "")


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_files_are_found_by_name_label_and_hash(tmp_path: Path):
    write_net(tmp_path / "RealESRGAN" / "RealESRGAN_x4plus.pth")
    write_net(tmp_path / "ESRGAN" / "sub" / "4x-Mine.safetensors", 2)
    (tmp_path / "ESRGAN" / "readme.txt").write_text("not weights")
    catalog = Catalog(tmp_path)
    own = [file for file in catalog.upscalers() if not file.builtin]
    assert {file.name for file in own} == {"RealESRGAN_x4plus", "4x-Mine"}
    plus = catalog.find_upscaler("R-ESRGAN 4x+")
    assert plus is not None
    assert plus.name == "RealESRGAN_x4plus"
    for name in ("realesrgan_x4plus", "RealESRGAN_x4plus.pth", plus.sha256, plus.sha256[:10]):
        assert catalog.find_upscaler(name) == plus
    assert catalog.find_upscaler("4x-mine") is not None
    assert catalog.find_upscaler("no such") is None
