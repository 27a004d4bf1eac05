"""SD3 folders: flow matching through the ordinary samplers, two CLIP towers, T5 present or left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTokenizer, T5Config, T5EncoderModel

from danqing.engine.calls import Denoise
from danqing.models.families.sd import Added
from danqing.models.families.sd3 import T5_TOKENS, StableDiffusion3
from danqing.models.singlefile.facts import CLIP_TOKENIZER
from danqing.spec.errors import MissingWeightsError
from easel import Easel, box_mask, check_sampler, photo
from tiny_checkpoints import ABOUT, TEXT_WIDTH, text_tower

WIDTH = 160
WORDS = {"prompt": "a (red:1.3) cat [and:without:2] a dog", "negative_prompt": "blue"}


def build(folder: Path, *, t5: bool, seed: int = 1) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = SD3Transformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * TEXT_WIDTH,
            pos_embed_max_size=24,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
        with torch.no_grad():
            # Untrained, the words hardly reach the picture.
            for name, weight in transformer.named_parameters():
                if name.startswith(("context_embedder", "time_text_embed", "transformer_blocks")) and weight.ndim == 2:
                    weight.mul_(2.0)
        transformer.save_pretrained(folder / "transformer")
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 64, 64),
            layers_per_block=1,
            latent_channels=16,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ).save_pretrained(folder / "vae")
        for name, act in (("", "quick_gelu"), ("_2", "gelu")):
            text_tower(act, projection=True).save_pretrained(folder / f"text_encoder{name}")
            shutil.copytree(CLIP_TOKENIZER, folder / f"tokenizer{name}")
        pad = folder / "tokenizer_2" / "tokenizer_config.json"
        pad.write_text(json.dumps({**json.loads(pad.read_text()), "pad_token": "!"}))
        if t5:
            config = T5Config(d_model=WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=16)
            T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
            _t5_tokenizer(folder / "tokenizer_3")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    (folder / "danqing.json").write_text(json.dumps(ABOUT))
    return folder


def _t5_tokenizer(folder: Path) -> None:
    words = ["<pad>", "</s>", "<unk>", "a", "red", "cat", "and", "dog", "blue", "house"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root = tmp_path_factory.mktemp("sd3")
    build(root / "Stable-diffusion" / "sd3", t5=False)
    build(root / "Stable-diffusion" / "sd3-t5", t5=True)
    return Easel(root)


def model_of(studio: Easel, name: str) -> StableDiffusion3:
    model = studio.model(name)
    assert isinstance(model, StableDiffusion3)
    return model


def test_a_folder_is_what_it_is(studio: Easel):
    info = studio.catalog.find("sd3")
    assert (info.family, info.prediction, info.latent_channels, info.context_width) == (
        "sd3",
        "flow_prediction",
        16,
        WIDTH,
    )
    assert studio.catalog.problems() == {}
    table = model_of(studio, "sd3").table
    assert (table.flow, table.sigma_max, table.t_to_sigma(499)) == (True, 1.0, 0.75)


@pytest.mark.parametrize("name", ["sd3", "sd3-t5"])
def test_words_are_those_of_diffusers_pipeline(studio: Easel, name: str):
    ours = model_of(studio, name)
    folder = Path(ours.info.path)
    pipeline = StableDiffusion3Pipeline(
        transformer=ours.unet,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=ours.vae,
        text_encoder=ours.texts[0].model,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=ours.texts[1].model,
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        text_encoder_3=None,
        tokenizer_3=None,
    )
    states, _, pooled, _ = pipeline.encode_prompt("a red cat", None, None, do_classifier_free_guidance=False)
    (read,) = ours.read_text(["a red cat"], "Original", 1)
    assert read.pooled is not None
    assert torch.allclose(read.pooled, pooled[0], atol=1e-4)
    assert torch.allclose(read.states[:77], states[0][:77], atol=1e-5)
    assert read.states.shape == (77 + T5_TOKENS, WIDTH)
    if name == "sd3":
        assert torch.allclose(read.states, states[0], atol=1e-5)


def test_t5_reads_words_and_weights(studio: Easel):
    ours = model_of(studio, "sd3-t5")
    assert ours.t5 is not None
    plain, heavy, long = (ours.t5.read(text, "Original") for text in ("a red cat", "a (red:2) cat", "a cat " * 300))
    assert torch.allclose(heavy[1], plain[1] * 2)
    assert torch.equal(heavy[[0, 2, 3]], plain[[0, 2, 3]])
    assert long.shape == (T5_TOKENS, WIDTH)
    with torch.inference_mode():
        wanted = ours.t5.model(torch.tensor([[3, 4, 5, 1] + [0] * 252])).last_hidden_state[0]
    assert torch.allclose(plain, wanted)


def test_one_step_is_the_flow_of_the_transformer(studio: Easel):
    ours = model_of(studio, "sd3")
    (read,) = ours.read_text(["a red cat"], "Original", 1)
    assert read.pooled is not None
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    added = Added(read.pooled[None], torch.zeros(1, 7))
    denoised = ours.denoise(x, torch.tensor([0.75]), read.states[None], None, perturbed=False, added=added)
    with torch.inference_mode():
        velocity = ours.unet(x, read.states[None], read.pooled[None], torch.tensor([750.0])).sample
    assert torch.allclose(denoised, x - 0.75 * velocity, atol=1e-5)


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "UniPC", "Heun"])
def test_samplers_paint(studio: Easel, sampler: str):
    check_sampler(studio, {"model": "sd3-t5", "sampling": {"sampler": sampler, "steps": 4}}, WORDS)


def test_euler_is_diffusers_own(studio: Easel):
    (one,) = studio.plans(
        model="sd3", sampling={"sampler": "Euler", "schedule": "simple", "steps": 4}, guidance={"scale": 1}
    )
    (latent,) = studio.latents([one])
    calls = studio.executor.denoised()
    ours = model_of(studio, "sd3")
    x = calls[0].x
    sigmas = [*(call.sigma for call in calls), 0.0]
    for call, sigma, after in zip(calls, sigmas, sigmas[1:], strict=False):
        with torch.inference_mode():
            velocity = ours.unet(x, call.contexts[0][None], call.pooled[0][None], torch.tensor([sigma * 1000])).sample
        x = x + (after - sigma) * velocity
    assert torch.allclose(latent, x, atol=1e-3, rtol=1e-3)


def test_a_picture_is_kept_as_its_strength_says(studio: Easel):
    image = studio.picture(photo())
    fields = {"kind": "img2img", "image": image, "model": "sd3", "sampling": {"steps": 20}, **WORDS}
    studio.pixels(**fields, strength=0.25)
    (first, *_) = studio.executor.denoised()
    latent = model_of(studio, "sd3").encode_image(
        torch.from_numpy(np.array(photo())).permute(2, 0, 1)[None] / 127.5 - 1
    )
    noise = (first.x - (1 - first.sigma) * latent) / first.sigma
    assert 0.9 < float(noise.std()) < 1.1, "(1 − σ)·picture + σ·noise"
    mask = studio.picture(box_mask(64, 64, (0, 0, 32, 64)))
    assert studio.pixels(**{**fields, "kind": "inpaint", "mask": mask}).shape == (64, 64, 3)


def test_odd_sizes_and_hires(studio: Easel):
    assert studio.pixels(model="sd3", width_px=72, height_px=88, **WORDS).shape == (88, 72, 3)
    assert studio.pixels(model="sd3", hires={"scale": 1.5, "steps": 2}, **WORDS).shape == (96, 96, 3)


def test_a_picture_does_not_depend_on_its_company(studio: Easel):
    requests = [
        {"model": "sd3", "prompt": "a red cat", "seed": 1},
        {"model": "sd3", "prompt": "a blue dog " * 40, "seed": 2, "negative_prompt": "green"},
        {"model": "sd3", "prompt": "a house", "seed": 3, "sampling": {"steps": 5}},
        {"model": "sd3-t5", "prompt": "a house", "seed": 3},
    ]
    plans = [studio.plans(**request)[0] for request in requests]
    alone = [studio.latents([one])[0] for one in plans]
    together = studio.latents(plans)
    assert any(len(calls) > 1 for calls in studio.executor.ran if isinstance(calls[0], Denoise))
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, rtol=2e-3, atol=2e-3)


def test_what_is_missing_is_said(tmp_path: Path):
    folder = build(tmp_path / "Stable-diffusion" / "sd3", t5=True)
    (folder / "tokenizer_3" / "tokenizer.json").unlink()
    with pytest.raises(MissingWeightsError, match="T5's tokenizer") as caught:
        Easel(tmp_path).model("sd3")
    assert "tokenizer_3" in (caught.value.next_step or "")
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    assert "config cannot be read" in str(Easel(tmp_path).catalog.problems())
