"""FLUX.1: flow matching on packed latents, T5 and CLIP, and files equal bit for bit to their diffusers folders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from transformers import CLIPTokenizer

from danqing.engine.calls import Denoise
from danqing.models.catalog import Catalog
from danqing.models.families.flux import T5_TOKENS, Flux, packed, places, unpacked
from danqing.models.families.sd import Added
from danqing.models.loader import Loader
from danqing.models.singlefile.flux_names import to_diffusers
from danqing.models.singlefile.transformers import describe_transformer
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.files import Header, TensorInfo
from danqing.spec.model import ModelRef
from easel import Easel, box_mask, check_sampler, photo
from tiny_transformers import T5_WIDTH, Tensors, flux_names, make_flux, save_tensors

CPU = torch.device("cpu")
WORDS = {"prompt": "a (red:1.3) cat [and:without:2] a dog", "negative_prompt": "blue"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    """dev and schnell as folders, dev as files in ComfyUI's folders."""
    root = tmp_path_factory.mktemp("flux")
    home = root / "Stable-diffusion"
    dev, schnell = make_flux("dev"), make_flux("schnell", seed=2)
    dev.save_folder(home / "dev")
    schnell.save_folder(home / "schnell")
    dev.save_file(root / "diffusion_models" / "flux1-dev.safetensors")
    dev.save_file(root / "unet" / "prefixed.safetensors", prefix="model.diffusion_model.")
    schnell.save_file(home / "flux1-schnell-whole.safetensors", prefix="model.diffusion_model.", whole=True)
    dev.save_companions(root)
    return Easel(root)


def model_of(studio: Easel, name: str) -> Flux:
    model = studio.model(name)
    assert isinstance(model, Flux)
    return model


def alone(models_dir: Path, name: str, precision: str = "float32") -> Flux:
    catalog = Catalog(models_dir)
    info = catalog.find(name)
    ref = ModelRef(name=info.name, sha256=info.sha256, family=info.family)
    model = Loader(catalog, CPU).get(ref, None, precision)
    assert isinstance(model, Flux)
    return model


def weights(model: Flux) -> Tensors:
    assert model.t5 is not None
    parts = {"unet": model.unet, "vae": model.vae, "text": model.text.model, "t5": model.t5.model}
    return {f"{part}.{name}": one for part, module in parts.items() for name, one in module.state_dict().items()}


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_what_it_is(studio: Easel):
    assert studio.catalog.problems() == {}
    dev, schnell = (studio.catalog.find(name) for name in ("dev", "schnell"))
    assert (dev.family, dev.variant, schnell.variant, dev.prediction) == ("flux", "dev", "schnell", "flow_prediction")
    assert (dev.latent_channels, dev.unet_in_channels, dev.latent_scale, dev.context_width) == (16, 16, 8, T5_WIDTH)
    assert dev.defaults.distilled_guidance == 3.5
    assert schnell.defaults.distilled_guidance is None


def test_latents_are_packed_as_diffusers_does():
    x = torch.randn(2, 16, 6, 8)
    assert torch.equal(packed(x), FluxPipeline._pack_latents(x, 2, 16, 6, 8))
    assert torch.equal(unpacked(packed(x), 3, 4), x)
    assert torch.equal(places(3, 4), FluxPipeline._prepare_latent_image_ids(1, 3, 4, CPU, torch.float32))


def test_words_are_those_of_diffusers_pipeline(studio: Easel):
    ours = model_of(studio, "dev")
    assert ours.t5 is not None
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=ours.vae,
        text_encoder=ours.text.model,
        tokenizer=CLIPTokenizer.from_pretrained(Path(ours.info.path) / "tokenizer"),
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=ours.unet,
    )
    pooled = pipeline._get_clip_prompt_embeds("a red cat", device=CPU)
    (read,) = ours.read_text(["a red cat"], "Original", 1)
    assert read.pooled is not None
    assert torch.allclose(read.pooled, pooled[0], atol=1e-5)
    with torch.inference_mode():
        wanted = ours.t5.model(torch.tensor([[3, 4, 5, 1] + [0] * 508])).last_hidden_state[0]
    assert torch.equal(read.states, wanted)
    assert model_of(studio, "schnell").read_text(["cat"], "Original", 1)[0].states.shape == (256, T5_WIDTH)


