"""Pictures changed by their words: Prompt-to-Prompt on generated pictures, local blend, LEDITS++."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

import tiny_models
import tiny_networks
from danqing.adapters.prompt_to_prompt import AttentionControl, Coupled, CoupledAttention, Sightings, coupled
from danqing.engine import Engine, EngineOptions, Finished, Progressed
from danqing.engine.calls import Denoise, Exclusive
from danqing.models.families.ledits import Ledits
from danqing.pipelines import expected_calls, paint
from danqing.pipelines.words_edit import words_edit
from danqing.pipelines.words_local import Locality
from danqing.spec.errors import CancelledError, InvalidRequestError, UnsupportedError
from easel import Easel, numbers, photo

STEPS = {"sampling": {"sampler": "euler", "steps": 5}}
CAT, DOG = "the red cat", "the red dog"


APPLES = {"model": "danqing-mini", "prompt": "red apple, 3d", "seed": 7, "sampling": {"steps": 6}}
SOURCE = {"source_prompt": "red apple, 3d"}


def words(**fields: Any) -> dict[str, Any]:
    return {"kind": "words", "source_prompt": CAT, "prompt": DOG, **STEPS, **fields}


def latent(easel: Easel, **fields: Any) -> torch.Tensor:
    """The edited latent of a change of words."""
    plans = easel.plans(**words(**fields))
    return easel.run({"0": words_edit(easel.context(plans[0]))}, plans)[0]


def painted(easel: Easel, **fields: Any) -> torch.Tensor:
    return easel.latents(easel.plans(**{**STEPS, **fields}))[0]


def near(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-4) -> bool:
    return torch.allclose(a, b, rtol=rtol, atol=rtol * float(b.abs().max()))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_a", "dpmpp_sde", "heun", "ddim_cfgpp"])
def test_identical_prompts_reproduce_the_source(easel: Easel, sampler: str):
    own = {"sampling": {"sampler": sampler, "steps": 4}}
    assert near(latent(easel, prompt=CAT, **own), painted(easel, prompt=CAT, **own))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde"])
def test_without_shares_the_edit_is_the_plain_picture(easel: Easel, sampler: str):
    own = {"sampling": {"sampler": sampler, "steps": 4}}
    found = latent(easel, cross_share=0, self_share=0, **own)
    assert near(found, painted(easel, prompt=DOG, **own))
    assert not near(found, painted(easel, prompt=CAT, **own))


def test_more_control_brings_the_edit_nearer_to_the_source(easel: Easel):
    own = {**APPLES, "prompt": "green apple, 3d"}
    source = painted(easel, **APPLES)
    shares = [(0.0, 0.0), (0.4, 0.6), (1.0, 1.0)]
    far = [
        float((latent(easel, **own, **SOURCE, cross_share=c, self_share=s) - source).abs().mean()) for c, s in shares
    ]
    assert far[0] > far[1] > far[2] > 0


def test_a_weight_of_one_does_nothing(easel: Easel):
    plain = latent(easel)
    assert torch.equal(latent(easel, weights=[{"word": "dog", "weight": 1.0}]), plain)
    assert not near(latent(easel, weights=[{"word": "dog", "weight": 3.0}]), plain)
    assert not near(latent(easel, weights=[{"word": "dog", "weight": -2.0}]), plain)


def test_weights_act_without_shares(easel: Easel):
    """A reweighted picture needs no other words."""
    own = {"prompt": CAT, "cross_share": 0, "self_share": 0}
    assert not near(latent(easel, **own, weights=[{"word": "red", "weight": 0.0}]), latent(easel, **own))


@pytest.mark.parametrize("alignment", ["replace", "refine"])
def test_rows_of_a_carried_map_sum_to_one(alignment: str):
    control = AttentionControl(*_carried(alignment))
    source, edited = (torch.rand(2, 9, 77, generator=torch.Generator().manual_seed(i)).softmax(-1) for i in (1, 2))
    found = control.edited_map(source, edited)
    assert torch.allclose(found.sum(-1), torch.ones(2, 9), atol=1e-5)
    assert not torch.allclose(found, edited, atol=1e-4)


def _carried(alignment: str) -> tuple[torch.Tensor, torch.Tensor]:
    from danqing.pipelines.words_edit import _carried
    from danqing.prompt.alignment import placed, token_map
    from danqing.prompt.emphasis import EmphasisMode
    from danqing.prompt.tokenizer import default_tokenizer

    new = "a green pear, 3d" if alignment == "replace" else "a very green and tasty apple, 3d"
    old, other = (placed(text, EmphasisMode.ORIGINAL, default_tokenizer()) for text in ("a red apple, 3d", new))
    return _carried(token_map(old, other, alignment))


def test_the_unet_is_left_as_it_was_found(easel: Easel):
    unet = easel.model().unet
    before = dict(unet.attn_processors)
    with coupled(unet, [Coupled(0, 1, AttentionControl(self_places=64))], 2):
        assert all(isinstance(one, CoupledAttention) for one in unet.attn_processors.values())
    latent(easel)
    assert unet.attn_processors == before


def test_outside_the_local_blend_the_picture_is_the_source(easel: Easel):
    local = {"local": [{"source": "apple", "target": "apple"}]}
    own = words(**{**APPLES, "prompt": "green apple, 3d"}, **SOURCE)
    source = easel.pixels(**APPLES)
    changed = np.abs(easel.pixels(**own, **local) - source).max(-1) > 0
    everywhere = np.abs(easel.pixels(**own) - source).max(-1) > 0
    assert 0.1 < changed.mean() < 0.9
    assert everywhere.mean() > changed.mean()


def test_the_blend_is_where_the_words_were_seen():
    maps = torch.full((16, 77), 1e-3)
    maps[5, 3] = maps[5, 4] = 1.0
    local = Locality([([3], [4])], (8, 8), 0.5)
    assert local.mask() is None
    local.see(Sightings({"up": (maps, maps), "down": (1 - maps, 1 - maps)}))
    found = local.mask()
    assert found is not None
    assert found[0, 0, 2:4, 2:4].all()
    assert not found[0, 0, 6:, 6:].any()
    assert local.mask_at(0, 10) is None
    assert local.mask_at(2, 10) is not None


def test_networks_of_the_source_act_in_the_edit(tmp_path: Path):
    tiny_models.build(tmp_path / "Stable-diffusion" / "tiny", seed=1)
    easel = Easel(tmp_path)
    tiny_networks.save_lora(tmp_path / "Lora" / "ink.safetensors", easel.model(), seed=1)
    tag = " <lora:ink:1>"
    none = {"cross_share": 0, "self_share": 0}
    found = latent(easel, source_prompt=CAT + tag, **none)
    assert near(found, painted(easel, prompt=DOG + tag))
    assert not near(found, latent(easel, **none))
    with pytest.raises(InvalidRequestError, match="same networks"):
        easel.plans(**words(prompt=DOG + tag))


def test_beside_others_as_alone(easel: Easel):
    plans = [
        easel.plans(**words(seed=1))[0],
        easel.plans(**STEPS, prompt="the sea", seed=2)[0],
        easel.plans(**words(seed=3, prompt="a dog", local=[{"source": "cat", "target": "dog"}]))[0],
        easel.plans(**words(seed=4, guidance={"pag_scale": 1.0, "scale": 1.0}))[0],
    ]
    together = [numbers(one) for one in easel.paint_plans(plans)]
    assert any(
        len(calls) > 1 and any(call.words for call in calls if isinstance(call, Denoise))
        for calls in easel.executor.ran
    )
    for one, found in zip(plans, together, strict=True):
        assert np.abs(numbers(easel.paint_plans([one])[0]) - found).max() <= 1


def test_every_pass_and_control_goes_along(easel: Easel):
    assert easel.one(**words(hires={"scale": 2.0, "strength": 0.5})).size == (128, 128)
    easel.one(**words(guidance={"pag_scale": 1.5, "rescale": 0.3}))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"prompt": "the dog", "alignment": "replace"}, InvalidRequestError, "'red cat'"),
        ({"prompt": " , "}, InvalidRequestError, "the prompt is empty"),
        ({"source_prompt": ""}, InvalidRequestError, "the source prompt is empty"),
        ({"weights": [{"word": "cat", "weight": 2}]}, InvalidRequestError, "'cat' does not stand in the prompt"),
        ({"local": [{"source": "dog", "target": "dog"}]}, InvalidRequestError, "'dog' does not stand in the source"),
        (
            {"local": [{"source": "cat", "target": "horse"}]},
            InvalidRequestError,
            "'horse' does not stand in the prompt",
        ),
        ({"prompt": "a [dog:horse:0.5]"}, UnsupportedError, "plain prompts"),
        ({"prompt": "a dog AND a horse"}, UnsupportedError, "plain prompts"),
        ({"inversion": "ddim"}, InvalidRequestError, "no picture"),
        ({"technique": "ledits"}, InvalidRequestError, "no picture"),
        ({"sampling": {"sampler": "DPM adaptive"}}, UnsupportedError, "sampler"),
        ({"model": "tiny-inpaint"}, UnsupportedError, "cross-attention"),
        ({"refiner": {"model": "other"}}, UnsupportedError, "together"),
        ({"syntax": "midjourney"}, UnsupportedError, "grammar"),
    ],
)
def test_what_makes_no_sense_is_refused(easel: Easel, fields: dict[str, Any], error: Any, message: str):
    with pytest.raises(error, match=message):
        easel.plans(**words(**fields))


def test_prompts_of_unlike_length_are_refused(easel: Easel):
    with pytest.raises(InvalidRequestError, match="longer by 75 tokens"):
        latent(easel, prompt="the blue dog " * 60)


BY_DIFFUSERS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Its scheduler gives tensors to numpy."""


