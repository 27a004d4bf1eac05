"""Models kept as a small change of another one: found, merged, painted with, and refused with a reason."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from danqing.models.catalog import Catalog
from danqing.models.derived import load_unet, read_lora
from danqing.models.derived_files import read_derivation
from danqing.models.loader import Loader
from danqing.spec.errors import BadFileError, DanqingError, MissingWeightsError, UnsupportedError
from danqing.spec.model import ModelRef
from danqing.training.builtin.lora import attach
from easel import Easel, box_mask, numbers, photo
from tiny_controls import build_mini
from tiny_models import build

LORA = "pytorch_lora_weights.safetensors"
FEW = {"sampler": "Euler", "schedule": "KL Optimal", "steps": 4, "guidance_scale": 1.0}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def awake_lora(unet: UNet2DConditionModel, skip: tuple[str, ...] = ("add_embedding",)) -> Any:
    """A LoRA that changes something."""
    torch.manual_seed(5)
    lora = attach(unet, 4, skip)
    with torch.no_grad():
        for part in lora.parts:
            part.up.normal_(std=0.03)
    return lora


def save_derived(folder: Path, tensors: dict[str, Any], **about: Any) -> Path:
    folder.mkdir(parents=True)
    if tensors:
        save_file(tensors, folder / LORA, metadata={"format": "pt"})
    (folder / "danqing.json").write_text(json.dumps({"base": "tiny-v", "lora": LORA, **about}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with `tiny-v`, `mini` and what is derived from them."""
    root = tmp_path_factory.mktemp("derived-models")
    home = root / "Stable-diffusion"
    build(home / "tiny-v", seed=3, prediction="v_prediction")
    build_mini(home / "mini")
    unet = UNet2DConditionModel.from_pretrained(home / "tiny-v" / "unet")
    save_derived(home / "tiny-v-4step", awake_lora(unet).tensors(), **FEW, description="Drafts.")
    mini = UNet2DConditionModel.from_pretrained(home / "mini" / "unet")
    tensors = awake_lora(mini, ("add_embedding", "conv_in")).tensors()
    folder = save_derived(home / "mini-inpaint", tensors, base="mini", conv_in="conv_in.safetensors")
    weight = torch.cat([mini.conv_in.weight, 0.2 * torch.randn(32, 9, 3, 3)], dim=1).detach()
    save_file(
        {"conv_in.weight": weight.half(), "conv_in.bias": mini.conv_in.bias.detach().half()},
        folder / "conv_in.safetensors",
    )
    return root


@pytest.fixture(scope="module")
def derived_easel(home: Path) -> Easel:
    return Easel(home)


def test_it_is_a_model_of_its_own(home: Path):
    catalog = Catalog(home)
    base, few, inpaint = (catalog.find(name) for name in ("tiny-v", "tiny-v-4step", "mini-inpaint"))
    assert catalog.problems() == {}
    assert few.sha256 not in (base.sha256, inpaint.sha256)
    assert (few.weights_path, few.prediction, few.family) == (base.path, "v_prediction", "sd1")
    assert (few.description, few.defaults.size_px) == ("Drafts.", 64)
    assert (few.defaults.sampler, few.defaults.schedule, few.defaults.steps) == ("Euler", "KL Optimal", 4)
    assert inpaint.is_inpainting
    assert (inpaint.unet_in_channels, inpaint.latent_channels) == (17, 8)
    assert inpaint.defaults == catalog.find("mini").defaults


def test_its_hash_follows_its_base_and_its_own_weights(home: Path, tmp_path: Path):
    shutil.copytree(home, tmp_path / "models")
    first = Catalog(tmp_path / "models").find("tiny-v-4step").sha256
    assert first == Catalog(home).find("tiny-v-4step").sha256
    weights = tmp_path / "models/Stable-diffusion/tiny-v/unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    second = Catalog(tmp_path / "models").find("tiny-v-4step").sha256
    assert second != first


