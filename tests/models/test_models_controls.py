"""ControlNets in the catalogue: where they are found, what they are, and why some cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from danqing.models.catalog import BUILTIN_DIR, Catalog
from danqing.models.controls import identify_controlnet
from danqing.spec.errors import BadFileError, DanqingError, NotFoundError, UnsupportedError
from easel import Easel


@pytest.fixture
def shelf(tmp_path: Path, control_easel: Easel) -> Path:
    """A models folder in A1111's layout, with a ControlNet in every place where one may lie."""
    models = tmp_path / "models"
    line = control_easel.models_dir / "ControlNet" / "mini-line"
    shutil.copytree(line, models / "ControlNet" / "v11" / "line")
    for place, name in (("models/controlnet", "comfy"), ("extensions/sd-webui-controlnet/models", "old")):
        shutil.copytree(line, tmp_path / place / name)
        (tmp_path / place / name / "diffusion_pytorch_model.safetensors").write_bytes(name.encode())
    return models


def own(catalog: Catalog) -> list[str]:
    return [info.name for info in catalog.controlnets() if not info.builtin]


def test_they_are_found_where_a1111_comfyui_and_the_extension_keep_them(shelf: Path):
    assert own(Catalog(shelf)) == ["v11/line", "comfy", "old"]
    assert own(Catalog(None)) == []
    assert all(BUILTIN_DIR in Path(info.path).parents for info in Catalog(None).controlnets())


def test_what_is_known_of_them(control_easel: Easel):
    live, line = (control_easel.catalog.find_controlnet(name) for name in ("sets/live", "mini-line"))
    assert (live.context_width, live.block_widths, live.layers_per_block) == (32, (32, 64), (1, 1))
    assert (live.in_channels, live.hint_scale, live.global_pool, live.base) == (4, 8, False, None)
    assert (line.context_width, line.in_channels, line.base, line.annotators) == (None, 8, "mini", ("canny",))
    assert len({info.sha256 for info in control_easel.catalog.controlnets()}) == len(
        control_easel.catalog.controlnets()
    )


def test_they_answer_to_name_stem_title_and_hash(control_easel: Easel):
    catalog = control_easel.catalog
    live = catalog.find_controlnet("sets/live")
    for name in ("live", "LIVE", " live ", f"live [{live.short_hash}]", f"live [{live.sha256[:8]}]", live.short_hash):
        assert catalog.find_controlnet(name) == live
    with pytest.raises(NotFoundError, match="did you mean other") as caught:
        catalog.find_controlnet("othr")
    assert caught.value.field == "controls.model"
    assert "mini-line" in str(caught.value)


def test_a_damaged_file_is_named_and_hides_nothing(shelf: Path):
    (shelf / "ControlNet" / "control_v11p_sd15_canny.pth").write_bytes(b"x")
    catalog = Catalog(shelf)
    for name in ("control_v11p_sd15_canny", "control_v11p_sd15_canny.pth"):
        with pytest.raises(BadFileError) as caught:
            catalog.find_controlnet(name)
        assert caught.value.field == "controls.model"
    assert own(catalog) == ["v11/line", "comfy", "old"]
    assert "control_v11p_sd15_canny.pth" in catalog.problems()


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"_class_name": "SparseControlNetModel"}, UnsupportedError, "not a ControlNet that this version runs"),
        ({"_class_name": "UNet2DConditionModel"}, UnsupportedError, "ControlNetModel"),
        ({"conditioning_channels": 4}, UnsupportedError, "RGB"),
        ({"block_out_channels": "wide"}, BadFileError, "makes no sense"),
        ({"in_channels": None}, BadFileError, "makes no sense"),
    ],
)
def test_odd_ones_are_named_with_the_reason(shelf: Path, changes: dict[str, Any], kind: type[DanqingError], said: str):
    folder = shelf / "ControlNet" / "v11" / "line"
    rewrite(folder / "config.json", **changes)
    with pytest.raises(kind, match=said):
        identify_controlnet(folder)
    with pytest.raises(kind):
        Catalog(shelf).find_controlnet("line")
    assert said in Catalog(shelf).problems()["v11/line"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_config_is_no_crash(shelf: Path, content: bytes):
    (shelf / "ControlNet" / "v11" / "line" / "config.json").write_bytes(content)
    assert own(Catalog(shelf)) == ["comfy", "old"]


def test_one_without_weights_is_named(shelf: Path):
    (shelf / "ControlNet" / "v11" / "line" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadFileError, match="no weights"):
        Catalog(shelf).find_controlnet("line")


def test_damaged_weights_say_so(shelf: Path):
    import torch

    from danqing.models.loader import Loader
    from danqing.spec.model import ModelRef

    info = Catalog(shelf).find_controlnet("comfy")
    with pytest.raises(BadFileError, match="the ControlNet comfy cannot be loaded"):
        Loader(Catalog(shelf), torch.device("cpu")).controlnet(ModelRef(name="comfy", sha256=info.sha256, family=""))
