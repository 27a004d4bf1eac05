"""From a picture to noise and back: DDIM, direct, null-text and negative-prompt inversion."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from danqing.engine import Engine, EngineOptions, Finished
from danqing.engine.calls import EncodeImage, Exclusive
from danqing.pipelines import expected_calls, inversion, paint, words_edit, words_local
from danqing.spec.errors import CancelledError, InvalidRequestError
from easel import Easel, numbers, photo

CAT, DOG = "the red cat", "the red dog"
Pairs = dict[str, torch.Tensor]
LEFT_QUARTER = torch.zeros(1, 1, 8, 8)
LEFT_QUARTER[..., :2] = 1.0


def plan_of(easel: Easel, steps: int = 6, **fields: Any) -> Any:
    data = {
        "kind": "words",
        "image": easel.picture(photo(64, 64)),
        "source_prompt": CAT,
        "prompt": DOG,
        "sampling": {"steps": steps},
        "guidance": {"scale": 3.0},
        **fields,
    }
    return easel.plans(**data)[0]


def both(easel: Easel, monkeypatch: pytest.MonkeyPatch, plan: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(the picture's own latent, the source row, the edited row)."""
    found: Pairs = {}
    inner = words_edit.inverted

    def watched(context: Any, pair: Any, picture: Any) -> Any:
        found["own"] = yield EncodeImage(context.key(context.plan.base.model), picture)
        latents = yield from inner(context, pair, picture)
        found["source"] = latents[:1]
        return latents

    monkeypatch.setattr(words_edit, "inverted", watched)
    edited = easel.run({"0": words_edit.words_edit(easel.context(plan))}, [plan])[0]
    return found["own"], found["source"], edited


def error(own: torch.Tensor, source: torch.Tensor) -> float:
    return float((source - own).abs().mean())


@pytest.mark.parametrize("scale", [1.0, 3.0, 7.5])
def test_the_source_of_a_direct_inversion_is_exact(easel: Easel, monkeypatch: pytest.MonkeyPatch, scale: float):
    own, source, edited = both(easel, monkeypatch, plan_of(easel, guidance={"scale": scale}))
    assert torch.allclose(own, source, rtol=0, atol=1e-6)
    assert not torch.allclose(own, edited, atol=1e-2)


def test_direct_is_the_default(easel: Easel):
    plan = plan_of(easel)
    assert plan.words.inversion == "direct"
    assert plan.base.sampling.sampler == "ddim"
    assert any("inverted" in note for note in plan.notes)


def test_ddim_inversion_grows_exact_with_its_steps(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    def missed(steps: int) -> float:
        plan = plan_of(easel, steps, inversion="ddim", guidance={"scale": 1.0})
        return error(*both(easel, monkeypatch, plan)[:2])

    errors = [missed(steps) for steps in (3, 8, 24)]
    assert errors[0] > 1.5 * errors[1] > 2.0 * errors[2]


def test_inversion_of_a_straight_path_is_exact():
    """A denoiser that always sees the same picture has straight paths, which Euler's method follows exactly."""
    seen = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))

    def denoise(x: torch.Tensor, sigma: float) -> Any:
        # The noise of this world does not depend on the level at which it is read off.
        yield
        return x - sigma * seen

    levels = [8.0, 3.0, 1.0, 0.2, 0.0]
    walk = inversion.ddim_invert(denoise, start, levels)
    path = _result(walk)
    assert [len(path), tuple(path[0].shape)] == [5, (1, 4, 8, 8)]
    assert torch.allclose(path[0], start + 8.0 * seen, atol=1e-5)
    x = path[0]
    for level, following in pairwise(levels):
        x = inversion.ddim_step(x, x - level * seen, level, following)
    assert torch.allclose(x, start, atol=1e-5)


def _result(walk: Any) -> Any:
    try:
        while True:
            next(walk)
    except StopIteration as stop:
        return stop.value