@pytest.fixture(scope="module")
def ledits_easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    """A model with cross-attention at a quarter of its latents' size, where LEDITS++ looks for words."""
    root = tmp_path_factory.mktemp("ledits")
    folder = tiny_models.build(root / "Stable-diffusion" / "tiny", seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32, 32),
            layers_per_block=1,
            cross_attention_dim=tiny_models.CONTEXT_WIDTH,
            attention_head_dim=8,
            norm_num_groups=8,
        ).save_pretrained(folder / "unet")
    return Easel(root)


@BY_DIFFUSERS
def test_ledits_edits_by_diffusers(ledits_easel: Easel):
    picture = photo(128, 128)
    own = words(technique="ledits", image=ledits_easel.picture(picture), sampling={"steps": 4})
    unet = ledits_easel.model().unet
    before = dict(unet.attn_processors)
    (plan,) = ledits_easel.plans(**own)
    found = numbers(ledits_easel.paint_plans([plan])[0])
    assert sum(isinstance(call, Exclusive) for calls in ledits_easel.executor.ran for call in calls) >= 8
    assert {name: type(one) for name, one in unet.attn_processors.items()} == {n: type(p) for n, p in before.items()}
    assert np.array_equal(found, numbers(ledits_easel.paint_plans([plan])[0]))
    other = numbers(ledits_easel.one(**{**own, "prompt": "a blue dog"}))
    assert not np.array_equal(found, other)


