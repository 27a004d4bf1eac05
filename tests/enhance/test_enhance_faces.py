"""Faces: aligned, restored, brought back; files that are read and files that are refused."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from danqing.enhance import faces
from danqing.enhance.bench import Bench
from danqing.enhance.faces import SIDE_PX, TEMPLATE, FaceRestorer
from danqing.enhance.spandrel_models import load_spandrel
from danqing.models.catalog import Catalog
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.model import ModelRef

CPU = torch.device("cpu")


def picture(width: int = 300, height: int = 240, seed: int = 0) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3)).astype(np.uint8)
    return cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)


def placed(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """The template's points as they lie in a picture whose face has this place."""
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return ((TEMPLATE - 256) @ turn.T + [x, y]).astype(np.float32)


def identity(face: torch.Tensor, fidelity: float) -> torch.Tensor:
    return face


def white(face: torch.Tensor, fidelity: float) -> torch.Tensor:
    return torch.ones_like(face)


@pytest.mark.parametrize(("scale", "angle"), [(0.25, 0.0), (0.4, 0.5), (1.7, -2.0)])
def test_a_known_turn_is_found(scale: float, angle: float):
    matrix = faces.similarity(placed(scale, angle, 150, 120))
    assert faces.scale_of(matrix) == pytest.approx(1 / scale, rel=1e-4)
    back = placed(scale, angle, 150, 120) @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(back - TEMPLATE).max() < 0.01


@pytest.mark.parametrize(("scale", "angle"), [(0.2, 0.0), (0.4, 0.4), (1.5, 0.1)])
@pytest.mark.parametrize("centre", [(150, 120), (20, 230)])
def test_an_identity_restorer_gives_the_picture_back(scale: float, angle: float, centre: tuple[int, int]):
    rgb = picture()
    points = placed(scale, angle, *centre)
    done = faces.restored(rgb, points, identity, fidelity=0.5, visibility=1.0)
    assert np.abs(done.astype(int) - rgb).max() <= 1


def test_outside_the_face_no_pixel_changes():
    rgb, points = picture(), placed(0.2, 0.3, 150, 120)
    done = faces.restored(rgb, points, white, fidelity=0.5, visibility=1.0)
    ys, xs = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    matrix = faces.similarity(points)
    there = np.stack([xs, ys], axis=-1) @ matrix[:, :2].T + matrix[:, 2]
    outside = ((there < 0) | (there > SIDE_PX - 1)).any(axis=2)
    middle = (np.abs(there - 256) < 100).all(axis=2)
    assert np.array_equal(done[outside], rgb[outside])
    assert middle.sum() > 500
    assert done[middle].min() > 240
    assert done[middle].mean() > 253


def test_visibility_is_a_share_and_none_changes_nothing():
    rgb, points = picture(), placed(0.2, 0.0, 150, 120)
    full, half = (faces.restored(rgb, points, white, fidelity=0, visibility=v).astype(int) for v in (1.0, 0.5))
    assert np.abs((full - rgb) / 2 - (half - rgb)).max() <= 2
    assert np.array_equal(faces.restored(rgb, points, white, fidelity=0, visibility=0.0), rgb)


def test_an_aligned_face_lies_where_the_template_says():
    rgb = np.zeros((240, 300, 3), np.uint8)
    points = placed(0.3, 0.4, 150, 120)
    for x, y in points:
        cv2.circle(rgb, (round(x), round(y)), 3, (255, 255, 255), -1)
    face = faces.aligned(rgb, faces.similarity(points))
    assert all(face[round(y), round(x)].mean() > 150 for x, y in TEMPLATE)


# --- files ------------------------------------------------------------------------------------------------------------


def tiny_restoreformer() -> dict[str, torch.Tensor]:
    load_spandrel()
    from spandrel.architectures.RestoreFormer import RestoreFormer  # after load_spandrel: needs its stand-ins

    torch.manual_seed(0)
    net = RestoreFormer(
        n_embed=8,
        embed_dim=32,
        ch=32,
        out_ch=3,
        ch_mult=(1, 1, 1, 1, 1, 1),
        num_res_blocks=1,
        attn_resolutions=(16,),
        dropout=0.0,
        in_channels=3,
        resolution=512,
        z_channels=32,
        double_z=False,
        enable_mid=True,
        head_size=8,
    )
    return {name: value.clone().contiguous() for name, value in net.state_dict().items()}


def test_a_small_restoreformer_restores(tmp_path: Path):
    (tmp_path / "GFPGAN").mkdir()
    save_file(tiny_restoreformer(), tmp_path / "GFPGAN" / "RestoreFormer.safetensors")
    catalog = Catalog(tmp_path)
    file = catalog.find_enhancer("restoreformer", "restorer")
    assert file is not None
    bench = Bench(catalog, CPU)
    restorer = bench.kept(file.sha256, lambda: FaceRestorer(bench.path_of(file.ref), CPU))
    assert bench.kept(file.sha256, lambda: None) is restorer
    face = torch.rand(1, 3, SIDE_PX, SIDE_PX)
    answer = restorer(face, 0.5)
    assert answer.shape == face.shape
    assert 0 <= float(answer.min()) <= float(answer.max()) <= 1
    assert float(answer.std()) > 0


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"conv.weight": torch.zeros(3)}, "is not a face restorer"),
        ({"position_emb": torch.zeros(3), "idx_pred_layer.0.weight": torch.zeros(3)}, "is a CodeFormer"),
    ],
)
def test_other_files_are_refused_with_what_to_do(tmp_path: Path, state: dict[str, torch.Tensor], words: str):
    torch.save({"params_ema": state}, tmp_path / "net.pth")
    with pytest.raises(UnsupportedError, match=words) as caught:
        FaceRestorer(tmp_path / "net.pth", CPU)
    assert caught.value.next_step


def test_a_damaged_file_is_told(tmp_path: Path):
    (tmp_path / "net.pth").write_bytes(b"no weights")
    with pytest.raises(BadFileError, match="cannot be read safely"):
        FaceRestorer(tmp_path / "net.pth", CPU)


def test_a_file_that_has_gone_is_told(tmp_path: Path):
    gone = ModelRef(name="GFPGANv1.4", sha256="0" * 64, family="restorer")
    with pytest.raises(MissingWeightsError, match=r"restorer GFPGANv1\.4 is not installed") as caught:
        Bench(Catalog(tmp_path), CPU).path_of(gone)
    assert "models/GFPGAN" in (caught.value.next_step or "")


def test_folders_of_a1111_are_looked_through(tmp_path: Path):
    for name in ("GFPGAN/GFPGANv1.4.pth", "GFPGAN/detection_Resnet50_Final.pth", "Codeformer/codeformer-v0.1.0.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    for name in ("face_yolov8n.pt", "face_yolov8n.onnx", "readme.txt"):
        (tmp_path / "adetailer").mkdir(exist_ok=True)
        (tmp_path / "adetailer" / name).write_bytes(name.encode())
    catalog = Catalog(tmp_path)
    assert [file.name for file in catalog.enhancers("restorer")] == ["GFPGANv1.4", "codeformer-v0.1.0"]
    found = catalog.find_enhancer("gfpgan", "restorer")
    assert found is not None
    assert found.name == "GFPGANv1.4"
    detector = catalog.find_enhancer("face_yolov8n.pt", "detector")
    assert detector is not None
    assert detector.path.endswith(".onnx")
    assert catalog.find_enhancer("hand_yolov8n", "detector") is None