def test_null_text_is_nearer_than_ddim_under_guidance(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    own, plain, _ = both(easel, monkeypatch, plan_of(easel, inversion="ddim", guidance={"scale": 7.5}))
    plan = plan_of(easel, inversion="null_text", guidance={"scale": 7.5})
    _, learnt, _ = both(easel, monkeypatch, plan)
    assert error(own, learnt) < 0.7 * error(own, plain)
    turns = sum(isinstance(call, Exclusive) and "null" in call.key for calls in easel.executor.ran for call in calls)
    assert 6 * 2 <= turns <= 6 * (inversion.NULL_TEXT_ROUNDS + 1)
    assert all(not one.requires_grad for one in easel.model().unet.parameters())


def test_null_text_stops_within_a_step(easel: Easel):
    plan = plan_of(easel, inversion="null_text", guidance={"scale": 7.5})
    engine = Engine(easel.executor, EngineOptions(preview_every=0))
    seen: list[Any] = []
    easel.executor.ran.clear()
    engine.submit("a", paint(plan, easel.pictures), seen.append, expected_calls=expected_calls(plan))

    def turns() -> int:
        return sum(isinstance(call, Exclusive) and "null" in call.key for run in easel.executor.ran for call in run)

    while turns() < 3:
        assert engine.tick()
    engine.cancel("a")
    assert not engine.tick()
    assert turns() == 3
    assert isinstance(seen[-1], Finished)
    assert isinstance(seen[-1].error, CancelledError)


def test_progress_never_goes_back(easel: Easel):
    plan = plan_of(easel, 3, inversion="null_text")
    engine = Engine(easel.executor, EngineOptions(preview_every=0))
    seen: list[Any] = []
    engine.submit("a", paint(plan, easel.pictures), seen.append, expected_calls=expected_calls(plan))
    engine.run_until_idle()
    shares = [event.fraction for event in seen if not isinstance(event, Finished)]
    assert shares == sorted(shares)
    assert seen[-1].error is None
    assert shares[-1] == 1.0


def test_negative_prompt_inversion_at_equal_prompts_is_the_way_back_without_guidance(
    easel: Easel, monkeypatch: pytest.MonkeyPatch
):
    negative = plan_of(easel, prompt=CAT, inversion="negative_prompt", guidance={"scale": 7.5})
    own, source, edited = both(easel, monkeypatch, negative)
    _, plain, _ = both(easel, monkeypatch, plan_of(easel, prompt=CAT, inversion="ddim", guidance={"scale": 1.0}))
    assert torch.allclose(source, edited, atol=1e-5)
    assert torch.allclose(source, plain, atol=1e-4)
    guided = both(easel, monkeypatch, plan_of(easel, prompt=CAT, inversion="ddim", guidance={"scale": 7.5}))[1]
    assert error(own, source) < error(own, guided)


@pytest.mark.parametrize("way", ["direct", "ddim"])
def test_local_blend_keeps_the_picture_itself(easel: Easel, monkeypatch: pytest.MonkeyPatch, way: str):
    picture = photo(64, 64)
    plan = plan_of(easel, inversion=way, local=[{"source": "cat", "target": "dog"}])
    monkeypatch.setattr(words_local.Locality, "_where", lambda *_: LEFT_QUARTER)
    moved = abs(numbers(easel.paint_plans([plan])[0]) - numbers(picture)).max(-1)
    assert moved[:, :16].mean() > 1
    assert moved[:, 16 + 3 * 4 :].max() == 0


def test_v_prediction_is_inverted_too(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    def missed(steps: int) -> float:
        plan = plan_of(easel, steps, model="tiny-v", inversion="ddim", guidance={"scale": 1.0}, prompt=CAT)
        own, source, edited = both(easel, monkeypatch, plan)
        assert torch.allclose(source, edited, atol=1e-4)
        return error(own, source)

    assert missed(4) > 1.5 * missed(12)


def test_several_edits_of_one_inverted_picture_are_refused(easel: Easel):
    with pytest.raises(InvalidRequestError, match="one edit"):
        plan_of(easel, count=2)