@pytest.mark.parametrize("name", ["dev", "schnell"])
def test_one_step_is_the_flow_of_the_transformer(studio: Easel, name: str):
    ours = model_of(studio, name)
    (read,) = ours.read_text(["a red cat"], "Original", 1)
    assert read.pooled is not None
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    added = Added(read.pooled[None], torch.zeros(1, 7), torch.tensor([2.5]))
    denoised = ours.denoise(x, torch.tensor([0.75]), read.states[None], None, perturbed=False, added=added)
    with torch.inference_mode():
        velocity = ours.unet(
            hidden_states=FluxPipeline._pack_latents(x, 1, 16, 8, 8),
            encoder_hidden_states=read.states[None],
            pooled_projections=read.pooled[None],
            timestep=torch.tensor([0.75]),
            img_ids=FluxPipeline._prepare_latent_image_ids(1, 4, 4, CPU, torch.float32),
            txt_ids=torch.zeros(T5_TOKENS[name], 3),
            guidance=torch.tensor([2.5]) if name == "dev" else None,
        ).sample
    unpacked_ = FluxPipeline._unpack_latents(velocity, 64, 64, 8)
    assert torch.allclose(denoised, x - 0.75 * unpacked_, atol=1e-5)


@pytest.mark.parametrize(("name", "size_px"), [("dev", 64), ("dev", 128), ("schnell", 64)])
def test_noise_levels_are_those_of_diffusers_pipeline(studio: Easel, name: str, size_px: int):
    fields = {"model": name, "sampling": {"sampler": "Euler", "schedule": "simple", "steps": 4}}
    (one,) = studio.plans(**fields, width_px=size_px, height_px=size_px)
    studio.latents([one])
    ours = [call.sigma for call in studio.executor.denoised()]
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(Path(studio.catalog.find(name).path) / "scheduler")
    mu = calculate_shift((size_px // 16) ** 2) if name == "dev" else None
    retrieve_timesteps(scheduler, sigmas=np.linspace(1.0, 0.25, 4), **({"mu": mu} if mu else {}))
    assert ours == pytest.approx(scheduler.sigmas[:-1].tolist(), abs=2e-3)


def test_guidance_is_told_to_dev_alone(studio: Easel):
    (dev,) = studio.plans(model="dev")
    assert dev.base.guidance.distilled == 3.5
    assert dev.base.guidance_scale == 1.0
    plain = studio.pixels(model="dev", **WORDS)
    assert len(studio.executor.denoised()[0].contexts) == 1, "no negative prompt at scale 1"
    strong = studio.pixels(model="dev", guidance={"distilled": 20}, **WORDS)
    assert np.abs(plain - strong).mean() > 0.01
    assert studio.plans(model="schnell")[0].base.guidance.distilled is None
    with_negative = studio.pixels(model="dev", guidance={"scale": 4}, **WORDS)
    assert np.abs(plain - with_negative).mean() > 0.1


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "Heun"])
def test_samplers_paint(studio: Easel, sampler: str):
    check_sampler(studio, {"model": "schnell", "sampling": {"sampler": sampler, "steps": 3}}, WORDS)


def test_other_sizes_pictures_and_masks(studio: Easel):
    assert studio.pixels(model="dev", width_px=72, height_px=88, **WORDS).shape == (88, 72, 3)
    assert studio.pixels(model="dev", hires={"scale": 1.5, "steps": 2}, **WORDS).shape == (96, 96, 3)
    fields = {"image": studio.picture(photo()), "model": "dev", "strength": 0.5, **WORDS}
    assert studio.pixels(kind="img2img", **fields).shape == (64, 64, 3)
    mask = studio.picture(box_mask(64, 64, (0, 0, 32, 64)))
    assert studio.pixels(kind="inpaint", mask=mask, **fields).shape == (64, 64, 3)


