"""Eight bits on a CPU: measured once, kept beside the models, close to the picture in bfloat16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_checkpoints
import tiny_networks
from easel import Easel

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

import openvino as ov
from openvino import opset15 as op

from danqing.engine.openvino_executor import OpenVinoExecutor
from danqing.models.graphs import calibrating, int8
from danqing.models.graphs.calibrating import BOUNDS_FOLDER, BoundsFile
from danqing.models.graphs.compiled import CompiledGraph
from danqing.models.graphs.emit import Emitter
from danqing.models.precision import Precision

# A random model amplifies what a step rounds: guidance would do so even more.
WORDS: dict[str, Any] = {"sampling": {"sampler": "euler", "steps": 4}, "guidance": {"scale": 1.0}}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("int8")
    for seed, kind in enumerate(("sd1", "sdxl"), start=1):
        tiny_checkpoints.make(kind, seed=seed).save_file(root / "Stable-diffusion" / f"tiny-{kind}.safetensors")
    easel = Easel(root)
    tiny_networks.save_lora(root / "Lora" / "ink.safetensors", easel.model("tiny-sd1"), seed=1)
    return root


def opened(models_dir: Path | None) -> Easel:
    easel = Easel(models_dir)
    easel.executor = OpenVinoExecutor(easel.loader)
    easel.executor.ran = []
    return easel


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(float(((a.astype(float) - b) ** 2).mean()), 1e-6))


@torch.inference_mode()
def test_a_layer_reads_and_multiplies_whole_numbers():
    generator = torch.Generator().manual_seed(1)
    linear = torch.nn.Linear(64, 32)
    x = torch.rand(4, 64, generator=generator) * 3 - 1
    emit = Emitter(torch.float32, rounding={linear: (-1.0, 2.0)})
    found = CompiledGraph(emit.graph([emit.linear(linear, emit.input("x", (-1, 64)))], "one"))({"x": x})[0]
    step = 3.0 / 255
    read = (torch.round(x / step).clamp(-85, 170)) * step
    scale = linear.weight.abs().amax(1, keepdim=True) / 127
    wanted = torch.nn.functional.linear(read, torch.round(linear.weight / scale) * scale, linear.bias)
    assert (found - wanted).abs().max() < 2e-3
    assert (found - linear(x)).abs().max() > 2e-3, "nothing was rounded"


def test_bounds_that_do_not_hold_zero_are_widened():
    for bounds in ((1.0, 2.0), (-3.0, -1.0), (0.0, 0.0)):
        x = op.parameter([1], ov.Type.f32)
        node = int8.rounded(x, bounds)
        low, high = (float(node.input_value(place).get_node().data) for place in (1, 2))
        assert low <= 0.0 <= high
        steps = low / ((high - low) / 255)
        assert abs(steps - round(steps)) < 1e-3


@pytest.mark.parametrize("name", ["tiny-sd1", "tiny-sdxl"])
def test_a_picture_in_eight_bits_is_nearly_the_same_and_measured_once(models_dir, name, monkeypatch):
    easel = opened(models_dir)
    plain = easel.pixels(model=name, precision="bfloat16", **WORDS)
    small = easel.pixels(model=name, precision="int8", **WORDS)
    other = easel.pixels(model=name, precision="bfloat16", seed=8, **WORDS)
    assert 0 < np.abs(plain - small).mean() < 0.2 * np.abs(plain - other).mean()
    (plan,) = easel.plans(model=name)
    loaded = easel.loader.get(plan.base.model, None, "int8")
    assert loaded.precision.name == "int8"
    assert easel.executor.graphs.bytes_of(loaded.unet) > 0
    file = BoundsFile(models_dir / BOUNDS_FOLDER, loaded.info.sha256)
    told = json.loads(file.path.read_text())
    assert set(told["bounds"]) <= set(int8.layers(loaded.unet))
    assert not any("attn2.to_k" in one or "conv_in" in one for one in told["bounds"])
    monkeypatch.setattr(calibrating, "measure", lambda *_: pytest.fail("measured twice"))
    assert np.array_equal(opened(models_dir).pixels(model=name, precision="int8", **WORDS), small)


@pytest.mark.parametrize("text", ["{", "[]", '{"bounds": {"mid_block": 3}}', '{"bounds": {"a": ["x", "y"]}}', "\0"])
def test_a_damaged_file_is_measured_anew(tmp_path, text, caplog):
    file = BoundsFile(tmp_path / "folder", "0" * 64)
    assert file.read() is None
    file.write({"a": (-1.0, 2.0)})
    assert file.read() == {"a": (-1.0, 2.0)}
    file.path.write_text(text)
    assert file.read() is None
    assert "measured anew" in caplog.text


def test_layers_without_finite_bounds_stay_as_they_are(models_dir):
    easel = opened(models_dir)
    model = easel.loader.get(easel.plans(model="tiny-sd1")[0].base.model, None, "int8")
    names = list(int8.layers(model.unet))[:4]
    folder = models_dir / "odd"
    odd = {names[0]: (-1.0, float("inf")), names[1]: (float("nan"), 1.0), names[2]: (-1.0, 2.0), "gone": (0.0, 1.0)}
    BoundsFile(folder, model.info.sha256).write(odd)
    assert calibrating.rounding_of(model, folder) == {model.unet.get_submodule(names[2]): (-1.0, 2.0)}


def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    BoundsFile(tmp_path / "taken", "0" * 64).write({})
    assert "cannot be written" in caplog.text


def test_loras_act_in_eight_bits(models_dir):
    easel = opened(models_dir)
    plain = easel.pixels(model="tiny-sd1", precision="int8", prompt="the red cat", **WORDS)
    drawn = easel.pixels(model="tiny-sd1", precision="int8", prompt="the red cat<lora:ink:1.5>", **WORDS)
    wanted = easel.pixels(model="tiny-sd1", precision="bfloat16", prompt="the red cat<lora:ink:1.5>", **WORDS)
    assert np.abs(plain - drawn).mean() > 2 * np.abs(wanted - drawn).mean()


def test_the_built_in_model_in_eight_bits():
    easel = opened(None)
    words: dict[str, Any] = {"model": "danqing-mini", "prompt": "red apple, 3d"}
    words["sampling"] = {"sampler": "dpmpp_2m", "steps": 20}
    plain, small = (easel.pixels(**words, precision=one) for one in ("bfloat16", "int8"))
    assert 25.0 < psnr_db(plain, small) < 60.0


def test_how_a_precision_is_called():
    formats = (torch.bfloat16, torch.float32, torch.float32)
    assert Precision(*formats, channels_last=True, graph="int8").name == "int8"
    assert Precision(*formats, channels_last=True).name == "bfloat16"
