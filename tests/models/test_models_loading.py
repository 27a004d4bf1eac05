"""Loading, precision, residency, words to contexts, previews, attention."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from danqing.engine.torch_executor import TorchExecutor
from danqing.models import precision as precisions
from danqing.models.catalog import Catalog
from danqing.models.families import sd
from danqing.models.loader import Loader, pick_device
from danqing.models.preview import LatentRgb, to_uint8
from danqing.pipelines import pixels
from danqing.prompt.tokenizer import ClipTokenizer
from danqing.spec.errors import BadFileError, NotFoundError, OutOfMemoryError, UnsupportedError
from danqing.spec.model import ModelRef
from easel import Easel, photo
from tiny_models import TEXT_LAYERS

CPU = torch.device("cpu")


def ref(easel: Easel, name: str) -> ModelRef:
    info = easel.catalog.find(name)
    return ModelRef(name=info.name, sha256=info.sha256, family=info.family)


# --- loading and residency --------------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_in_the_precision_asked_for(easel: Easel):
    loader = Loader(easel.catalog, CPU)
    first = loader.get(ref(easel, "tiny"), None, "float32")
    assert loader.get(ref(easel, "tiny"), None, "float32") is first
    half = loader.get(ref(easel, "tiny"), None, "bfloat16")
    assert half is not first
    assert next(half.unet.parameters()).dtype == torch.bfloat16
    assert next(half.vae.parameters()).dtype == torch.float32, "bfloat16 bands flat colours"
    assert not any(parameter.requires_grad for parameter in first.unet.parameters())


def test_the_least_recently_used_goes_when_the_budget_is_full(easel: Easel):
    size = Loader(easel.catalog, CPU).get(ref(easel, "tiny"), None, "float32").size_bytes
    loader = Loader(easel.catalog, CPU, budget_bytes=int(size * 2.5))
    tiny, other = (loader.get(ref(easel, name), None, "float32") for name in ("tiny", "other"))
    assert loader.get(ref(easel, "tiny"), None, "float32") is tiny
    loader.get(ref(easel, "tiny-v"), None, "float32")
    assert loader.get(ref(easel, "tiny"), None, "float32") is tiny
    assert loader.get(ref(easel, "other"), None, "float32") is not other
    assert loader.drop_others(loader.get(ref(easel, "tiny"), None, "float32"))
    assert not loader.drop_others(tiny)


def test_a_vae_of_another_model(easel: Easel):
    own = easel.pixels(vae=None)
    other = easel.pixels(vae="other")
    assert np.abs(own - other).mean() > 1


def test_what_is_gone_or_damaged_is_said(easel: Easel, tmp_path: Path, tiny_sd: Path):
    loader = Loader(easel.catalog, CPU)
    with pytest.raises(NotFoundError, match="not installed"):
        loader.get(ref(easel, "tiny").model_copy(update={"sha256": "e" * 64}))
    home = tmp_path / "Stable-diffusion"
    shutil.copytree(tiny_sd / "Stable-diffusion" / "tiny", home / "tiny")
    (home / "tiny" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"junk")
    broken = Catalog(tmp_path)
    info = broken.find("tiny")
    with pytest.raises(BadFileError, match="cannot be loaded"):
        Loader(broken, CPU).get(ModelRef(name="tiny", sha256=info.sha256, family="sd1"))


def test_no_memory_for_loading_gives_up_other_models_first(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    loader = Loader(easel.catalog, CPU)
    loader.get(ref(easel, "other"), None, "float32")
    real, failures = sd.load, [1]

    def tight(*given: Any, **options: Any) -> sd.StableDiffusion:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*given, **options)

    monkeypatch.setattr("danqing.models.families.sd.load", tight)
    executor = TorchExecutor(loader)
    call = easel_call(easel)
    with pytest.raises(OutOfMemoryError, match="not enough memory"):
        executor.run([call])
    failures.append(1)
    assert executor.relieve(call), "the other model was given up"
    assert len(executor.run([call])) == 1


def easel_call(easel: Easel) -> Any:
    from danqing.engine.calls import EncodeText, ModelKey

    return EncodeText(ModelKey(ref(easel, "tiny"), precision="float32"), ("a cat",))


def test_the_vae_tiles_when_nothing_else_helps(easel: Easel):
    from danqing.engine.calls import Decode, ModelKey

    executor = TorchExecutor(Loader(easel.catalog, CPU))
    decode = Decode(ModelKey(ref(easel, "tiny"), precision="float32"), torch.zeros(1, 4, 8, 8))
    assert executor.relieve(decode), "first the VAE goes to tiles"
    assert executor.relieve(decode), "then to smaller ones"
    assert not executor.relieve(decode), "then nothing is left"
    assert not executor.relieve(easel_call(easel))


# --- devices and precision --------------------------------------------------------------------------------------------


def test_precisions():
    assert precisions.choose(CPU, "float32").name == "float32"
    assert precisions.choose(CPU, "bfloat16").channels_last
    expected = "bfloat16" if precisions.has_native_bf16(CPU) else "float32"
    assert precisions.choose(CPU).name == expected
    with pytest.raises(UnsupportedError, match="needs a GPU"):
        precisions.choose(CPU, "float16")


def test_the_choice_is_explained():
    told = precisions.explain(CPU, "float32", 3 * 2**30)
    assert told[0] == "denoiser in float32: as asked for"
    assert "3.0 GiB" in told[2]
    assert "float32" in precisions.explain(CPU, "auto", 1)[1]


def test_devices():
    assert pick_device("cpu") == CPU
    with pytest.raises(UnsupportedError, match="no such device"):
        pick_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedError, match="no CUDA device"):
            pick_device("cuda")


def test_bfloat16_paints_nearly_the_same_picture(easel: Easel):
    fields = {"model": "tiny-v", "guidance": {"scale": 2.0}, "sampling": {"steps": 4}}
    exact, half = easel.pixels(**fields), easel.pixels(**fields, precision="bfloat16")
    assert np.abs(exact - half).mean() < 6


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["the red cat", "a blue dog's 2nd day!", "UPPER  case\ttabs", "丹青 café", ""])
def test_the_tokenizer_agrees_with_transformers(easel: Easel, text: str):
    folder = Path(easel.catalog.find("tiny").path) / "tokenizer"
    theirs = CLIPTokenizer.from_pretrained(folder)
    assert ClipTokenizer(folder).encode(text) == theirs(text, add_special_tokens=False).input_ids


def test_contexts_equal_the_text_encoders_own_answer(easel: Easel):
    model = easel.model()
    theirs = CLIPTokenizer.from_pretrained(Path(easel.catalog.find("tiny").path) / "tokenizer")
    ids = theirs("the red cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        wanted = model.text.model(ids).last_hidden_state[0]
    (ours,) = model.encode_text(["the red cat"], "Original", 1)
    assert torch.allclose(ours, wanted, atol=1e-5)


def test_clip_skip_takes_an_earlier_layer_and_normalises_it(easel: Easel):
    model = easel.model()
    last, earlier = (model.encode_text(["the red cat"], "Original", skip)[0] for skip in (1, 2))
    assert not torch.allclose(last, earlier, atol=1e-3)
    with pytest.raises(UnsupportedError, match="fewer layers") as caught:
        model.encode_text(["x"], "Original", TEXT_LAYERS + 1)
    assert caught.value.allowed == f"1 to {TEXT_LAYERS}"


def test_weights_scale_their_tokens(easel: Easel):
    model = easel.model()
    plain = model.encode_text(["the red cat"], "No norm", 1)[0]
    heavy = model.encode_text(["the (red:1.5) cat"], "No norm", 1)[0]
    ratio = heavy / plain
    weighed = [bool((row - 1.5).abs().max() < 1e-3) for row in ratio]
    assert any(weighed)
    assert all(bool((row - 1.0).abs().max() < 1e-3) for row, scaled in zip(ratio, weighed, strict=True) if not scaled)
    kept_mean = model.encode_text(["the (red:1.5) cat"], "Original", 1)[0]
    assert float(kept_mean.mean()) == pytest.approx(float(plain.mean()), rel=1e-4)


def test_a_text_does_not_depend_on_its_company(easel: Easel):
    model = easel.model()
    alone = model.encode_text(["the red cat"], "Original", 1)[0]
    together = model.encode_text(["blue dog", "the red cat", "x " * 200], "Original", 1)
    assert torch.equal(together[1], alone)
    assert together[2].shape[0] % 77 == 0
    assert together[2].shape[0] > 77


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_encode_and_decode_shapes(easel: Easel):
    model = easel.model()
    latent = model.encode_image(pixels.to_tensor(photo(48, 40)))
    assert latent.shape == (1, 4, 5, 6)
    assert latent.dtype == torch.float32
    assert model.decode(latent).shape == (1, 3, 40, 48)


def test_rows_of_a_denoiser_batch_are_their_own(easel: Easel):
    model = easel.model()
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([10.0, 1.0, 0.1])
    context = torch.stack([model.encode_text([text], "Original", 1)[0] for text in ("cat", "dog", "red")])
    together = model.denoise(x, sigma, context, None, perturbed=False)
    for i in range(3):
        row = slice(i, i + 1)
        alone = model.denoise(x[row], sigma[row], context[row], None, perturbed=False)
        assert torch.allclose(together[row], alone, atol=1e-5)


def test_perturbed_attention_is_put_back(easel: Easel):
    model = easel.model()
    before = dict(model.unet.attn_processors)
    x, sigma = torch.ones(1, 4, 8, 8), torch.tensor([1.0])
    context = model.encode_text(["cat"], "Original", 1)[0][None]
    plain = model.denoise(x, sigma, context, None, perturbed=False)
    perturbed = model.denoise(x, sigma, context, None, perturbed=True)
    assert not torch.equal(plain, perturbed)
    assert model.unet.attn_processors == before
    assert torch.equal(model.denoise(x, sigma, context, None, perturbed=False), plain)


def test_the_preview_map_is_fitted_on_what_it_sees():
    factors = torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.4, 0.0], [0.2, 0.1, 0.3], [0.0, -0.2, 0.1]])
    latent = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    rgb = torch.einsum("bchw,cd->bdhw", latent, factors) + 0.1
    preview = LatentRgb()
    assert preview.paint(latent) is None
    preview.fit(latent, torch.nn.functional.interpolate(rgb, scale_factor=8.0, mode="nearest"))
    painted = preview.paint(latent)
    assert painted is not None
    assert np.abs(painted.astype(int) - to_uint8(rgb[0].permute(1, 2, 0)).astype(int)).max() <= 2


def test_the_preview_map_in_a_model_folder_gives_rgb_from_0_to_1(easel: Easel, tmp_path: Path):
    (tmp_path / "danqing.json").write_text(
        '{"latent_rgb_factors": [[0, 0, 0], [0, 0, 0]], "latent_rgb_bias": [0.0, 0.5, 1.0]}'
    )
    info = easel.catalog.find("tiny").model_copy(update={"path": str(tmp_path)})
    painted = LatentRgb.of(info).paint(torch.zeros(1, 2, 3, 3))
    assert painted is not None
    assert painted[0, 0].tolist() == [0, 128, 255]