def test_a_merged_unet_answers_as_the_one_in_training(home: Path):
    folder = home / "Stable-diffusion" / "tiny-v" / "unet"
    unet = UNet2DConditionModel.from_pretrained(folder)
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([900.0, 20.5]), torch.randn(2, 77, 32)
    with torch.no_grad():
        plain = unet(*inputs).sample
        lora = awake_lora(unet)
        trained = unet(*inputs).sample
        with lora.off():
            assert torch.equal(unet(*inputs).sample, plain)
        merged = load_unet(Catalog(home).find("tiny-v-4step"), torch.float32)(*inputs).sample
    assert (trained - plain).abs().max() > 0.05
    assert torch.allclose(merged, trained, atol=2e-3)


def test_diffusers_reads_the_same_file(home: Path):
    folder = home / "Stable-diffusion"
    info = Catalog(home).find("tiny-v-4step")
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 32)
    unet = UNet2DConditionModel.from_pretrained(folder / "tiny-v" / "unet")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        state, alphas = StableDiffusionPipeline.lora_state_dict(str(folder / "tiny-v-4step"))
        StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet)
        assert torch.allclose(unet(*inputs).sample, load_unet(info, torch.float32)(*inputs).sample, atol=1e-4)


@pytest.mark.parametrize("alpha", [2, 8])
def test_a_file_that_diffusers_saved_is_merged_with_its_scale(home: Path, tmp_path: Path, alpha: int):
    unet = UNet2DConditionModel.from_pretrained(home / "Stable-diffusion" / "tiny-v" / "unet")
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        targets = ["to_q", "to_v", "conv1"]
        unet.add_adapter(LoraConfig(r=4, lora_alpha=alpha, init_lora_weights=False, target_modules=targets))
        wanted = unet(*inputs).sample
        unet.save_lora_adapter(str(tmp_path))
    assert {round(part.scale, 6) for part in read_lora(tmp_path / LORA).values()} == {alpha / 4}
    root = tmp_path / "models"
    shutil.copytree(home / "Stable-diffusion" / "tiny-v", root / "Stable-diffusion" / "tiny-v")
    folder = save_derived(root / "Stable-diffusion" / "saved", {})
    shutil.copy(tmp_path / LORA, folder / LORA)
    with torch.no_grad():
        assert torch.allclose(load_unet(Catalog(root).find("saved"), torch.float32)(*inputs).sample, wanted, atol=1e-4)


def test_it_paints_in_its_own_steps_without_guidance_rows(derived_easel: Easel):
    (plan,) = derived_easel.plans(model="tiny-v-4step")
    sampling = plan.base.sampling
    assert (sampling.sampler, sampling.schedule, sampling.steps) == ("euler", "kl_optimal", 4)
    assert plan.base.guidance_scale == 1.0
    few = derived_easel.one(model="tiny-v-4step")
    calls = derived_easel.executor.denoised()
    assert [len(call.contexts) for call in calls] == [1] * 4
    base = derived_easel.one(
        model="tiny-v", sampling={"sampler": "Euler", "schedule": "KL Optimal", "steps": 4}, guidance={"scale": 1.0}
    )
    assert abs(numbers(few) - numbers(base)).max() > 3


def test_what_the_request_says_wins(derived_easel: Easel):
    asked = {"sampler": "LCM", "steps": 6}
    (plan,) = derived_easel.plans(model="tiny-v-4step", sampling=asked, guidance={"scale": 2.0})
    sampling = plan.base.sampling
    assert (sampling.sampler, sampling.schedule, sampling.steps) == ("lcm", "sgm_uniform", 6)
    assert plan.base.guidance_scale == 2.0


