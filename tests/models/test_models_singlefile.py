"""Checkpoints in one file: equal bit for bit to their twins in diffusers' layout, read as their sidecars say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from danqing.models.catalog import Catalog
from danqing.models.families.sd import StableDiffusion
from danqing.models.loader import Loader
from danqing.models.singlefile.describe import describe
from danqing.models.singlefile.facts import CLIP_TOKENIZER
from danqing.models.singlefile.weights import Weights
from danqing.prompt.tokenizer import ClipTokenizer
from danqing.spec.errors import BadFileError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.model import ModelRef
from easel import Easel, photo
from tiny_checkpoints import TEXT_WIDTH, Tensors, make, vae_names

CPU = torch.device("cpu")
WORDS = {"prompt": "a (red:1.3) cat [AND:and:2] a dog", "negative_prompt": "blue"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    """Files and their twins: ε, v, inpainting and instruct-pix2pix."""
    root = tmp_path_factory.mktemp("singlefile")
    home = root / "Stable-diffusion"
    for name, kind, options in (
        ("sd1", "sd1", {}),
        ("sd2", "sd2", {"prediction": "v_prediction"}),
        ("inpaint", "sd1", {"in_channels": 9}),
        ("edit", "sd1", {"in_channels": 8}),
    ):
        tiny = make(kind, seed=len(name), **options)
        tiny.save_folder(home / f"{name}-folder")
        tiny.save_file(home / f"{name}.safetensors")
    make("sd1", seed=3).save_file(home / "old.ckpt")
    return Easel(root)


def loaded(catalog: Catalog, name: str, precision: str = "float32") -> StableDiffusion:
    info = catalog.find(name)
    return Loader(catalog, CPU).get(ModelRef(name=info.name, sha256=info.sha256, family=info.family), None, precision)


def alone(path: Path, name: str = "") -> StableDiffusion:
    """The model of a file in a models folder of its own."""
    return loaded(Catalog(path.parent.parent), name or path.name)


def weights(model: StableDiffusion) -> Tensors:
    parts = {"unet": model.unet, "vae": model.vae, "text": model.text.model}
    return {f"{part}.{name}": one for part, module in parts.items() for name, one in module.state_dict().items()}


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# --- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd1", "sd2", "inpaint", "edit"])
def test_a_file_has_the_weights_of_its_twin_bit_for_bit(studio: Easel, name: str):
    ours, theirs = (loaded(studio.catalog, one) for one in (f"{name}.safetensors", f"{name}-folder"))
    assert_same(weights(ours), weights(theirs))
    assert ours.table == theirs.table
    told = [info.model_dump(exclude={"name", "path", "sha256"}) for info in (ours.info, theirs.info)]
    assert told[0] == told[1]
    read = [one.encode_text(["a (red:1.3) cat, " * 20], "Original", 2)[0] for one in (ours, theirs)]
    assert read[0].shape == (154, TEXT_WIDTH)
    assert torch.equal(*read)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_a_file_paints_its_twins_picture(studio: Easel, name: str, precision: str):
    ours, theirs = (
        studio.pixels(model=one, precision=precision, **WORDS) for one in (f"{name}.safetensors", f"{name}-folder")
    )
    assert np.array_equal(ours, theirs)
    other = studio.pixels(model=f"{name}.safetensors", precision=precision, prompt="a green house")
    assert np.abs(ours - other).mean() > 1


def test_inpainting_and_editing_read_the_picture(studio: Easel):
    image = studio.picture(photo(64, 64))
    for name in ("inpaint", "edit"):
        fields = {"kind": "img2img", "image": image, "strength": 1.0, **WORDS}
        ours, theirs = (studio.pixels(model=one, **fields) for one in (f"{name}.safetensors", f"{name}-folder"))
        assert np.array_equal(ours, theirs)
    words_only = studio.pixels(model="edit.safetensors", **WORDS)
    assert np.abs(ours - words_only).mean() > 1


def test_a_pickle_is_read_without_running_it(studio: Easel, tmp_path: Path):
    tiny = make("sd1", seed=3)
    same = tiny.save_file(tmp_path / "Stable-diffusion" / "same.safetensors")
    assert_same(weights(loaded(studio.catalog, "old")), weights(alone(same)))


def test_a_pickle_with_a_training_record_of_lightning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import types

    path = make("sd1").save_file(tmp_path / "Stable-diffusion" / "published.ckpt")
    record = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    record.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": record.__name__})  # type: ignore[attr-defined]
    data = torch.load(path, weights_only=True)
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", record.__name__):
            patch.setitem(sys.modules, name, record)
        torch.save({**data, "callbacks": {record.ModelCheckpoint: {"best": np.float64(0.5)}}}, path)
    assert alone(path).info.family == "sd1"


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise SystemExit('the pickle was run')",)


def test_a_pickle_with_code_is_refused(tmp_path: Path):
    path = make("sd1").save_file(tmp_path / "Stable-diffusion" / "bomb.ckpt")
    data = torch.load(path, weights_only=True)
    torch.save({**data, "extra": Bomb()}, path)
    with pytest.raises(BadFileError, match=r"bomb\.ckpt"):
        alone(path)
    with pytest.raises(BadFileError, match="more than weights"):
        Weights(path)


# --- number formats ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_half_and_quarter_precision(tmp_path: Path, dtype: torch.dtype):
    def half(tensors: Tensors) -> Tensors:
        return {name: one.to(dtype) if one.is_floating_point() else one for name, one in tensors.items()}

    tiny = make("sd1")
    model = alone(tiny.save_file(tmp_path / "Stable-diffusion" / "half.safetensors", half))
    wanted = {name: one.to(dtype).float() for name, one in tiny.unet.state_dict().items()}
    assert_same(model.unet.state_dict(), wanted)


def test_scaled_float8_is_unscaled(tmp_path: Path):
    scale = torch.tensor(0.25)

    def scaled(tensors: Tensors) -> Tensors:
        found = dict(tensors)
        for name, one in tensors.items():
            if name.startswith("model.diffusion_model.") and name.endswith(".weight") and one.ndim == 2:
                found[name] = (one / scale).to(torch.float8_e4m3fn)
                found[f"{name.removesuffix('weight')}scale_weight"] = scale
        return found

    tiny = make("sd1")
    model = alone(tiny.save_file(tmp_path / "Stable-diffusion" / "scaled.safetensors", scaled))
    name = "time_embedding.linear_1.weight"
    ours, theirs = model.unet.state_dict()[name], tiny.unet.state_dict()[name]
    assert torch.equal(ours, (theirs / scale).to(torch.float8_e4m3fn).float() * scale)
    assert torch.allclose(ours, theirs, atol=0.02)


# --- what lies beside it ----------------------------------------------------------------------------------------------


def other_vae(path: Path, *, seed: int = 9) -> Tensor:
    """An autoencoder of its own in a file; one of its tensors."""
    vae = make("sd1", seed=seed).vae
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.contiguous() for name, one in vae_names(vae).items()}, path)
    return vae.state_dict()["decoder.conv_in.weight"]


def test_an_autoencoder_beside_the_checkpoint_takes_the_baked_ones_place(tmp_path: Path):
    path = make("sd1").save_file(tmp_path / "Stable-diffusion" / "mine.safetensors")
    baked = alone(path).vae.state_dict()["decoder.conv_in.weight"]
    beside = other_vae(path.with_suffix(".vae.safetensors"))
    assert torch.equal(alone(path).vae.state_dict()["decoder.conv_in.weight"], beside)
    assert not torch.equal(baked, beside)
    path.with_suffix(".vae.safetensors").unlink()
    in_folder = other_vae(tmp_path / "VAE" / "mine.safetensors", seed=8)
    assert torch.equal(alone(path).vae.state_dict()["decoder.conv_in.weight"], in_folder)


def test_an_autoencoder_is_chosen_by_name(tmp_path: Path):
    tiny = make("sd1")
    tiny.save_file(tmp_path / "Stable-diffusion" / "mine.safetensors")
    tiny.vae.save_pretrained(tmp_path / "own")
    (tmp_path / "VAE").mkdir()
    save_file(
        load_file(tmp_path / "own" / "diffusion_pytorch_model.safetensors"), tmp_path / "VAE" / "same.safetensors"
    )
    other_vae(tmp_path / "VAE" / "other.safetensors")
    easel = Easel(tmp_path)
    own, same, other = (easel.pixels(model="mine", vae=vae) for vae in (None, "same", "other.safetensors"))
    assert np.array_equal(own, same), "diffusers' names in a file"
    assert np.abs(own - other).mean() > 1
    with pytest.raises(NotFoundError) as caught:
        easel.catalog.find_vae("nothing")
    assert caught.value.field == "vae"
    assert "other.safetensors" in (caught.value.allowed or "")


def test_without_any_autoencoder_it_says_where_to_put_one(tmp_path: Path):
    path = make("sd1").save_file(tmp_path / "Stable-diffusion" / "pruned.safetensors", without("first_stage_model."))
    with pytest.raises(MissingWeightsError, match="no autoencoder") as caught:
        alone(path)
    assert "models/VAE" in (caught.value.next_step or "")
    other_vae(tmp_path / "VAE" / "pruned.vae.safetensors")
    assert alone(path).vae is not None


def without(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: one for name, one in tensors.items() if not name.startswith(prefix)}


def test_averaged_weights_are_taken_where_the_sidecar_says_so(tmp_path: Path):
    def with_ema(tensors: Tensors) -> Tensors:
        head = "model.diffusion_model."
        names = [name for name in tensors if name.startswith(head)]
        ema = {"model_ema." + name.removeprefix("model.").replace(".", ""): tensors[name] * 2 for name in names}
        return {**tensors, **ema}

    tiny = make("sd1")
    home = tmp_path / "Stable-diffusion"
    plain = alone(tiny.save_file(home / "full.safetensors", with_ema))
    averaged = alone(tiny.save_file(home / "ema.safetensors", with_ema, ema=True))
    own = tiny.unet.state_dict()
    assert_same(plain.unet.state_dict(), own)
    assert_same(averaged.unet.state_dict(), {name: one * 2 for name, one in own.items()})


@pytest.mark.parametrize(
    ("name", "beside", "wanted"),
    [
        ("plain.safetensors", {}, "v_prediction"),
        ("512-base-ema.safetensors", {}, "epsilon"),
        (
            "mine.safetensors",
            {".yaml": "model:\n  params:\n    parameterization: eps\n    linear_start: 0.00085\n"},
            "epsilon",
        ),
        ("512-base.safetensors", {".yaml": "model: {params: {parameterization: v}}"}, "v_prediction"),
        ("forced.safetensors", {".danqing.json": '{"prediction": "epsilon"}'}, "epsilon"),
    ],
)
def test_what_a_stable_diffusion_2_predicts(tmp_path: Path, name: str, beside: dict[str, str], wanted: str):
    path = make("sd2").save_file(tmp_path / "Stable-diffusion" / name)
    for ending, text in beside.items():
        path.with_suffix(ending).write_text(text)
    info = Catalog(tmp_path).find(name)
    assert (info.family, info.prediction) == ("sd2", wanted)
    if ".danqing.json" in beside:
        assert info.defaults.size_px == (768 if wanted == "v_prediction" else 512)


def test_zero_terminal_noise(tmp_path: Path):
    def marked(tensors: Tensors) -> Tensors:
        return {**tensors, "v_pred": torch.empty(0), "ztsnr": torch.empty(0)}

    model = alone(make("sdxl").save_file(tmp_path / "Stable-diffusion" / "noob.safetensors", marked))
    assert model.info.prediction == "v_prediction"
    assert model.table.sigma_max > 4000


# --- finding and refusing ---------------------------------------------------------------------------------------------


def test_files_are_found_in_every_layout_and_noticed_when_they_change(tmp_path: Path):
    tiny = make("sd1")
    first = tiny.save_file(tmp_path / "Stable-diffusion" / "anime" / "one.safetensors")
    tiny.save_file(tmp_path / "checkpoints" / "two.safetensors")
    catalog = Catalog(tmp_path)
    assert [info.name for info in catalog.list() if not info.builtin] == ["anime/one.safetensors", "two.safetensors"]
    one = catalog.find("one")
    for name in ("anime/one.safetensors", "one.safetensors", f"one.safetensors [{one.short_hash}]", one.short_hash):
        assert catalog.find(name) == one
    assert one.attention_widths == (32, 32, 32, 64)
    about = first.with_suffix(".danqing.json")
    about.write_text(json.dumps({"defaults": {"steps": 33}, "description": "for cats"}))
    again = catalog.find("one")
    assert (again.defaults.steps, again.defaults.size_px, again.description) == (33, 512, "for cats")


def test_what_is_no_checkpoint_is_refused_with_its_place(tmp_path: Path):
    home = tmp_path / "Stable-diffusion"
    home.mkdir()
    lora = {
        f"lora_unet_mid_block_attentions_0_proj_in.lora_{side}.weight": torch.zeros(4, 4) for side in ("up", "down")
    }
    save_file(lora, home / "style.safetensors")
    (home / "junk.safetensors").write_bytes(b"junk")
    make("sd1").save_file(home / "unet.safetensors", without("cond_stage_model."))
    make("sd1", in_channels=5).save_file(home / "depth.safetensors")
    catalog = Catalog(tmp_path)
    assert [info.name for info in catalog.list() if not info.builtin] == []
    problems = {Path(path).stem: why for path, why in catalog.problems().items()}
    assert "models/Lora" in problems["style"]
    assert "junk.safetensors" in problems["junk"]
    assert "without its text encoder" in problems["unet"]
    assert "5 channels" in problems["depth"]
    with pytest.raises(UnsupportedError, match="inputs"):
        catalog.find("depth")


def test_an_incomplete_file_is_said_to_be(tmp_path: Path):
    lost = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    path = make("sd1").save_file(tmp_path / "Stable-diffusion" / "cut.safetensors", without(lost))
    with pytest.raises(BadFileError, match="1 tensors differ") as caught:
        alone(path)
    assert "mid_block.resnets.0.conv1.weight" in str(caught.value)


def test_odd_depths_are_refused_and_not_guessed(tmp_path: Path):
    path = make("sd1").save_file(
        tmp_path / "Stable-diffusion" / "odd.safetensors",
        without("model.diffusion_model.middle_block.1.transformer_blocks"),
    )
    with pytest.raises(UnsupportedError, match="middle block"):
        describe(path)


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_shipped_tokenizer_is_clips():
    tokenizer = ClipTokenizer(CLIP_TOKENIZER)
    wanted = [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496]
    assert tokenizer.encode("a photo of an astronaut riding a horse on mars") == wanted
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.comma_id) == (49406, 49407, 49407, 267)


@pytest.mark.parametrize(("kind", "pad"), [("sd1", 49407), ("sd2", 0)])
def test_chunks_are_filled_up_as_the_family_was_trained(studio: Easel, kind: str, pad: int):
    assert loaded(studio.catalog, f"{kind}.safetensors").text.tokenizer.pad_id == pad
    assert loaded(studio.catalog, f"{kind}-folder").text.tokenizer.pad_id == pad


# --- the whole size ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_stable_diffusion_1_5(tmp_path: Path):
    """Random weights of the published shapes: 1.07 billion numbers, 2.1 GB in float16."""
    import time

    from full_checkpoints import sd15

    path = sd15(tmp_path / "Stable-diffusion" / "v1-5.safetensors")
    catalog = Catalog(tmp_path)
    info = catalog.find("v1-5")
    assert info.block_widths == (320, 640, 1280, 1280)
    ref = ModelRef(name=info.name, sha256=info.sha256, family=info.family)
    loader = Loader(catalog, CPU)
    model = loader.get(ref, None, "bfloat16")
    loader.drop_others()
    began = time.perf_counter()
    model = Loader(catalog, CPU).get(ref, None, "bfloat16")
    sys.stderr.write(f"\nsecond load of {path.stat().st_size / 1e9:.1f} GB: {time.perf_counter() - began:.1f} s\n")
    context = model.encode_text(["a cat"], "Original", 1)[0][None]
    out = model.denoise(torch.randn(1, 4, 8, 8), torch.tensor([5.0]), context, None, perturbed=False)
    assert out.shape == (1, 4, 8, 8)
    assert bool(out.isfinite().all())
