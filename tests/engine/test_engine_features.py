"""Deep features that are kept from step to step: exact where nothing is kept, and never those of another request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_sessions import distance

from danqing.engine import Engine, EngineOptions, Finished
from danqing.engine.calls import Denoise
from danqing.models.shallow import can_be_cut, deepest, keeping, outer_blocks
from danqing.pipelines.txt2img import txt2img
from danqing.spec.plan import Plan
from easel import Easel, into
from tiny_checkpoints import make

STEPS = {"steps": 8}
CACHED = {"cache_interval": 3, "cache_branch": 1}


def plans_of(easel: Easel, **fields: Any) -> Plan:
    (one,) = easel.plans(**{"sampling": STEPS, "shortcuts": CACHED, **fields})
    return one


def latent(easel: Easel, **fields: Any) -> torch.Tensor:
    return easel.latents([plans_of(easel, **fields)])[0]


def reuses(easel: Easel) -> list[bool]:
    """Of each Call that ran, whether it used what was kept."""
    return [call.features is not None and call.features.reuse for call in easel.executor.denoised()]


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@torch.inference_mode()
def test_outer_blocks_with_the_same_steps_feature_are_the_whole_unet(kind: str):
    unet: Any = make(kind).unet.eval()
    assert can_be_cut(unet)
    for height, width in ((8, 8), (5, 12)):
        generator = torch.Generator().manual_seed(height)
        x = torch.randn(2, unet.config["in_channels"], height, width, generator=generator)
        context = torch.randn(2, 7, unet.config["cross_attention_dim"], generator=generator)
        options: dict[str, Any] = {}
        if unet.config["addition_embed_type"] == "text_time":
            pooled = unet.config["projection_class_embeddings_input_dim"] - 6 * 256
            ids = torch.tensor([[512.0, 768, 0, 64, 512, 768]] * 2)
            options["added_cond_kwargs"] = {"text_embeds": torch.randn(2, pooled), "time_ids": ids}
        times = torch.tensor([900.0, 41.5])
        found: dict[int, torch.Tensor] = {}
        with keeping(unet, range(deepest(unet) + 1), found):
            whole = unet(x, times, encoder_hidden_states=context, return_dict=False, **options)[0]
        assert torch.equal(whole, unet(x, times, encoder_hidden_states=context, return_dict=False, **options)[0])
        for branch, feature in found.items():
            cut = outer_blocks(unet, x, times, context, options, feature=feature, branch=branch)
            assert torch.equal(cut, whole), branch


@torch.inference_mode()
def test_outer_blocks_read_what_controlnets_and_t2i_adapters_add():
    unet: Any = make("sd1").unet.eval()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    context = torch.randn(1, 7, unet.config["cross_attention_dim"], generator=generator)
    times = torch.tensor([500.0])
    sizes: list[torch.Tensor] = []
    levels: list[Any] = []
    start: list[torch.Tensor] = []

    def seen(_: Any, __: Any, answer: Any) -> None:
        if isinstance(answer, tuple):
            sizes.extend(answer[1])
            levels.append(answer)
        else:
            start.append(answer)

    hooks = [part.register_forward_hook(seen) for part in (unet.conv_in, *unet.down_blocks, unet.mid_block)]
    unet(x, times, encoder_hidden_states=context)
    for hook in hooks:
        hook.remove()
    down = tuple(torch.randn(one.shape, generator=generator) for one in (start[0], *sizes))
    mid = torch.randn(start[1].shape, generator=generator)
    before_smaller = [one[1][len(block.resnets) - 1] for one, block in zip(levels, unet.down_blocks, strict=True)]
    inside = [torch.randn(one.shape, generator=generator) for one in before_smaller]
    for inner in ({}, {"down_intrablock_additional_residuals": inside[:1]}):
        for outer in ({}, {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}):
            named: dict[str, Any] = {**inner, **outer}
            found: dict[int, torch.Tensor] = {}
            again = {name: list(value) if isinstance(value, list) else value for name, value in named.items()}
            with keeping(unet, range(deepest(unet) + 1), found):
                whole = unet(x, times, encoder_hidden_states=context, return_dict=False, **again)[0]
            for branch, feature in found.items():
                cut = outer_blocks(unet, x, times, context, named, feature=feature, branch=branch)
                assert torch.equal(cut, whole), (branch, list(named))


@pytest.mark.parametrize(
    "shortcuts", [{"cache_interval": 1, "cache_branch": 2}, {"guidance_window": (0, 1)}, {"token_merging": 0}]
)
def test_neutral_numbers_are_exact_bit_for_bit(easel: Easel, shortcuts: dict[str, Any]):
    assert torch.equal(latent(easel, shortcuts=shortcuts), latent(easel, shortcuts={}))


@pytest.mark.parametrize(
    "shortcuts", [{"cache_interval": 2, "cache_branch": 0}, {"guidance_window": (0.2, 0.7)}, {"token_merging": 0.5}]
)
def test_each_number_changes_the_picture_and_does_so_again(easel: Easel, shortcuts: dict[str, Any]):
    first = latent(easel, shortcuts=shortcuts)
    assert torch.equal(first, latent(easel, shortcuts=shortcuts))
    assert distance(first, latent(easel, shortcuts={})) > 1e-4


def test_the_deep_blocks_are_computed_at_every_third_step(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    middle = easel.model().unet.mid_block
    ran: list[int] = []
    hook = middle.register_forward_pre_hook(lambda *_: ran.append(len(easel.executor.ran)))
    latent(easel)
    hook.remove()
    assert len(ran) == 3
    assert reuses(easel) == [step % 3 != 0 for step in range(8)]


def test_all_evaluations_at_one_level_are_alike(easel: Easel):
    latent(easel, sampling={"steps": 6, "sampler": "heun"})
    found = reuses(easel)
    # Heun asks at the first level once, at each other twice: as the end of a step and as the beginning of the next.
    assert found == [False, True, True, True, True, False, False, True, True, True, True]


def test_rows_that_begin_to_be_asked_for_have_all_computed(easel: Easel):
    latent(easel, shortcuts={**CACHED, "guidance_window": (0.25, 1.0)})
    rows = [len(call.contexts) for call in easel.executor.denoised()]
    assert rows == [1, 1, 2, 2, 2, 2, 2, 2]
    assert reuses(easel) == [False, True, False, True, True, False, True, True]


def test_other_words_have_all_computed(easel: Easel):
    latent(easel, prompt="[the:red:3] cat", shortcuts={"cache_interval": 8, "cache_branch": 0})
    found = reuses(easel)
    assert found.count(False) == 2
    assert not found[0]


def test_words_that_take_turns_are_never_behind(easel: Easel):
    latent(easel, prompt="the [red|blue] cat")
    # As in A1111 the first word lasts one step longer.
    assert reuses(easel) == [False, True, *[False] * 6]


def mixed(easel: Easel) -> list[Plan]:
    """Requests that keep at other steps, other branches, or nothing."""
    kinds: list[dict[str, Any]] = [
        {"prompt": "the red cat"},
        {"prompt": "blue dog", "shortcuts": {"cache_interval": 2, "cache_branch": 0}},
        {"prompt": "the red cat", "seed": 9, "shortcuts": {}},
        {"prompt": "a cat AND a dog", "sampling": {"steps": 5}, "guidance": {"pag_scale": 2.0}},
        {"prompt": "the red cat", "seed": 11, "shortcuts": {"cache_interval": 4, "cache_branch": 9}},
    ]
    return [plans_of(easel, **fields) for fields in kinds]


def interleaved(easel: Easel, plans: list[Plan], delays: list[int]) -> list[torch.Tensor]:
    easel.executor.ran.clear()
    engine = Engine(easel.executor, EngineOptions(preview_every=0))
    ended: dict[str, Finished] = {}
    for index, (plan, delay) in enumerate(zip(plans, delays, strict=True)):
        engine.submit(str(index), txt2img(easel.context(plan)), into(ended))
        for _ in range(delay):
            engine.tick()
    engine.run_until_idle()
    return [ended[str(index)].result for index in range(len(plans))]


def test_two_requests_interleaved_equal_the_same_alone_bit_for_bit(easel: Easel):
    # Equal words and model, so that only the seed tells the requests apart; one Call at a time, so that sums run alike.
    plans = [plans_of(easel, seed=seed) for seed in (1, 2)]
    alone = [easel.latents([one])[0] for one in plans]
    easel.executor.batch_rows = 1
    try:
        together = interleaved(easel, plans, [3, 0])
    finally:
        easel.executor.batch_rows = None
    assert not torch.equal(alone[0], alone[1])
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.equal(ours, theirs)


def test_in_company_each_is_as_alone(easel: Easel):
    plans = mixed(easel)
    alone = [easel.latents([one])[0] for one in plans]
    together = interleaved(easel, plans, [2, 1, 0, 1, 0])
    calls = [[call for call in ran if isinstance(call, Denoise)] for ran in easel.executor.ran]
    reused = [{call.features is not None and call.features.reuse for call in ran} for ran in calls if ran]
    assert {True, False} in reused, "no batch had both kinds"
    for index, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
        assert distance(ours, theirs) <= 1e-5, index


def test_what_is_kept_is_apart_from_the_batch(easel: Easel):
    interleaved(easel, [plans_of(easel, seed=seed) for seed in (1, 2)], [0, 0])
    uses = [call.features for call in easel.executor.denoised() if call.features is not None]
    caches = {id(use.cache) for use in uses}
    assert len(caches) == 2
    for use in uses:
        for row in range(len(use.keys)):
            assert len(use.of(row)) == 1
            assert use.of(row).untyped_storage().nbytes() == use.of(row).nbytes


def test_out_of_memory_in_the_middle_changes_nothing(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    plans = mixed(easel)[:3]
    alone = [easel.latents([one])[0] for one in plans]
    real = easel.model().unet.forward

    def small_device(sample: torch.Tensor, *rest: Any, **named: Any) -> Any:
        if len(sample) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(sample, *rest, **named)

    monkeypatch.setattr(easel.model().unet, "forward", small_device)
    for ours, theirs in zip(interleaved(easel, plans, [1, 0, 0]), alone, strict=True):
        assert distance(ours, theirs) <= 1e-5


def test_a_deeper_branch_is_nearer_to_the_exact_picture(easel: Easel):
    exact = latent(easel, shortcuts={})
    far, near = (
        distance(latent(easel, shortcuts={"cache_interval": 2, "cache_branch": branch}), exact) for branch in (0, 2)
    )
    assert near < far
    # Beyond the UNet's own depth there is nothing more to compute but its middle.
    deepest_branch = deepest(easel.model().unet)
    beyond, last = (
        latent(easel, shortcuts={"cache_interval": 2, "cache_branch": branch}) for branch in (16, deepest_branch)
    )
    assert torch.equal(beyond, last)


def test_a_hires_pass_keeps_its_own(easel: Easel):
    two = easel.pixels(sampling=STEPS, shortcuts=CACHED, hires={"scale": 1.5, "steps": 6, "upscaler": "latent"})
    caches = {id(call.features.cache) for call in easel.executor.denoised() if call.features is not None}
    assert len(caches) == 2
    assert two.std() > 1
