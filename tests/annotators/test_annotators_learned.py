"""Learned annotators: refused with what to install; run when the weights are there."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from annotator_pictures import still_life

from danqing.annotators import annotate, is_installed, learned
from danqing.annotators.palette import ADE20K
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.registry.annotators import LEARNED


@pytest.mark.parametrize("info", LEARNED, ids=lambda info: info.key)
def test_missing_weights_say_what_from_where_and_where_to(info, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learned, "_carried", lambda weights: [])
    for folder in (None, tmp_path):
        assert not is_installed(info.key, folder)
        with pytest.raises(MissingWeightsError) as caught:
            annotate(info.key, still_life(), weights_dir=folder)
        message = str(caught.value)
        assert all(name in message for name in info.weights.files)
        assert info.weights.source in message
        assert (str(folder) if folder else "ControlNetPreprocessor") in message
        assert info.weights.carrier is None or info.weights.carrier.command in message
        assert info.instead is None or info.instead in message


class FakeDetector:
    """Stands for a network of controlnet-aux; answers with the picture, at the size it was asked for."""

    made: ClassVar[list[str]] = []
    asked: ClassVar[list[dict[str, object]]] = []

    @classmethod
    def from_pretrained(cls, folder: str) -> FakeDetector:
        cls.made.append(folder)
        return cls()

    def __call__(self, picture: np.ndarray, **options: object) -> np.ndarray:
        self.asked.append(options)
        side = int(str(options["detect_resolution"]))
        return np.zeros((side, side + 64, 3), np.uint8) + 200


@pytest.fixture
def controlnet_aux(monkeypatch: pytest.MonkeyPatch):
    from danqing.annotators import networks

    package = types.ModuleType("controlnet_aux")
    package.__spec__ = types.SimpleNamespace(name="controlnet_aux")  # type: ignore[assignment]
    names = {"HEDdetector", "MLSDdetector", "OpenposeDetector"}
    for name in names:
        setattr(package, name, FakeDetector)
    monkeypatch.setitem(sys.modules, "controlnet_aux", package)
    networks._detector.cache_clear()
    FakeDetector.made.clear()
    FakeDetector.asked.clear()
    yield FakeDetector
    networks._detector.cache_clear()


def test_a_detector_gets_its_folder_and_its_settings(controlnet_aux, tmp_path: Path):
    place = tmp_path / "annotator" / "mlsd"
    place.mkdir(parents=True)
    (place / "mlsd_large_512_fp32.pth").touch()
    found = annotate("mlsd", still_life(), {"threshold_a": 0.2}, weights_dir=tmp_path)
    assert controlnet_aux.made == [str(place)]
    assert controlnet_aux.asked[0]["thr_v"] == 0.2
    assert controlnet_aux.asked[0]["thr_d"] == 0.1
    assert found.shape == (96, 96, 3)
    assert set(np.unique(found)) == {255}


def test_openpose_needs_all_its_files(controlnet_aux, tmp_path: Path):
    (tmp_path / "body_pose_model.pth").touch()
    with pytest.raises(MissingWeightsError, match="facenet"):
        annotate("openpose_full", still_life(), weights_dir=tmp_path)
    for name in ("hand_pose_model.pth", "facenet.pth"):
        (tmp_path / name).touch()
    annotate("openpose_full", still_life(), weights_dir=tmp_path)
    assert controlnet_aux.asked[0]["include_face"] is True


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    folder = tmp_path_factory.mktemp("weights")
    DepthAnythingForDepthEstimation(config).save_pretrained(folder / "sub" / "depth_anything")
    return folder


def test_depth_anything_runs_from_a_folder(depth_folder: Path):
    assert is_installed("depth_anything", depth_folder)
    found = annotate("depth_anything", still_life(), weights_dir=depth_folder)
    assert found.shape == (96, 96, 3)
    assert (found.min(), found.max()) == (0, 255)
    assert np.array_equal(found, annotate("depth_anything", still_life(), weights_dir=depth_folder))


def test_the_process_for_the_front_gives_the_same_map(depth_folder: Path, tmp_path: Path):
    np.save(tmp_path / "picture.npy", still_life())
    task = {
        "annotator": "depth_anything",
        "picture": str(tmp_path / "picture.npy"),
        "out": str(tmp_path / "map.npy"),
        "params": {},
        "resolution_px": None,
        "seed": 0,
        "weights_dir": str(depth_folder),
    }
    command = [sys.executable, "-m", "danqing.annotators"]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    difference = np.load(tmp_path / "map.npy").astype(int) - annotate(
        "depth_anything", still_life(), weights_dir=depth_folder
    )
    assert np.abs(difference).max() <= 1
    task["annotator"] = "openpose"
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "missing_weights"


def test_damaged_weights_are_said_to_be(tmp_path: Path):
    folder = tmp_path / "depth_anything"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "depth_anything"}')
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadFileError, match="cannot be read"):
        annotate("depth_anything", still_life(), weights_dir=tmp_path)


@pytest.mark.parametrize("classes", [150, 19])
def test_upernet_paints_in_the_palette(classes: int, tmp_path: Path):
    import torch
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    torch.manual_seed(0)
    backbone = ConvNextConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=8, num_labels=classes, auxiliary_in_channels=8, auxiliary_channels=8
    )
    UperNetForSemanticSegmentation(config).save_pretrained(tmp_path / "seg_upernet_ade20k")
    if classes != 150:
        with pytest.raises(UnsupportedError, match="ADE20K"):
            annotate("seg_upernet_ade20k", still_life(), weights_dir=tmp_path)
        return
    found = annotate("segmentation", still_life(), weights_dir=tmp_path)
    assert {tuple(c) for c in found.reshape(-1, 3).tolist()} <= {tuple(c) for c in ADE20K.tolist()}


def test_classical_annotators_load_no_torch():
    code = (
        "import sys, numpy as np\nfrom danqing.annotators import annotate\n"
        "from danqing.spec.registry.annotators import CLASSICAL\n"
        "for info in CLASSICAL: annotate(info.key, np.full((20, 20, 3), 9, np.uint8))\n"
        "print(*{'torch', 'diffusers', 'transformers', 'controlnet_aux'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