def test_a_new_sampler_brings_its_own_schedule(home: Path, tmp_path: Path):
    root = tmp_path / "models" / "Stable-diffusion"
    shutil.copytree(home / "Stable-diffusion" / "tiny-v", root / "tiny-v")
    about = json.loads((root / "tiny-v" / "danqing.json").read_text(encoding="utf-8"))
    about["defaults"] |= {"sampler": "DPM++ 2M", "schedule": "karras"}
    (root / "tiny-v" / "danqing.json").write_text(json.dumps(about), encoding="utf-8")
    tensors = load_file(home / "Stable-diffusion" / "tiny-v-4step" / LORA)
    save_derived(root / "lcm", tensors, sampler="LCM", steps=4, guidance_scale=1.0)
    easel = Easel(root.parent)
    (plan,) = easel.plans(model="lcm")
    assert (plan.base.sampling.sampler, plan.base.sampling.schedule) == ("lcm", "sgm_uniform")
    easel.one(model="lcm")
    sigmas = [call.sigma for call in easel.executor.denoised()]
    assert [len(call.contexts) for call in easel.executor.denoised()] == [1] * 4
    assert sigmas == sorted(sigmas, reverse=True)


def test_a_hires_pass_on_another_model_paints_as_that_one_likes(derived_easel: Easel):
    hires = {"scale": 2.0, "model": "tiny-v"}
    (plan,) = derived_easel.plans(model="tiny-v-4step", hires=hires)
    base, second = plan.passes
    assert (second.sampling.steps, second.guidance_scale) == (6, 7.0)
    (plan,) = derived_easel.plans(model="tiny-v-4step", hires=hires, sampling={"steps": 5}, guidance={"scale": 1.5})
    assert [(one.sampling.steps, one.guidance_scale) for one in plan.passes] == [(5, 1.5)] * 2
    assert base.sampling.steps == 4


def test_inpainting_with_eight_latent_channels(derived_easel: Easel):
    picture, mask = photo(64, 64), box_mask(64, 64, (16, 16, 48, 48))
    fields = {
        "kind": "inpaint",
        "model": "mini-inpaint",
        "image": derived_easel.picture(picture),
        "mask": derived_easel.picture(mask),
        "mask_blur_px": 0,
        "strength": 1.0,
    }
    made = numbers(derived_easel.one(**fields))
    calls = derived_easel.executor.denoised()
    assert calls
    assert all(call.extra is not None and call.extra.shape == (1, 9, 8, 8) for call in calls)
    assert calls[0].extra[0, 0, 2:6, 2:6].min() == 1
    assert calls[0].extra[0, 0].sum() == 16
    outside = numbers(mask)[..., 0] == 0
    assert (made[outside] == numbers(picture)[outside]).all()
    assert abs(made[~outside] - numbers(picture)[~outside]).max() > 0


def test_an_inpainting_model_also_paints_from_nothing(derived_easel: Easel):
    assert derived_easel.one(model="mini-inpaint").size == (64, 64)
    assert derived_easel.executor.denoised()[0].extra.shape == (1, 9, 8, 8)


def test_its_vae_can_serve_another_model(derived_easel: Easel):
    few = derived_easel.catalog.find("tiny-v-4step")
    ref = ModelRef(name=few.name, sha256=few.sha256, family=few.family)
    loaded = derived_easel.loader.get(derived_easel.key("tiny-v").model, ref, "float32")
    assert loaded.vae.config["latent_channels"] == 4


def test_bfloat16_merges_before_rounding(home: Path):
    info = Catalog(home).find("tiny-v-4step")
    exact, rounded = load_unet(info, torch.float32), load_unet(info, torch.bfloat16)
    for a, b in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert torch.equal(a.bfloat16(), b)


