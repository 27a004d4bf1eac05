"""Folders and files to models: what is found, under which names, and what is wrong with the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from danqing.models.catalog import Catalog, identify
from danqing.models.hashes import HashCache
from danqing.spec.errors import BadFileError, DanqingError, NotFoundError, UnsupportedError


@pytest.fixture
def shelf(tmp_path: Path, tiny_sd: Path) -> Path:
    """A models folder of its own with `tiny` in it."""
    home = tmp_path / "Stable-diffusion"
    shutil.copytree(tiny_sd / "Stable-diffusion" / "tiny", home / "tiny")
    return home


def rewrite(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **changes}), encoding="utf-8")


def names(catalog: Catalog) -> list[str]:
    return [info.name for info in catalog.list() if not info.builtin]


def test_every_folder_is_found_with_what_it_is(tiny_sd: Path):
    catalog = Catalog(tiny_sd)
    assert names(catalog) == ["other", "tiny", "tiny-inpaint", "tiny-v"]
    tiny, inpaint, v = (catalog.find(name) for name in ("tiny", "tiny-inpaint", "tiny-v"))
    assert (tiny.family, tiny.latent_channels, tiny.latent_scale, tiny.prediction) == ("sd1", 4, 8, "epsilon")
    assert (tiny.defaults.size_px, tiny.defaults.steps, tiny.defaults.sampler) == (64, 6, "Euler")
    assert inpaint.is_inpainting
    assert not tiny.is_inpainting
    assert v.prediction == "v_prediction"
    assert len({info.sha256 for info in catalog.list()}) == len(catalog.list())
    assert catalog.problems() == {}


def test_a_model_answers_to_name_title_hash_and_any_case(tiny_sd: Path):
    catalog = Catalog(tiny_sd)
    tiny = catalog.find("tiny")
    for name in ("TINY", " tiny ", f"tiny [{tiny.short_hash}]", tiny.short_hash, tiny.sha256):
        assert catalog.find(name) == tiny
    with pytest.raises(NotFoundError, match=r"did you mean tiny") as caught:
        catalog.find("tinny")
    assert caught.value.field == "model"
    assert "tiny-v" in (caught.value.allowed or "")


def test_families_follow_from_the_width_of_the_words(shelf: Path):
    (shelf / "tiny" / "danqing.json").unlink()
    for width, family, native in ((768, "sd1", 512), (1024, "sd2", 768)):
        rewrite(shelf / "tiny" / "unet" / "config.json", cross_attention_dim=width)
        info = identify(shelf / "tiny")
        assert (info.family, info.defaults.size_px) == (family, native)
    rewrite(shelf / "tiny" / "unet" / "config.json", cross_attention_dim=2048)
    with pytest.raises(UnsupportedError, match="no family"):
        identify(shelf / "tiny")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / "unet" / "config.json").unlink(), BadFileError),
        (lambda folder: (folder / "vae" / "config.json").write_text("{"), BadFileError),
        (lambda folder: (folder / "unet" / "config.json").write_text("[1]"), BadFileError),
        (lambda folder: (folder / "vae" / "config.json").write_bytes(b"\xff\xfe\x00"), BadFileError),
        (lambda folder: (folder / "danqing.json").write_text('{"family": "sd99"}'), UnsupportedError),
        (
            lambda folder: (folder / "danqing.json").write_text('{"family": "sd1", "defaults": {"steps": []}}'),
            BadFileError,
        ),
        (
            lambda folder: rewrite(folder / "scheduler" / "scheduler_config.json", prediction_type="tea"),
            UnsupportedError,
        ),
    ],
)
def test_a_damaged_folder_is_named_and_hurts_nobody(shelf: Path, damage: Any, error: type[DanqingError]):
    shutil.copytree(shelf / "tiny", shelf / "broken")
    damage(shelf / "broken")
    with pytest.raises(error):
        identify(shelf / "broken")
    catalog = Catalog(shelf.parent)
    assert names(catalog) == ["tiny"]
    (folder,) = catalog.problems()
    assert folder.endswith("broken")


def test_models_may_lie_in_folders_of_folders(shelf: Path):
    shutil.move(shelf / "tiny", shelf / "mine" / "tiny")
    assert names(Catalog(shelf.parent)) == ["mine/tiny"]


def test_no_folder_is_no_error(tmp_path: Path):
    assert names(Catalog(tmp_path / "nowhere")) == []
    assert names(Catalog(None)) == []


def test_hashes_are_remembered_and_notice_a_change(shelf: Path, monkeypatch: pytest.MonkeyPatch):
    first = Catalog(shelf.parent).find("tiny").sha256
    kept = shelf.parent / ".danqing-hashes.json"
    assert kept.is_file()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("weights were read again"))
        assert Catalog(shelf.parent).find("tiny").sha256 == first
    weights = shelf / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert Catalog(shelf.parent).find("tiny").sha256 != first
    kept.write_text("not json")
    assert Catalog(shelf.parent).find("tiny").sha256 != first


def test_a_hash_is_of_the_content_not_of_the_place(shelf: Path):
    shutil.copytree(shelf / "tiny", shelf / "copy")
    cache = HashCache(None)
    assert cache.folder(shelf / "tiny") == cache.folder(shelf / "copy")