@BY_DIFFUSERS
def test_ledits_beside_a_plain_picture(ledits_easel: Easel):
    """Its processors are in the UNet only while it works."""
    plain = ledits_easel.plans(**STEPS)[0]
    own = words(technique="ledits", image=ledits_easel.picture(photo(128, 128)), sampling={"steps": 4})
    alone = numbers(ledits_easel.paint_plans([plain])[0])
    beside = ledits_easel.paint_plans([ledits_easel.plans(**own)[0], plain])[1]
    assert np.abs(numbers(beside) - alone).max() <= 1


@BY_DIFFUSERS
def test_ledits_can_be_cancelled_at_a_step(ledits_easel: Easel):
    own = words(technique="ledits", image=ledits_easel.picture(photo(128, 128)), sampling={"steps": 4})
    (plan,) = ledits_easel.plans(**own)
    engine = Engine(ledits_easel.executor, EngineOptions(preview_every=0))
    seen: list[Any] = []
    engine.submit("a", paint(plan, ledits_easel.pictures), seen.append, expected_calls=expected_calls(plan))
    while sum(isinstance(event, Progressed) for event in seen) < 3:
        assert engine.tick()
    engine.cancel("a")
    assert isinstance(seen[-1], Finished)
    assert isinstance(seen[-1].error, CancelledError)
    assert not any(
        type(one).__name__.startswith("LEDITS") for one in ledits_easel.model().unet.attn_processors.values()
    )


def test_ledits_refuses_what_it_was_not_written_for(ledits_easel: Easel):
    picture = ledits_easel.picture(photo(128, 128))
    with pytest.raises(UnsupportedError, match="four latent channels"):
        ledits_easel.plans(**words(technique="ledits", image=picture, model="danqing-mini"))
    with pytest.raises(InvalidRequestError, match="say the same"):
        ledits_easel.one(**words(technique="ledits", image=picture, prompt=CAT, sampling={"steps": 4}))
    assert Ledits.__doc__