@pytest.mark.parametrize(
    ("about", "tensors", "error", "says"),
    [
        ({"base": "gone"}, None, MissingWeightsError, "change of the model gone"),
        ({"base": "../tiny-v"}, None, BadFileError, "plain name"),
        ({"lora": "../../etc.safetensors"}, None, BadFileError, "plain name"),
        ({"lora": "weights.pt"}, None, BadFileError, "safe format"),
        ({"lora": "none.safetensors"}, None, MissingWeightsError, "lacks its weights"),
        ({"steps": "many"}, None, BadFileError, "defaults"),
        ({"conv_in": LORA}, None, BadFileError, "first convolution"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(
    home: Path, tmp_path: Path, about: dict[str, Any], tensors: None, error: type[DanqingError], says: str
):
    root = tmp_path / "models" / "Stable-diffusion"
    shutil.copytree(home / "Stable-diffusion" / "tiny-v", root / "tiny-v")
    save_derived(root / "mine", load_file(home / "Stable-diffusion" / "tiny-v-4step" / LORA), **about)
    catalog = Catalog(root.parent)
    assert [info.name for info in catalog.list() if not info.builtin] == ["tiny-v"]
    (why,) = catalog.problems().values()
    assert says in why
    with pytest.raises(DanqingError) as caught:
        catalog.find("mine")
    assert isinstance(caught.value, MissingWeightsError) == (error is MissingWeightsError)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"unet.nowhere.lora_A.weight": (4, 8), "unet.nowhere.lora_B.weight": (8, 4)}, BadFileError, "does not fit"),
        (
            {"unet.conv_in.lora_A.weight": (4, 5, 3, 3), "unet.conv_in.lora_B.weight": (32, 4, 1, 1)},
            BadFileError,
            "fit",
        ),
        (
            {"unet.conv_in.lora_A.weight": (4, 4, 3, 3), "unet.conv_in.lora_B.weight": (32, 3, 1, 1)},
            BadFileError,
            "fit",
        ),
        ({"unet.conv_in.lora_A.weight": (4, 4, 3, 3)}, BadFileError, "incomplete"),
        ({"text_encoder.q.lora_A.weight": (4, 4)}, UnsupportedError, "no low-rank change"),
        ({"lora_unet_down.lora_down.weight": (4, 4)}, UnsupportedError, "no low-rank change"),
        ({"unet.conv_in.lora_magnitude_vector": (4,)}, UnsupportedError, "no low-rank change"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(
    home: Path, tmp_path: Path, change: dict[str, tuple[int, ...]], error: type[DanqingError], says: str
):
    root = tmp_path / "models" / "Stable-diffusion"
    shutil.copytree(home / "Stable-diffusion" / "tiny-v", root / "tiny-v")
    save_derived(root / "mine", {key: torch.zeros(shape) for key, shape in change.items()})
    catalog = Catalog(root.parent)
    info = catalog.find("mine")
    with pytest.raises(error, match=says):
        Loader(catalog, torch.device("cpu")).get(
            ModelRef(name=info.name, sha256=info.sha256, family=info.family), None, "float32"
        )


@pytest.mark.parametrize("file", ["tiny-v-4step/" + LORA, "mini-inpaint/conv_in.safetensors"])
def test_a_damaged_file_is_named(home: Path, tmp_path: Path, file: str):
    shutil.copytree(home, tmp_path / "models")
    path = tmp_path / "models" / "Stable-diffusion" / file
    path.write_bytes(path.read_bytes()[:-40])
    info = Catalog(tmp_path / "models").find(path.parent.name)
    with pytest.raises(BadFileError, match="cannot be read"):
        load_unet(info, torch.float32)


def test_strong_style_brings_a_distilled_model_no_guidance(derived_easel: Easel):
    words = {"prompt": "the red cat --stylize 800", "syntax": "midjourney"}
    few, full = (derived_easel.plans(model=name, **words)[0] for name in ("tiny-v-4step", "tiny-v"))
    assert few.base.guidance_scale == 1.0
    assert full.base.guidance_scale != 7.0


def test_other_folders_with_a_base_are_no_derived_models(home: Path, tmp_path: Path):
    (tmp_path / "danqing.json").write_text('{"base": "tiny-v", "annotators": ["canny"]}', encoding="utf-8")
    assert read_derivation(tmp_path) is None
    (tmp_path / "danqing.json").write_text("[]", encoding="utf-8")
    assert read_derivation(tmp_path) is None
    assert read_derivation(home / "Stable-diffusion" / "tiny-v") is None
