"""SD3 and 3.5 in one file: equal bit for bit to their diffusers folders, with text encoders inside or beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import SD3Transformer2DModel

from danqing.models.catalog import Catalog
from danqing.models.families.sd3 import StableDiffusion3
from danqing.models.loader import Loader
from danqing.models.singlefile.transformers import describe_transformer
from danqing.spec.errors import MissingWeightsError
from danqing.spec.files import Header, TensorInfo
from danqing.spec.model import ModelRef
from easel import Easel
from tiny_transformers import Tensors, make_sd3, sd3_names

CPU = torch.device("cpu")
WORDS = {"prompt": "a (red:1.3) cat [and:without:2] a dog", "negative_prompt": "blue"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    """3.5 medium with everything inside; 3 medium with its CLIPs inside; 3.5 large with all beside it."""
    root = tmp_path_factory.mktemp("sd3-files")
    home = root / "Stable-diffusion"
    medium35 = make_sd3(seed=1)
    medium35.save_folder(home / "medium35-folder")
    medium35.save_file(home / "sd3.5_medium_incl_all.safetensors", prefix="model.diffusion_model.", whole=True)
    medium = make_sd3(seed=2, dual=False, normed=False, t5=False)
    medium.save_folder(home / "medium-folder")
    medium.save_file(home / "sd3_medium_incl_clips.safetensors", prefix="model.diffusion_model.", whole=True, t5=False)
    large = make_sd3(seed=3, dual=False)
    large.save_folder(home / "large-folder")
    large.save_file(root / "diffusion_models" / "sd3.5_large.safetensors")
    large.save_companions(root)
    return Easel(root)


def loaded(catalog: Catalog, name: str) -> StableDiffusion3:
    info = catalog.find(name)
    model = Loader(catalog, CPU).get(ModelRef(name=info.name, sha256=info.sha256, family=info.family), None, "float32")
    assert isinstance(model, StableDiffusion3)
    return model


def weights(model: StableDiffusion3) -> Tensors:
    parts = {"unet": model.unet, "vae": model.vae}
    parts |= {f"text{at}": text.model for at, text in enumerate(model.texts)}
    parts |= {"t5": model.t5.model} if model.t5 else {}
    return {f"{part}.{name}": one for part, module in parts.items() for name, one in module.state_dict().items()}


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("sd3.5_medium_incl_all", "medium35-folder"),
        ("sd3_medium_incl_clips", "medium-folder"),
        ("sd3.5_large", "large-folder"),
    ],
)
def test_a_file_has_the_weights_words_and_picture_of_its_twin(studio: Easel, name: str, twin: str):
    ours, theirs = (loaded(studio.catalog, one) for one in (name, twin))
    assert_same(weights(ours), weights(theirs))
    assert ours.table == theirs.table
    told = [info.model_dump(exclude={"name", "path", "sha256"}) for info in (ours.info, theirs.info)]
    assert told[0] == told[1]
    (mine,), (folders,) = (one.read_text(["a (red:1.3) cat"], "Original", 1) for one in (ours, theirs))
    assert mine.pooled is not None
    assert folders.pooled is not None
    assert torch.equal(mine.states, folders.states)
    assert torch.equal(mine.pooled, folders.pooled)
    assert np.array_equal(*(studio.pixels(model=one, **WORDS) for one in (name, twin)))


def test_shapes_tell_the_version(studio: Easel):
    found = {path.stem: describe_transformer(path) for path in studio.models_dir.rglob("sd3*.safetensors")}
    variants = {name: one.variant for name, one in found.items() if one is not None}
    assert variants["sd3.5_medium_incl_all"] == "3.5-medium"
    assert variants["sd3_medium_incl_clips"] == "3-medium"
    assert variants["sd3.5_large"] == "3.5-large"
    medium = found["sd3.5_medium_incl_all"]
    assert medium is not None
    assert (medium.config["dual_attention_layers"], medium.config["qk_norm"]) == ([0], "rms_norm")
    assert sorted(medium.encoders) == ["clip_g", "clip_l", "t5xxl"]
    assert medium.vae_prefix == "first_stage_model."


@pytest.mark.parametrize(
    ("depth", "options"),
    [
        (24, {"pos_embed_max_size": 192}),
        (38, {"pos_embed_max_size": 192, "qk_norm": "rms_norm"}),
        (24, {"pos_embed_max_size": 384, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))}),
    ],
    ids=["3-medium", "3.5-large", "3.5-medium"],
)
def test_the_published_shapes(tmp_path: Path, depth: int, options: dict[str, Any], request: pytest.FixtureRequest):
    """Names and shapes alone, without a number."""
    with init_empty_weights(include_buffers=True):
        whole = SD3Transformer2DModel(
            num_layers=depth, num_attention_heads=depth, caption_projection_dim=64 * depth, **options
        )
    names = sd3_names(whole.state_dict())
    header = Header("safetensors", {name: TensorInfo("float16", tuple(one.shape)) for name, one in names.items()})
    found = describe_transformer(tmp_path / "sd3.safetensors", header)
    assert found is not None
    assert found.variant == request.node.callspec.id
    config = {name: whole.config[name] for name in found.config}
    assert {**found.config, "dual_attention_layers": tuple(found.config["dual_attention_layers"])} == {
        **config,
        "dual_attention_layers": tuple(config["dual_attention_layers"]),
    }


def test_t5_may_be_left_out(tmp_path: Path):
    tiny = make_sd3()
    tiny.save_companions(tmp_path)
    path = tiny.save_file(tmp_path / "unet" / "mine.safetensors")
    assert loaded(Catalog(tmp_path), "mine").t5 is not None
    (tmp_path / "text_encoders" / "t5" / "tokenizer.json").unlink()
    with pytest.raises(MissingWeightsError, match="T5's tokenizer") as caught:
        loaded(Catalog(tmp_path), "mine")
    assert '{"t5": false}' in (caught.value.next_step or "")
    path.with_suffix(".danqing.json").write_text('{"t5": false, "defaults": {"size_px": 64, "steps": 2}}')
    assert loaded(Catalog(tmp_path), "mine").t5 is None
    path.with_suffix(".danqing.json").unlink()
    (tmp_path / "text_encoders" / "t5xxl_fp16.safetensors").unlink()
    assert loaded(Catalog(tmp_path), "mine").t5 is None


def test_a_missing_encoder_is_said_with_its_place(tmp_path: Path):
    tiny = make_sd3()
    tiny.save_companions(tmp_path)
    tiny.save_file(tmp_path / "unet" / "mine.safetensors")
    (tmp_path / "text_encoders" / "clip_g.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="OpenCLIP-G") as caught:
        loaded(Catalog(tmp_path), "mine")
    assert "clip_g.safetensors" in (caught.value.next_step or "")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_half_and_quarter_precision(tmp_path: Path, dtype: torch.dtype):
    tiny = make_sd3(dual=False)
    tiny.save_companions(tmp_path)

    def half(tensors: Tensors) -> Tensors:
        return {name: one.to(dtype) for name, one in tensors.items()}

    tiny.save_file(tmp_path / "unet" / "half.safetensors", change=half)
    wanted = {name: one.to(dtype).float() for name, one in tiny.transformer.state_dict().items()}
    assert_same(loaded(Catalog(tmp_path), "half").unet.state_dict(), wanted)