def test_a_picture_does_not_depend_on_its_company(studio: Easel):
    requests = [
        {"model": "dev", "prompt": "a red cat", "seed": 1},
        {"model": "dev", "prompt": "a blue dog " * 40, "seed": 2, "guidance": {"distilled": 8, "scale": 2}},
        {"model": "dev", "prompt": "a house", "seed": 3, "sampling": {"steps": 5}},
        {"model": "schnell", "prompt": "a house", "seed": 3},
    ]
    plans = [studio.plans(**request)[0] for request in requests]
    alone = [studio.latents([one])[0] for one in plans]
    together = studio.latents(plans)
    assert any(len(calls) > 1 for calls in studio.executor.ran if isinstance(calls[0], Denoise))
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, rtol=2e-3, atol=2e-3)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "twin"),
    [("flux1-dev", "dev"), ("prefixed", "dev"), ("flux1-schnell-whole", "schnell")],
)
def test_a_file_has_the_weights_and_the_picture_of_its_twin(studio: Easel, name: str, twin: str):
    ours, theirs = model_of(studio, name), model_of(studio, twin)
    assert_same(weights(ours), weights(theirs))
    assert ours.table == theirs.table
    assert dict(ours.unet.config)["axes_dims_rope"] == [4, 14, 14]
    told = [info.model_dump(exclude={"name", "path", "sha256"}) for info in (ours.info, theirs.info)]
    assert told[0] == told[1]
    assert np.array_equal(*(studio.pixels(model=one, **WORDS) for one in (name, twin)))


def test_names_are_renamed_as_diffusers_does():
    """At the published width, with one column in place of thousands."""
    width = 3072
    tensors: Tensors = {}

    def add(name: str, rows: int) -> None:
        tensors[f"{name}.weight"] = torch.randn(rows, 1)
        tensors[f"{name}.bias"] = torch.randn(rows)

    for side in ("img", "txt"):
        block = f"double_blocks.0.{side}"
        for layer, rows in (("_attn.qkv", 3), ("_attn.proj", 1), ("_mod.lin", 6), ("_mlp.0", 4), ("_mlp.2", 1)):
            add(block + layer, rows * width)
        for one in ("query", "key"):
            tensors[f"{block}_attn.norm.{one}_norm.scale"] = torch.randn(128)
            tensors[f"single_blocks.0.norm.{one}_norm.scale"] = torch.randn(128)
    for layer, rows in (("linear1", 7), ("linear2", 1), ("modulation.lin", 3)):
        add(f"single_blocks.0.{layer}", rows * width)
    for layer in ("time_in", "vector_in", "guidance_in"):
        add(f"{layer}.in_layer", width)
        add(f"{layer}.out_layer", width)
    for layer in ("txt_in", "img_in", "final_layer.linear"):
        add(layer, width)
    add("final_layer.adaLN_modulation.1", 2 * width)
    assert_same(to_diffusers(tensors), convert_flux_transformer_checkpoint_to_diffusers(dict(tensors)))


@pytest.mark.parametrize("variant", ["dev", "schnell"])
def test_the_published_shapes(tmp_path: Path, variant: str):
    """12 billion numbers that are not there: names and shapes alone."""
    with init_empty_weights(include_buffers=True):
        whole = FluxTransformer2DModel(guidance_embeds=variant == "dev")
    tensors = flux_names(whole.state_dict())
    assert tensors["double_blocks.18.img_attn.qkv.weight"].shape == (9216, 3072)
    assert tensors["single_blocks.37.linear1.weight"].shape == (21504, 3072)
    header = Header("safetensors", {name: TensorInfo("bfloat16", tuple(one.shape)) for name, one in tensors.items()})
    found = describe_transformer(tmp_path / "flux1.safetensors", header)
    assert found is not None
    assert (found.variant, found.layout, found.config["axes_dims_rope"]) == (variant, "bfl", [16, 56, 56])
    with init_empty_weights():
        again = FluxTransformer2DModel.from_config(found.config)
    wanted = {name: one.shape for name, one in whole.state_dict().items()}
    assert {name: one.shape for name, one in again.state_dict().items()} == wanted
    assert {name: one.shape for name, one in to_diffusers(tensors).items()} == wanted


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_half_and_quarter_precision(tmp_path: Path, dtype: torch.dtype):
    tiny = make_flux("schnell")
    tiny.save_companions(tmp_path)

    def half(tensors: Tensors) -> Tensors:
        return {name: one.to(dtype) for name, one in tensors.items()}

    tiny.save_file(tmp_path / "unet" / "half.safetensors", change=half)
    wanted = {name: one.to(dtype).float() for name, one in tiny.transformer.state_dict().items()}
    assert_same(alone(tmp_path, "half").unet.state_dict(), wanted)


