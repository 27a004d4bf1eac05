"""Words to a picture on small models: seeds, samplers, words, guidance, refiner, inpainting UNets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine import Engine, EngineOptions, Progressed
from danqing.engine.calls import Denoise
from danqing.pipelines import paint
from danqing.pipelines.conditioning import encode
from danqing.spec.errors import UnsupportedError
from danqing.spec.registry.samplers import SAMPLERS
from easel import Easel, Pictures


def test_the_same_plan_gives_the_same_picture(easel: Easel):
    assert np.array_equal(easel.pixels(), easel.pixels())


def test_pictures_of_one_request_equal_single_runs(easel: Easel):
    together = easel.paint(count=3, seed=41)
    for index, picture in enumerate(together):
        single = easel.pixels(seed=41 + index)
        # Painted in one batch, float32 sums run in another order: a byte may round the other way.
        assert np.abs(np.asarray(picture, dtype=np.int16) - single).max() <= 1
    assert np.abs(np.asarray(together[0], dtype=np.int16) - np.asarray(together[1])).mean() > 1


@pytest.mark.parametrize("size", [(64, 64), (40, 96), (72, 48)])
def test_sizes(easel: Easel, size: tuple[int, int]):
    assert easel.one(width_px=size[0], height_px=size[1]).size == size


@pytest.mark.parametrize("model", ["tiny-v", "tiny-inpaint"])
def test_other_kinds_of_model_paint(easel: Easel, model: str):
    assert easel.pixels(model=model).std() > 5
    if model == "tiny-inpaint":
        call = easel.executor.denoised()[0]
        assert call.extra is not None
        assert call.extra.shape == (1, 5, 8, 8)
        assert bool((call.extra[:, :1] == 1).all()), "without a mask everything is repainted"


@pytest.mark.parametrize("sampler", [info.key for info in SAMPLERS])
def test_every_sampler_paints_with_monotone_progress(easel: Easel, sampler: str):
    (one,) = easel.plans(sampling={"sampler": sampler, "steps": 5}, model="tiny-v", guidance={"scale": 2.0})
    seen: list[Any] = []
    engine = Engine(easel.executor, EngineOptions(preview_every=0))
    engine.submit("s", paint(one, Pictures()), seen.append)
    engine.run_until_idle()
    assert seen[-1].error is None
    assert np.asarray(seen[-1].result).std() > 1
    progress = [event for event in seen if isinstance(event, Progressed)]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(0 <= event.step <= event.steps for event in progress)
    assert progress[0].stage == "load"
    assert progress[-1].stage == "decode"


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_variation_strength_0_is_plain_and_1_is_the_other_seed(easel: Easel):
    plain = easel.pixels(seed=5)
    none = easel.pixels(seed=5, variation={"seed": 9, "strength": 0.0})
    full = easel.pixels(seed=5, variation={"seed": 9, "strength": 1.0})
    half = easel.pixels(seed=5, variation={"seed": 9, "strength": 0.5})
    assert np.array_equal(plain, none)
    assert np.abs(full - easel.pixels(seed=9)).max() <= 1
    assert np.abs(half - plain).mean() > 1
    assert np.abs(half - full).mean() > 1


def test_seed_resize_keeps_the_noise_of_the_other_size_in_the_middle(easel: Easel):
    wide = easel.pixels(seed=5, width_px=96, height_px=64)
    kept = easel.pixels(seed=5, width_px=96, height_px=64, seed_resize={"width_px": 64, "height_px": 64})
    first = easel.executor.denoised()[0].x
    easel.one(seed=5, width_px=64, height_px=64)
    small = easel.executor.denoised()[0].x
    assert torch.equal(first[..., 2:10], small)
    assert np.abs(wide - kept).mean() > 1
    same = easel.pixels(seed=5, seed_resize={"width_px": 64, "height_px": 64})
    assert np.array_equal(same, easel.pixels(seed=5))


def test_noise_sources_and_ensd_change_the_picture(easel: Easel):
    cpu, philox = easel.pixels(noise="cpu"), easel.pixels(noise="nv")
    assert np.abs(cpu - philox).mean() > 1
    ancestral = {"sampling": {"sampler": "euler_a"}}
    plain, shifted = easel.pixels(**ancestral), easel.pixels(**ancestral, eta_noise_seed_delta=31337)
    assert np.abs(plain - shifted).mean() > 0.5


# --- words ------------------------------------------------------------------------------------------------------------


def contexts(easel: Easel, prompt: str, steps: int, **text: Any) -> list[list[torch.Tensor]]:
    """The contexts of each step, by really painting."""
    easel.one(prompt=prompt, sampling={"sampler": "euler", "steps": steps}, **text)
    return [list(call.contexts) for call in easel.executor.denoised()]


def words(easel: Easel, prompt: str) -> torch.Tensor:
    return easel.model().encode_text([prompt], "Original", 1)[0]


def test_a_schedule_switches_its_context_at_the_right_step(easel: Easel):
    steps = contexts(easel, "a [cat:dog:4]", 8)
    cat, dog = words(easel, "a cat"), words(easel, "a dog")
    # A1111 counts steps from 0 and entries from 1, so the first text lasts one step longer than it says.
    assert [bool(torch.equal(step[0], cat)) for step in steps] == [True] * 5 + [False] * 3
    assert [bool(torch.equal(step[0], dog)) for step in steps] == [False] * 5 + [True] * 3


def test_alternation_and_scheduled_negative_prompts(easel: Easel):
    steps = contexts(easel, "[cat|dog]", 4, negative_prompt="[red:blue:0.5]")
    cat, dog = words(easel, "cat"), words(easel, "dog")
    assert [torch.equal(step[0], cat) for step in steps] == [True, True, False, True]
    assert [torch.equal(step[0], dog) for step in steps] == [False, False, True, False]
    red = words(easel, "red")
    assert [torch.equal(step[1], red) for step in steps] == [True, True, True, False]


def test_a_hires_pass_reads_fractions_from_1_to_2(easel: Easel):
    key = easel.key()
    (planned,) = easel.plans(prompt="[cat:dog:1.5]", sampling={"steps": 4})

    def session():
        return (yield from encode(key, planned.base, 10))

    (found,) = easel.run({"s": session()}, easel.plans())
    assert [last for last, _ in found.parts[0]] == [2, 4]
    assert torch.equal(found.parts[0][0][1].states, words(easel, "cat"))


def test_and_parts_are_weighed(easel: Easel):
    """u + Σ wᵢ·s·(cᵢ − u): a part of weight 0 says nothing, two halves of one part say the whole."""
    whole = easel.latents(easel.plans(prompt="a cat"))[0]
    nothing = easel.latents(easel.plans(prompt="a cat AND a dog :0"))[0]
    halves = easel.latents(easel.plans(prompt="a cat :0.5 AND a cat :0.5"))[0]
    both = easel.latents(easel.plans(prompt="a cat AND a dog"))[0]
    scale = float(whole.abs().max())
    assert float((whole - nothing).abs().max()) / scale < 1e-5
    assert float((whole - halves).abs().max()) / scale < 1e-5
    assert float((whole - both).abs().max()) / scale > 1e-3


def test_emphasis_modes_differ_as_they_should(easel: Easel):
    def picture(mode: str, prompt: str = "the (red:1.6) cat"):
        return easel.pixels(prompt=prompt, emphasis=mode, guidance={"scale": 12})

    plain = picture("Original", "the red cat")
    original, no_norm, ignored, literal = (picture(mode) for mode in ("Original", "No norm", "Ignore", "None"))
    assert np.array_equal(ignored, plain)
    pairs = [(plain, original), (original, no_norm), (plain, literal), (no_norm, literal)]
    assert all(np.abs(a - b).max() > 0 for a, b in pairs)


def test_clip_skip(easel: Easel):
    plain, skipped = easel.pixels(clip_skip=1), easel.pixels(clip_skip=2)
    assert np.abs(plain - skipped).mean() > 0.1
    with pytest.raises(UnsupportedError, match="fewer layers"):
        easel.one(clip_skip=9)


def test_long_prompts_take_several_chunks(easel: Easel):
    easel.one(prompt="cat, " * 60)
    call = easel.executor.denoised()[0]
    assert call.contexts[0].shape[0] > 77
    assert call.contexts[1].shape[0] == 77


# --- guidance ---------------------------------------------------------------------------------------------------------


def test_pag_0_is_off_to_the_bit_and_more_changes_the_picture(easel: Easel):
    plain = easel.pixels()
    off = easel.pixels(guidance={"pag_scale": 0.0})
    assert {call.perturbed for call in easel.executor.denoised()} == {0}
    on = easel.pixels(guidance={"pag_scale": 3.0})
    assert {(call.perturbed, len(call.contexts)) for call in easel.executor.denoised()} == {(1, 3)}
    assert np.array_equal(plain, off)
    assert np.abs(plain - on).mean() > 0.5
    assert np.array_equal(easel.pixels(), plain), "the model's own attention is back"


def test_scale_1_needs_no_negative_prompt(easel: Easel):
    one = easel.pixels(guidance={"scale": 1.0}, negative_prompt="blue")
    assert {len(call.contexts) for call in easel.executor.denoised()} == {1}
    assert np.array_equal(one, easel.pixels(guidance={"scale": 1.0}, negative_prompt="dog"))


def test_skip_early_and_s_min_uncond_save_rows(easel: Easel):
    easel.one(guidance={"skip_early": 0.5}, sampling={"steps": 6})
    assert [len(call.contexts) for call in easel.executor.denoised()] == [1, 1, 1, 1, 2, 2], (
        "up to and with half, as A1111"
    )
    easel.one(guidance={"s_min_uncond": 4.0}, sampling={"steps": 6})
    rows = [len(call.contexts) for call in easel.executor.denoised()]
    assert rows[0] == 2
    assert 1 in rows


@pytest.mark.parametrize("guidance", [{"rescale": 0.7}, {"threshold": {"mimic_scale": 3.0, "percentile": 0.9}}])
def test_rescale_and_thresholding_change_the_picture(easel: Easel, guidance: dict[str, Any]):
    plain = easel.pixels(guidance={"scale": 12.0})
    assert np.abs(plain - easel.pixels(guidance={"scale": 12.0, **guidance})).mean() > 0.5


# --- refiner ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("switch_at", "first"), [(0.5, 4), (0.25, 2), (0.875, 7)])
def test_the_refiner_takes_over_at_its_very_step(easel: Easel, switch_at: float, first: int):
    refiner = {"model": "other", "switch_at": switch_at}
    refined = easel.pixels(sampling={"sampler": "euler", "steps": 8}, refiner=refiner)
    names = [call.model.model.name for call in easel.executor.denoised()]
    assert names == ["tiny"] * first + ["other"] * (8 - first)
    plain = easel.pixels(sampling={"sampler": "euler", "steps": 8})
    assert np.abs(plain - refined).max() > 0


def test_the_refiner_reads_the_words_with_its_own_encoder(easel: Easel):
    easel.one(sampling={"steps": 4}, refiner={"model": "other", "switch_at": 0.5})
    calls = easel.executor.denoised()
    other = easel.model("other").encode_text(["the red cat"], "Original", 1)[0]
    assert torch.equal(calls[-1].contexts[0], other)
    assert torch.equal(calls[0].contexts[0], words(easel, "the red cat"))


def test_a_refined_run_is_the_base_run_up_to_the_switch(easel: Easel):
    easel.one(sampling={"sampler": "euler", "steps": 6})
    plain = [call.x for call in easel.executor.denoised()]
    easel.one(sampling={"sampler": "euler", "steps": 6}, refiner={"model": "other", "switch_at": 0.5})
    refined = [call.x for call in easel.executor.denoised()]
    same = [torch.equal(a, b) for a, b in zip(plain, refined, strict=True)]
    assert same == [True] * 4 + [False] * 2, "the first x the refiner sees is still the base's"


def test_every_denoise_call_is_in_float32(easel: Easel):
    easel.one()
    assert {call.x.dtype for call in easel.executor.denoised() if isinstance(call, Denoise)} == {torch.float32}
