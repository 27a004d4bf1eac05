"""Which image adapters are found, what is said of those that cannot be used, and how planning chooses one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor

from danqing.models import catalog as catalogs
from danqing.models.catalog import Catalog
from danqing.models.ip_adapter import load_image_encoder
from danqing.spec.errors import BadFileError, DanqingError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.model import ImageEncoderInfo
from easel import Easel, photo
from tiny_images import EMBEDDING, SIZE_PX, build_tower


def prompts(easel: Easel) -> list[dict[str, Any]]:
    return [{"image": easel.picture(photo())}]


def test_what_is_found(image_easel: Easel):
    catalog = image_easel.catalog
    names = [info.name for info in catalog.image_adapters() if not info.builtin]
    assert names == ["like-mini", "like-tiny", "second", "wide"]
    found = catalog.find_image_adapter("like-tiny")
    assert (found.context_width, found.layer_widths, found.base) == (32, (32, 32, 32, 64), None)
    assert found.encoder.embedding_width == EMBEDDING
    assert not found.encoder.whole_picture
    assert catalog.find_image_adapter(found.sha256[:10]) == found
    assert catalog.find_image_adapter("LIKE-TINY.safetensors") == found
    assert catalog.find_image_adapter(f"like-tiny [{found.short_hash}]") == found
    with pytest.raises(NotFoundError, match="did you mean like-mini"):
        catalog.find_image_adapter("like-mino")
    with pytest.raises(UnsupportedError, match="pickled") as caught:
        catalog.find_image_adapter("pickled")
    assert caught.value.field == "image_adapter"
    assert "pickled" in catalog.problems()


def test_the_one_that_fits_is_chosen_and_another_refused_early(image_easel: Easel):
    easel = image_easel
    (one,) = easel.plans(image_prompts=prompts(easel))
    assert one.base.image_adapter is not None
    assert one.base.image_adapter.model.name == "like-tiny"
    (named,) = easel.plans(image_prompts=prompts(easel), image_adapter="second")
    assert named.base.image_adapter is not None
    assert named.base.image_adapter.model.name == "second"
    with pytest.raises(UnsupportedError, match=r"48 wide, the model's text states are 32") as caught:
        easel.plans(image_prompts=prompts(easel), image_adapter="wide")
    assert caught.value.field == "image_adapter"


def test_none_installed_says_what_and_where(easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogs, "BUILTIN_DIR", tmp_path / "nothing")
    with pytest.raises(MissingWeightsError, match="IP-Adapter") as caught:
        easel.plans(image_prompts=prompts(easel))
    assert "models/IP-Adapter" in str(caught.value)
    assert caught.value.field == "image_prompts"
    with pytest.raises(NotFoundError, match="none is installed"):
        easel.plans(image_prompts=prompts(easel), image_adapter="faces")
    assert easel.plans(image_adapter="faces"), "without pictures the adapter is not looked for"


@pytest.fixture
def home(image_easel: Easel, tmp_path: Path) -> Path:
    """A models folder with one adapter and no image tower."""
    root = tmp_path / "models"
    (root / "IP-Adapter").mkdir(parents=True)
    shutil.copy(image_easel.models_dir / "IP-Adapter" / "like-tiny.safetensors", root / "IP-Adapter")
    return root


def problem(catalog: Catalog, name: str) -> str:
    return catalog.problems()[name]


def test_an_adapter_needs_an_image_tower_of_its_width(home: Path):
    assert "24 wide" in problem(Catalog(home), "like-tiny")
    build_tower(home / "clip_vision" / "narrow", width=8)
    assert "24 wide" in problem(Catalog(home), "like-tiny")
    tower = build_tower(home / "clip_vision" / "right")
    found = Catalog(home).find_image_adapter("like-tiny")
    assert found.encoder.path == str(tower)
    beside = build_tower(home / "IP-Adapter" / "image_encoder", seed=5)
    found = Catalog(home).find_image_adapter("like-tiny")
    assert found.encoder.path == str(beside)


def test_among_controlnets_as_a1111_keeps_them(home: Path):
    (home / "IP-Adapter").rename(home / "ControlNet")
    build_tower(home / "clip_vision")
    save_file({"control_model.input": torch.zeros(1)}, home / "ControlNet" / "line.safetensors")
    catalog = Catalog(home)
    assert [info.name for info in catalog.image_adapters() if not info.builtin] == ["like-tiny", "revision"]
    assert "like-tiny.safetensors" not in catalog.problems()
    assert "line.safetensors" in catalog.problems()


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        (
            {"image_proj.latents": torch.zeros(1, 16, 8), "ip_adapter.1.to_k_ip.weight": torch.zeros(8, 8)},
            UnsupportedError,
        ),
        ({"image_proj.proj.weight": torch.zeros(8, 4), "image_proj.norm.weight": torch.zeros(3)}, UnsupportedError),
        (None, BadFileError),
    ],
)
def test_other_kinds_and_damaged_files(home: Path, tensors: dict[str, torch.Tensor] | None, kind: type[DanqingError]):
    path = home / "IP-Adapter" / "plus.safetensors"
    if tensors is None:
        path.write_bytes(b"\xff" * 40)
    else:
        save_file(tensors, path)
    with pytest.raises(kind) as caught:
        Catalog(home).find_image_adapter("plus")
    assert caught.value.field == "image_adapter"


def test_the_tower_sees_what_transformers_sees(tmp_path: Path):
    folder = build_tower(tmp_path / "tower")
    info = ImageEncoderInfo(path=str(folder), sha256="0" * 64, embedding_width=EMBEDDING)
    encoder = load_image_encoder(info, torch.device("cpu"))
    image = photo(SIZE_PX, SIZE_PX)
    wanted = encoder.vision(**CLIPImageProcessor.from_pretrained(folder)(image, return_tensors="pt")).image_embeds
    (got,) = encoder.embed([torch.from_numpy(np.asarray(image).copy())])
    assert torch.allclose(got, wanted[0], atol=1e-3)
    wide = Image.new("RGB", (3 * SIZE_PX, SIZE_PX), "red")
    wide.paste(image, (SIZE_PX, 0))
    (middle,) = encoder.embed([torch.from_numpy(np.asarray(wide).copy())])
    assert torch.allclose(middle, got, atol=1e-3), "the middle square is what it sees"
    whole = load_image_encoder(info.model_copy(update={"whole_picture": True}), torch.device("cpu"))
    assert not torch.allclose(whole.embed([torch.from_numpy(np.asarray(wide).copy())])[0], got, atol=1e-3)


def test_the_built_in_adapter_lies_in_the_family(image_easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = image_easel.models_dir
    family = tmp_path / "builtin"
    shutil.copytree(source / "Stable-diffusion" / "mini", family / "danqing-mini")
    (family / "ip-adapter").mkdir()
    shutil.copy(source / "IP-Adapter" / "like-mini.safetensors", family / "ip-adapter" / "danqing-mini.safetensors")
    monkeypatch.setattr(catalogs, "BUILTIN_DIR", family)
    with pytest.raises(MissingWeightsError, match="no image encoder"):
        Catalog(None).find_image_adapter("danqing-mini")
    build_tower(family / "danqing-mini-clip" / "image_encoder")
    catalog = Catalog(None)
    found = catalog.image_adapter_for(catalog.find(None))
    assert (found.name, found.builtin, found.encoder.whole_picture) == ("danqing-mini", True, True)