def test_scaled_float8_and_bfloat16_arithmetic(tmp_path: Path):
    scale = torch.tensor(0.25)
    tiny = make_flux("dev")
    tiny.save_companions(tmp_path, torch.bfloat16)

    def scaled(tensors: Tensors) -> Tensors:
        found: Tensors = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
        for name, one in tensors.items():
            found[name] = one
            if name.endswith(".weight") and one.ndim == 2:
                found[name] = (one / scale).to(torch.float8_e4m3fn)
                found[f"{name.removesuffix('weight')}scale_weight"] = scale
        return found

    tiny.save_file(tmp_path / "unet" / "scaled.safetensors", change=scaled)
    ours = alone(tmp_path, "scaled").unet.state_dict()["x_embedder.weight"]
    theirs = tiny.transformer.state_dict()["x_embedder.weight"]
    assert torch.equal(ours, (theirs / scale).to(torch.float8_e4m3fn).float() * scale)
    easel = Easel(tmp_path)
    assert easel.pixels(model="scaled", precision="bfloat16", **WORDS).shape == (64, 64, 3)


def test_diffusers_names_in_one_file(tmp_path: Path):
    tiny = make_flux("schnell")
    tiny.save_companions(tmp_path)
    path = tmp_path / "diffusion_models" / "converted.safetensors"
    save_tensors(tiny.transformer.state_dict(), path)
    assert_same(alone(tmp_path, "converted").unet.state_dict(), tiny.transformer.state_dict())


# --- what is missing or not done --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "file", "folder"),
    [
        ("text_encoders/clip_l.safetensors", "clip_l.safetensors", "text_encoders"),
        ("text_encoders/t5xxl_fp16.safetensors", "t5xxl_fp8_e4m3fn.safetensors", "text_encoders"),
        ("text_encoders/t5/tokenizer.json", "spiece.model", "text_encoders/t5"),
        ("vae/ae.safetensors", "ae.safetensors", "VAE"),
    ],
)
def test_what_is_missing_is_said_with_its_place(tmp_path: Path, lost: str, file: str, folder: str):
    tiny = make_flux("dev")
    tiny.save_file(tmp_path / "unet" / "mine.safetensors")
    tiny.save_companions(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(MissingWeightsError) as caught:
        alone(tmp_path, "mine")
    assert file in (caught.value.next_step or "")
    assert str(tmp_path / folder) in (caught.value.next_step or "")


def test_encoders_are_told_by_their_tensors(tmp_path: Path):
    tiny = make_flux("schnell")
    tiny.save_file(tmp_path / "unet" / "mine.safetensors")
    tiny.save_companions(tmp_path)
    home = tmp_path / "text_encoders"
    (home / "t5xxl_fp16.safetensors").rename(home / "clip_l.wrong.safetensors")
    with pytest.raises(MissingWeightsError, match="T5"):
        alone(tmp_path, "mine")


def test_a_folder_that_says_dev_and_is_fill_is_refused(tmp_path: Path):
    home = tmp_path / "Stable-diffusion"
    make_flux("dev", in_channels=384).save_folder(home / "fill")
    # The class that its index names decides, as for any pipeline that paints as a whole.
    make_flux("dev").save_folder(home / "kontext", pipeline="FluxKontextPipeline")
    catalog = Catalog(tmp_path)
    assert [(info.name, info.family) for info in catalog.list() if not info.builtin] == [("kontext", "flux-kontext")]
    with pytest.raises(UnsupportedError, match="another kind"):
        catalog.find("fill")


def test_an_incomplete_file_is_said_to_be(tmp_path: Path):
    tiny = make_flux("dev")
    tiny.save_companions(tmp_path)
    lost = "double_blocks.1.txt_attn.proj.bias"
    tiny.save_file(
        tmp_path / "unet" / "cut.safetensors", change=lambda all_: {n: one for n, one in all_.items() if n != lost}
    )
    with pytest.raises(BadFileError, match="1 tensors differ") as caught:
        alone(tmp_path, "cut")
    assert "transformer_blocks.1.attn.to_add_out.bias" in str(caught.value)


def test_defaults_come_from_beside_the_file(tmp_path: Path):
    path = make_flux("dev").save_file(tmp_path / "unet" / "mine.safetensors")
    about = path.with_suffix(".danqing.json")
    about.write_text(json.dumps({"defaults": {"distilled_guidance": 2.0, "steps": 9}, "description": "for cats"}))
    info = Catalog(tmp_path).find("mine")
    assert (info.defaults.distilled_guidance, info.defaults.steps, info.description) == (2.0, 9, "for cats")
    assert (info.defaults.size_px, info.defaults.sampler, info.defaults.schedule) == (1024, "Euler", "simple")
    about.unlink()
    assert math.isclose(Catalog(tmp_path).find("mine").defaults.distilled_guidance or 0, 3.5)
