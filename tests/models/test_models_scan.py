"""Scanning folders: A1111, Forge and ComfyUI layouts, links, damage, memory, hashes, sidecars, names."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from pathlib import Path

import pytest
from model_files import layouts

from danqing.models.hashes import NO_LEGACY, HashCache
from danqing.models.layouts import folder_kind, studio_roots
from danqing.models.resolve import resolve
from danqing.models.scan import Scanner
from danqing.models.sidecars import frequent_tags, read_notes, trigger_words
from danqing.spec.errors import BadFileError, NotFoundError
from danqing.spec.files import ModelFile

LORA = layouts.kohya_lora(layouts.lora_modules(layouts.SD1), rank=2)
TAGS = {"10_cat": {"ohwx cat": 20, "sitting": 6, "outdoors": 3}}
WORDS = {"ss_output_name": "mycat", "ss_tag_frequency": json.dumps(TAGS), "sshs_legacy_hash": "0a1b2c3d"}


def lora(path, metadata=None):
    return layouts.write_sparse(path, LORA, metadata or WORDS)


def embedding(path, width=768):
    return layouts.write_sparse(path, {"emb_params": (2, width)}, dtype="F32")


def names(files):
    return {file.name: file.identity.kind if file.identity else "unreadable" for file in files}


@pytest.fixture
def a1111(tmp_path):
    root = tmp_path / "stable-diffusion-webui"
    (root / "webui.py").parent.mkdir(parents=True)
    (root / "webui.py").touch()
    models = root / "models"
    layouts.write_sparse(models / "Stable-diffusion/real/v1-5.safetensors", layouts.sd1_checkpoint())
    lora(models / "Lora/people/cat.safetensors")
    layouts.write_sparse(models / "VAE/vae-ft-mse-840000.safetensors", layouts.ldm_vae(""))
    (models / "ESRGAN").mkdir()
    (models / "ESRGAN/broken.pth").write_bytes(b"<html>sign in first</html>")
    embedding(root / "embeddings/easynegative.safetensors")
    embedding(root / "venv/lib/not-a-model.safetensors")
    return root


def test_a_whole_a1111_folder(a1111):
    files = Scanner().scan([a1111])

    assert names(files) == {
        "real/v1-5": "checkpoint",
        "people/cat": "lora",
        "vae-ft-mse-840000": "vae",
        "broken": "unreadable",
        "easynegative": "embedding",
    }
    by_name = {file.name: file for file in files}
    assert by_name["people/cat"].folder_kind == "lora"
    assert by_name["people/cat"].alias == "mycat"
    assert by_name["people/cat"].trigger_words == ("ohwx cat",)
    assert by_name["broken"].folder_kind == "upscaler"
    assert "web page" in by_name["broken"].problem
    assert by_name["vae-ft-mse-840000"].identity.family == "sd1"


def test_comfyui_with_extra_model_paths(tmp_path):
    root, extra = tmp_path / "ComfyUI", tmp_path / "shared disk"
    (root / "comfy").mkdir(parents=True)
    layouts.write_sparse(root / "models/unet/sd15-unet.safetensors", layouts.ldm_unet(layouts.SD1, ""))
    embedding(root / "models/embeddings/one.safetensors")
    lora(extra / "models/Lora/cat.safetensors")
    embedding(extra / "embeddings/two.safetensors", 1024)
    config = f"a111:\n  base_path: {extra}\n  loras: |\n    models/Lora\n    models/LyCORIS\n  embeddings: embeddings\n"
    (root / "extra_model_paths.yaml").write_text(config, encoding="utf-8")

    files = Scanner().scan([root])

    assert names(files) == {"sd15-unet": "denoiser", "one": "embedding", "cat": "lora", "two": "embedding"}
    (root / "extra_model_paths.yaml").write_text("a: [", encoding="utf-8")
    assert names(Scanner().scan([root])) == {"sd15-unet": "denoiser", "one": "embedding"}


def test_forge_folders_and_their_kinds():
    assert folder_kind(("models", "text_encoder", "x")) == ("text_encoder", 2)
    assert folder_kind(("models", "ControlNet"))[0] == "controlnet"
    assert folder_kind(("somewhere",)) == (None, 0)


def test_the_studio_looks_beside_its_models_too(a1111):
    assert studio_roots(a1111 / "models") == [a1111 / "models", a1111 / "embeddings"]


def test_several_roots_and_links_between_them(tmp_path):
    one, two, outside = tmp_path / "one", tmp_path / "two", tmp_path / "outside"
    embedding(one / "a.safetensors")
    embedding(two / "b.safetensors")
    embedding(outside / "c.safetensors")
    (one / "link-in").symlink_to(two)
    (one / "link-out").symlink_to(outside)
    (one / "file-out.safetensors").symlink_to(outside / "c.safetensors")
    (one / "loop").symlink_to(one)
    (one / "dangling.safetensors").symlink_to(one / "gone.safetensors")

    files = Scanner().scan([one, two])

    found = {Path(file.path).name: file for file in files}
    assert sum(file.name == "b" or file.name.endswith("/b") for file in files) == 1
    assert found["a.safetensors"].identity is not None
    assert "leads out" in found["link-out"].problem
    assert "leads out" in found["file-out.safetensors"].problem
    assert "cannot be read" in found["dangling.safetensors"].problem
    assert len(files) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_listed(tmp_path):
    embedding(tmp_path / "a.safetensors")
    (tmp_path / "locked").mkdir(mode=0)

    assert any("cannot be read" in file.problem for file in Scanner().scan([tmp_path]))


def test_a_diffusers_folder_is_one_model(tmp_path):
    folder = tmp_path / "Stable-diffusion/mine"
    (folder / "unet").mkdir(parents=True)
    index = {"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    embedding(folder / "unet/diffusion_pytorch_model.safetensors")

    (file,) = Scanner().scan([tmp_path])

    assert (file.name, file.identity.family, file.identity.layout) == ("mine", "sdxl", "diffusers folder")
    (folder / "model_index.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in Scanner().scan([tmp_path])[0].problem


def test_nameless_files_are_called_by_their_folder(tmp_path):
    lora(tmp_path / "Lora/cat/pytorch_lora_weights.safetensors")

    assert Scanner().scan([tmp_path])[0].name == "cat"


def test_a_model_in_pieces_is_one_model(tmp_path):
    whole = list(layouts.ldm_unet(layouts.SD1, "").items())
    folder = tmp_path / "unet/mine"
    for number, some in ((1, whole[:300]), (2, whole[300:])):
        layouts.write_sparse(folder / f"diffusion_pytorch_model-{number:05}-of-00002.safetensors", dict(some))

    (file,) = Scanner().scan([tmp_path])
    assert (file.name, file.identity.kind, file.identity.family) == ("mine", "denoiser", "sd1")

    (folder / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    assert "no such file" in Scanner().scan([tmp_path])[0].problem


def test_missing_path_and_single_file(tmp_path):
    with pytest.raises(NotFoundError):
        Scanner().scan([tmp_path / "none"])
    assert names(Scanner().scan([embedding(tmp_path / "a.safetensors")])) == {"a": "embedding"}


# --- memory --------------------------------------------------------------------------------------------------------
def test_a_second_scan_opens_no_file_and_sees_changes(a1111, tmp_path, monkeypatch):
    store = tmp_path / "memory/scan.sqlite"
    first = Scanner(store).scan([a1111])
    read: list[Path] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *rest, **more: read.append(self) or real(self, *rest, **more))

    assert Scanner(store).scan([a1111]) == first
    assert not [path for path in read if path.suffix in {".safetensors", ".pth"}]

    embedding(a1111 / "embeddings/easynegative.safetensors", 1024)
    changed = {file.name: file for file in Scanner(store).scan([a1111])}
    assert changed["easynegative"].identity.family == "sd2"
    assert [path.name for path in read if path.suffix == ".safetensors"][-1] == "easynegative.safetensors"


def test_a_config_put_beside_a_checkpoint_is_noticed(a1111, tmp_path):
    layouts.write_sparse(a1111 / "models/Stable-diffusion/768.safetensors", layouts.sd2_checkpoint())
    scanner = Scanner(tmp_path / "scan.sqlite")
    scanner.scan([a1111])
    (a1111 / "models/Stable-diffusion/768.yaml").write_text("parameterization: v", encoding="utf-8")

    found = {file.name: file for file in scanner.scan([a1111])}

    assert found["768"].identity.prediction == "v_prediction"


def test_a_damaged_or_unwritable_memory_does_no_harm(a1111, tmp_path):
    store = tmp_path / "scan.sqlite"
    store.write_bytes(b"not a database, but long enough to look like a file" * 100)

    assert len(Scanner(store).scan([a1111])) == 5
    assert len(Scanner(tmp_path / "webui.py/x/scan.sqlite").scan([a1111])) == 5


def test_what_another_version_saw_is_looked_at_again(a1111, tmp_path):
    store = tmp_path / "scan.sqlite"
    Scanner(store).scan([a1111])
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE scanned SET stamp = 'older|' || stamp, found = x'00'")

    assert names(Scanner(store).scan([a1111]))["people/cat"] == "lora"


# --- hashes --------------------------------------------------------------------------------------------------------
def test_every_hash_as_its_users_know_it(tmp_path):
    shapes = {"x": (1024, 600)}
    path = layouts.write_sparse(tmp_path / "a.safetensors", shapes, {"a": "b"})
    data = bytearray(path.read_bytes())
    data[-1000:] = os.urandom(1000)
    path.write_bytes(data)
    start = 8 + int.from_bytes(data[:8], "little")

    hashes = HashCache(None).compute(path)

    assert hashes["sha256"] == hashlib.sha256(data).hexdigest()
    assert hashes["autov2"] == hashes["sha256"][:10]
    assert hashes["legacy"] == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    assert hashes["autov3"] == hashes["lora12"] == hashlib.sha256(data[start:]).hexdigest()[:12]


def test_files_too_short_for_the_legacy_hash_have_none(tmp_path):
    path = embedding(tmp_path / "a.safetensors")

    assert HashCache(None).legacy(path) == NO_LEGACY == "e3b0c442"
    assert "legacy" not in HashCache(None).compute(path)


def test_hashes_are_remembered_by_size_and_time(tmp_path, monkeypatch):
    path = embedding(tmp_path / "a.safetensors")
    cache = HashCache(tmp_path / "hashes.json")
    first = cache.compute(path)
    cache.save()
    again = HashCache(tmp_path / "hashes.json")
    stat = path.stat()

    assert again.known(str(path.resolve()), stat.st_size, stat.st_mtime_ns) == first
    monkeypatch.setattr(Path, "open", None)
    assert again.file(path) == first["sha256"]
    assert again.known(str(path.resolve()), stat.st_size, stat.st_mtime_ns + 1) == {}


def test_no_tensor_hash_of_other_files(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(bytes(20))
    with pytest.raises(BadFileError):
        HashCache(None).tensors(tmp_path / "a.safetensors")


def test_resolve_by_everything_that_people_write(a1111):
    scanner = Scanner()
    found = scanner.scan([a1111])
    large = [file for file in found if file.name.startswith("real/")]  # gigabytes of nothing: not hashed here
    files = [*scanner.compute_hashes([file for file in found if file not in large]), *large]
    cat = next(file for file in files if file.name == "people/cat")
    full = cat.hashes["sha256"]

    assert cat.title == f"people/cat [{full[:10]}]"
    for wanted in (
        *("people/cat", "cat", "CAT", "cat.safetensors", "mycat", "people\\cat"),
        *(cat.title, f"cat [{full[:10]}]", full, full[:10], f"renamed [{full[:10]}]"),
        *(cat.hashes["autov3"], cat.hashes["lora12"], "0a1b2c3d", cat.path),
    ):
        assert resolve(files, wanted) == cat, wanted
    assert resolve(files, "v1-5", {"checkpoint"}).name == "real/v1-5"
    with pytest.raises(NotFoundError):
        resolve(files, "v1-5", {"lora"})


def test_resolve_says_what_to_do(a1111):
    files = Scanner().scan([a1111])
    with pytest.raises(NotFoundError, match="did you mean easynegative"):
        resolve(files, "easynegativ")
    with pytest.raises(NotFoundError, match="scan --hash"):
        resolve(files, "0123456789")
    twice = [*files, files[0].model_copy(update={"path": "/elsewhere/v1-5.safetensors"})]
    with pytest.raises(NotFoundError, match="several"):
        resolve(twice, files[0].name)


def test_copies_of_one_file_are_one(a1111):
    one = ModelFile(name="a", path="/x/a.pt", root="/x", hashes={"sha256": "f" * 64})
    two = one.model_copy(update={"path": "/y/a.pt"})
    assert resolve([one, two], "a") == one


# --- sidecars ------------------------------------------------------------------------------------------------------
def test_sidecars_as_a1111_and_civitai_write_them(a1111):
    folder = a1111 / "models/Lora/people"
    (folder / "cat.preview.png").touch()
    (folder / "cat.json").write_text(
        json.dumps(
            {
                "description": "a cat",
                "sd version": "SD1",
                "activation text": "ohwx cat, fluffy",
                "preferred weight": 0.8,
                "negative text": "dog",
                "notes": "mine",
            }
        ),
        encoding="utf-8",
    )
    info = {"trainedWords": ["ohwx"], "baseModel": "SD 1.5", "description": "<p>longer</p>"}
    (folder / "cat.civitai.info").write_text(json.dumps(info), encoding="utf-8")
    checkpoints = a1111 / "models/Stable-diffusion/real"
    layouts.write_sparse(checkpoints / "v1-5.vae.safetensors", layouts.ldm_vae(""))

    files = {file.name: file for file in Scanner().scan([a1111])}
    cat = files["people/cat"]

    assert cat.preview == str(folder / "cat.preview.png")
    assert set(cat.sidecars) == {"cat.preview.png", "cat.json", "cat.civitai.info"}
    assert files["real/v1-5"].sidecars == ("v1-5.vae.safetensors",)
    assert files["real/v1-5.vae"].identity.kind == "vae"
    notes = read_notes(Path(cat.path), WORDS)
    assert (notes.description, notes.preferred_weight, notes.negative_text) == ("a cat", 0.8, "dog")
    assert notes.trigger_words == ("ohwx cat, fluffy", "ohwx", "ohwx cat")
    assert notes.tags == ("ohwx cat", "sitting", "outdoors")


@pytest.mark.parametrize("text", ["", "[", "[1, 2]", '{"activation text": 5, "preferred weight": "much"}', "\xff"])
def test_damaged_sidecars_say_nothing(tmp_path, text):
    for ending in (".json", ".civitai.info"):
        (tmp_path / f"a{ending}").write_text(text, encoding="latin-1")

    notes = read_notes(tmp_path / "a.safetensors", {"ss_tag_frequency": text})

    assert notes.trigger_words == ()
    assert notes.preferred_weight is None


def test_trigger_words():
    assert trigger_words({"modelspec.trigger_phrase": "by wang hui"}) == ("by wang hui",)
    even = {"1_style": {f"tag {number}": 5 for number in range(20)}}
    assert trigger_words({"ss_tag_frequency": json.dumps(even)}) == ()
    assert frequent_tags({}) == ()
